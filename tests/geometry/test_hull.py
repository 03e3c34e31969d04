"""Visual hulls: a drawn field, a sphere whose hull is known in closed form, and masks that make no sense."""

import math

import pytest
import torch

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import BUNDLE_RADIUS, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.extract.hull import HullField, silhouette_distance, visual_hull
from kiss3d_cli.geometry.surface.manifold import find_defects


def _disc_masks(size: int, radius: float, views: int = 4) -> torch.Tensor:
    """What a sphere about the origin looks like from the bundle's distance, in every view."""
    focal = 1 / math.tan(math.radians(15))
    outline = focal * math.tan(math.asin(radius / BUNDLE_RADIUS)) * size / 2
    centres = torch.arange(size) + 0.5 - size / 2
    return ((centres[:, None] ** 2 + centres[None] ** 2).sqrt() < outline).float().expand(views, size, size)


def test_distance_of_a_drawn_mask(monkeypatch):
    monkeypatch.setattr("kiss3d_cli.geometry.extract.hull._SMOOTHING", 0.0)
    mask = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1.0]])
    half_root = math.sqrt(2) - 0.5
    expected = torch.tensor(
        [
            [half_root, 0.5, 0.5, 0.5],
            [0.5, -0.5, -0.5, -0.5],
            [0.5, -0.5, -1.5, -0.5],  # the border of the image counts as outside
            [0.5, -0.5, -0.5, -0.5],
        ]
    )
    torch.testing.assert_close(silhouette_distance(mask[None])[0], expected)


def test_field_of_one_view_of_a_sphere():
    """At the silhouette plane the distance to the cone of rays is known: sin(angle) x distance to the camera."""
    masks = _disc_masks(256, 0.8, views=1)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, -0.9, 0.0], [1.0, 0.0, 0.0]])
    field = HullField.of(masks, orbit_cameras([0.0], 0.0)).at(points)
    cone = BUNDLE_RADIUS * math.tan(math.asin(0.8 / BUNDLE_RADIUS))
    torch.testing.assert_close(field, points.norm(dim=-1) - cone, atol=0.02, rtol=0)


def test_hull_of_a_sphere_seen_all_around_is_the_sphere():
    azimuths = [30.0 * k for k in range(12)]
    elevations = [50.0 * (k % 3 - 1) for k in range(12)]
    mesh = visual_hull(_disc_masks(128, 0.8, views=12), orbit_cameras(azimuths, elevations), resolution=64)
    assert find_defects(mesh.faces).is_closed_manifold
    distance = mesh.vertices.norm(dim=-1)
    assert distance.min() > 0.79
    assert distance.mean() == pytest.approx(0.81, abs=0.01)  # a polyhedron around the sphere
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    volume = (a * torch.linalg.cross(b, c, dim=-1)).sum() / 6
    assert 4 / 3 * math.pi * 0.8**3 < volume < 4 / 3 * math.pi * 0.85**3


def test_an_asymmetric_object_keeps_its_place():
    """A box towards +x, +y, +z, drawn by its corners' outlines, comes back in that corner of the world."""
    cameras = bundle_cameras()
    box = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.4, 0.7]])
    corners = torch.cartesian_prod(*box.T)
    size = 128
    masks = torch.zeros(4, size, size)
    clip = cameras.clip(corners)
    pixel = (clip[..., :2] / clip[..., 3:] * torch.tensor([1.0, -1.0]) + 1) / 2 * size
    for view in range(4):
        low, high = pixel[view].amin(0), pixel[view].amax(0)
        columns, rows = torch.arange(size) + 0.5, torch.arange(size)[:, None] + 0.5
        masks[view] = ((columns > low[0]) & (columns < high[0]) & (rows > low[1]) & (rows < high[1])).float()
    mesh = visual_hull(masks, cameras, resolution=80)
    torch.testing.assert_close(mesh.vertices.amin(0), box[0], atol=0.08, rtol=0)
    torch.testing.assert_close(mesh.vertices.amax(0), box[1], atol=0.08, rtol=0)
    assert (mesh.vertices.mean(0) - box.mean(0)).abs().max() < 0.05


def test_a_mask_that_touches_the_border_is_closed_there():
    mesh = visual_hull(torch.ones(4, 64, 64), bundle_cameras(), resolution=40)
    assert find_defects(mesh.faces).is_closed_manifold


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (torch.zeros(4, 32, 32), "View 0 shows nothing"),
        (torch.cat([torch.ones(2, 32, 32), torch.zeros(2, 32, 32)]), "View 2 shows nothing"),
        (torch.ones(3, 32, 32), "3 masks were given for 4 cameras"),
        (torch.ones(4, 32, 48), "not square"),
        (torch.full((4, 32, 32), torch.nan), "not finite"),
    ],
)
def test_masks_that_make_no_sense(masks, words):
    with pytest.raises(BadInput, match=words):
        visual_hull(masks, bundle_cameras(), resolution=16)


def test_views_that_contradict_each_other():
    masks = torch.zeros(4, 64, 64)
    masks[0, :20, :20] = 1
    masks[2, 40:, :20] = 1
    masks[1] = masks[3] = 1
    with pytest.raises(BadInput, match="contradict"):
        visual_hull(masks, bundle_cameras(), resolution=32)
