"""Objects to learn from: zip files of small meshes beside an index, or any folder of mesh files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from kiss3d_cli.core.errors import BadInput, Kiss3dError, Missing
from kiss3d_cli.core.folders import all_below
from kiss3d_cli.core.records import read_json
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh, face_normals
from kiss3d_cli.training.held_out import family_of, may_be_trained_on

SUFFIXES = (".obj", ".ply", ".glb", ".gltf", ".stl", ".off")
LARGEST_MEMBER = 64 * 2**20
"""Bytes of one unpacked object: more is a damaged or hostile zip file."""
TWIN = 0.02
"""Largest difference of two shapes' signatures between copies of one object."""


@dataclass(frozen=True)
class Entry:
    """One object that is known of but not read yet.

    Attributes:
        source, pack, name: where it comes from.
        family: the held-out family it belongs to, or None.
        trainable: it may be trained on.
        recolour: its own colours are lost.
        path: the mesh file, or the zip file.
        member: the file in the zip.
    """

    source: str
    pack: str
    name: str
    family: str | None
    trainable: bool
    recolour: bool
    path: Path
    member: str | None = None


@dataclass
class ObjectSet:
    """A list of objects and the sentences about those that were left out."""

    entries: list[Entry]
    notes: list[str] = field(default_factory=list)

    def of_family(self, family: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.family == family]


def find_objects(folder: Path) -> ObjectSet:
    """What a folder holds: with an `index.json` zip files of objects, else every mesh file in it.

    Flat and tiny objects of an index are left out: their picture says nothing about their depth.

    Raises:
        Missing: no such folder, or nothing to learn from in it.
        BadInput: the index can't be read, or it names files outside the folder.
    """
    if not folder.is_dir():
        raise Missing("there is no such folder of objects", place=str(folder), hint="give --objects an existing folder")
    index = folder / "index.json"
    found = _from_index(folder, index) if index.exists() else _from_meshes(folder)
    if not found.entries:
        raise Missing(
            "there is nothing to learn from",
            place=str(folder),
            hint=f"give a folder of meshes ({', '.join(SUFFIXES)}), or of zip files beside their index.json",
        )
    return found


def _from_index(folder: Path, index: Path) -> ObjectSet:
    try:
        rows = read_json(index)["objects"]
        found = [
            Entry(
                str(row["set"]),
                str(row["pack"]),
                str(row["name"]),
                family_of(str(row["set"]), str(row["pack"])),
                may_be_trained_on(str(row["set"]), str(row["pack"]), str(row["name"])),
                bool(row["recolour"]),
                folder / f"{row['set']}.zip",
                f"{row['id']}.npz",
            )
            for row in rows
            if not (row["flat"] or row["tiny"])
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"the index of objects can't be read: {type(error).__name__}: {error}",
            place=str(index),
            hint="make it again with scripts/objects/build.py, or remove it to read the folder's mesh files",
        ) from error
    outside = [entry.path.name for entry in found if entry.path.parent.resolve() != folder.resolve()]
    if outside:
        raise BadInput(f"the index names a file outside its folder: {outside[0]}", place=str(index))
    there = {path: path.exists() for path in {entry.path for entry in found}}
    notes = [f"{path.name} is missing: its objects are left out" for path, known in there.items() if not known]
    return ObjectSet([entry for entry in found if there[entry.path]], notes)


def _from_meshes(folder: Path) -> ObjectSet:
    paths = [path for path in all_below(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]
    return ObjectSet(
        [
            Entry(
                folder.name,
                str(path.parent.relative_to(folder)),
                path.name,
                None,
                may_be_trained_on(folder.name, "", path.name),
                False,
                path,
            )
            for path in paths
        ]
    )


def read_object(entry: Entry) -> Mesh:
    """The object, its box's middle at the origin, its longest side 2; with colours if it has any.

    Raises:
        BadInput: the object is damaged, has no area or no finite size.
    """
    mesh = read_mesh(entry.path) if entry.member is None else _from_zip(entry.path, entry.member)
    return normalised(mesh, place=f"{entry.path.name}:{entry.member or ''}".rstrip(":"))


def _from_zip(path: Path, member: str) -> Mesh:
    place = f"{path.name}:{member}"
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(member).file_size > LARGEST_MEMBER:
                raise BadInput("the object is larger than any of its kind", place=place)
            content = io.BytesIO(archive.read(member))
        with np.load(content, allow_pickle=False) as arrays:
            vertices = arrays["v"].astype(np.float32)
            faces = arrays["f"].astype(np.int64)
            colors = arrays["c"].astype(np.float32) / 255
        if faces.size and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise BadInput("faces name vertices that are not there", place=place)
        return Mesh(torch.from_numpy(vertices), torch.from_numpy(faces), torch.from_numpy(colors[:, :3].copy()))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise BadInput(f"the object is damaged: {type(error).__name__}: {error}", place=place) from error


def normalised(mesh: Mesh, place: str) -> Mesh:
    """Faces without area dropped, the box's middle at the origin, its longest side 2.

    Raises:
        BadInput: nothing is left, or its size is not finite.
    """
    if not bool(mesh.vertices.isfinite().all()):
        raise BadInput("it has vertices that are not finite numbers", place=place)
    area = face_normals(mesh.vertices, mesh.faces).norm(dim=-1) if len(mesh.faces) else torch.zeros(0)
    faces = mesh.faces[area > 1e-9 * area.max()] if len(area) else mesh.faces
    if not len(faces) or float(area.max()) == 0:
        raise BadInput("it has no surface", place=place)
    used, faces = torch.unique(faces, return_inverse=True)
    vertices = mesh.vertices[used]
    low, high = vertices.amin(0), vertices.amax(0)
    vertices = (vertices - (low + high) / 2) * (2 / (high - low).max())
    return Mesh(vertices, faces, None if mesh.colors is None else mesh.colors[used])


def signature(mesh: Mesh, pairs: int = 16_000) -> Float[np.ndarray, " 19"]:
    """Numbers that copies of one object share: the box's sides and a histogram of distances between surface points.

    Of a normalised mesh; blind to colours, to the order of vertices and to turns about the upright axis by 90 degrees
    (Osada et al. 2002, Shape distributions).
    """
    generator = torch.Generator().manual_seed(0)
    area = face_normals(mesh.vertices, mesh.faces).norm(dim=-1)
    face = torch.multinomial(area, 2 * pairs, replacement=True, generator=generator)
    weights = -torch.rand(2 * pairs, 3, generator=generator).clamp_min(1e-9).log()
    weights = weights / weights.sum(-1, keepdim=True)
    points = (mesh.vertices[mesh.faces[face]] * weights[..., None]).sum(1)
    distance = (points[:pairs] - points[pairs:]).norm(dim=-1)
    histogram = torch.histc(distance, 16, 0, 3.5) / pairs
    sides = mesh.vertices.amax(0) - mesh.vertices.amin(0)
    flat = sides[[0, 2]].sort().values
    return torch.cat([sides[[1]], flat, histogram]).numpy()


def without_twins(entries: list[Entry], others: list[Entry]) -> tuple[list[Entry], list[str]]:
    """Entries of which no other set has a copy, found by geometry, and sentences about those that were dropped.

    Damaged objects are dropped too.
    """
    notes: list[str] = []

    def read(group: list[Entry]) -> Iterator[tuple[Entry, np.ndarray]]:
        for entry in group:
            try:
                yield entry, signature(read_object(entry))
            except Kiss3dError as error:
                notes.append(f"left out: {error}")

    readable = list(read(entries))
    kept, mine = [entry for entry, _ in readable], [value for _, value in readable]
    known = [value for _, value in read(others)]
    if not kept or not known:
        return kept, notes
    apart = np.abs(np.stack(mine)[:, None] - np.stack(known)[None]).max(-1).min(1)
    notes += [
        f"left out: {e.source}/{e.name} is in a held-out family too"
        for e, d in zip(kept, apart, strict=True)
        if d < TWIN
    ]
    return [entry for entry, distance in zip(kept, apart, strict=True) if distance >= TWIN], notes
