"""Integrated normals against depths known in closed form, and the surface through them."""

from __future__ import annotations

import math

import pytest
import torch

from ellipsoids import HALF_FIELD, RADIUS, Cast, Ellipsoid, cast
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.depth.fuse import fuse_depths
from kiss3d_cli.geometry.depth.integrate import integrate_normals
from kiss3d_cli.geometry.depth.maps import DepthMaps, camera_rays
from kiss3d_cli.geometry.extract.hull import HullField, hull_depths
from kiss3d_cli.geometry.settings import IntegrationSettings
from kiss3d_cli.geometry.surface.manifold import find_defects
from kiss3d_cli.geometry.surface.topology import report

SIZE = 128
PIXEL = 2 * RADIUS * math.tan(HALF_FIELD) / SIZE
"""World units, in the middle of the object."""
BODY = Ellipsoid((0.05, 0.0, 0.1), (0.55, 0.8, 0.4))
HEAD = Ellipsoid((0.15, 0.35, 0.6), (0.25, 0.2, 0.2))  # stands out in front: a jump in depth all around it
QUICK = IntegrationSettings(sizes=(32, 64, 128), rounds=(8, 6, 4))


def integrated(seen: Cast, start: torch.Tensor | None = None) -> tuple[DepthMaps, HullField]:
    cameras, silhouettes = bundle_cameras(), seen.mask.float()
    hull, bounds = HullField.of(silhouettes, cameras), hull_depths(silhouettes, cameras)
    maps = integrate_normals(seen.normals, seen.mask, cameras, bounds.nearest, bounds.farthest, hull, start, QUICK)
    return maps, hull


def test_rays_through_pixel_centres():
    rays = camera_rays(bundle_cameras(), 2)
    half = math.tan(math.radians(15)) / 2
    torch.testing.assert_close(rays[3, 0, 1], torch.tensor([half, half, -1.0]))  # right of the middle, above it


@pytest.mark.parametrize("solids", [[BODY], [BODY, HEAD]], ids=["smooth", "with a jump in depth"])
def test_depths_of_all_views(solids):
    """To a fraction of a pixel, where the hull is off by more than half of one."""
    seen = cast(solids, SIZE)
    maps, _ = integrated(seen)
    both = maps.mask & seen.mask
    assert both.sum() > 0.98 * seen.mask.sum()
    # along the normal: seen edge-on, a depth is as uncertain as the outline
    cosine = -(seen.normals * maps.rays()).sum(-1)
    hull = hull_depths(seen.mask.float(), bundle_cameras()).nearest
    error, before = (((depth - seen.depth) * cosine)[both].abs() for depth in (maps.depth, hull))
    assert before.median() > 0.6 * PIXEL
    assert error.median() < 0.4 * PIXEL
    assert error.quantile(0.95) < PIXEL


def test_a_start_in_front_of_the_hull_is_pushed_into_it():
    seen = cast([BODY], SIZE)
    maps, _ = integrated(seen, torch.where(seen.mask, seen.depth - 0.4, 0))
    assert (maps.depth - seen.depth)[maps.mask & seen.mask].abs().median() < 0.5 * PIXEL


def test_the_same_depths_on_any_number_of_threads():
    seen = cast([BODY, HEAD], 64)
    threads, found = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(integrated(seen)[0].depth)
    torch.set_num_threads(threads)
    assert torch.equal(*found)


def known_maps(seen: Cast) -> tuple[DepthMaps, HullField]:
    maps = DepthMaps(seen.depth, seen.normals, seen.mask, bundle_cameras())
    return maps, HullField.of(seen.mask.float(), bundle_cameras())


def test_surface_through_known_depths():
    mesh = fuse_depths(*known_maps(cast([BODY], SIZE)))
    assert find_defects(mesh.faces).is_closed_manifold
    found = report(mesh.vertices.double().numpy(), mesh.faces.numpy())
    assert found.components == 1
    assert found.genus == 0
    # the underside is shown by no view: what is missing there is filled to where the lowest view ends
    assert found.volume == pytest.approx(4 / 3 * math.pi * math.prod(BODY.radii), rel=0.02)
    assert BODY.distance(mesh.vertices).abs().median() < 0.002
    assert BODY.distance(mesh.vertices).abs().max() < 0.08


def test_a_flat_base_stays_flat():
    """The lower half is cut off at y = -0.2; no view looks at the cut."""
    seen = cast([BODY], SIZE)
    world = DepthMaps(seen.depth, seen.normals, seen.mask, bundle_cameras()).points()
    kept = seen.mask & (world[..., 1] > -0.2)
    halved = Cast(seen.normals * kept[..., None], kept, torch.where(kept, seen.depth, 0))
    mesh = fuse_depths(*known_maps(halved))
    middle = mesh.vertices[(mesh.vertices[:, [0, 2]] - torch.tensor([0.05, 0.1])).norm(dim=1) < 0.25]
    base = middle[middle[:, 1] < 0.2]
    assert len(base) > 100
    assert (base[:, 1] + 0.2).abs().max() < 0.08


def test_too_few_pixels_or_no_solid():
    seen = cast([BODY], SIZE)
    maps, hull = known_maps(seen)
    lonely = torch.zeros_like(seen.mask)
    lonely[:, 64, 60:70] = seen.mask[:, 64, 60:70]
    with pytest.raises(BadInput, match="only 40 pixels"):
        fuse_depths(DepthMaps(seen.depth, seen.normals, lonely, maps.cameras), hull)
    everywhere_outside = HullField(torch.full_like(hull.distance, 50.0), hull.cameras)
    with pytest.raises(BadInput, match="no solid"):
        fuse_depths(maps, everywhere_outside)
