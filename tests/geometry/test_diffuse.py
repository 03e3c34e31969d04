"""Diffusion against a drawn strip, a dense solve and the maximum principle."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from torch import Tensor

from kiss3d_cli.geometry.texture.diffuse import diffuse


def grid(side: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    points = torch.stack([x, y, 0 * x], -1).reshape(-1, 3).double()
    a = (y[:-1, :-1] * side + x[:-1, :-1]).reshape(-1)
    faces = torch.cat([torch.stack([a, a + 1, a + side + 1], 1), torch.stack([a, a + side + 1, a + side], 1)])
    return points, faces


def test_a_linear_rim_gives_a_linear_inside() -> None:
    points, faces = grid(7)
    wanted = torch.stack([points[:, 0], 2 * points[:, 1] - points[:, 0]], 1)
    rim = ((points[:, :2] == 0) | (points[:, :2] == 6)).any(1)
    found = diffuse(points, faces, torch.where(rim[:, None], wanted, 99.0), rim.double())
    torch.testing.assert_close(found, wanted)


def test_partial_trust_agrees_with_a_dense_solve_and_keeps_the_bounds() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor(ball.vertices) + 0.1 * torch.rand(162, 3, generator=generator, dtype=torch.float64)
    faces = torch.tensor(ball.faces, dtype=torch.int64)
    values = torch.rand(162, 3, generator=generator, dtype=torch.float64)
    trust = torch.rand(162, generator=generator, dtype=torch.float64) * (torch.arange(162) % 3 > 0)
    trust[:5] = 1
    found = diffuse(points, faces, values, trust)
    ends = np.asarray(ball.edges_unique)
    weights = 1 / np.linalg.norm(points.numpy()[ends[:, 0]] - points.numpy()[ends[:, 1]], axis=1)
    laplacian = np.zeros((162, 162))
    np.add.at(laplacian, (ends[:, 0], ends[:, 1]), -weights)
    laplacian += laplacian.T
    degree = -laplacian.sum(1)
    laplacian += np.diag(degree)
    t = np.minimum(trust.numpy(), 1 - 1e-12)
    pull = degree * t / (1 - t)
    wanted = np.linalg.solve(laplacian + np.diag(pull), pull[:, None] * values.numpy())
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-8)
    assert torch.equal(found[:5], values[:5])
    seen = values[trust > 0]
    assert bool((found >= seen.amin(0) - 1e-12).all() & (found <= seen.amax(0) + 1e-12).all())


def test_pieces_without_trust_take_the_mean() -> None:
    points, faces = grid(3)
    both = torch.cat([points, points + 10, torch.zeros(1, 3, dtype=torch.float64)])  # and one vertex without a face
    values = torch.full((19, 1), 7.0, dtype=torch.float64)
    values[0], values[8] = 1.0, 3.0
    trust = torch.zeros(19, dtype=torch.float64)
    trust[[0, 8]] = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = diffuse(both, torch.cat([faces, faces + 9]), values, trust)
    assert found[0].item() == 1.0
    assert 1.0 < found[4].item() < 3.0
    torch.testing.assert_close(found[9:], torch.full((10, 1), 5 / 3, dtype=torch.float64))


def test_without_any_trust_nothing_changes() -> None:
    points, faces = grid(3)
    values = torch.rand(9, 2)
    assert torch.equal(diffuse(points, faces, values, torch.zeros(9)), values)
