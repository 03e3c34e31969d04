"""Agreement of a mesh's outline with masks of the same object."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras

_ROUNDS = 5
"""Each round's error is a small share of the one before: perspective bends extents only a little."""


def silhouette_scale(vertices: Float[Tensor, "N 3"], masks: Bool[Tensor, "V H W"], cameras: Cameras) -> float:
    """The factor about the origin after which the points extend as far in the views as the masks do.

    It is the median over the widths and heights of all views, so that one cut off or ragged mask does little.

    Raises:
        BadInput: a mask is empty.
    """
    if not masks.flatten(1).any(1).all():
        raise BadInput("a view shows no object", hint="look at the views: each must show the object on white")
    wanted = torch.stack([_extent(masks.any(1)), _extent(masks.any(2))], 1)
    scale = 1.0
    for _ in range(_ROUNDS):
        clip = cameras.clip(scale * vertices)
        flat = clip[..., :2] / clip[..., 3:]
        scale *= float((wanted / (flat.amax(1) - flat.amin(1))).median())
    return scale


def _extent(line: Bool[Tensor, "V K"]) -> Float[Tensor, " V"]:
    """From the first to the last True, in units of half the line, as clip space has it."""
    first = line.int().argmax(1)
    last = line.shape[1] - line.flip(1).int().argmax(1)
    return 2 * (last - first) / line.shape[1]
