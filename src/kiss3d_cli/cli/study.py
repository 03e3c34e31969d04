"""`kiss3d study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.terminal import handles_errors, note, print_json, show, shown_path
from kiss3d_cli.cli.train_lvsm import HELD_OUT

app = typer.Typer(help="Study networks that you have trained.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Study networks that you have trained."""


@app.command("lvsm")
@handles_errors
def lvsm(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A training run, or its lvsm.safetensors.")],
    edit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EDIT",
            help="change, drop, add, repeat, permute, interpolate, directions or identity, repeatable; by default all.",
        ),
    ] = None,
    views: Annotated[Path, typer.Option(help="A folder of posed views that were never trained on.")] = HELD_OUT,
    objects: Annotated[int, typer.Option(min=2, max=1024, help="Number of objects.")] = 16,
    out: Annotated[Path | None, typer.Option(help="The folder of the study; by default `study` in the run.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same edits.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Edit scene tokens and measure the effect on the pictures: contact sheets, tables and a page of answers."""
    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.models.lvsm.weights import load
    from kiss3d_cli.training.lvsm_report import write_study
    from kiss3d_cli.training.lvsm_study import EDITS, read_subjects, study

    wrong = [name for name in edit or () if name not in EDITS]
    if wrong:
        raise BadInput(f"there is no edit {wrong[0]}", place="--edit", hint=f"choose of: {', '.join(EDITS)}")
    weights = run / "lvsm.safetensors" if run.is_dir() else run
    loaded = load(weights)
    subjects = read_subjects(loaded.network, views, objects, seed)
    findings = []
    for name in dict.fromkeys(edit or EDITS):
        note(name)
        findings += study(subjects, [name])
    config = loaded.network.config
    facts = {
        "weights": f"{weights.name}, sha256 {loaded.sha256}",
        "network": ", ".join(f"{key} {value}" for key, value in config.as_dict().items()),
        "scenes": f"{len(subjects.scene)} objects of {subjects.tokens} tokens, seed {seed}",
    }
    page = write_study(out or weights.parent / "study", findings, facts)
    if json_output:
        rows = {found.name: {"answer": found.answer, "rows": [vars(row) for row in found.rows]} for found in findings}
        print_json({"report": str(page), "edits": rows})
    else:
        show("\n".join([*(f"{found.name}: {found.answer}" for found in findings), shown_path(page)]))
