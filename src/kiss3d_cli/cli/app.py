"""The `kiss3d` command. Nothing heavy is imported here: `kiss3d --help` loads no torch."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Annotated

import typer

import kiss3d_cli
from kiss3d_cli.cli import (
    doctor,
    evaluate,
    export,
    models,
    report,
    resume,
    run,
    serve,
    status,
    streams,
    study,
    train,
    ui,
)
from kiss3d_cli.cli.group import HarmlessGroup
from kiss3d_cli.cli.streams import show
from kiss3d_cli.cli.views_option import ViewsCommand
from kiss3d_cli.core.errors import OutputFailed, from_exception

app = typer.Typer(
    cls=HarmlessGroup,
    name="kiss3d",
    help="One picture in, a textured 3D mesh out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> bool:
    if asked:
        show(f"kiss3d {kiss3d_cli.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One picture in, a textured 3D mesh out."""


app.command("run", cls=ViewsCommand)(run.run)
app.command("resume")(resume.resume)
app.command("status")(status.status)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("ui")(ui.ui)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")
app.add_typer(study.app, name="study")


def main() -> None:
    # Threads that spin while they wait cost ten times the processor time where other programs want the cores too:
    # 258 s instead of 44 s for a draft run on two busy ones. It must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # At the end all memory goes back at once; the last searches for garbage among torch's modules cost a second.
    atexit.register(gc.freeze)
    streams.prepare()
    try:
        app(prog_name="kiss3d")
    except SystemExit as end:
        # typer's own way of saying that nobody reads its help
        code = OutputFailed.exit_code if "Pacify" in type(sys.stdout).__name__ else end.code
    except (OutputFailed, OSError) as error:  # of a help text, which no command guards
        if not getattr(error, "silent", False):
            streams.note(f"kiss3d: {from_exception(error) or error}")
        code = OutputFailed.exit_code
    sys.exit(streams.end_of_output(code))  # type: ignore[arg-type]
