"""The visual hull: the largest shape that the masks of several views allow (Laurentini 1994)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import rasterize

_SMOOTHING = 1.0
"""Pixels; standard deviation of the blur that takes the pixel staircase off a silhouette's distance field."""


def silhouette_distance(masks: Float[Tensor, "V H W"]) -> Float[Tensor, "V H W"]:
    """Signed distance of every pixel centre to the mask's outline, in pixels, negative inside.

    Everything beyond the image's border counts as outside. Soft masks are cut at 0.5.
    """
    fields = []
    for mask in masks.detach().cpu().numpy():
        inside = np.pad(mask > 0.5, 1)
        distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
        distance -= 0.5 * np.sign(distance)  # from pixel centre to pixel centre: the outline runs half way
        fields.append(ndimage.gaussian_filter(distance, _SMOOTHING)[1:-1, 1:-1])
    return torch.from_numpy(np.stack(fields)).to(masks)


def grid_points(resolution: int, bound: float, device: torch.device | str = "cpu") -> Float[Tensor, "R R R 3"]:
    """Points of a cubic grid over [-bound, bound]^3; axis 0 is x, 1 is y, 2 is z, corners included."""
    line = torch.linspace(-bound, bound, resolution, device=device)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)


@dataclass(frozen=True)
class HullField:
    """The visual hull as a field over space.

    Attributes:
        distance: (V, H, W) of every pixel to its view's silhouette, in pixels, negative inside.
        cameras: one for each view.
    """

    distance: Float[Tensor, "V H W"]
    cameras: Cameras

    @staticmethod
    def of(masks: Float[Tensor, "V H W"], cameras: Cameras) -> HullField:
        """
        Args:
            masks: 1 where the object is, 0 elsewhere, in [0, 1].
            cameras: one for each mask.
        """
        return HullField(silhouette_distance(masks), cameras)

    def at(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Signed distance of points to the hull's surface, in world units, negative inside.

        Exact in sign; the magnitude is the distance to the nearest of the views' silhouettes, across their rays.

        Args:
            points: in the world frame, in front of every camera.
        """
        side = self.distance.shape[1]
        field = torch.full_like(points[:, 0], -torch.inf)
        clips = self.cameras.clip(points)
        for view, clip in enumerate(clips):
            where = clip[:, :2] / clip[:, 3:] * clip.new_tensor([1.0, -1.0])
            sampled = grid_sample(
                self.distance[view][None, None], where[None, None], padding_mode="border", align_corners=False
            )[0, 0, 0]
            beyond = torch.hypot(*(where.abs() - 1).clamp_min(0).unbind(1)) * side / 2
            pixel = 2 * clip[:, 3] / (side * self.cameras.projection[view, 1, 1])
            field = torch.maximum(field, (sampled + beyond) * pixel)
        return field

    def grid(self, resolution: int, bound: float) -> Float[Tensor, "R R R"]:
        """The field on a cubic grid over [-bound, bound]^3 (see `grid_points`)."""
        points = grid_points(resolution, bound, self.distance.device)
        field = torch.cat([self.at(slab.reshape(-1, 3)) for slab in torch.split(points, 16)])
        return field.reshape(resolution, resolution, resolution)


def check_masks(masks: Float[Tensor, "V H W"], cameras: Cameras) -> None:
    """Raise BadInput unless there is one finite, square mask for each camera and each shows something."""
    if masks.shape[0] != len(cameras) or masks.shape[0] == 0:
        raise BadInput(
            f"{masks.shape[0]} masks were given for {len(cameras)} cameras.", hint="Give one mask for each view."
        )
    if masks.shape[1] != masks.shape[2]:
        raise BadInput(
            f"The masks are {masks.shape[2]} x {masks.shape[1]} pixels, not square.",
            hint="Give a bundle of 2 x 4 square tiles.",
        )
    if not masks.isfinite().all():
        raise BadInput("A mask holds values that are not finite.", hint="Make the bundle again.")
    empty = (masks > 0.5).flatten(1).sum(1) == 0
    if empty.any():
        raise BadInput(
            f"View {int(empty.nonzero()[0])} shows nothing: its mask is empty.",
            hint="Look at the bundle's normal row; it needs an object on a white background in every view.",
        )


def visual_hull(masks: Float[Tensor, "V H W"], cameras: Cameras, resolution: int = 160, bound: float = 1.05) -> Mesh:
    """The closed surface of everything that projects into all masks.

    Args:
        masks: 1 where the object is, 0 elsewhere, in [0, 1]; square.
        cameras: one for each mask.
        resolution: grid points along each side.
        bound: half the side of the grid, in world units; what sticks out of it is cut off.

    Raises:
        BadInput: a mask is empty, or the masks have no common volume.
    """
    check_masks(masks, cameras)
    field = HullField.of(masks, cameras).grid(resolution, bound)
    if not (field < 0).any():
        raise BadInput(
            "The views contradict each other: no point in space lies inside all masks.",
            hint="Check that the columns show the front, right, back and left of one object at the same scale.",
        )
    return isosurface(field, (-bound,) * 3, (bound,) * 3)


@dataclass(frozen=True)
class HullDepths:
    """Where each pixel's ray enters and leaves the visual hull for good.

    Attributes:
        nearest, farthest: (V, H, W) depth along the view axis, world units; 0 outside the hull.
    """

    nearest: Float[Tensor, "V H W"]
    farthest: Float[Tensor, "V H W"]


def hull_depths(
    masks: Float[Tensor, "V H W"], cameras: Cameras, resolution: int = 128, bound: float = 1.05
) -> HullDepths:
    """The hull's front and back as each view sees them.

    Raises:
        BadInput: as `visual_hull`.
    """
    hull = visual_hull(masks, cameras, resolution, bound)
    size = (masks.shape[1], masks.shape[2])
    clip = cameras.clip(hull.vertices)
    nearest = rasterize(clip, hull.faces, size).depth
    # Dividing by (w - c) keeps lines straight and turns the order of depths around: the rasteriser finds the back.
    shift = float(clip[..., 3].min()) / 2
    turned = clip / (clip[..., 3:] - shift)
    turned[..., 2] = 0
    back = rasterize(turned, hull.faces, size).depth
    return HullDepths(nearest, torch.where(back > 0, back * shift / (back - 1).clamp_min(1e-6), 0))
