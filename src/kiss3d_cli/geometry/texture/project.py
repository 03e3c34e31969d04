"""Colours of a mesh from pictures of it: which pixel shows which point, and how far each is to be believed.

A picture's colour counts with `view weight x cos^2 x margin`, where cos is between the surface's normal and the way to
the camera, and the margin falls to zero towards the object's outline and towards every jump in depth: the pixels there
mix two surfaces, and a shape that is a little off would take its neighbour's colour. A point counts as seen where its
depth is that of the rendered mesh and it faces the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import rasterize
from kiss3d_cli.geometry.silhouette import depth_inside
from kiss3d_cli.geometry.texture.complete import complete

RESOLUTION = 1024
"""Pixels a side at which visibility is decided and margins are measured."""
MARGIN = (2.0, 12.0)
"""Pixels from the outline at which a colour begins to count and counts in full."""
EXACT_MARGIN = (0.0, 1.0)
"""The same for pictures of the very mesh that is painted."""
MIN_COSINE = 0.05
ENOUGH = 0.1
"""The sum of weights from which a point's colour is taken as it is; below, it is blended with its surroundings."""


@dataclass(frozen=True)
class Photographs:
    """V pictures of an object.

    Attributes:
        cameras: of the V views.
        images: (V, H, W, 3) sRGB-encoded, in [0, 1].
        masks: (V, H, W) where the object is.
        weights: (V,) how much each view counts; the published colour weights are 1, 0.5, 1, 0.5.
        exact: they show the very mesh that is painted, pixel by pixel, and nothing is mixed into its edges.
        carried_on: the object's colours go on around it, within the masks: its outline is no reason for doubt.
    """

    cameras: Cameras
    images: Float[Tensor, "V H W 3"]
    masks: Bool[Tensor, "V H W"]
    weights: Float[Tensor, " V"]
    exact: bool = False
    carried_on: bool = False


@dataclass(frozen=True)
class Sighting:
    """What the pictures say about P points.

    Attributes:
        colors: (P, 3) weighted mean, zero where no picture shows the point.
        weight: (P,) sum of the weights.
    """

    colors: Float[Tensor, "P 3"]
    weight: Float[Tensor, " P"]

    @property
    def trust(self) -> Float[Tensor, " P"]:
        """From 0 for points that no picture shows to 1 for those whose colour is to be taken as it is."""
        return (self.weight / ENOUGH).clamp_max(1)


class Projector:
    """Photographs on a mesh, ready to be asked about points of its surface."""

    def __init__(self, mesh: Mesh, photographs: Photographs, own: Bool[Tensor, " N"] | None = None) -> None:
        """
        Args:
            own: vertices that keep the mesh's colours, and whose faces show no photograph.

        Raises:
            BadInput: pictures that are not square, or empty masks.
        """
        height, width = photographs.masks.shape[1:]
        if height != width:
            raise BadInput(f"The pictures are {width} x {height} pixels.", hint="Give square ones.")
        if not bool(photographs.masks.any()):
            raise BadInput("The masks of all views are empty.", hint="Check the pictures' background.")
        self._images = _spread(photographs) if photographs.exact else photographs.images
        self._mesh, self._photographs = mesh, photographs
        self.own = mesh.faces.new_zeros(len(mesh.vertices), dtype=torch.bool) if own is None else own
        size = (RESOLUTION, RESOLUTION)
        fragments = rasterize(photographs.cameras.clip(mesh.vertices.detach()), mesh.faces, size)
        depth = torch.where(fragments.mask, fragments.depth, torch.inf)
        # A point lies between four pixel centres; it is hidden if it lies behind all of them.
        padded = torch.nn.functional.pad(depth, (1, 1, 1, 1), value=torch.inf)
        below = torch.maximum(padded[:, :-1], padded[:, 1:])
        self._deepest = torch.maximum(below[..., :-1], below[..., 1:]).contiguous()
        self._margin = _margins(depth, photographs)

    def look(self, points: Float[Tensor, "P 3"], normals: Float[Tensor, "P 3"]) -> Sighting:
        """
        Args:
            points: on the surface.
            normals: unit vectors.
        """
        cameras = self._photographs.cameras
        clip = cameras.clip(points)
        total = points.new_zeros(points.shape[0], 3)
        weight = points.new_zeros(points.shape[0])
        for view, center in enumerate(cameras.centers):
            towards = torch.nn.functional.normalize(center - points, dim=-1)
            cosine = (towards * normals).sum(-1)
            w = clip[view, :, 3]
            x, y = clip[view, :, 0] / w, -clip[view, :, 1] / w
            inside = (x.abs() < 1) & (y.abs() < 1) & (cosine > MIN_COSINE)
            column = ((x + 1) * (RESOLUTION / 2) + 0.5).nan_to_num().clamp(0, RESOLUTION).long()
            row = ((y + 1) * (RESOLUTION / 2) + 0.5).nan_to_num().clamp(0, RESOLUTION).long()
            deepest = self._deepest[view].reshape(-1).index_select(0, row * (RESOLUTION + 1) + column)
            inside &= w <= deepest + 2 * _pixel(w, cameras.projection[view])
            grid = torch.stack([x, y], -1)[None, None]
            margin = _sample(self._margin[view][None], grid)[:, 0]
            gain = torch.where(inside, self._photographs.weights[view] * cosine.square() * margin, 0)
            total = total + gain[:, None] * _sample(self._images[view].permute(2, 0, 1), grid)
            weight = weight + gain
        return Sighting(total / torch.where(weight > 0, weight, 1)[:, None], weight)

    @cached_property
    def normals(self) -> Float[Tensor, "N 3"]:
        """Of the mesh's vertices."""
        return vertex_normals(self._mesh.vertices, self._mesh.faces)

    @cached_property
    def at_vertices(self) -> Sighting:
        seen = self.look(self._mesh.vertices, self.normals)
        if self._mesh.colors is None or not bool(self.own.any()):
            return seen
        weight = torch.where(self.own, ENOUGH, seen.weight)
        return Sighting(torch.where(self.own[:, None], self._mesh.colors, seen.colors), weight)

    @cached_property
    def spread(self) -> Float[Tensor, "N 3"]:
        """Colours of the vertices; those that no picture shows continue what is seen around them."""
        seen = self.at_vertices
        return complete(self._mesh.vertices, self._mesh.faces, seen.colors, seen.trust, self.normals)


def _sample(image: Float[Tensor, "C H W"], grid: Float[Tensor, "1 1 P 2"]) -> Float[Tensor, "P C"]:
    """Bilinear, from x to the right and y down in [-1, 1]."""
    found = torch.nn.functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T


def _pixel(distance: Any, projection: Float[Tensor, "4 4"]) -> Any:
    """The side of a pixel at that distance, in world units."""
    return distance * (2 / (float(projection[0, 0]) * RESOLUTION))


def _spread(photographs: Photographs) -> Float[Tensor, "V H W 3"]:
    """The pictures with the nearest of the object's colours around it, so that no background is filtered in."""
    masks = photographs.masks.cpu().numpy()

    def spread(view: int) -> Float[Tensor, "H W 3"]:
        image = photographs.images[view]
        if not masks[view].any():
            return image
        row, column = distance_transform_edt(~masks[view], return_distances=False, return_indices=True)
        return image[torch.from_numpy(row).long(), torch.from_numpy(column).long()]

    return torch.stack(side_by_side(spread, range(len(masks)), photographs.images.device))


def _margins(depth: Float[Tensor, "V R R"], photographs: Photographs) -> Float[Tensor, "V R R"]:
    """From 0 at outlines and jumps in depth to 1 in the clear."""
    near, far = EXACT_MARGIN if photographs.exact else MARGIN
    masks, surfaces = photographs.masks.cpu().numpy(), depth.cpu().numpy()

    def margin(view: int) -> Float[np.ndarray, "R R"]:
        surface, projection = surfaces[view], photographs.cameras.projection[view]
        wide = cv2.resize(masks[view].astype(np.uint8), surface.shape[::-1], interpolation=cv2.INTER_NEAREST)
        # What lies deeper than the flattest slope that counts explains is another surface.
        there = np.isfinite(surface)
        near_side = np.where(there, surface, 1e6)
        far_side = np.where(there, surface, 0) if photographs.carried_on else near_side
        across = cv2.dilate(far_side, np.ones((3, 3))) - cv2.erode(near_side, np.ones((3, 3)))
        clear = (wide > 0) & (across <= 2 * _pixel(near_side, projection) / MIN_COSINE)
        if not photographs.carried_on:
            clear &= there
        clear[[0, -1]] = clear[:, [0, -1]] = False  # the border of the picture is an outline too
        distance = depth_inside(clear).astype(np.float32)
        return np.asarray(np.clip((distance - near) / (far - near), 0, 1))

    return torch.from_numpy(np.stack(side_by_side(margin, range(len(masks))))).to(depth)


def project_colors(mesh: Mesh, photographs: Photographs) -> Float[Tensor, "N 3"]:
    """sRGB-encoded colours of all vertices in [0, 1]; those that no picture shows are completed."""
    return Projector(mesh, photographs).spread.clamp(0, 1)
