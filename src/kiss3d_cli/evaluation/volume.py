"""Volume overlap of two solids on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from kiss3d_cli.evaluation.solid import Solid, solid_of
from kiss3d_cli.geometry.surface.topology import weld

RESOLUTION = 128
"""Cells along the longest side of the box around both meshes."""
MOST_SHELLS = 200
"""Shells of either winding that are told apart one by one."""
_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class VolumeOverlap:
    """Intersection over union of two volumes.

    Attributes:
        iou: in [0, 1], or None.
        reason: why it is None, else None.
        resolution: cells along each axis.
        prediction_volume, truth_volume: on the grid, in cubed units; None when not measured.
    """

    iou: float | None
    reason: str | None
    resolution: int
    prediction_volume: float | None
    truth_volume: float | None


def volume_overlap(
    prediction: Float[np.ndarray, "N 3"],
    prediction_faces: Int[np.ndarray, "F 3"],
    truth: Float[np.ndarray, "M 3"],
    truth_faces: Int[np.ndarray, "G 3"],
    resolution: int = RESOLUTION,
) -> VolumeOverlap:
    """Volume IoU, from one sample in each cell of a cubic grid about both meshes.

    What a mesh encloses is said by `solid_of` and `inside`. The samples are jittered inside their cells by fixed random
    numbers: on a regular grid a face along an axis would be misplaced by up to half a cell as a whole.

    Args:
        prediction, truth: vertices in one frame.
        prediction_faces, truth_faces: as given; open meshes give a reason instead of a number.
        resolution: cells along each axis.
    """
    solids = [solid_of(prediction, prediction_faces), solid_of(truth, truth_faces)]
    reasons = [
        f"the {name}: {solid.reason}"
        for name, solid in zip(("prediction", "ground truth"), solids, strict=True)
        if solid.reason is not None
    ]
    if reasons:
        return VolumeOverlap(None, f"the volume is not defined ({'; '.join(reasons)})", resolution, None, None)
    used = np.concatenate([prediction[prediction_faces].reshape(-1, 3), truth[truth_faces].reshape(-1, 3)])
    low, high = used.min(0), used.max(0)
    side = float((high - low).max()) * (1 + 1e-6)
    low = (low + high) / 2 - side / 2
    found = []
    for name, vertices, solid in zip(("prediction", "ground truth"), (prediction, truth), solids, strict=True):
        filled = inside(vertices, solid, low, side, resolution)
        if filled is None:
            reason = f"the {name} has more than {MOST_SHELLS} shells of either winding that overlap"
            return VolumeOverlap(None, reason, resolution, None, None)
        found.append(filled)
    union = int((found[0] | found[1]).sum())
    cell = (side / resolution) ** 3
    volumes = [float(cell * int(mask.sum())) for mask in found]
    if union == 0:
        reason = "neither mesh encloses the middle of any cell of the grid"
        return VolumeOverlap(None, reason, resolution, *volumes)
    return VolumeOverlap(int((found[0] & found[1]).sum()) / union, None, resolution, *volumes)


def inside(
    vertices: Float[np.ndarray, "N 3"], solid: Solid, low: Float[np.ndarray, " 3"], side: float, resolution: int
) -> Bool[np.ndarray, "R R R"] | None:
    """Which samples of a grid a solid holds, indexed [x, y, z].

    Shells count as their union, but for one that lies wholly in another of opposite winding: a cavity. A shell that is
    wound inside out and lies in no other, or only partly in one, is a solid like any other.

    Returns:
        None if more than `MOST_SHELLS` shells would have to be told apart.
    """
    alone = _apart(vertices, solid)
    filled = occupancy(vertices, solid.faces[alone[solid.shell]], low, side, resolution)
    shells = np.flatnonzero(~alone)
    if len(shells) > MOST_SHELLS:
        return None
    # from the largest to the smallest: what holds a shell comes before it
    painted: list[tuple[bool, Bool[np.ndarray, "R R R"]]] = []
    for shell in shells[np.argsort(-np.abs(solid.volume[shells]), kind="stable")]:
        own = occupancy(vertices, solid.faces[solid.shell == shell], low, side, resolution)
        outward = bool(solid.volume[shell] > 0)
        holder = next((sign for sign, whole in reversed(painted) if not (own & ~whole).any()), outward)
        painted.append((outward, own))
        filled = filled & ~own if holder != outward else filled | own
    return filled


def _apart(vertices: Float[np.ndarray, "N 3"], solid: Solid) -> Bool[np.ndarray, " S"]:
    """Which shells have a box that meets none of the opposite winding: their union is where the winding is not 0."""
    count = len(solid.volume)
    apart = np.ones(count, dtype=bool)
    outward = solid.volume > 0
    if count < 2 or outward.all() or not outward.any():
        return apart
    corners = vertices[solid.faces]
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, solid.shell, corners.min(1))
    np.maximum.at(high, solid.shell, corners.max(1))
    for shell in np.flatnonzero(outward):
        meets = ~outward & (low <= high[shell]).all(1) & (high >= low[shell]).all(1)
        apart[meets] = False
        apart[shell] = not meets.any()
    return apart


def occupancy(
    vertices: Float[np.ndarray, "N 3"],
    faces: Int[np.ndarray, "F 3"],
    low: Float[np.ndarray, " 3"],
    side: float,
    resolution: int,
) -> Bool[np.ndarray, "R R R"]:
    """Which samples of a grid lie where the winding number of a closed mesh is not 0, indexed [x, y, z].

    Every (x, y) column is a ray along z; a face that it crosses adds or takes one winding for all samples above.
    """
    step = side / resolution
    jitter = np.random.default_rng(0).random((3, resolution, resolution))
    axis = np.arange(resolution)
    ray_x = (axis[:, None] + jitter[0]).reshape(-1)
    ray_y = (axis[None, :] + jitter[1]).reshape(-1)
    ray_z = jitter[2].reshape(-1)
    grid = (vertices - low) / step  # in cells
    winding = np.zeros(resolution * resolution * (resolution + 1), dtype=np.int32)
    order = weld(vertices)
    a, b, c = (grid[faces[:, corner], :2] for corner in range(3))
    least, most = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    first = np.clip(np.floor(least).astype(np.int64), 0, resolution - 1)
    last = np.clip(np.floor(most).astype(np.int64), 0, resolution - 1)
    width = last - first + 1
    count = width[:, 0] * width[:, 1]
    ends = np.cumsum(count)
    start = 0
    while start < len(faces):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        face = np.repeat(np.arange(start, stop), count[start:stop])
        within = np.arange(len(face)) - np.repeat(ends[start:stop] - count[start:stop] - done, count[start:stop])
        row = first[face, 0] + within // width[face, 1]
        ray = row * resolution + first[face, 1] + within % width[face, 1]
        x, y = ray_x[ray], ray_y[ray]
        near = (x >= least[face, 0]) & (x <= most[face, 0]) & (y >= least[face, 1]) & (y <= most[face, 1])
        face, ray = face[near], ray[near]
        crossed, sign, height = _crossings(grid, order, faces[face], x[near], y[near])
        ray = ray[crossed]
        above = np.clip(np.ceil(height - ray_z[ray]), 0, resolution).astype(np.int64)
        winding += np.bincount(ray * (resolution + 1) + above, weights=sign, minlength=len(winding)).astype(np.int32)
        start = stop
    turns = np.cumsum(winding.reshape(resolution, resolution, resolution + 1), axis=-1)
    return np.asarray(turns[:, :, :resolution] != 0)


def _crossings(
    grid: Float[np.ndarray, "N 3"],
    order: Int[np.ndarray, " N"],
    faces: Int[np.ndarray, "K 3"],
    x: Float[np.ndarray, " K"],
    y: Float[np.ndarray, " K"],
) -> tuple[Bool[np.ndarray, " K"], Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Which of K (face, ray) pairs meet, and for those the sign of the face's z normal and the height.

    Each edge is tested from its lower to its higher vertex in `order`, so the two faces at an edge see the very same
    number and no ray slips between them.
    """
    sides = []
    for corner in range(3):
        tail, head = faces[:, corner], faces[:, (corner + 1) % 3]
        swapped = order[tail] > order[head]
        a, b = grid[np.where(swapped, head, tail)], grid[np.where(swapped, tail, head)]
        left = (b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0]) > 0
        sides.append(left ^ swapped)
    crossed = (sides[0] == sides[1]) & (sides[1] == sides[2])
    a, b, c = (grid[faces[crossed, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    offset = normal[:, 0] * (x[crossed] - a[:, 0]) + normal[:, 1] * (y[crossed] - a[:, 1])
    height = a[:, 2] - np.divide(offset, normal[:, 2], out=np.zeros_like(offset), where=normal[:, 2] != 0)
    # the samples above a face that looks down are inside
    return crossed, np.where(sides[0][crossed], -1.0, 1.0), height
