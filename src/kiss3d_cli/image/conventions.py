"""Which convention a bundle's normals follow, told from its silhouettes.

On the outline of a smooth object the surface turns away from the camera, so that its normal points outwards in the
picture (the occluding contour constraint; Ikeuchi and Horn 1981). A row of normals whose x or y has the other sign
points inwards there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NormalConvention = Literal["auto", "kiss3d", "opengl", "kiss3d-y-down", "opengl-y-down"]
SIGNS: dict[str, tuple[float, float]] = {
    "kiss3d": (1.0, 1.0),
    "opengl": (-1.0, 1.0),
    "kiss3d-y-down": (1.0, -1.0),
    "opengl-y-down": (-1.0, -1.0),
}
"""What x and y of a decoded normal are multiplied by, for each convention. In `opengl` red grows to the right, in
`y-down` (DirectX) green grows downwards."""
BAND = 3
"""Pixels inside the outline that are asked."""
CERTAIN = 0.3
"""Correlation with the outline's direction, either way, from which a sign counts as told."""


@dataclass(frozen=True)
class OutlineAgreement:
    """How far normals next to the outline point outwards.

    Attributes:
        x: correlation of the normals' x with the outward direction, in [-1, 1]; about 0 for what faces the camera up to
            its edge, as a cube does.
        y: likewise, y upwards.
    """

    x: float
    y: float

    @property
    def convention(self) -> str | None:
        """The convention that makes both signs agree, where at least one is wrong for certain; None otherwise."""
        wrong = self.x < -CERTAIN, self.y < -CERTAIN
        if not any(wrong):
            return None
        signs = tuple(-1.0 if bad else 1.0 for bad in wrong)
        return next(name for name, pair in SIGNS.items() if pair == signs)


def outline_agreement(
    normals: Float[Tensor, "V S S 3"], mask: Bool[Tensor, "V S S"], band: int = BAND
) -> OutlineAgreement:
    """Compare the normals next to the outlines with the outlines' outward directions.

    Args:
        normals: (V, S, S, 3) in each camera's space, as `kiss3d` decodes them (x right, y up).
        mask: (V, S, S), True on the object.
        band: pixels inside the outline.
    """
    inside = mask.float()[:, None]
    # the outward direction: down the slope of the blurred mask
    radius = 2 * band
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / band) ** 2)
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(inside, [radius] * 4)
    blurred = torch.nn.functional.conv2d(padded, kernel.reshape(1, 1, 1, -1))
    blurred = torch.nn.functional.conv2d(blurred, kernel.reshape(1, 1, -1, 1))[:, 0]
    down, right = torch.gradient(blurred, dim=(1, 2))
    outward = torch.stack([-right, down], -1)  # rows run downwards, y upwards
    eroded = -torch.nn.functional.max_pool2d(-torch.nn.functional.pad(inside, [band] * 4), 2 * band + 1, stride=1)[:, 0]
    near = mask & (eroded < 0.5)
    direction, given = outward[near].double(), normals[near][:, :2].double()
    products = (direction * given).sum(0)
    lengths = (direction.square().sum(0) * given.square().sum(0)).sqrt()
    # normals that hardly leave the viewing direction have no side to agree with
    strength = given.square().mean(0).sqrt() if len(given) else torch.zeros(2).double()
    values = [
        float(product / length) if float(length) > 0 and float(strong) > 0.05 else 0.0
        for product, length, strong in zip(products, lengths, strength, strict=True)
    ]
    assert all(math.isfinite(value) for value in values)
    return OutlineAgreement(values[0], values[1])


def with_convention(normals: Float[Tensor, "V S S 3"], convention: str) -> Float[Tensor, "V S S 3"]:
    """Normals decoded as `kiss3d` that follow another convention, turned into camera space."""
    x, y = SIGNS[convention]
    return normals * normals.new_tensor([x, y, 1.0])
