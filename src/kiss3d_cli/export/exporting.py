"""From a model to the files of a target: the number of faces, the size, the axes, the format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from kiss3d_cli.export.model import Model, placed, scale_of, used_box
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.printing import printable
from kiss3d_cli.export.simplify import simplified
from kiss3d_cli.export.targets import UNITS, front
from kiss3d_cli.export.usdz import usdz
from kiss3d_cli.geometry.io import export as plain
from kiss3d_cli.geometry.io.gltf.write import Surface, write_glb
from kiss3d_cli.geometry.io.threemf_write import threemf
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.geometry.texture.transfer import sampled

Told = Callable[[float, str], None]


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
    target, kind = options.target, options.format
    model = _with_faces(model, options, notes, doing)
    unit = UNITS[target.unit_in(kind)]

    def scale(mesh: Mesh) -> float:
        return scale_of(mesh, options.height, target.longest, unit)

    facts: dict[str, Any] = {}
    if target.solid:
        if model.texture is not None or model.mesh.colors is not None:
            notes.append("A print has no colours here.")
        mesh, facts, said = printable(model.mesh, options, scale, doing)
        notes += said
        ready = Model(mesh)
    else:
        model = _fitted(model, options.texture or target.texture)
        if kind == "ply" and model.texture is not None:
            notes.append("PLY has no texture here: its colours are taken over to the vertices.")
            model = Model(model.mesh.with_colors(_vertex_colors(model)), roughness=model.roughness)
        elif kind == "stl" and (model.texture is not None or model.mesh.colors is not None):
            notes.append("STL has no colours.")
            model = Model(model.mesh.with_colors(None))
        moved = placed(model.mesh, options.upward, options.origin or target.origin, scale(model.mesh))
        ready = model.with_mesh(moved)
    doing(0.9, "writing")
    files = _written(ready, options, stem)
    return Exported(files, _facts(ready, options, files) | facts, notes)


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


def _written(model: Model, options: Options, stem: str) -> dict[str, bytes]:
    kind, mesh = options.format, model.mesh
    if kind == "glb":
        surface = Surface(stem, mesh, model.texture, model.normal_map, model.roughness)
        return {f"{stem}.glb": write_glb([surface], packed=options.to == "web")}
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
    return {(stem if ending == ".obj" else named) + ending: data for ending, data in files.items()}


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
