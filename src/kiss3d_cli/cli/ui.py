"""`kiss3d ui`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.streams import forget_stops
from kiss3d_cli.cli.terminal import handles_errors, note, shown_path
from kiss3d_cli.core.errors import BadInput, Interrupted
from kiss3d_cli.core.shell import typed


@handles_errors
def ui(
    out: Annotated[Path, typer.Option(help="Folder of runs; nothing outside it can be read.")] = Path("outputs"),
    host: Annotated[str, typer.Option(help="Address to listen on; localhost by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 7860,
) -> None:
    """Serve a web page for making meshes, watching runs and evaluating them."""
    from kiss3d_cli.serve.guard import LOCAL
    from kiss3d_cli.serve.service import Service
    from kiss3d_cli.web.jobs import Jobs
    from kiss3d_cli.web.server import check_gradio, serve

    check_gradio()
    if not host.strip():
        raise BadInput("no host was given", place="--host", hint="--host 127.0.0.1, or 0.0.0.0 for every network")
    if host not in LOCAL:
        note(f"note: whoever can reach {host} can start runs and see all of {out}; there is no password")
    with closing(Service(out)) as service:  # also if it can't listen: another one may be started on the folder
        jobs = Jobs(service)
        if waiting := jobs.unfinished():
            note(f"{len(waiting)} runs from before go on")
        serve(jobs, host, port, lambda: note(f"http://{host}:{port} (Ctrl-C stops it)"))
    forget_stops()
    unfinished = jobs.unfinished()
    for name in unfinished:
        note(f"not finished: {typed('kiss3d', 'resume', shown_path(out / name))} goes on with it")
    if unfinished:
        raise typer.Exit(Interrupted.exit_code)
