"""Detection of exchanged side views in a bundle, by the consistency of the views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.extract.hull import visual_hull
from kiss3d_cli.geometry.mesh import vertex_normals

SWAPPED = (0, 3, 2, 1)
"""The columns of a bundle whose right and left are exchanged."""
MARGIN = 0.02
"""By so much another order must agree better to be taken for the bundle's."""
_RESOLUTION = 64
_FACING = 0.2


@dataclass(frozen=True)
class OrderAgreement:
    """How well neighbouring views agree about what both of them see, in the given order and with sides exchanged.

    Attributes:
        given, swapped: mean cosine between the world normals that two views show of one point of the visual hull, in
            [-1, 1]; None where the views have no common volume.
    """

    given: float | None
    swapped: float | None

    @property
    def is_swapped(self) -> bool:
        """The views agree clearly better with right and left exchanged."""
        if self.swapped is None:
            return False
        return self.given is None or self.swapped > self.given + MARGIN


def order_agreement(normals: Float[Tensor, "4 S S 3"], mask: Bool[Tensor, "4 S S"], cameras: Cameras) -> OrderAgreement:
    """Compare the given order of the columns with the one in which right and left are exchanged.

    Args:
        normals: (4, S, S, 3) unit normals in each camera's space.
        mask: (4, S, S), True on the object.
        cameras: of the columns as they should be.
    """
    swapped = list(SWAPPED)
    return OrderAgreement(
        view_agreement(normals, mask, cameras), view_agreement(normals[swapped], mask[swapped], cameras)
    )


def view_agreement(normals: Float[Tensor, "V S S 3"], mask: Bool[Tensor, "V S S"], cameras: Cameras) -> float | None:
    """Mean cosine between the world normals that two views show of one point of their visual hull.

    Points stand for the surface: the hull is near it where two views graze it, and that is where views overlap.

    Returns:
        None where the views have no common volume, or no point is seen twice.
    """
    try:
        hull = visual_hull(mask.float(), cameras, _RESOLUTION)
    except BadInput:
        return None
    outward = vertex_normals(hull.vertices, hull.faces)
    to_camera = normalize(cameras.centers[:, None] - hull.vertices, dim=-1)
    clip = cameras.clip(hull.vertices)
    where = clip[..., :2] / clip[..., 3:] * clip.new_tensor([1.0, -1.0])
    shown = cameras.normals_to_world(normals)
    sampled = grid_sample(shown.permute(0, 3, 1, 2), where[:, :, None], align_corners=False)[..., 0].permute(0, 2, 1)
    seen = (to_camera * outward).sum(-1) > _FACING
    seen &= grid_sample(mask.float()[:, None], where[:, :, None], mode="nearest", align_corners=False)[:, 0, :, 0] > 0.5
    cosines = [
        (normalize(sampled[first], dim=-1) * normalize(sampled[second], dim=-1)).sum(-1)[seen[first] & seen[second]]
        for first in range(len(cameras))
        for second in range(first)
    ]
    together = torch.cat(cosines)
    return float(together.double().mean()) if len(together) else None
