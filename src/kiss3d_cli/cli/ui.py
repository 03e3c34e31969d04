"""`kiss3d ui`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.terminal import handles_errors, note


@handles_errors
def ui(
    out: Annotated[Path, typer.Option(help="The folder of runs; nothing outside it can be read.")] = Path("outputs"),
    host: Annotated[
        str, typer.Option(help="Where to listen; by default this machine alone can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 7860,
) -> None:
    """Serve a page to make meshes from, to watch runs and to measure them."""
    from kiss3d_cli.ui.server import check_gradio, serve

    check_gradio()
    if host not in ("127.0.0.1", "localhost", "::1"):
        note(f"note: whoever can reach {host} can start runs and see all of {out}; there is no password")
    serve(out, host, port, lambda: note(f"http://{host}:{port} (Ctrl-C stops it)"))
