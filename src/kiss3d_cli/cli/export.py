"""`kiss3d export`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiss3d_cli.cli.runs_there import newest_run, one_run
from kiss3d_cli.cli.terminal import handles_errors, note, print_json, show, shown_path
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.shell import typed

if TYPE_CHECKING:
    from kiss3d_cli.export.options import Options
    from kiss3d_cli.export.photograph import RunPicture
    from kiss3d_cli.export.relief import RunNormals
    from kiss3d_cli.pipeline.run_folder import RunFolder, RunRecord

_UP = "y or z"


@handles_errors
def export(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN_OR_MESH",
            help="A run folder, or a mesh file; the newest run in outputs/ by default.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(metavar="TARGET", help="print, blender, unity, unreal, godot, web or ar.", show_default=False)
    ] = "",
    kind: Annotated[
        str | None,
        typer.Option("--format", help="stl, 3mf, obj, glb, usdz or ply; what suits the target.", show_default=False),
    ] = None,
    height: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="With its unit: 80mm, 8cm, 3in.", show_default=False)
    ] = None,
    faces: Annotated[int | None, typer.Option(help="Maximum number of faces.", show_default=False)] = None,
    origin: Annotated[str | None, typer.Option(help="floor or center.", show_default=False)] = None,
    up: Annotated[str | None, typer.Option(help=f"{_UP}, in formats that do not fix it.", show_default=False)] = None,
    texture: Annotated[int | None, typer.Option(help="Maximum texture size in pixels.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file or a folder; the current folder by default.", show_default=False),
    ] = None,
    input_up: Annotated[str, typer.Option(metavar="y|z", help="Up axis of a mesh file that states none.")] = "y",
    stable: Annotated[bool, typer.Option("--stable", help="print: lay the object on its most stable side.")] = False,
    base: Annotated[bool, typer.Option("--base", help="print: cut the bottom flat.")] = False,
    wall: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="print: minimum wall thickness, 1.2mm for example.", show_default=False),
    ] = None,
    hollow: Annotated[bool, typer.Option("--hollow", help="print: hollow the object, with drain holes.")] = False,
    lods: Annotated[int, typer.Option(help="Game engines: levels of detail (LOD), each with half the faces.")] = 1,
    collision: Annotated[bool, typer.Option("--collision", help="Game engines: convex hulls for physics too.")] = False,
    roughness: Annotated[
        float | None, typer.Option(help="Of the material: 0 is a mirror, 1 is chalk; 1 by default.", show_default=False)
    ] = None,
    normal_map: Annotated[
        bool | None,
        typer.Option(
            "--normal-map/--no-normal-map",
            help="A normal map; by default where the run's normals hold detail that the mesh does not.",
            show_default=False,
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Export a mesh for another program: a slicer, Blender, a game engine, a web page, a phone."""
    from kiss3d_cli.export.options import Options, length

    if source is None:
        source = newest_run("RUN_OR_MESH").path
    if not to:
        raise BadInput("the target is missing", place="--to", hint=typed("kiss3d", "export", source, "--to", "print"))
    options = Options(
        to=to,
        kind=_kind(kind, out),
        height=None if height is None else length(height, "--height"),
        faces=faces,
        origin=_one_of(origin, ("floor", "center"), "--origin"),
        up=_one_of(up, ("y", "z"), "--up"),
        texture=texture,
        stable=stable,
        base=base,
        wall=None if wall is None else length(wall, "--wall"),
        hollow=hollow,
        lods=lods,
        collision=collision,
        roughness=roughness,
        normal_map=normal_map,
    )
    options.check()
    options.require()
    _one_of(input_up, ("y", "z"), "--input-up")
    written, record = _export(source, options, out, input_up)
    if json_output:
        print_json(record)
        return
    for path in written:
        show(shown_path(path))


def _export(source: Path, options: Options, out: Path | None, up: Any) -> tuple[list[Path], dict[str, Any]]:
    from kiss3d_cli.core.files import write_durably
    from kiss3d_cli.export.exporting import export as made_of
    from kiss3d_cli.export.source import read_model

    path, name, origin, bundle = _mesh(source, options.to)
    folder, stem = _place(out, name, options)
    began = time.perf_counter()
    model, notes = read_model(path, up)
    model = replace(model, origin=origin, bundle=bundle)
    made = made_of(model, options, stem)
    written = [folder / file for file in made.files]
    for file in written:
        if file.exists() and file.samefile(path):
            raise BadInput("this would write over the mesh itself", place=str(file), hint="give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    for file in written:
        write_durably(file, made.files[file.name])
    said = [*notes, *made.notes]
    for sentence in said:
        note(f"note: {sentence}")
    sides = " x ".join(f"{side:.4g}" for side in made.facts["size"])
    note(f"{sides} {made.facts['unit']}, {made.facts['faces']:,} faces, {made.facts['up']} up")
    seconds = round(time.perf_counter() - began, 3)
    files = [str(file) for file in written]
    return written, {"files": files, "source": str(path), **made.facts, "seconds": seconds, "notes": said}


def _mesh(source: Path, to: str) -> tuple[Path, str, RunPicture | None, RunNormals | None]:
    """The mesh that is meant, what its files are to be called, and the pictures of its run."""
    from kiss3d_cli.pipeline.launch import mesh_of

    if source.is_file():
        return source, source.stem, None, None
    if not source.is_dir():
        raise BadInput("no such run folder or mesh", place=str(source), hint="kiss3d export RUN_DIR --to print")
    folder = one_run(source, "export", "--to", to)
    record = folder.record()
    mesh = mesh_of(folder)
    if mesh is None:
        hint = typed("kiss3d", "resume", shown_path(folder.path))
        raise BadInput("this run has no mesh yet", place=str(folder.path), hint=hint)
    return mesh, record.name, _picture(folder, record, mesh), _normals(folder, record, mesh)


def _normals(folder: RunFolder, record: RunRecord, mesh: Path) -> RunNormals | None:
    """The bundle that a run's mesh was made of."""
    from kiss3d_cli.core.files import is_safe
    from kiss3d_cli.export.relief import RunNormals

    path = folder.folder("bundle") / "bundle.png"
    if mesh.parent != folder.folder("refine") or not is_safe(path, within=folder.path):
        return None
    return RunNormals(path, record.config["camera.radius"])


def _picture(folder: RunFolder, record: RunRecord, mesh: Path) -> RunPicture | None:
    """The picture that the front of a run's mesh shows, where the run keeps all that is to be known of it."""
    from kiss3d_cli.core.files import is_safe
    from kiss3d_cli.export.photograph import RunPicture

    if "picture" not in record.inputs or mesh.parent != folder.folder("refine"):
        return None
    before = folder.folder("preprocess")
    paths = folder.path / record.inputs["picture"].path, before / "image_rgba.png", before / "window.json"
    if not all(is_safe(path, within=folder.path) for path in paths):
        return None
    return RunPicture(*paths, record.config["camera.radius"])


def _place(out: Path | None, name: str, options: Options) -> tuple[Path, str]:
    """The folder and the stem of the files."""
    usual = f"{name}-{options.to}"
    if out is None:
        return Path(), usual
    if out.is_dir() or not out.suffix:
        return out, usual
    if out.suffix.lower() != f".{options.format}":
        cause = f"the name ends in {out.suffix}, the format is {options.format}"
        raise BadInput(cause, place="--out", hint=f"name it {out.stem}.{options.format}, or give --format")
    return out.parent, out.stem


def _kind(kind: str | None, out: Path | None) -> str | None:
    """The format that was asked for, by its name or by that of the file."""
    if kind is not None:
        return kind.lower().removeprefix(".")
    return None if out is None or out.is_dir() or not out.suffix else out.suffix.lower()[1:]


def _one_of(value: str | None, known: tuple[str, ...], place: str) -> Any:
    if value is not None and value not in known:
        raise BadInput(f"'{value}' is not known here", place=place, hint=" or ".join(known))
    return value
