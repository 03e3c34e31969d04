"""Standard output and error that may be closed, full or gone, and signals that may come more than once.

Results that can't be printed end the command with exit code 7; what was made is kept. Messages that can't be printed
are lost, and change nothing. A first SIGINT, SIGTERM or SIGHUP stops a run in order, with exit code 130; a second one
ends it at once, with the same: a run folder bears that like any kill.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kiss3d_cli.cli.invocation import as_typed_here
from kiss3d_cli.core.errors import Interrupted, OutputFailed
from kiss3d_cli.core.printable import printable

_closed: set[int] = set()
_stops = 0


def prepare() -> None:
    """Make the standard streams safe to write to; done once, by the command's entry point."""
    for number in (0, 1, 2):  # else the next file to be opened takes the number, and what is printed goes into it
        try:
            os.fstat(number)
        except OSError:
            _closed.add(number)
            os.open(os.devnull, os.O_RDWR)
    # Python has none for those that were closed, and whoever asks them whether they are a terminal would fail; that
    # of the results stays none, so that it is told that nobody gets them
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    # a pipe on Windows has an old code page, which lacks most letters: escaped, not a crash at the end of a run
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(text: object = "", end: str = "\n") -> None:
    """Print a result with control characters escaped. Raises OutputFailed if that fails."""
    write_out(printable(str(text)) + end)


def write_out(text: str) -> None:
    """Write to standard output as it is. Raises OutputFailed if it can't be."""
    if sys.stdout is None or 1 in _closed:
        raise OutputFailed("the result can't be printed: standard output is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError) as error:  # ValueError: closed by whoever called this
        _silence(sys.stdout, 1)
        failed = OutputFailed(f"the result can't be printed: {_reason(error)}")
        failed.silent = getattr(error, "errno", None) == errno.EPIPE
        raise failed from None


def note(text: str) -> None:
    """A line for the person, never for a program: stdout is for results. It is lost if it can't be printed.

    Commands in it are told as they are called from here.
    """
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(printable(as_typed_here(text)) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _silence(sys.stderr, 2)


def end_of_output(code: object) -> object:
    """Flush standard output and return the exit code: 7 instead of success if flushing fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _silence(sys.stdout, 1)
        return code or OutputFailed.exit_code
    return code


@contextmanager
def stop_signals() -> Iterator[None]:
    """Requests to stop end a run like Ctrl-C does: its state is kept and can be resumed. A second one ends it now."""

    def stop(number: int, _frame: Any) -> None:
        global _stops
        _stops += 1
        if _stops > 1:
            with contextlib.suppress(OSError):
                os.write(2, at_once)
            os._exit(Interrupted.exit_code)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Interrupted("stopped by a signal", hint="kiss3d resume RUN_DIR goes on with a run")

    again = as_typed_here("kiss3d resume RUN_DIR")  # a signal's handler should compute little
    at_once = f"\nkiss3d: ended at once; {again} goes on from the last finished stage\n".encode()
    forget_stops()
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        # nohup, and a shell's background jobs, ignore some on purpose
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def forget_stops() -> None:
    """The next signal counts as the first one."""
    global _stops
    _stops = 0


def _silence(stream: Any, number: int) -> None:
    """Send what is left in a stream's buffer nowhere: Python would try again at its end, and fail with code 120."""
    with contextlib.suppress(OSError, ValueError):
        if stream.fileno() == number:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
    _closed.add(number)


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    return "standard output is closed" if code is None else os.strerror(code).lower()
