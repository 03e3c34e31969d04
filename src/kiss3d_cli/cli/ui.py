"""`kiss3d ui`."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.streams import forget_stops
from kiss3d_cli.cli.terminal import handles_errors, note, shown_path
from kiss3d_cli.core.errors import BadInput, Interrupted
from kiss3d_cli.core.shell import typed

_PATIENCE = 10.0
"""Seconds that a run gets to come to a safe point."""


@handles_errors
def ui(
    out: Annotated[Path, typer.Option(help="The folder of runs; nothing outside it can be read.")] = Path("outputs"),
    host: Annotated[
        str, typer.Option(help="Where to listen; by default this machine alone can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 7860,
) -> None:
    """Serve a page to make meshes from, to watch runs and to measure them."""
    from kiss3d_cli.web.jobs import Jobs
    from kiss3d_cli.web.server import check_gradio, serve

    check_gradio()
    if not host.strip():
        raise BadInput("no host was given", place="--host", hint="--host 127.0.0.1, or 0.0.0.0 for every network")
    if host not in ("127.0.0.1", "localhost", "::1"):
        note(f"note: whoever can reach {host} can start runs and see all of {out}; there is no password")
    jobs = Jobs(out)
    serve(jobs, host, port, lambda: note(f"http://{host}:{port} (Ctrl-C stops it)"))
    forget_stops()
    stopped = jobs.cancel_all()
    if not stopped:
        return
    end = time.monotonic() + _PATIENCE
    note("stopping at the next safe point (Ctrl-C: at once)")
    with contextlib.suppress(KeyboardInterrupt, Interrupted):
        while any(job.active for job in stopped) and time.monotonic() < end:
            time.sleep(0.05)
    unfinished = [job.folder.path for job in stopped if job.state != "done"]
    for path in unfinished:
        note(f"not finished: {typed('kiss3d', 'resume', shown_path(path))} goes on with it")
    # Python's own end would run into threads that are deep in torch, which aborts. A run folder bears it like any kill.
    os._exit(Interrupted.exit_code if unfinished else 0)
