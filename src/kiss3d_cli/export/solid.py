"""A mesh as a printable solid: closed, merged, standing on the bed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.surface.manifold import find_defects
from kiss3d_cli.geometry.surface.repair import repair
from kiss3d_cli.geometry.surface.topology import report, weld

FINEST = 2e-3
"""Millimetres: what is finer than this is simplified away; a printer's step is five times as large."""
_APART = 2e-3
"""Millimetres by which pieces that touch in an edge or a point are drawn apart: a file of positions alone, such as STL,
could not tell which faces belong together."""
_CAVITY = 0.999
_LINE = 0.9
"""Millimetres: two lines of the usual nozzle of 0.4 mm, of which slicers make a layer of its own."""
_NARROW, _SECTIONS = 0.3, 60
"""Millimetres below which slicers leave a part out, and heights at which that is looked at."""
_FIRST_LAYERS = (0.1, 0.15)
"""Heights at which slicers cut first layers of 0.2 and 0.3 mm."""
_FOOT_STEP, _FOOT_MOST, _FOOT_SHARE = 0.05, 3.0, 0.05
_LAST_LAYER = 0.3
"""Millimetres below the top that no layer need show."""
_ROUNDS = 4


@dataclass
class Solid:
    """
    Attributes:
        mesh: in millimetres, z up, its lowest point at 0; closed, with no two vertices at one place.
        notes: sentences for the user.
    """

    mesh: Mesh
    notes: list[str] = field(default_factory=list)


def require_manifold(place: str) -> Any:
    """The module manifold3d.

    Raises:
        Missing: it is not installed.
    """
    if find_spec("manifold3d") is None:
        raise Missing("manifold3d is not installed", place=place, hint="pip install 'kiss3d[export]'")
    import manifold3d

    return manifold3d


def closed(mesh: Mesh) -> Solid:
    """Repaired, and its pieces merged into one outside.

    Args:
        mesh: in millimetres, z up.

    Raises:
        BadInput: it encloses nothing, or can't be closed.
        Missing: manifold3d, for a mesh of several pieces.
    """
    found = repair(Mesh(mesh.vertices.double(), mesh.faces))
    if not found.defects.is_closed_manifold:
        raise BadInput(
            "the mesh is open and can't be closed, so it has no inside to be printed",
            place="--to print",
            hint="run it through kiss3d run --mesh first, which makes a closed surface of it",
        )
    notes = list(found.notes)
    merged = merge(found.mesh, notes)
    return Solid(settled(merged), notes)


def merge(mesh: Mesh, notes: list[str]) -> Mesh:
    """The union of a closed manifold's pieces; a piece inside out within another is a cavity.

    Raises:
        BadInput: nothing encloses a volume.
        Missing: manifold3d is needed and not installed.
    """
    manifold3d = require_manifold("--to print")
    pieces = as_manifold(mesh).decompose()
    bodies, cavities = [], []
    smallest = 1e-9 * max((abs(piece.volume()) for piece in pieces), default=0)
    flat = 0
    for piece in pieces:
        if abs(piece.volume()) <= smallest:
            flat += 1
        elif piece.volume() > 0:
            bodies.append(piece)
        else:
            cavities.append(_turned(piece))
    if flat:
        notes.append(f"{flat} flat pieces without an inside are left out.")
    add = manifold3d.OpType.Add
    for cavity in list(cavities):
        within = any((body ^ cavity).volume() >= _CAVITY * cavity.volume() for body in bodies)
        if not within:
            cavities.remove(cavity)
            bodies.append(cavity)
    if not bodies:
        raise BadInput("the mesh encloses nothing", place="--to print", hint="give a mesh with a volume")
    whole = manifold3d.Manifold.batch_boolean(bodies, add) if len(bodies) > 1 else bodies[0]
    if cavities:
        whole = whole - manifold3d.Manifold.batch_boolean(cavities, add)
    if len(pieces) > 1 and len(whole.decompose()) < len(pieces) - flat:
        notes.append(f"{len(pieces) - flat} pieces that overlap are merged into {len(whole.decompose())}.")
    return as_mesh(whole) if len(pieces) > 1 else mesh


def as_manifold(mesh: Mesh) -> Any:
    """
    Raises:
        BadInput: it is not closed.
        Missing: manifold3d.
    """
    manifold3d = require_manifold("--to print")
    given = manifold3d.Mesh64(mesh.vertices.double().numpy(), mesh.faces.numpy().astype(np.uint64))
    made = manifold3d.Manifold(given)
    if made.status() != manifold3d.Error.NoError:
        raise BadInput("the mesh is not closed", place="--to print", hint="repair it first")
    return made


def as_mesh(solid: Any) -> Mesh:
    found = solid.to_mesh64()
    vertices = np.asarray(found.vert_properties, np.float64)[:, :3]
    return Mesh(torch.from_numpy(vertices.copy()), torch.from_numpy(np.asarray(found.tri_verts).astype(np.int64)))


def _turned(piece: Any) -> Any:
    mesh = as_mesh(piece)
    return as_manifold(Mesh(mesh.vertices, mesh.faces.flip(1)))


def settled(mesh: Mesh) -> Mesh:
    """A closed mesh as a file of float32 positions holds it: still closed, and each vertex at a place of its own.

    Raises:
        BadInput: it is not closed any more; nothing but a mesh far from the middle of its frame is.
    """
    simple = as_mesh(as_manifold(mesh).simplify(FINEST))
    current = Mesh(simple.vertices.float().double(), simple.faces)
    for _ in range(_ROUNDS):
        current = _pulled_apart(current)
        place = weld(current.vertices.numpy())
        used, faces = np.unique(place[current.faces.numpy()], return_inverse=True)
        defects = find_defects(torch.from_numpy(faces.reshape(-1, 3).astype(np.int64)))
        if defects.is_closed_manifold and len(used) == len(current.vertices):
            return current
        current = repair(current).mesh
        current = Mesh(current.vertices.float().double(), current.faces)
    if not report(current.vertices.numpy(), current.faces.numpy()).watertight:
        raise BadInput("the mesh is too tangled to be closed", place="--to print", hint="kiss3d run --mesh cleans it")
    return current


def _pulled_apart(mesh: Mesh) -> Mesh:
    """Without vertices at one place: each of those goes a little way into its own piece, along its normal."""
    place = torch.from_numpy(weld(mesh.vertices.numpy()))
    shared = (torch.bincount(place) > 1)[place]
    if not bool(shared.any()):
        return mesh
    inwards = -vertex_normals(mesh.vertices, mesh.faces) * _APART
    moved = torch.where(shared[:, None], mesh.vertices + inwards, mesh.vertices)
    return Mesh(moved.float().double(), mesh.faces)


def on_the_bed(mesh: Mesh) -> Mesh:
    """Moved to the middle of the bed, its lowest point at 0."""
    used = mesh.vertices[mesh.faces.unique()]
    low, high = used.amin(0), used.amax(0)
    anchor = (low + high) / 2
    anchor[2] = low[2]
    return Mesh((mesh.vertices - anchor).float().double(), mesh.faces)


def most_stable(mesh: Mesh) -> Float[Tensor, "3 3"]:
    """The turn that lays the mesh on the side on which it most likely comes to rest (Goldberg et al. 1999).

    Args:
        mesh: z up.
    """
    import trimesh

    body = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    transforms, _ = trimesh.poses.compute_stable_poses(body, n_samples=1, sigma=0.0, threshold=0.0)
    return torch.from_numpy(np.array(transforms[0][:3, :3]))


def flat_base(mesh: Mesh, share: float = 0.1, most: float = 0.05) -> Mesh:
    """Cut off flat at the bottom, so that it stands.

    Args:
        mesh: in millimetres, on the bed.
        share: of its shadow on the bed, which the cut is to have at least.
        most: share of its height that is cut off at most.
    """
    body = as_manifold(mesh)
    height = float(mesh.vertices[:, 2].max())
    wanted = share * body.project().area()
    cut = most * height
    for step in np.linspace(0.0, most, 26)[1:]:
        if body.slice(step * height).area() >= wanted:
            cut = step * height
            break
    return as_mesh(body.trim_by_plane((0.0, 0.0, 1.0), cut))


def footed(mesh: Mesh) -> tuple[Mesh, float | None]:
    """With a printable first layer: a point or an edge on the bed is cut flat.

    Args:
        mesh: in millimetres, on the bed.

    Returns:
        The mesh, and the millimetres that were cut off; None where no such layer is near the bottom.
    """
    body = as_manifold(mesh)
    most = min(_FOOT_MOST, _FOOT_SHARE * float(mesh.vertices[:, 2].max()))
    for cut in np.arange(0, most, _FOOT_STEP):
        if any(body.slice(cut + height).offset(-_LINE / 2).area() > 0 for height in _FIRST_LAYERS):
            return (mesh, 0.0) if cut == 0 else (as_mesh(body.trim_by_plane((0.0, 0.0, 1.0), cut)), float(cut))
    return mesh, None


def tipped(mesh: Mesh) -> tuple[Mesh, float]:
    """With printable last layers: a point at the top is made as thick as two lines. Its height stays.

    Args:
        mesh: in millimetres, on the bed.

    Returns:
        The mesh, and the millimetres that were made thicker; 0 where it ends in no point.
    """
    body = as_manifold(mesh)
    top = float(mesh.vertices[:, 2].max())
    most = min(_FOOT_MOST, _FOOT_SHARE * top)
    depths = np.arange(_FOOT_STEP, most, _FOOT_STEP)
    wide = (depth for depth in depths if body.slice(top - depth).offset(-_LINE / 2).area() > 0)
    depth = float(next(wide, 0.0))
    if depth <= _LAST_LAYER:
        return mesh, 0.0
    # the part of that section under the tip goes on upwards, which keeps within the object's width and depth
    tip = mesh.vertices[mesh.vertices[:, 2].argmax(), :2].numpy()
    parts = body.slice(top - depth).offset(-_LINE / 2).decompose()
    nearest = min(parts, key=lambda part: min(float(np.linalg.norm(c - tip, axis=1).min()) for c in part.to_polygons()))
    pin = require_manifold("--to print").Manifold.extrude(nearest.offset(_LINE / 2), depth)
    return as_mesh(body + pin.translate((0.0, 0.0, top - depth))), depth


def has_empty_layers(mesh: Mesh) -> bool:
    """Whether at some height nothing is as wide as a line that a nozzle draws.

    Args:
        mesh: in millimetres, on the bed.
    """
    body = as_manifold(mesh)
    top = float(mesh.vertices[:, 2].max())
    heights = np.linspace(0, top, _SECTIONS + 2)[1:-1]
    return any(body.slice(float(height)).offset(-_NARROW / 2).area() <= 0 for height in heights)


def with_holes(body: Any, places: Iterable[Float[np.ndarray, " 2"]], radius: float, depth: float) -> Any:
    """A solid with upright holes from below its bed up to `depth` millimetres."""
    manifold3d = require_manifold("--hollow")
    for x, y in places:
        hole = manifold3d.Manifold.cylinder(depth + 1, radius, circular_segments=32).translate((x, y, -1.0))
        body = body - hole
    return body


def faces_of(mesh: Mesh) -> Int[np.ndarray, "F 3"]:
    return mesh.faces.numpy()
