"""The coloured visual hull that several views are shown with, against the rasteriser."""

from __future__ import annotations

import pytest
import torch

from kiss3d_cli.geometry.cameras import bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.models.lvsm.hull import hull_views, hulls_views
from kiss3d_cli.models.lvsm.quality import psnr
from kiss3d_cli.models.lvsm.rays import Posed, pluecker
from kiss3d_cli.training.posed import intrinsics_of

S = 48
LOW, HIGH = torch.tensor([-0.3, -0.7, -0.5]), torch.tensor([0.6, 0.4, 0.2])


def block() -> Mesh:
    """A block off the middle, each of its sides of its own colour."""
    vertices, faces, colors = [], [], []
    for axis in range(3):
        for end, value in enumerate((LOW, HIGH)):
            other = [a for a in range(3) if a != axis]
            corners = torch.zeros(4, 3)
            corners[:, axis] = value[axis]
            for place, (a, b) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
                corners[place, other[0]], corners[place, other[1]] = (LOW, HIGH)[a][other[0]], (LOW, HIGH)[b][other[1]]
            first = 4 * len(vertices)
            faces += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
            vertices.append(corners)
            colors.append(torch.tensor([axis / 2, float(end), 0.2 + 0.3 * axis]).expand(4, 3))
    return Mesh(torch.cat(vertices), torch.tensor(faces), colors=torch.cat(colors))


def posed(cameras) -> Posed:
    return Posed(cameras.world_to_camera, torch.from_numpy(intrinsics_of(cameras)))


def seen(mesh: Mesh, cameras) -> torch.Tensor:
    found = render_colors(mesh, cameras, (4 * S, 4 * S), antialiased=False)
    both = torch.cat([found.colors, found.mask[..., None].float()], -1)
    return both.reshape(-1, S, 4, S, 4, 4).mean((2, 4)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def ring() -> torch.Tensor:
    return seen(block(), bundle_cameras())


def test_a_block_is_its_own_hull_and_every_side_has_its_colour(ring):
    """From between the views, and through a camera of another field of view and a principal point off the middle."""
    asked = orbit_cameras([40.0, 200.0], 10.0, 4.5, 30.0)
    found = hull_views(ring, posed(bundle_cameras()), posed(asked))
    truth = seen(block(), asked)
    inside, true = found[:, 3] > 0.5, truth[:, 3] > 0.5
    assert float((inside & true).sum() / (inside | true).sum()) > 0.96
    assert (psnr(found[:, :3], truth[:, :3]) > 22).all()
    solid = (truth[:, 3:] == 1) & (found[:, 3:] > 0.98)
    error = ((found[:, :3] - truth[:, :3]).abs() * solid).sum() / (3 * solid.sum())
    assert float(error) < 0.05
    moved = posed(asked)
    moved.intrinsics[:, 2] += 4 / S
    shifted = hull_views(ring, posed(bundle_cameras()), moved)
    assert float((shifted[..., 4:] - found[..., :-4]).abs().mean()) < 0.01


def test_fewer_views_leave_more(ring):
    """The hull of some of the views holds that of all."""
    asked = posed(orbit_cameras([100.0], 30.0, 4.5, 30.0))
    every = posed(bundle_cameras())
    two = Posed(every.poses[[0, 1]], every.intrinsics[[0, 1]])
    fewer, all_four = hull_views(ring[[0, 1]], two, asked)[:, 3], hull_views(ring, every, asked)[:, 3]
    assert float((all_four - fewer).max()) < 0.1
    assert float(fewer.sum()) > float(all_four.sum())


def test_a_given_view_is_drawn_as_it_is(ring):
    cameras = posed(bundle_cameras())
    found = hull_views(ring, cameras, cameras)
    assert (psnr(found[:, :3], ring[:, :3]) > 25).all()


def test_masks_without_a_common_volume_leave_white():
    rgba = torch.ones(2, 4, S, S)
    rgba[:, 3] = 0
    rgba[0, 3, :8, :8] = rgba[1, 3, -8:, -8:] = 1
    cameras = posed(bundle_cameras())
    found = hull_views(rgba, Posed(cameras.poses[:2], cameras.intrinsics[:2]), cameras)
    assert found.shape == (4, 4, S, S)
    assert found.isfinite().all()
    assert (found[:, :3] == 1).all()
    assert (found[:, 3] == 0).all()


def test_projection_and_rays_are_each_others_inverse():
    """A point on a pixel's ray is projected to that pixel, by the rays that the network has."""
    cameras = posed(orbit_cameras([25.0, 140.0], 20.0, 3.0, 40.0))
    cameras.intrinsics[:, 2] += 0.1
    rays = cameras.rays(16)
    assert torch.allclose(
        torch.nn.functional.normalize(rays, dim=-1).transpose(1, 2).reshape(2, 3, 16, 16),
        pluecker(cameras.poses, cameras.intrinsics, 16)[:, :3],
        atol=1e-5,
    )
    for view, (row, column) in enumerate(((3, 9), (12, 1))):
        point = cameras.centers[view] + 2.5 * rays[view, 16 * row + column]
        places, away = cameras.project(point[None])
        assert torch.allclose(places[view, 0], torch.tensor([column, row]) / 8 + 1 / 16 - 1, atol=1e-5)
        assert float(away[view, 0]) == pytest.approx(2.5, abs=1e-5)


def test_several_objects_at_once_are_each_alone(ring):
    """But for a pixel where rounding decides; an object without a hull among them stays white."""
    empty = torch.ones(4, 4, S, S)
    empty[:, 3] = 0
    empty[0, 3, :8, :8] = 1
    given, asked = posed(bundle_cameras()), posed(orbit_cameras([40.0, 200.0], 10.0, 4.5, 30.0))
    moved = posed(orbit_cameras([130.0, 250.0], 30.0, 3.5, 40.0))
    pictures, others = [ring, empty, ring.flip(1)], [asked, asked, moved]
    pictures[2][:, 3] = ring[:, 3]
    alone = torch.stack([hull_views(rgba, given, other) for rgba, other in zip(pictures, others, strict=True)])
    three = Posed(given.poses.repeat(3, 1, 1), given.intrinsics.repeat(3, 1))
    all_asked = Posed(torch.cat([one.poses for one in others]), torch.cat([one.intrinsics for one in others]))
    together = hulls_views(torch.stack(pictures), three, all_asked)
    assert float((together - alone).abs().mean()) < 1e-3
    assert float(((together - alone).abs() > 1e-3).float().mean()) < 0.005
    assert torch.equal(together[1, :, :3], torch.ones(2, 3, S, S))
