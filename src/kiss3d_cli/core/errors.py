"""The exceptions that a user can see.

    Kiss3dError
    ├── BadInput        2    a picture, mesh, option or config that can't be used
    ├── Missing         3    weights, a device or a package that is not there
    ├── OutOfMemory     4    RAM or video memory ran out
    ├── DamagedRun      5    a run folder that can't be trusted
    ├── RunInUse        6    another process works in the run folder
    ├── OutputFailed    7    the result could not be printed; what was made is kept
    └── Interrupted   130    the user or the system stopped the run

Code below ``cli/`` raises these and never prints or exits; ``cli/app.py`` turns them into text and an exit code.
"""

from __future__ import annotations

from typing import ClassVar


class Kiss3dError(Exception):
    """What went wrong, where, and what to type next.

    Args:
        cause: one sentence, what is wrong.
        place: the file, option, stage or config key that it is about.
        hint: the next command or edit that helps.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.place}: {self.cause}" if self.place else self.cause


class BadInput(Kiss3dError):
    """A picture, mesh, option or configuration that can't be used."""

    exit_code = 2


class Missing(Kiss3dError):
    """Something that is not there: weights, a device, a package or disk space."""

    exit_code = 3


class OutOfMemory(Kiss3dError):
    """RAM or VRAM ran out."""

    exit_code = 4


class DamagedRun(Kiss3dError):
    """A run folder whose records can't be trusted."""

    exit_code = 5


class RunInUse(Kiss3dError):
    """Another process is working in the run folder."""

    exit_code = 6


class OutputFailed(Kiss3dError):
    """The result could not be printed: standard output is closed or full. The files that were written are kept."""

    exit_code = 7
    silent = False
    """Whoever read the output went away, as `head` does: nobody waits for a message."""


class Interrupted(Kiss3dError):
    """Interrupted by Ctrl-C, SIGTERM or SIGHUP; a second signal ends the process at once."""

    exit_code = 130


def from_exception(error: BaseException, place: str | None = None) -> Kiss3dError | None:
    """The error to show for an exception of another library; None if it is not a known kind."""
    if isinstance(error, Kiss3dError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted", place=place)
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        hint = "set the environment variable HOME to a folder that can be written to"
        return Missing("this user has no home directory", place=place, hint=hint)
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return OutOfMemory(
            "out of memory",
            place=place,
            hint="close other programs, or use smaller settings (a smaller tile or resolution, or --preset draft)",
        )
    if isinstance(error, OSError):
        from kiss3d_cli.core.system_errors import understood  # it knows the errors of this module

        return understood(error, place)
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """torch raises a RuntimeError of its own kind on a GPU and a plain one on the CPU."""
    if type(error).__name__ in ("OutOfMemoryError", "AcceleratorError") and "memory" in str(error).lower():
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "cuda out of memory",
    "cuda error: out of memory",
    "status_alloc_failed",  # cuBLAS and cuDNN, whose workspaces come last
)
