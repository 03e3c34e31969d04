"""`kiss3d models`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from kiss3d_cli.cli.terminal import error_record, handles_errors, note, print_json, show, show_error
from kiss3d_cli.core.errors import Missing

app = typer.Typer(help="Model weights: what there is, what is here, what may be done with it.", no_args_is_help=True)
Root = Annotated[Path | None, typer.Option(help="A folder of weights instead of the Hugging Face cache.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
@handles_errors
def list_models(root: Root = None, json_output: Json = False) -> None:
    """List every model with its size, its licence and whether it is on this machine."""
    from kiss3d_cli.models.store.locate import find_all
    from kiss3d_cli.models.store.registry import models as registered

    here = find_all(registered(), root)
    if json_output:
        rows = [
            {**dataclasses.asdict(model), "here": str(here[name].path) if name in here else None}
            for name, model in registered().items()
        ]
        print_json({"models": rows})
        return
    for name, model in registered().items():
        gate = ", gated" if model.gated else ""
        show(f"{name:<16} {'here' if name in here else 'not here':<9} {model.size:>8}  {model.repository}{gate}")
        show(f"{'':<16} {model.purpose}; {_terms(model.licence, model.commercial)}")


@app.command("pull")
@handles_errors
def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="PRESET|MODEL", help="A preset or models by name; 12gb by default."),
    ] = None,
    root: Root = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")] = False,
    contents: Annotated[
        bool, typer.Option("--contents", help="Verify existing files by content; takes a minute for 12gb.")
    ] = False,
) -> None:
    """Download model weights, and replace damaged files. An interrupted download is resumed."""
    import sys

    from kiss3d_cli.models.store import preflight
    from kiss3d_cli.models.store.download import fetch, plan_downloads
    from kiss3d_cli.models.store.locate import find
    from kiss3d_cli.models.store.verify import verify

    chosen = _chosen(names or ["12gb"])
    faults = preflight.check((model.name for model in chosen), root)
    for model in chosen if contents else ():
        known = {fault.path for fault in faults}
        found = [entry for entry in verify(model, root) if entry.fault and entry.path not in known]
        faults += [preflight.Fault(entry.path, str(entry.fault), (model.name,)) for entry in found]
    broken = {name for fault in faults for name in fault.models}
    models = [model for model in chosen if model.name in broken or find(model, root) is None]
    if not models:
        note("nothing to download: these models are here, and their files are whole")
        return
    downloads = plan_downloads(models, root)
    for fault in faults:
        note(f"{fault.path}: {fault.what}; it is replaced")
    for download in downloads:
        model = download.model
        note(f"{model.name}: {download.bytes / 1e9:.2f} GB from {model.page}")
        note(f"  {model.purpose}; {_terms(model.licence, model.commercial)}")
    total = sum(download.bytes for download in downloads)
    note(f"{total / 1e9:.2f} GB in all")
    if not yes and sys.stdin.isatty() and not typer.confirm("Download?", default=True, err=True):
        raise typer.Exit(1)
    for fault in faults:
        preflight.clear(fault.path)
    for download in downloads:
        with _Bar() as bar:
            fetch(download, bar)
        note(f"{download.model.name}: done")


@app.command("verify")
@handles_errors
def verify_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="PRESET|MODEL", help="What to verify; by default everything that is here."),
    ] = None,
    root: Root = None,
    repair: Annotated[bool, typer.Option("--repair", help="Delete unusable files and download them again.")] = False,
    json_output: Json = False,
) -> None:
    """Verify local model files offline, by content where the published hash is known."""
    from kiss3d_cli.models.store.preflight import check, pull_command
    from kiss3d_cli.models.store.registry import models as registered
    from kiss3d_cli.models.store.verify import verify

    models = _chosen(names) if names else list(registered().values())
    if repair:
        _repair(models, root)
    rows = []
    faults = check((model.name for model in models), root)
    for model in models:
        for checked in verify(model, root, faults):
            rows.append({"model": model.name, "file": str(checked.path), "how": checked.how, "fault": checked.fault})
            if not json_output:
                show(f"{model.name:<16} {checked.fault or 'ok':<10} ({checked.how})  {checked.path}")
    broken = sorted({str(row["model"]) for row in rows if row["fault"]})
    error = None
    if broken:
        files = "\n".join(f"  - {row['file']}: {row['fault']}" for row in rows if row["fault"])
        by_content = any(row["fault"] and row["how"] == "hash" for row in rows)
        command = pull_command([*(["--contents"] if by_content else []), *broken], root)
        hint = f"{command}   (replaces the files named above)"
        error = Missing(f"these files can't be used:\n{files}", place="models", hint=hint)
    if json_output:
        print_json({"files": rows, **({"error": error_record(error)} if error else {})})
    if error is not None:
        show_error(error)
        raise typer.Exit(error.exit_code)
    if not rows:
        note("there is nothing here to check")


def _repair(models: list[Any], root: Path | None) -> None:
    """Remove every file that can't be used, the blob behind a link included, and download its model again.

    Nothing is removed before it is known that all can be had.
    """
    from kiss3d_cli.models.store import preflight
    from kiss3d_cli.models.store.download import fetch, plan_downloads
    from kiss3d_cli.models.store.verify import verify

    faults = preflight.check((model.name for model in models), root)
    bad = {model.name: [entry for entry in verify(model, root, faults) if entry.fault] for model in models}
    downloads = plan_downloads([model for model in models if bad[model.name]], root)
    for download in downloads:
        for entry in bad[download.model.name]:
            note(f"{entry.path}: {entry.fault}; it is replaced")
            preflight.clear(entry.path)
        with _Bar() as bar:
            fetch(download, bar)
        note(f"{download.model.name}: repaired")


class _Bar:
    """A bar for files that are not on the hub, whose client shows its own; it comes with the first bytes."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, name: str, done: int, size: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=size, unit="B", unit_scale=True, desc=name)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _chosen(names: list[str]) -> list[Any]:
    """The models of these presets and names, each once."""
    from kiss3d_cli.models.store.registry import lookup
    from kiss3d_cli.pipeline import config as configuration
    from kiss3d_cli.pipeline.requirements import needed_models

    wanted: dict[str, None] = {}
    for name in names:
        if name in configuration.presets():
            wanted |= dict.fromkeys(needed_models(configuration.load(configuration.preset_layer(name))))
        else:
            wanted[name] = None
    return [lookup(name) for name in wanted]


def _terms(licence: str, commercial: bool) -> str:
    return f"{licence} ({'commercial use allowed' if commercial else 'non-commercial'})"
