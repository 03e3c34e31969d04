"""Objects as signed distances with posed views: what a network learns reconstruction from.

The first four views are the ring's (front, right, back, left), as a run's bundle has them; the others stand anywhere
about the object. For each there is the distance to its silhouette at every cell, so that the visual hull of any of the
views is the largest of theirs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.folders import entries
from kiss3d_cli.core.records import BadRecord, parse_json
from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.inflate.inflate import shrink_into_views
from kiss3d_cli.geometry.mesh import Mesh, face_normals, vertex_normals
from kiss3d_cli.geometry.rasterize import interpolate, rasterize
from kiss3d_cli.geometry.truncated import Grid, hull_distances, truncated_distance
from kiss3d_cli.training.data import PATIENCE, Recipe, chosen_entries, for_each_shard, key_of
from kiss3d_cli.training.looks import Look, draw_look, shade
from kiss3d_cli.training.objects import Entry, read_object
from kiss3d_cli.training.procedural import draw_object

FORMAT = "kiss3d-fields-2"
OBJECTS = 16
"""Of a shard."""
RING, AROUND = 4, 4
"""Views at the bundle's places, and views from anywhere."""
IMAGE = 64
"""Pixels a side of a picture; silhouettes are twice as fine."""
LARGEST_SIDE = 0.95
"""Half the longest side of an object in the bundle, in world units."""
REMAKE = "make them again: kiss3d train data --fields 32"


@dataclass(frozen=True)
class FieldRecipe(Recipe):
    """
    Attributes:
        resolution: cells a side of the grid.
        truncation: the largest distance that is told, in cells.
    """

    resolution: int = 32
    truncation: float = 2.0

    def as_dict(self, split: str) -> dict[str, Any]:
        return super().as_dict(split) | {"resolution": self.resolution, "truncation": self.truncation}


@dataclass(frozen=True)
class Field:
    """One object; distances are over the truncation, negative inside, in [-1, 1].

    Attributes:
        truth: at every cell. hulls: to the silhouette of each view, at every cell.
        pictures: colours on white, camera-space normals (0 .. 255 for -1 .. 1), the object's share of each pixel.
        poses: from the world to each camera, rigid. focal: focal length over half the picture's side.
    """

    truth: Float[np.ndarray, "R R R"]
    hulls: Float[np.ndarray, "V R R R"]
    pictures: UInt8[np.ndarray, "V S S 7"]
    poses: Float[np.ndarray, "V 4 4"]
    focal: Float[np.ndarray, " V"]


KEYS = tuple(entry.name for entry in dataclasses.fields(Field))


def placed(mesh: Mesh, turn: float = 0.0, share: float = 1.0) -> Mesh:
    """An object where a run has it: its longest side at most 1.9, whole in all four views.

    Args:
        mesh: its box's middle at the origin, its longest side 2.
        turn: radians about y. share: of the largest size.
    """
    c, s = math.cos(turn), math.sin(turn)
    vertices = mesh.vertices @ torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    low, high = vertices.amin(0), vertices.amax(0)
    vertices = (vertices - (low + high) / 2) * (2 * LARGEST_SIDE * share / float((high - low).max()))
    return shrink_into_views(mesh.with_vertices(vertices), bundle_cameras())


def ring_and_around(mesh: Mesh, rng: np.random.Generator) -> Cameras:
    """The bundle's cameras, then some at any azimuth, mostly a little from above, that see the whole object: the hull
    of a picture that cuts it off would not hold it.

    Args:
        mesh: in its place. rng: decides where they stand, and their fields of view (20 to 45 degrees).
    """
    ring = bundle_cameras()
    poses, projections = [ring.world_to_camera], [ring.projection]
    reach = float(mesh.vertices.norm(dim=-1).max())
    for _ in range(AROUND):
        elevation = float(np.clip(rng.normal(8, 12) if rng.random() < 0.6 else rng.uniform(-30, 60), -35, 70))
        fov = float(rng.uniform(20, 45))
        distance = max(2.1, reach * float(rng.uniform(1.02, 1.25)) / math.sin(math.radians(fov / 2)))
        camera = orbit_cameras([float(rng.uniform(0, 360))], elevation, distance, fov)
        poses.append(camera.world_to_camera)
        projections.append(camera.projection)
    return Cameras(torch.cat(poses), torch.cat(projections))


def pictures(
    mesh: Mesh, cameras: Cameras, look: Look, colors: Float[Tensor, "N 3"], size: int
) -> Float[Tensor, "V S S 7"]:
    """Colours on white, camera-space normals (0 in the background), and mask.

    Args:
        mesh: in the world. colors: of its vertices.
        look: its material and light; the light stands in the front camera's axes, fixed to the object.
        size: pixels a side.
    """
    fragments = rasterize(cameras.clip(mesh.vertices), mesh.faces, (size, size))
    where = interpolate(mesh.vertices, mesh.faces, fragments)
    towards = cameras.centers[:, None, None] - where
    normals = functional.normalize(face_normals(mesh.vertices, mesh.faces), dim=-1, eps=1e-12)
    normals = normals[fragments.face_id.clamp_min(0)]
    normals = torch.where((normals * towards).sum(-1, keepdim=True) < 0, -normals, normals)
    if look.smooth:
        soft = interpolate(vertex_normals(mesh.vertices, mesh.faces), mesh.faces, fragments)
        soft = functional.normalize(soft, dim=-1, eps=1e-6)
        soft = torch.where((soft * normals).sum(-1, keepdim=True) < 0, -soft, soft)
        normals = torch.where((soft * normals).sum(-1, keepdim=True) > look.crease, soft, normals)
    flat = look.textured(interpolate(colors, mesh.faces, fragments).flatten(1, 2), where.flatten(1, 2))
    lit = shade(flat, normals.flatten(1, 2), torch.ones(flat.shape[:2]), look).reshape(where.shape)
    known = fragments.mask[..., None].float()
    local = torch.einsum("vij,vhwj->vhwi", cameras.rotation, normals)
    return torch.cat([lit * known + 1 - known, local * known, known], -1)


def draw_field(mesh: Mesh, rng: np.random.Generator, grid: Grid, truncation: float, size: int = IMAGE) -> Field:
    """
    Args:
        mesh: its box's middle at the origin, its longest side 2, y up.
        rng: decides where it turns to, its size and its look.
        grid: of the distances. truncation: in world units.
        size: pixels a side of the pictures.

    Raises:
        BadInput: it has no inside that the grid can hold, or a view does not show it.
    """
    look = dataclasses.replace(draw_look(rng), outline=0.0)  # what depends on the camera is not the surface's
    turn = 0.0 if rng.random() < 0.5 else float(rng.uniform(0, 2 * math.pi))
    mesh = placed(mesh, turn, float(rng.uniform(0.85, 1)))
    colors = torch.full_like(mesh.vertices, 0.6) if mesh.colors is None else mesh.colors
    colors = look.recolored(colors, mesh.vertices, rng)
    return field_of(mesh, look, colors, grid, truncation, size, ring_and_around(mesh, rng))


def field_of(
    mesh: Mesh,
    look: Look,
    colors: Float[Tensor, "N 3"],
    grid: Grid,
    truncation: float,
    size: int = IMAGE,
    cameras: Cameras | None = None,
) -> Field:
    """An object that is in its place already, seen by some cameras, by default the bundle's; raises as `draw_field`."""
    cameras = bundle_cameras() if cameras is None else cameras
    fine = pictures(mesh, cameras, look, colors, 2 * size)
    masks = fine[..., 6]
    if bool((masks.flatten(1).sum(1) < 16).any()):
        raise BadInput("a view shows next to nothing of the object")
    truth = truncated_distance(mesh, grid, truncation)
    if not bool((truth < 0).any()):
        raise BadInput("nothing of the object is as thick as a cell of the grid")
    hulls = hull_distances(masks, cameras, grid, truncation)
    small = functional.interpolate(fine.movedim(-1, 1), (size, size), mode="area").movedim(1, -1)
    small = torch.cat([small[..., :3], (small[..., 3:6] + 1) / 2, small[..., 6:]], -1)
    return Field(
        truth.numpy().astype(np.float16),
        hulls.numpy().astype(np.float16),
        (small.clamp(0, 1) * 255).round().to(torch.uint8).numpy(),
        cameras.world_to_camera.numpy().astype(np.float32),
        cameras.projection[:, 0, 0].numpy().astype(np.float32),
    )


def field_path(folder: Path, number: int) -> Path:
    return folder / f"fields-{number:05}.safetensors"


def find_fields(folder: Path) -> list[Path]:
    """All shards of a folder, in order.

    Raises:
        Missing: there are none.
    """
    found = entries(folder, "fields-*.safetensors")
    if not found:
        hint = "make some: kiss3d train data --fields 32 --objects FOLDER"
        raise Missing("there are no signed distances to train on", place=str(folder), hint=hint)
    return found


def write_fields(path: Path, found: list[Field], names: list[str], recipe: FieldRecipe) -> None:
    """Beside the path first, then renamed: a kill or a full disk leaves no half shard."""
    arrays = {key: np.stack([getattr(field, key) for field in found]) for key in KEYS}
    sizes = {"resolution": recipe.resolution, "truncation": recipe.truncation}
    described = {"format": FORMAT, "sizes": json.dumps(sizes), "names": json.dumps(names)}
    partial_path = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial_path.write_bytes(save(arrays, metadata=described))
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


class FieldShard:
    """One file, read where it is asked.

    Attributes:
        count: objects. names: of them. resolution, truncation: of the grid. image: pixels a side.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadInput: the file is damaged or of another format."""
        self.path = path
        hint = "remove the file and run kiss3d train data again"
        try:
            file: Any = safe_open(path, framework="np")
            described = file.metadata() or {}
            if described.get("format") != FORMAT:
                raise BadInput(
                    f"these fields are of the format {described.get('format')}, not {FORMAT}",
                    place=str(path),
                    hint=REMAKE,
                )
            sizes = parse_json(described["sizes"])
            self.resolution, self.truncation = int(sizes["resolution"]), float(sizes["truncation"])
            self.names = [str(name) for name in parse_json(described["names"])]
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in KEYS}
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, BadRecord) as error:
            cause = f"the fields are damaged: {type(error).__name__}: {error}"
            raise BadInput(cause, place=str(path), hint=hint) from error
        self._opened = file
        self.count = len(self.names)
        self.image = shapes["pictures"][2]
        cube, views = (self.resolution,) * 3, shapes["pictures"][1]
        wanted = {
            "truth": (self.count, *cube),
            "hulls": (self.count, views, *cube),
            "pictures": (self.count, views, self.image, self.image, 7),
            "poses": (self.count, views, 4, 4),
            "focal": (self.count, views),
        }
        if shapes != wanted or not self.count or views < RING:
            raise BadInput("the fields are damaged: their parts do not fit together", place=str(path), hint=hint)

    def read(self, number: int) -> Field:
        return Field(*(self._opened.get_slice(key)[number : number + 1][0] for key in KEYS))


def make_fields(
    folder: Path,
    recipe: FieldRecipe,
    count: int | None,
    *,
    workers: int = 1,
    split: str = "train",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[str]:
    """Writes shards 0 to count - 1 unless they are there, and the recipe beside them.

    Each shard depends on the recipe and its number alone, so that any number of processes makes the same.

    Args:
        count: of shards; None for every object once.
        split: "train", or the name of a held-out family, or "held-out" for all of them.

    Returns:
        Sentences about objects that were left out.

    Raises:
        Missing, BadInput: no objects, or the folder has fields of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen, notes = chosen_entries(folder, recipe, split)
    if count is None:
        share = 1 - recipe.procedural if chosen else 0.0
        count = max(1, math.ceil(len(chosen) / max(1, round(OBJECTS * share))))
    waiting = [number for number in range(count) if not field_path(folder, number).exists()]
    return notes + for_each_shard(partial(make_shard, folder, recipe, chosen), waiting, count, workers, progress)


def make_shard(folder: Path, recipe: FieldRecipe, chosen: list[Entry], number: int) -> list[str]:
    """One shard; sentences about objects that were left out.

    Raises:
        BadInput: too many objects in a row can't be used.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng([recipe.seed, number])
    made_up = OBJECTS if not chosen else round(OBJECTS * recipe.procedural)
    order = np.random.default_rng(recipe.seed).permutation(len(chosen))
    at = number * max(1, OBJECTS - made_up)
    grid = Grid(recipe.resolution)
    found: list[Field] = []
    names: list[str] = []
    notes: list[str] = []
    failed = 0
    with torch.inference_mode():
        while len(found) < OBJECTS:
            name = f"procedural {number}-{len(found)}"
            try:
                if len(found) < OBJECTS - made_up:
                    entry = chosen[order[at % len(chosen)]]
                    at += 1
                    name = key_of(entry)
                    mesh = read_object(entry)
                else:
                    mesh = draw_object(rng)
                found.append(draw_field(mesh, rng, grid, recipe.truncation * grid.cell))
                names.append(name)
                failed = 0
            except BadInput as error:
                failed += 1
                notes.append(f"left out: {name}: {error.cause}")
                if failed >= PATIENCE:
                    raise BadInput(
                        f"{failed} objects in a row can't be used; the last: {error}", place=str(recipe.objects)
                    ) from error
    write_fields(field_path(folder, number), found, names, recipe)
    return notes
