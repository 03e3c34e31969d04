"""Processes of Python that import nothing anew: forks of one that has imported torch and kiss3d, and run nothing.

Importing takes longer than what most tests ask of a process. `Popen` and `run` are those of `subprocess`, and each fork
is a process of its own: pid, standard streams, signals, working folder, environment. Where a fork would not be the same
(another interpreter, variables that libraries read when they are imported, threads) a new process is started.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import json
import os
import select
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

_LATE = ("HF_", "KISS3D_", "PYTEST_", "XDG_")
"""What variables begin with that nothing reads which the parent has imported."""
POSSIBLE = sys.platform == "linux" and os.environ.get("OMP_NUM_THREADS") == "1"
"""With more, libraries start threads when they are imported, and forks have none of them."""
_ARGUMENTS = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]


def _early(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(_LATE)}


class Parent:
    """The process that is forked. It ends with the one that started it."""

    _one: Parent | None = None

    def __init__(self) -> None:
        self.address = f"\0kiss3d-forks-{os.getpid()}-{os.urandom(8).hex()}"
        self._environment = _early(dict(os.environ))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self.address)
            listener.listen(100)
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("forks_parent.py")), str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                process_group=0,  # Ctrl-C is for the tests
            )
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    @classmethod
    def of_this_process(cls) -> Parent:
        if cls._one is None:
            cls._one = cls()
        return cls._one

    def can_be(self, command: Any, given: dict[str, Any]) -> bool:
        """Whether a fork is what a new process of this command would be."""
        usual = {"executable": None, "preexec_fn": None, "pass_fds": (), "shell": False, "umask": -1}
        usual |= {"gid": None, "gids": None, "uid": None, "process_group": -1}
        environment = dict(os.environ) if given["env"] is None else given["env"]
        return (
            isinstance(command, list | tuple)
            and command[0] == sys.executable
            and command[1] in ("-c", "-m")
            and all(given[name] == value for name, value in usual.items())
            and _early(environment) == self._environment
        )


class Popen(subprocess.Popen):
    """A fork of `parent`, by default of the one that this process has."""

    def __init__(self, *arguments: Any, parent: Parent | None = None, workers: bool = False, **named: Any) -> None:
        """
        Args:
            workers: the workers of a service that is started are forks too, of a process beside it.
        """
        self._parent = parent or (Parent.of_this_process() if POSSIBLE else None)
        self._workers = workers
        self._line: socket.socket | None = None
        super().__init__(*arguments, **named)

    def _execute_child(self, *arguments: Any) -> None:
        given = _ARGUMENTS.bind(self, *arguments).arguments
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            if self._parent is None or not self._parent.can_be(given["args"], given):
                raise ConnectionError
            line.connect(self._parent.address)
        except ConnectionError:  # also where the parent was killed
            line.close()
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        order = {
            "command": [os.fspath(part) for part in given["args"][1:]],
            "folder": os.fspath(given["cwd"] or Path.cwd()),
            "environment": dict(os.environ) if given["env"] is None else given["env"],
            "session": given["start_new_session"],
            "workers": self._workers,
        }
        ends = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        streams = [number if end == -1 else end for number, end in enumerate(ends)]
        socket.send_fds(line, [json.dumps(order).encode()], streams)
        self._close_pipe_fds(*(given[n] for n in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")))  # type: ignore[attr-defined]
        self.pid, self._line, self._child_created = int(line.recv(100)), line, True

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._line is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc]
        if wait_flags & os.WNOHANG and not select.select([self._line], [], [], 0)[0]:
            return 0, 0
        status = self._line.recv(100)
        self._line.close()
        return self.pid, int(status or 9)  # nothing: the parent was killed, as only tests do that kill both

    def _internal_poll(self, *arguments: Any, **named: Any) -> int | None:
        if self._line is None:
            return super()._internal_poll(*arguments, **named)  # type: ignore[misc]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            with contextlib.ExitStack() as stack:
                stack.callback(self._waitpid_lock.release)  # type: ignore[attr-defined]
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def run(*arguments: Any, capture_output: bool = False, check: bool = False, **named: Any) -> Any:
    """`subprocess.run`, without its `input` and `timeout`."""
    if capture_output:
        named |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(*arguments, **named) as process:
        out, err = process.communicate()
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


@contextlib.contextmanager
def workers(parent: Parent | None = None) -> Iterator[None]:
    """The workers of services in this process are forks."""
    from kiss3d_cli.serve import process

    starting = types.SimpleNamespace(Popen=functools.partial(Popen, parent=parent), PIPE=subprocess.PIPE)
    with mock.patch.object(process, "subprocess", starting):
        yield
