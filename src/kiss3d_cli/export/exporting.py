"""From a model to the files of a target: the number of faces, the size, the axes, the format."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kiss3d_cli.export.hulls import convex_hulls
from kiss3d_cli.export.model import Model, placed, scale_of, used_box
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.page import page
from kiss3d_cli.export.photograph import photograph
from kiss3d_cli.export.printing import printable
from kiss3d_cli.export.relief import relief
from kiss3d_cli.export.simplify import simplified
from kiss3d_cli.export.targets import FORMATS, UNITS, front
from kiss3d_cli.export.usdz import usdz
from kiss3d_cli.geometry.io import export as plain
from kiss3d_cli.geometry.io.gltf.write import Surface, write_glb
from kiss3d_cli.geometry.io.threemf_write import threemf
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.geometry.texture.overlay import overlay, side_for
from kiss3d_cli.geometry.texture.project import Photographs
from kiss3d_cli.geometry.texture.relief import with_detail
from kiss3d_cli.geometry.texture.texture import sampled

Told = Callable[[float, str], None]
_LEAST_FACES, _LEAST_TEXTURE = 16, 64
_ENOUGH = 0.9
"""Texels for each pixel of the picture, in each direction, that show it whole."""
_SMALL_TEXTURE = 512
"""Pixels a side below which fewer faces do less harm than fewer pixels."""


@dataclass
class Exported:
    """
    Attributes:
        files: the bytes of every file, by its name; the mesh comes first.
        facts: what was written, JSON-able.
        notes: sentences for the user.
    """

    files: dict[str, bytes]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def export(model: Model, options: Options, stem: str, doing: Told = lambda _share, _what: None) -> Exported:
    """
    Args:
        options: checked.
        stem: of the files' names.
        doing: is told the share that is done, and what comes next.

    Raises:
        BadInput: the mesh has nothing that the target could hold, or can't be closed for a print.
        Missing: a package that the target or an option needs.
    """
    notes: list[str] = []
    target, unit = options.target, UNITS[options.target.unit_in(options.format)]
    if options.roughness is not None:
        model = dataclasses.replace(model, roughness=options.roughness)
    given, model = model, _with_faces(model, options, notes, doing)

    def scale(mesh: Mesh) -> float:
        return scale_of(mesh, options.height, target.longest, unit)

    if target.solid:
        if model.texture is not None or model.mesh.colors is not None:
            notes.append("A print has no colours here.")
        mesh, facts, said = printable(model.mesh, options, scale, doing)
        notes += said
        doing(0.9, "writing")
        files = _written(Model(mesh), options, stem)
        return Exported(files, _facts(Model(mesh), options, files) | facts, notes)

    factor, origin = scale(model.mesh), options.origin or target.origin

    pixels = options.texture or target.texture
    taken = _taken(given, options, pixels, notes, doing)
    fine = _fine(given, options, notes)

    def ready(level: Model, pixels: int) -> Model:
        fitted = _bumped(_fitted(_overlaid(level, taken, pixels), pixels), fine, options)
        painted = _painted(fitted, options.format, notes)
        return painted.with_mesh(placed(painted.mesh, options.upward, origin, factor, model.mesh))

    first = ready(model, pixels)
    hulls = []
    if options.collision:
        doing(0.5, "finding convex hulls")
        hulls = convex_hulls(first.mesh)
    doing(0.7, "writing")
    files = _written(first, options, stem, hulls)
    if target.bytes is not None and options.faces is None and options.texture is None:

        def fewer(count: int, side: int) -> Model:
            return ready(simplified(given, count, side), side)

        first, files = _small(first, fewer, options, files, notes)
    facts = _facts(first, options, files)
    facts["front_pixels"] = None if taken is None else taken.images.shape[1]
    if options.collision:
        facts["hulls"] = len(hulls)
    if options.lods > 1:
        doing(0.8, "making levels of detail")
        facts["lods"] = [len(first.mesh.faces)]
        for number, level in enumerate(_levels(given, first, options.lods, pixels, notes), 1):
            least = ready(level, max(_LEAST_TEXTURE, pixels >> number))
            files |= _written(least, options, f"{stem}_LOD{number}")
            facts["lods"].append(len(level.mesh.faces))
    if options.to == "web":
        files[f"{stem}.html"] = page(f"{stem}.glb", stem).encode()
    facts["bytes"] = {name: len(data) for name, data in files.items()}
    return Exported(files, facts, list(dict.fromkeys(notes)))


def _taken(model: Model, options: Options, most: int, notes: list[str], doing: Told) -> Photographs | None:
    """The run's picture as a photograph of its mesh, for a format with a texture."""
    if model.origin is None or model.texture is None or not FORMATS[options.format].textured:
        return None
    doing(0.4, "laying the picture over the front")
    found, note = photograph(model.mesh, model.texture, model.origin, most)
    notes += [note] * bool(note)
    return found


def _fine(model: Model, options: Options, notes: list[str]) -> Photographs | None:
    """The detail of the run's normals that its mesh does not have, for a format with a normal map."""
    if options.normal_map is False or not FORMATS[options.format].textured:
        return None
    if model.texture is None:
        found, why = None, "the mesh has no texture"
    elif model.bundle is None:
        found, why = None, "the mesh comes without pictures of normals"
    else:
        found, why = relief(model.mesh, model.bundle)
    if options.normal_map and found is None:
        notes.append(f"There is no finer relief for a normal map: {why}.")
    return found


def _bumped(model: Model, fine: Photographs | None, options: Options) -> Model:
    """With that detail on its normal map, or without one."""
    if options.normal_map is False:
        return dataclasses.replace(model, normal_map=None)
    if fine is None or model.texture is None:
        return model
    size, other = model.texture.image.shape[:2]
    if size != other:  # of a mesh from elsewhere, which has no detail
        return model
    return dataclasses.replace(model, normal_map=with_detail(model.mesh, model.texture, fine, size, model.normal_map))


def _overlaid(model: Model, taken: Photographs | None, most: int) -> Model:
    """With the picture on its front, in a texture that is no larger than the picture is fine."""
    if taken is None or model.texture is None:
        return model
    before = max(model.texture.image.shape[:2])
    wanted = max(before, _ENOUGH * side_for(model.mesh, model.texture, taken))
    size = min(most, 1 << max(0, math.ceil(wanted) - 1).bit_length())
    painted = overlay(model.mesh, model.texture, taken, size)
    bumps = model.normal_map
    if bumps is not None and max(bumps.shape[:2]) != size:
        bumps = _resized(bumps, [size, size])
    return dataclasses.replace(model, texture=painted, normal_map=bumps)


def _painted(model: Model, kind: str, notes: list[str]) -> Model:
    """With its colours in the form that the format holds."""
    if kind == "ply" and model.texture is not None:
        notes.append("PLY has no texture here: its colours are taken over to the vertices.")
        return Model(model.mesh.with_colors(_vertex_colors(model)), roughness=model.roughness)
    if kind == "stl" and (model.texture is not None or model.mesh.colors is not None):
        notes.append("STL has no colours.")
        return Model(model.mesh.with_colors(None))
    return model


def _levels(given: Model, first: Model, count: int, pixels: int, notes: list[str]) -> Iterator[Model]:
    """Models of half, a quarter ... of the first one's faces, each made of all that was given."""
    last = len(first.mesh.faces)
    for number in range(1, count):
        level = simplified(
            given, max(_LEAST_FACES, len(first.mesh.faces) >> number), max(_LEAST_TEXTURE, pixels >> number)
        )
        if len(level.mesh.faces) >= last:
            notes.append(f"{last:,} faces are the fewest that keep its pieces and holes: there are {number} levels.")
            return
        last = len(level.mesh.faces)
        yield level


def _small(
    model: Model, fewer: Callable[[int, int], Model], options: Options, files: dict[str, bytes], notes: list[str]
) -> tuple[Model, dict[str, bytes]]:
    """Under the target's number of bytes: first with a smaller texture, then with fewer faces.

    Args:
        fewer: makes the model of so many faces and a texture of that size.
        files: of the model.
    """
    limit, stem = options.target.bytes, Path(next(iter(files))).stem
    assert limit is not None
    full, before = model, sum(map(len, files.values()))
    while (size := sum(map(len, files.values()))) > limit:
        side = 0 if model.texture is None else max(model.texture.image.shape[:2])
        can_lose = len(model.mesh.faces) > _LEAST_FACES
        if side > (_SMALL_TEXTURE if can_lose else _LEAST_TEXTURE):
            model = _fitted(model, side // 2)
        elif can_lose:
            count = len(model.mesh.faces)
            model = fewer(int(count * max(0.3, 0.9 * limit / size)), max(side, _LEAST_TEXTURE))
            if len(model.mesh.faces) >= count:
                break
        else:
            break
        files = _written(model, options, stem)
    if model is not full:
        kept = f"{len(model.mesh.faces):,} faces"
        if model.texture is not None:
            kept += f" and a texture of {max(model.texture.image.shape[:2])} pixels"
        notes.append(f"At {before / 1e6:.1f} MB it was large for {options.target.purpose}: it keeps {kept}.")
    return model, files


def _with_faces(model: Model, options: Options, notes: list[str], doing: Told) -> Model:
    target = options.target
    most = options.faces or target.faces
    if most is None or len(model.mesh.faces) <= most:
        return model
    doing(0.1, "taking faces away")
    before = len(model.mesh.faces)
    if target.solid:  # nothing of its colours is kept
        model = Model(model.mesh.with_colors(None))
    model = simplified(model, most, options.texture or target.texture)
    if len(model.mesh.faces) > most:
        notes.append(f"{len(model.mesh.faces):,} faces are the fewest that keep its pieces and holes.")
    elif options.faces is None:
        notes.append(f"It had {before:,} faces; {target.purpose} gets {len(model.mesh.faces):,}.")
    return model


def _fitted(model: Model, most: int) -> Model:
    """With a texture whose sides are powers of two, no longer than asked for."""
    if model.texture is None:
        return model
    sides = [min(most, 1 << max(0, length - 1).bit_length()) for length in model.texture.image.shape[:2]]
    if sides == [*model.texture.image.shape[:2]]:
        return model
    return dataclasses.replace(
        model,
        texture=dataclasses.replace(model.texture, image=_resized(model.texture.image, sides)),
        normal_map=None if model.normal_map is None else _resized(model.normal_map, sides),
    )


def _resized(pixels: torch.Tensor, sides: list[int]) -> torch.Tensor:
    image = Image.fromarray(pixels.numpy()).resize((sides[1], sides[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image))


def _vertex_colors(model: Model) -> torch.Tensor:
    """Of a texture, at the vertices: the mean over the corners that meet there."""
    assert model.texture is not None
    corners = model.mesh.faces.reshape(-1)
    found = sampled(model.texture.image, model.texture.uv)[model.texture.corners.reshape(-1)]
    total = torch.zeros(len(model.mesh.vertices), 3).index_add(0, corners, found)
    count = torch.bincount(corners, minlength=len(total)).clamp_min(1)
    return (total / count[:, None]).to(model.mesh.vertices.dtype)


def _written(model: Model, options: Options, stem: str, hulls: Sequence[Mesh] = ()) -> dict[str, bytes]:
    """The files, by their names; hulls are nodes of a GLB, and objects of an OBJ of their own."""
    kind, mesh = options.format, model.mesh
    if kind == "glb":
        name = options.target.hull
        surfaces = [Surface(stem, mesh, model.texture, model.normal_map, model.roughness)]
        surfaces += [Surface(name.format(stem, number), hull, shown=False) for number, hull in enumerate(hulls)]
        return {f"{stem}.glb": write_glb(surfaces, packed=options.to == "web")}
    if kind == "usdz":
        return {f"{stem}.usdz": usdz(model)}
    if kind == "3mf":
        return {f"{stem}.3mf": threemf(mesh.vertices.double().numpy(), mesh.faces.numpy())}
    if kind == "stl":
        return {f"{stem}.stl": plain.stl(mesh)}
    if kind == "ply":
        return {f"{stem}.ply": plain.ply(mesh)}
    named = plain.companion(stem)
    files = plain.obj(mesh, model.texture, named, model.normal_map, model.roughness)
    files = {(stem if ending == ".obj" else named) + ending: data for ending, data in files.items()}
    if hulls:
        files[f"{stem}_collision.obj"] = plain.obj_of_parts({f"hull_{i}": hull for i, hull in enumerate(hulls)})
    return files


def _facts(model: Model, options: Options, files: dict[str, bytes]) -> dict[str, Any]:
    target, kind = options.target, options.format
    low, high = used_box(model.mesh)
    found = report(model.mesh.vertices.double().numpy(), model.mesh.faces.numpy())
    return {
        "to": options.to,
        "format": kind,
        "up": options.upward,
        "front": front(options.upward),
        "unit": target.unit_in(kind),
        "size": [float(f"{length:.6g}") for length in (high - low).tolist()],
        "vertices": found.vertices,
        "faces": found.faces,
        "pieces": found.components,
        "closed": found.watertight,
        "texture": None if model.texture is None else list(model.texture.image.shape[:2]),
        "normal_map": model.normal_map is not None,
        "roughness": model.roughness,
        "bytes": {name: len(data) for name, data in files.items()},
    }
