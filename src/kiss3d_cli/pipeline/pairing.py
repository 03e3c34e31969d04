"""Which result belongs to which ground truth, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kiss3d_cli.core.errors import BadInput, Kiss3dError

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
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
    """Ground truths by name: mesh files, and NAME/meshes/model.obj as Google Scanned Objects has them.

    Raises:
        BadInput: none is there.
    """
    found: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_file() and entry.suffix.lower() in MESH_SUFFIXES:
            found.setdefault(entry.stem, []).append(entry)
        elif entry.is_dir() and (entry / "meshes" / "model.obj").is_file():
            found.setdefault(entry.name, []).append(entry / "meshes" / "model.obj")
    if not found and (folder / "models").is_dir():
        return find_truths(folder / "models")
    if not found:
        hint = "give a folder of NAME.obj (PLY, STL, GLB, GLTF) or NAME/meshes/model.obj"
        raise BadInput("there is no ground truth in this folder", place=str(folder), hint=hint)
    return found


def find_results(folder: Path) -> list[Result]:
    """Results by name: run folders, mesh files, and folders with one mesh or a `mesh.*` in them.

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
    meshes = sorted(path for path in folder.iterdir() if path.suffix.lower() in MESH_SUFFIXES and path.is_file())
    named = [path for path in meshes if path.stem == "mesh"]
    if not meshes:
        return None
    if len(meshes) > 1 and not named:
        return Result(folder.name, folder.name, None, "it has several meshes and none is called mesh")
    return Result(folder.name, folder.name, (named or meshes)[0])
