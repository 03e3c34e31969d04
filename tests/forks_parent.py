"""The process that `forks` forks: it imports what runs import, starts no thread, and does nothing else.

Each connection brings an order and three open files, and is told the pid of its process and at the end its status.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import types
from pathlib import Path
from typing import Any

LATER = (
    "evaluation.front_check", "geometry.extract.view_order", "geometry.inflate.inflate", "geometry.inflate.views",
    "geometry.io.export", "geometry.surface.intersections", "geometry.texture.bake", "geometry.texture.charts",
    "geometry.texture.mirror", "image.cutting", "image.describe", "image.framing", "image.see_through",
    "methods.bundle.elsewhere", "methods.multiview.given", "methods.preprocess.cut", "methods.refine.missing",
    "pipeline.described", "pipeline.without_effect",
)  # fmt: skip
"""What a draft imports where it is used: 0.3 s of each fork that makes one."""
_DEFAULT = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def import_all() -> None:
    import cv2  # noqa: F401
    import fast_simplification  # noqa: F401
    import PIL.Image
    import psutil  # noqa: F401
    import scipy.ndimage
    import scipy.optimize
    import scipy.sparse.csgraph
    import scipy.spatial  # noqa: F401
    import torch  # noqa: F401

    import kiss3d_cli.cli.app
    import kiss3d_cli.cli.run
    import kiss3d_cli.cli.serve
    import kiss3d_cli.geometry.refine.isomer
    import kiss3d_cli.geometry.texture.texture
    import kiss3d_cli.methods.registry
    import kiss3d_cli.pipeline.launch
    import kiss3d_cli.report.run_report
    import kiss3d_cli.report.viewer  # noqa: F401
    from kiss3d_cli.methods.registry import methods
    from kiss3d_cli.models.store.registry import models

    methods(), models()
    PIL.Image.init()
    for name in LATER:
        importlib.import_module(f"kiss3d_cli.{name}")
    with contextlib.suppress(ImportError):  # of an extra
        import uvicorn.protocols.http.auto  # noqa: F401

    assert "huggingface_hub" not in sys.modules, "it reads the environment when it is imported"
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread would be missing in a fork"


def answer(listener: socket.socket, lifeline: int) -> dict[str, Any]:
    """Fork for every order until the lifeline ends; returns an order in its fork."""
    awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_arguments: None)
    selector = selectors.DefaultSelector()
    for source in (listener, awake, lifeline):
        selector.register(source, selectors.EVENT_READ)
    lines: dict[int, socket.socket] = {}
    while True:
        ready = {key.fd for key, _events in selector.select()}
        if lifeline in ready:
            os._exit(0)
        if awake in ready:
            os.read(awake, 1000)
            _tell_ends(lines)
        if listener.fileno() in ready:
            line, _address = listener.accept()
            text, streams, _flags, _from = socket.recv_fds(line, 2**20, 3)
            child = os.fork() if text else -1
            if child == 0:
                signal.set_wakeup_fd(-1)
                selector.close()
                for other in (*lines.values(), line, listener):
                    other.close()
                for number in (awake, wake, *([lifeline] if lifeline > 2 else [])):
                    os.close(number)
                return {**json.loads(text), "streams": streams}
            for number in streams:
                os.close(number)
            if child > 0:
                lines[child] = line
                with contextlib.suppress(OSError):
                    line.send(str(child).encode())


def _tell_ends(lines: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with lines.pop(ended[0]) as line, contextlib.suppress(OSError):  # nobody waits for it any more
                line.send(str(ended[1]).encode())


def become(order: dict[str, Any]) -> None:
    """Make this fork the process that was ordered, and do its command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    if order["session"]:
        os.setsid()
    for number, end in enumerate(order["streams"]):
        os.dup2(end, number)
        os.close(end)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        ours = getattr(sys, name)
        kind = {"encoding": ours.encoding, "errors": ours.errors, "buffering": 1 if number == 2 else -1}
        stream = open(number, "w" if number else "r", closefd=False, **kind)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if order["workers"]:
        _fork_workers()
    kind, what, *arguments = order["command"]
    sys.argv = [kind, *arguments]
    if kind == "-m":
        sys.path[0] = order["folder"]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    sys.path[0] = ""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(what, "<string>", "exec"), main.__dict__)


def _fork_workers() -> None:
    """Let the workers of the service that this process becomes be forks of another one beside it."""
    import forks

    parent = forks.Parent.__new__(forks.Parent)
    parent.address = f"\0kiss3d-forks-{os.getpid()}-{os.urandom(8).hex()}"
    parent._environment = forks._early(dict(os.environ))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(parent.address)
    listener.listen(100)
    lifeline, kept = os.pipe()
    if os.fork() == 0:
        os.close(kept)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        become(answer(listener, lifeline))
        sys.exit()
    listener.close()
    os.close(lifeline)  # `kept` ends with this process

    contextlib.ExitStack().enter_context(forks.workers(parent))


if __name__ == "__main__":
    import_all()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as own:
        asked = answer(own, lifeline=0)
    become(asked)
