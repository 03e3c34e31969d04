"""`kiss3d serve`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.streams import forget_stops
from kiss3d_cli.cli.terminal import handles_errors, note
from kiss3d_cli.core.errors import BadInput


@handles_errors
def serve(
    out: Annotated[Path, typer.Option(help="Folder of runs; nothing outside it can be read.")] = Path("outputs"),
    preset: Annotated[str, typer.Option(help="Default preset of requests: auto, draft, 12gb, ...")] = "auto",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Fix a setting for all runs; may be repeated."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but localhost requires --token-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8081,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bearer tokens of clients, one a line.", show_default=False)
    ] = None,
    largest_request: Annotated[float, typer.Option(min=0.01, max=10_000, help="Maximum request size in MB.")] = 200.0,
    longest_queue: Annotated[int, typer.Option(min=1, max=1_000_000, help="Maximum number of waiting runs.")] = 1000,
    rate: Annotated[int, typer.Option(min=0, help="Modifying requests per client and minute; 0 means no limit.")] = 600,
    together: Annotated[int, typer.Option(min=1, max=100, help="Batch size: runs that share each loaded network.")] = 8,
    log: Annotated[str, typer.Option(help="Log on standard error: none, or json with one object per line.")] = "none",
) -> None:
    """Serve runs to programs over HTTP: kiss3d's own routes, and those of Hunyuan3D-2's API server."""
    from kiss3d_cli.pipeline import config as configuration
    from kiss3d_cli.serve.app import Options, check_packages, listen
    from kiss3d_cli.serve.guard import LOCAL, read_tokens
    from kiss3d_cli.serve.logs import FORMATS, log_json
    from kiss3d_cli.serve.service import Service

    check_packages()
    if not host.strip():
        raise BadInput("no host was given", place="--host", hint="--host 127.0.0.1, or 0.0.0.0 for every network")
    if log not in FORMATS:
        raise BadInput(f"there is no log '{log[:40]}'", place="--log", hint=f"one of: {', '.join(FORMATS)}")
    tokens = () if token_file is None else read_tokens(token_file)
    if host not in LOCAL and not tokens:
        hint = "kiss3d serve --host ... --token-file FILE, with one secret of your own a line"
        raise BadInput("other machines may ask only with a token", place="--host", hint=hint)
    settings = tuple(assignments or ())
    chosen = [] if preset == "auto" else [configuration.preset_layer(preset)]
    configuration.load(*chosen, configuration.settings_layer(settings))
    options = Options(preset, settings, tokens, int(largest_request * 10**6), rate)
    if log == "json":
        log_json()
    with closing(Service(out, longest_queue=longest_queue, together=together)) as service:
        waiting = sum(count for state, count in service.counts().items() if state in ("waiting", "running"))
        for name in service.lost:
            note(f"note: the ticket of {name} can't be read; kiss3d resume {out / name} goes on with the run")
        if waiting:
            note(f"{waiting} runs from before go on")
        listen(service, options, host, port, lambda: note(f"http://{host}:{port} (Ctrl-C stops it)"))
    forget_stops()
    left = sum(count for state, count in service.counts().items() if state in ("waiting", "running"))
    if left:
        note(f"{left} runs have not ended: kiss3d serve --out {out} goes on with them")
