"""docs/reference/exit_codes.md: read off the error classes, whose first lines are the table's."""

from __future__ import annotations

import inspect

from kiss3d_cli.cli.status import BELOW_LIMITS
from kiss3d_cli.core import errors
from kiss3d_cli.pipeline.runner import StageFailure
from reference_pages import sentence, table

INTRO = """# Exit codes

A script can rely on these codes. Every error also says what to do next on standard error, and with `--json` in
[an object](json.md#errors) on standard output.
"""
OUTRO = """
A command that works on many pictures or items ends with the code of the first failure, after it has tried all of them.

A file or folder that can't be read or written is bad input (2). A full disk counts as something missing (3).
A symbolic link or a pipe where a record should be is damage (5). A message that standard error can't take is lost and
changes nothing.

After any code but 0, `kiss3d resume RUN_DIR` continues a run that has begun; the message names the command.
"""


def page() -> str:
    classes = [
        StageFailure,
        *(kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__mro__[1] is errors.Kiss3dError),
    ]
    rows = [("0", "", "Done.")]
    rows += [
        (str(kind.exit_code), f"`{kind.__name__}`", sentence((kind.__doc__ or "").split("\n\n")[0])) for kind in classes
    ]
    rows.append((str(BELOW_LIMITS), "", "With `--strict`: the mesh differs too much from its picture."))
    rows.sort(key=lambda row: int(row[0]))
    return "\n".join([INTRO, table(("code", "error in Python", "meaning"), rows), OUTRO])
