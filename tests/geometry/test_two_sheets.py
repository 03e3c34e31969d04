"""Surfaces from front and back depths: closed and manifold for every silhouette, and right where they are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.inflate.plain import plain_heights
from kiss3d_cli.geometry.inflate.two_sheets import SheetColors, two_sheets
from kiss3d_cli.geometry.surface.topology import report

SIZE = 128
SURE = torch.ones(64, 64)
LINE = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1


def topology(mesh):
    return report(mesh.vertices.double().numpy(), mesh.faces.numpy())


def disc(radius):
    return (LINE[None] ** 2 + LINE[:, None] ** 2 < radius**2).astype(np.float64)


def test_a_disc_without_residuals_is_a_flattened_ball():
    """The plain inflation's section is the root of 3/4 of a ball's square."""
    mesh = two_sheets(torch.from_numpy(disc(0.8)).float(), torch.zeros(2, 64, 64), SURE, tilt=0.0)
    sides = (mesh.vertices.amax(0) - mesh.vertices.amin(0)).numpy()
    assert float(sides.max()) == pytest.approx(1.9, abs=1e-4)
    assert sides[2] / sides[0] == pytest.approx(np.sqrt(3 / 4), abs=0.04)
    found = topology(mesh)
    assert found.watertight
    assert found.components == 1


def test_the_residuals_of_a_slab_give_its_depth_and_upright_walls():
    """A square whose front and back lie half a picture side apart everywhere: a box, its walls straight."""
    alpha = np.zeros((SIZE, SIZE))
    alpha[24:104, 24:104] = 1
    base = torch.from_numpy(plain_heights(alpha, 64)).float()
    residual = torch.stack([0.25 - base, base - 0.25])
    mesh = two_sheets(torch.from_numpy(alpha).float(), residual, SURE, tilt=0.0, camera=orbit_cameras([0.0], 0.0))
    # from so far away that rays are nearly parallel this is exact; from the bundle's camera the front is smaller
    z = mesh.vertices[:, 2]
    x = mesh.vertices[:, 0]
    thickness = float(z.max() - z.min()) / float(x.max() - x.min())
    assert thickness == pytest.approx(0.5 / 1.25, rel=0.1)
    assert topology(mesh).watertight
    # nothing but the walls lies between front and back
    assert float((z.abs() > 0.3 * float(z.max())).float().mean()) > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_any_silhouette_and_any_residuals_give_a_closed_manifold(seed):
    """Noise: holes, crumbs, corners that touch, fronts behind backs."""
    rng = np.random.default_rng(seed)
    noise = rng.random((SIZE // 8, SIZE // 8))
    alpha = np.kron(noise > 0.5, np.ones((8, 8))) * np.pad(np.ones((SIZE - 16, SIZE - 16)), 8)
    residual = torch.from_numpy(rng.normal(0, 0.3, (2, 64, 64))).float()
    found = topology(two_sheets(torch.from_numpy(alpha).float(), residual, SURE, tilt=0.1))
    assert found.watertight
    # pieces that share a corner are one: the sheet joins them across it
    assert found.components == ndimage.label(alpha, np.ones((3, 3)))[1]


def test_front_and_back_have_their_own_colours():
    rgb = torch.zeros(SIZE, SIZE, 3)
    rgb[..., 0] = 1
    back, left, right = (np.zeros((64, 64, 3)) for _ in range(3))
    back[..., 2], left[..., 1], right[...] = 1, 1, 1
    mesh = two_sheets(
        torch.from_numpy(disc(0.8)).float(), torch.zeros(2, 64, 64), SURE, rgb, SheetColors(back, left, right), tilt=0.0
    )
    assert mesh.colors is not None
    where = mesh.vertices
    middle = where[:, :2].norm(dim=-1) < 0.3
    assert torch.allclose(mesh.colors[middle & (where[:, 2] > 0)], torch.tensor([1.0, 0, 0]), atol=0.02)
    assert torch.allclose(mesh.colors[middle & (where[:, 2] < 0)], torch.tensor([0, 0, 1.0]), atol=0.02)
    rim = (where[:, 0] < -0.93) & (where[:, 1].abs() < 0.2) & (where[:, 2].abs() < 0.1)
    assert float(mesh.colors[rim, 1].mean()) > 0.8


def test_what_is_not_trusted_is_the_inflation():
    """Whatever the residuals: a disc inflates to a ball, a little flattened."""
    noise = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    mesh = two_sheets(torch.from_numpy(disc(0.8)).float(), noise, 0 * SURE, tilt=0.0)
    sides = (mesh.vertices.amax(0) - mesh.vertices.amin(0)).numpy()
    assert sides[2] / sides[0] == pytest.approx(0.95, abs=0.04)


def test_an_empty_silhouette_is_refused():
    with pytest.raises(BadInput, match="empty"):
        two_sheets(torch.zeros(SIZE, SIZE), torch.zeros(2, 64, 64), SURE, tilt=0.0)
