"""Preconditioned conjugate gradients on images and grids (Hestenes and Stiefel 1952)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def conjugate_gradients(
    times: Callable[[Tensor], Tensor],
    right_side: Float[Tensor, "*S"],
    diagonal: Float[Tensor, "*S"],
    start: Float[Tensor, "*S"] | None = None,
    *,
    iterations: int,
    tolerance: float = 1e-3,
) -> Float[Tensor, "*S"]:
    """The solution x of `times(x) = right_side` for a symmetric positive definite `times`.

    Args:
        times: the matrix, as a function.
        right_side: of any shape.
        diagonal: of the matrix; the preconditioner (Jacobi).
        start: first guess; zero if None.
        iterations: at most.
        tolerance: stops when the preconditioned residual has fallen to this share of its first size.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        # Rows first, and the rows' sums in one go: the same order of additions on any number of threads.
        return (a * b).reshape(-1, a.shape[-1]).sum(1).reshape(a.shape[0], -1).sum(1).sum()

    x = torch.zeros_like(right_side) if start is None else start
    residual = right_side if start is None else right_side - times(start)
    z = residual / diagonal
    direction, power = z, dot(residual, z)
    goal = power * tolerance**2
    for _ in range(iterations):
        if power <= goal or power <= 0:
            break
        image = times(direction)
        length = power / dot(direction, image).clamp_min(1e-30)
        x = x + length * direction
        residual = residual - length * image
        z = residual / diagonal
        previous, power = power, dot(residual, z)
        direction = z + power / previous * direction
    return x
