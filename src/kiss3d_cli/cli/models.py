"""`kiss3d models`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.terminal import handles_errors, print_json

app = typer.Typer(help="Model weights: what there is, what is here, what may be done with it.", no_args_is_help=True)


@app.command("list")
@handles_errors
def list_models(
    root: Annotated[Path | None, typer.Option(help="A folder of weights instead of the Hugging Face cache.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List every model with its size, its licence and whether it is on this machine."""
    from kiss3d_cli.models.registry import MODELS
    from kiss3d_cli.models.store import find_all

    here = find_all(MODELS, root)
    if json_output:
        rows = [
            {**dataclasses.asdict(model), "here": str(here[name].path) if name in here else None}
            for name, model in MODELS.items()
        ]
        print_json({"models": rows})
        return
    for name, model in MODELS.items():
        gate = ", gated" if model.gated else ""
        use = "commercial use allowed" if model.commercial else "non-commercial"
        print(
            f"{name:<16} {'here' if name in here else 'not here':<9} {model.gigabytes:>5.1f} GB"
            f"  {model.repository}{gate}"
        )
        print(f"{'':<16} {model.purpose}; {model.licence} ({use})")
