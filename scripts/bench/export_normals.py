"""How near the shading of an exported GLB comes to a run's pictures of normals, with and without its normal map."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.relief import RunNormals
from kiss3d_cli.export.source import read_model
from kiss3d_cli.geometry.cameras import BUNDLE_RADIUS, Cameras, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import interpolate, rasterize
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.image.bundle import Bundle, join_bundle

_KINDS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TYPES = {5125: "<u4", 5126: "<f4"}
_SIDE, _WRONG = 512, 8.0
"""Pixels of a view, and degrees by which each view's normals are turned about its vertical to be wrong."""
_RIM = 3
"""Pixels at the outline that are not compared: the pictures' are mixed with the background."""


@dataclass(frozen=True)
class Shaded:
    """A GLB of one textured mesh as a renderer reads it: every attribute as it is in the file.

    Attributes:
        vertices, normals, tangents: (N, 3 or 4); without tangents where there is no normal map.
        uv: (N, 2), v down.
        relief: the normal map, or None.
    """

    vertices: Float[Tensor, "N 3"]
    normals: Float[Tensor, "N 3"]
    tangents: Float[Tensor, "N 4"] | None
    uv: Float[Tensor, "N 2"]
    faces: Any
    relief: UInt8[np.ndarray, "H W 3"] | None


def read(data: bytes, like: Mesh) -> Shaded:
    """
    Args:
        data: a plain GLB with the origin in the middle of the mesh.
        like: that mesh, where the run has it.
    """
    length = struct.unpack_from("<I", data, 12)[0]
    document, start = json.loads(data[20 : 20 + length]), 28 + length

    def view(number: int) -> bytes:
        found = document["bufferViews"][number]
        return data[start + found["byteOffset"] :][: found["byteLength"]]

    def values(number: int) -> Tensor:
        accessor = document["accessors"][number]
        rows = np.frombuffer(view(accessor["bufferView"]), _TYPES[accessor["componentType"]])
        return torch.from_numpy(rows.reshape(-1, _KINDS[accessor["type"]]).copy())

    primitive = document["meshes"][0]["primitives"][0]
    attributes = {name: values(number) for name, number in primitive["attributes"].items()}
    relief = None
    if "normalTexture" in document["materials"][0]:
        source = document["textures"][document["materials"][0]["normalTexture"]["index"]]["source"]
        relief = np.array(Image.open(io.BytesIO(view(document["images"][source]["bufferView"]))))
    faces = torch.from_numpy(values(primitive["indices"]).numpy().astype(np.int64)).reshape(-1, 3)
    plain = [attributes[name].float() for name in ("POSITION", "NORMAL", "TEXCOORD_0")]
    middle = (like.vertices.amin(0) + like.vertices.amax(0)) / 2
    return Shaded(plain[0] + middle, plain[1], attributes.get("TANGENT"), plain[2], faces, relief)


def render(
    shown: Shaded, cameras: Cameras, size: int, *, mapped: bool = True
) -> tuple[Float[Tensor, "V S S 3"], Bool[Tensor, "V S S"]]:
    """Unit normals in each camera's space, as a shader finds them (glTF 2.0, 3.9.3), and where there are any."""
    fragments = rasterize(cameras.clip(shown.vertices), shown.faces, (size, size))
    up = normalize(interpolate(shown.normals, shown.faces, fragments), dim=-1)
    if mapped and shown.relief is not None and shown.tangents is not None:
        uv = interpolate(shown.uv, shown.faces, fragments)
        picture = torch.from_numpy(shown.relief.copy()).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        grid = uv.reshape(1, -1, size, 2) * 2 - 1
        found = grid_sample(picture, grid, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)
        found = found.reshape(*up.shape)
        tangent = interpolate(shown.tangents.contiguous(), shown.faces, fragments)
        along, sign = tangent[..., :3], tangent[..., 3:]
        across = torch.linalg.cross(up, along, dim=-1) * sign
        up = normalize(found[..., :1] * along + found[..., 1:2] * across + found[..., 2:] * up, dim=-1)
    return torch.einsum("vij,vhwj->vhwi", cameras.rotation, up), fragments.mask


def degrees(
    found: Float[Tensor, "V S S 3"], wanted: Float[Tensor, "V S S 3"], where: Bool[Tensor, "V S S"]
) -> Float[Tensor, " P"]:
    """Between the normals of two pictures, away from the outline."""
    kernel = np.ones((2 * _RIM + 1,) * 2, np.uint8)
    inner = np.stack([cv2.erode(view.numpy().astype(np.uint8), kernel) for view in where]) > 0
    cosine = (normalize(found, dim=-1) * normalize(wanted, dim=-1)).sum(-1)[torch.from_numpy(inner)]
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


def against(file: Path, runs: Path) -> Iterator[tuple[str, str, float, float]]:
    """Views, what the map is of, and the mean degrees to the mesh's own normals without and with it."""
    mesh = read_mesh(file)
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    mesh = mesh.with_vertices((mesh.vertices - (low + high) / 2) * (1.6 / float((high - low).max())))
    cameras = bundle_cameras()
    shown = render_normals(mesh, cameras, (_SIDE, _SIDE), antialiased=False)
    runs.mkdir(parents=True, exist_ok=True)
    bundles = {name: runs / f"{file.stem}-{name}.png" for name in ("exact", "turned")}
    for name, path in bundles.items():
        turns = torch.deg2rad(torch.tensor([_WRONG, -_WRONG, _WRONG, -_WRONG]) * (name == "turned"))
        zero, one = torch.zeros(4), torch.ones(4)
        rows = [[turns.cos(), zero, -turns.sin()], [zero, one, zero], [turns.sin(), zero, turns.cos()]]
        turned = torch.einsum("vhwi,ijv->vhwj", shown.normals, torch.stack([torch.stack(row) for row in rows]))
        mask = shown.mask > 0
        colors = torch.where(mask[..., None], torch.full_like(turned, 0.6), 1.0)
        Image.fromarray(join_bundle(Bundle(colors, turned * mask[..., None], mask))).save(path)
    if not list(runs.glob(f"{file.stem}-2*/refine/mesh.glb")):
        command = [sys.executable, "-m", "kiss3d_cli", "run", "--bundle", str(bundles["exact"]), "--preset", "draft"]
        subprocess.run([*command, "--name", file.stem, "--out", str(runs)], check=True, capture_output=True)
    model, _ = read_model(max(runs.glob(f"{file.stem}-2*/refine/mesh.glb")))
    for views, seen in (("the bundle's", cameras), ("between", orbit_cameras([45, 135, 225, 315]))):
        wanted = render_normals(mesh, seen, (_SIDE, _SIDE), antialiased=False)
        for name, path in bundles.items():
            given = replace(model, bundle=RunNormals(path, BUNDLE_RADIUS))
            made = export(given, Options(to="blender", origin="center"), "mesh").files["mesh.glb"]
            file_read, found = read(made, model.mesh), []
            for mapped in (False, True):
                normals, mask = render(file_read, seen, _SIDE, mapped=mapped)
                found.append(float(degrees(normals, wanted.normals, mask & (wanted.mask > 0)).mean()))
            yield views, name, *found


def lit(normals: Float[Tensor, "V S S 3"], mask: Bool[Tensor, "V S S"]) -> UInt8[np.ndarray, "S W 3"]:
    """The views beside each other as grey clay in a light from the upper left."""
    light = normalize(torch.tensor([-0.5, 0.6, 0.65]), dim=0)
    grey = torch.where(mask, 0.15 + 0.75 * (normals * light).sum(-1).clamp_min(0), 1.0)
    row = np.concatenate(list((255 * grey).round().byte().numpy()), 1)
    return np.repeat(row[..., None], 3, 2)
