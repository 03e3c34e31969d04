"""Commands that we tell the user to type."""

from __future__ import annotations

import os
import shlex
import subprocess


def typed(*words: object) -> str:
    """Words as one types them into a shell of this system; Windows' own knows no single quotes."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)
