"""Similarity metrics of two pictures."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

WINDOW, SPREAD = 11, 1.5
"""Pixels a side of SSIM's Gaussian window, and its standard deviation."""


def psnr(found: Float[Tensor, "*B 3 S S"], truth: Float[Tensor, "*B 3 S S"]) -> Float[Tensor, "*B"]:
    """Peak signal-to-noise ratio in dB of each picture, colours in [0, 1]; at most 100."""
    error = (found - truth).square().mean((-3, -2, -1))
    return -10 * error.clamp_min(1e-10).log10()


def ssim(found: Float[Tensor, "*B 3 S S"], truth: Float[Tensor, "*B 3 S S"]) -> Float[Tensor, "*B"]:
    """Structural similarity of each picture, colours in [0, 1] (Wang et al. 2004): the mean over its channels and all
    windows that lie in it.
    """
    line = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    bell = (-(line**2) / (2 * SPREAD**2)).exp()
    bell = bell / bell.sum()
    kernel = (bell[:, None] * bell).to(found)[None, None]

    def smooth(values: Tensor) -> Tensor:
        return functional.conv2d(values.reshape(-1, 1, *values.shape[-2:]), kernel)

    mean, other = smooth(found), smooth(truth)
    variance, second = smooth(found**2) - mean**2, smooth(truth**2) - other**2
    shared = smooth(found * truth) - mean * other
    c1, c2 = 0.01**2, 0.03**2
    each = (2 * mean * other + c1) * (2 * shared + c2) / ((mean**2 + other**2 + c1) * (variance + second + c2))
    return each.mean((1, 2, 3)).reshape(found.shape[:-2]).mean(-1)
