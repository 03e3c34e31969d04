"""Which result belongs to which ground truth, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kiss3d_cli.core.errors import BadInput, Kiss3dError

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".3mf", ".dae")
# where data sets keep an item's mesh inside of its folder, the surer place first; {} is the folder's name
LAYOUTS = (
    "meshes/model.obj",  # Google Scanned Objects
    "Scan/Scan.obj",  # OmniObject3D
    "models/model_normalized.obj",  # ShapeNet v2
    "model.obj",  # ShapeNet v1, ABO
    "{}.glb",  # Objaverse and its kin
    "{}.obj",
    "{}.ply",
    "{}.stl",
    "{}.off",
)
_VIEW = re.compile(r"[_-]\d+$")


@dataclass(frozen=True)
class Result:
    """A mesh to be measured.

    Attributes:
        name: what a table calls it; unique.
        item: the name that its ground truth should have, with or without a view's number at the end.
        mesh: the file, or None.
        missing: why there is no mesh, else None.
    """

    name: str
    item: str
    mesh: Path | None
    missing: str | None = None


@dataclass(frozen=True)
class Pair:
    result: Result
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """What belongs together, and a sentence for all that was left over."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[str, ...]


def pair(results: Sequence[Result], truths: Mapping[str, Sequence[Path]]) -> Pairing:
    """Pair by name, in either case; a result called ITEM_3 goes to ITEM unless there is an ITEM_3.

    Args:
        results: what was found in the folder of results.
        truths: the files of every ground truth by name; more than one file is ambiguous.
    """
    names = {name.casefold(): name for name in truths}
    pairs, sentences, used = [], [], set()
    for result in results:
        item = result.item.casefold()
        found = names.get(item) or names.get(_VIEW.sub("", item))
        if result.mesh is None:
            sentences.append(f"{result.name}: {result.missing}")
        elif found is None:
            sentences.append(f"{result.name}: there is no ground truth called {result.item}")
        elif len(truths[found]) > 1:
            files = " and ".join(path.name for path in truths[found])
            sentences.append(f"{result.name}: two ground truths are called {found} ({files})")
        else:
            pairs.append(Pair(result, truths[found][0]))
        if found is not None:
            used.add(found)
    sentences += [f"{name}: there is no result for this ground truth" for name in truths if name not in used]
    return Pairing(tuple(pairs), tuple(sentences))


def find_truths(folder: Path) -> dict[str, list[Path]]:
    """Ground truths by name: mesh files, and one mesh in each item's folder, as data sets have them (`LAYOUTS`).

    An item is called as its folder, also where all items are one folder further down (CATEGORY/ITEM/...): then the
    names must differ.

    Raises:
        BadInput: none is there.
    """
    found = _truths_in(folder)
    if not found and (folder / "models").is_dir():
        found = _truths_in(folder / "models")
    if not found:
        for entry in _folders(folder):
            for name, paths in _truths_in(entry).items():
                found.setdefault(name, []).extend(paths)
    if not found:
        hint = (
            "give a folder of NAME.obj (PLY, STL, GLB, ...) or NAME/meshes/model.obj, NAME/Scan/Scan.obj, NAME/NAME.glb"
        )
        raise BadInput("there is no ground truth in this folder", place=str(folder), hint=hint)
    return found


def _truths_in(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_file() and entry.suffix.lower() in MESH_SUFFIXES:
            found.setdefault(entry.stem, []).append(entry)
        elif entry.is_dir():
            mesh = _truth_of(entry)
            if mesh is not None:
                found.setdefault(entry.name, []).append(mesh)
    return found


def _truth_of(folder: Path) -> Path | None:
    """An item's mesh: in the place where a data set keeps it."""
    paths = (folder / layout.format(folder.name) for layout in LAYOUTS)
    return next((path for path in paths if path.is_file()), None)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def find_results(folder: Path) -> list[Result]:
    """Results by name: run folders, mesh files, and folders with one mesh or a `mesh.*` in them or one folder down.

    Raises:
        BadInput: none is there.
    """
    from kiss3d_cli.pipeline.run_folder import RUN

    if (folder / RUN).is_file():
        return [_run_result(folder)]
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_file() and entry.suffix.lower() in MESH_SUFFIXES:
            found.append(Result(entry.name, entry.stem, entry))
        elif entry.is_dir() and (entry / RUN).is_file():
            found.append(_run_result(entry))
        elif entry.is_dir():
            result = _folder_result(entry)
            if result is not None:
                found.append(result)
    if not found:
        hint = "give a folder of run folders, or of meshes called as their ground truths"
        raise BadInput("there is no result in this folder", place=str(folder), hint=hint)
    return found


def _run_result(folder: Path) -> Result:
    from kiss3d_cli.pipeline.launch import mesh_of
    from kiss3d_cli.pipeline.run_folder import RunFolder

    run = RunFolder(folder)
    try:
        name = run.record().name
    except Kiss3dError as error:
        return Result(folder.name, folder.name, None, error.cause)
    mesh = mesh_of(run)
    return Result(folder.name, name, mesh, "this run has no mesh yet" if mesh is None else None)


def _folder_result(folder: Path) -> Result | None:
    """The one mesh of a folder, or of the folders in it where it has none itself (ITEM/0/mesh.obj)."""
    for places in ([folder], _folders(folder)):
        meshes = [path for place in places for path in sorted(place.iterdir()) if _is_mesh(path)]
        named = [path for path in meshes if path.stem == "mesh"]
        if len(meshes) == 1 or len(named) == 1:
            return Result(folder.name, folder.name, (named or meshes)[0])
        if named and len({path.parent for path in named}) == 1:
            return Result(folder.name, folder.name, named[0])
        if meshes:
            reason = (
                "it has several meshes and none is called mesh" if not named else "several of its folders have a mesh"
            )
            return Result(folder.name, folder.name, None, reason)
    return None


def _is_mesh(path: Path) -> bool:
    return path.suffix.lower() in MESH_SUFFIXES and path.is_file()
