"""Commands that we tell the user to type."""

from __future__ import annotations

import os
import shlex
import subprocess


def typed(*words: object) -> str:
    """Words quoted for the shell of this system; cmd.exe knows no single quotes."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)
