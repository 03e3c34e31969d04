"""One picture to its front and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.threads import one_thread
from kiss3d_cli.models.prior.network import Prior, PriorAnswer, base_depth

CERTAIN, LOST = 0.25, 0.6
"""Expected error of a depth, in half picture sides: up to the first the prior is believed, beyond the second not."""


@dataclass(frozen=True)
class PriorShape:
    """What the prior says about one picture, S x S; lengths in half picture sides.

    Attributes:
        residual: (2, S, S) what is to be added to the front and the back of the plain inflation.
        confidence: (S, S) in [0, 1], from the expected error: 0 leaves the pixel to whoever else has a guess.
        normals: (3, S, S) unit, in the camera's axes.
        back: (3, S, S) and left, right: (3, S, S) sRGB-encoded colours in [0, 1].
        gap: (S, S) probability of outside air between front and back.
    """

    residual: Float[Tensor, "2 S S"]
    confidence: Float[Tensor, "S S"]
    normals: Float[Tensor, "3 S S"]
    back: Float[Tensor, "3 S S"]
    left: Float[Tensor, "3 S S"]
    right: Float[Tensor, "3 S S"]
    gap: Float[Tensor, "S S"]


@torch.inference_mode()
def predict(network: Prior, rgba: Float[Tensor, "4 S S"], base: Float[Tensor, "S S"]) -> PriorShape:
    """The mean of what is said about the picture and about its mirror image, so that a symmetric picture's shape is
    symmetric; the same bytes on any number of threads.

    Args:
        network: in float32.
        rgba: sRGB-encoded in [0, 1], not multiplied by alpha; of the network's size.
        base: the inflation's height, of the same picture.
    """
    device = next(network.parameters()).device
    with one_thread():
        pictures = torch.stack([rgba, rgba.flip(-1)]).to(device)
        bases = torch.stack([base, base.flip(-1)]).to(device)
        # one after the other: a batch of two need not give each what it gives alone
        answers = [network(pictures[[i]], bases[[i]]) for i in (0, 1)]
        first, second = answers[0], _mirrored(answers[1])
        depth, spread, normals, back, sides, gap = (
            ((getattr(first, key) + getattr(second, key)) / 2)[0].float().cpu()
            for key in ("depth", "spread", "normals", "back", "sides", "gap")
        )
        confidence = ((LOST - spread.exp().mean(0)) / (LOST - CERTAIN)).clamp(0, 1)
        return PriorShape(
            residual=depth - base_depth(base[None])[0],
            confidence=confidence,
            normals=normals / normals.norm(dim=0, keepdim=True).clamp_min(1e-6),
            back=back.clamp(0, 1),
            left=sides[:3].clamp(0, 1),
            right=sides[3:].clamp(0, 1),
            gap=gap.sigmoid(),
        )


def _mirrored(answer: PriorAnswer) -> PriorAnswer:
    turned = torch.tensor([-1.0, 1, 1], device=answer.normals.device)[:, None, None]
    return PriorAnswer(
        answer.depth.flip(-1),
        answer.spread.flip(-1),
        answer.normals.flip(-1) * turned,
        answer.back.flip(-1),
        answer.sides.flip(-1).roll(3, 1),
        answer.gap.flip(-1),
    )
