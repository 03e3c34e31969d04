"""The detail of a run's normals on a normal map: what is finer than the mesh, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.model import Model
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.relief import RunNormals, relief
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.charts import Atlas, unwrap
from kiss3d_cli.geometry.texture.relief import detail, strength, with_detail
from kiss3d_cli.geometry.texture.texture import Texture
from kiss3d_cli.geometry.texture.transfer import texels_of
from kiss3d_cli.image.bundle import Bundle, join_bundle
from shapes import ball

SIZE, RADIUS, ATLAS = 256, 0.9, 512
CAMERAS = bundle_cameras()
WAVES = 70.0
"""Radians of the ripples in a unit of the world: one is 8 pixels of the pictures wide."""


def rippled(points: torch.Tensor, depth: float) -> torch.Tensor:
    """Unit normals of a ball with ripples along a direction askew: all signs of both tangents occur."""
    along = normalize(torch.tensor([1.0, 0.4, -0.3]), dim=0)
    out = normalize(points, dim=-1)
    slope = depth * torch.sin(WAVES * (points * along).sum(-1, keepdim=True))
    return normalize(out + slope * (along - (out * along).sum(-1, keepdim=True) * out), dim=-1)


def ray_traced(depth: float, turned: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact ball as the cameras see it, by the quadratic equation: camera-space normals, and masks.

    Args:
        turned: degrees by which every view's normals are wrong, about its own vertical.
    """
    grid = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    x, y = torch.meshgrid(grid, -grid, indexing="xy")
    focal = float(CAMERAS.projection[0, 0, 0])
    rays = normalize(torch.stack([x / focal, y / focal, -torch.ones_like(x)], -1), dim=-1)
    rays = torch.einsum("vji,hwj->vhwi", CAMERAS.rotation, rays)
    eye = CAMERAS.centers[:, None, None]
    half = (rays * eye).sum(-1)
    root = half**2 - (eye**2).sum(-1) + RADIUS**2
    points = eye + (-half - root.clamp_min(0).sqrt())[..., None] * rays
    found = torch.einsum("vij,vhwj->vhwi", CAMERAS.rotation, rippled(points, depth))
    angle = torch.deg2rad(torch.tensor(turned))
    c, s = float(angle.cos()), float(angle.sin())
    return found @ torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]]), root > 0


@pytest.fixture(scope="module")
def model() -> Model:
    mesh = ball(RADIUS, 48, 96)
    atlas = unwrap(mesh, CAMERAS, ATLAS)
    image = torch.full((ATLAS, ATLAS, 3), 128, dtype=torch.uint8)
    return Model(mesh, Texture(atlas.uv, atlas.corners, image))


def decoded(mesh: Mesh, texture: Texture, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places, the bytes there and the normals that a renderer makes of them (glTF 2.0, 3.9.3)."""
    texels = texels_of(mesh, Atlas(texture.uv, texture.corners, 1), len(picture))
    value = picture[torch.from_numpy(texels.inside)]
    up, along = texels.normals, texels.tangents[:, :3]
    across = torch.linalg.cross(up, along, dim=1) * texels.tangents[:, 3:]
    v = value.float() / 255 * 2 - 1
    return texels.places, value, normalize(v[:, :1] * along + v[:, 1:2] * across + v[:, 2:] * up, dim=1)


def degrees(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return torch.rad2deg(2 * torch.asin(((one - two).norm(dim=-1) / 2).clamp(0, 1)))


@pytest.mark.parametrize("turned", [0.0, 6.0])
def test_ripples_come_back_and_a_large_scale_error_does_not(model, turned):
    normals, masks = ray_traced(0.25, turned)
    found = detail(model.mesh, CAMERAS, normals, masks, torch.ones(4))
    assert 5 < strength(found) < 12
    picture = with_detail(model.mesh, model.texture, found, ATLAS)
    places, _, shaded = decoded(model.mesh, model.texture, picture)
    # what two views see from afar alone is coarse in both
    seen = places.abs().amax(1) > 0.75 * RADIUS
    seen &= places[:, 1].abs() < 0.6 * RADIUS
    out, wanted = normalize(places, dim=1), rippled(places, 0.25)
    assert float(degrees(out, wanted)[seen].mean()) > 6
    assert float(degrees(shaded, wanted)[seen].mean()) < 3
    front = seen & (places[:, 2] > 0.75 * RADIUS)
    assert float((shaded - out)[front].mean(0).norm()) < 0.02  # 6 degrees are 0.1


def test_an_error_of_whole_views_alone_is_no_relief(model):
    normals, masks = ray_traced(0.0, 6.0)
    assert float(degrees(normals, ray_traced(0.0)[0])[masks].mean()) > 3
    assert strength(detail(model.mesh, CAMERAS, normals, masks, torch.ones(4))) < 0.1


def test_where_no_picture_shows_it_the_map_is_flat_or_what_it_was(model):
    normals, masks = ray_traced(0.25)
    front = CAMERAS[[0]]
    found = detail(model.mesh, front, normals[:1], masks[:1], torch.ones(1))
    before = torch.full((ATLAS, ATLAS, 3), 128, dtype=torch.uint8)
    before[..., 0], before[..., 2] = 140, 254
    flat = torch.tensor([128, 128, 255], dtype=torch.uint8)
    for earlier, expected in ((None, flat), (before, before[0, 0])):
        picture = with_detail(model.mesh, model.texture, found, ATLAS, earlier)
        places, value, _ = decoded(model.mesh, model.texture, picture)
        behind = places[:, 2] < 0
        assert (value[behind].int() - expected.int()).abs().max() <= 1
        assert (value[~behind].int() - expected.int()).abs().max() > 20


def bundle_file(path, depth: float) -> RunNormals:
    normals, masks = ray_traced(depth)
    normals = normals * masks[..., None]
    rgb = torch.where(masks[..., None], torch.full_like(normals, 0.5), 1.0)
    Image.fromarray(join_bundle(Bundle(rgb, normals, masks))).save(path)
    return RunNormals(path, 4.15)


def test_exports_have_the_map_where_there_is_relief(model, tmp_path):
    rough = dataclasses.replace(model, bundle=bundle_file(tmp_path / "rough.png", 0.25))
    smooth = dataclasses.replace(model, bundle=bundle_file(tmp_path / "smooth.png", 0.0))
    assert relief(smooth.mesh, smooth.bundle)[0] is None
    made = export(rough, Options(to="blender", kind="obj"), "ball")
    assert made.facts["normal_map"] is True
    assert "ball_normal.png" in made.files
    assert export(smooth, Options(to="blender"), "ball").facts["normal_map"] is False
    low = Options(to="blender", faces=800, texture=256, normal_map=False)
    assert export(rough, low, "ball").facts["normal_map"] is False
    pixels = np.array(Image.open(tmp_path / "rough.png"))
    Image.fromarray(pixels[: len(pixels) // 2]).save(tmp_path / "rough.png")
    made = export(rough, Options(to="blender", normal_map=True), "ball")
    assert [note for note in made.notes if "pictures of normals can't be read" in note]


def test_few_faces_have_the_relief_of_the_mesh_and_that_of_the_pictures(model, tmp_path):
    """The ball of 800 faces is edged: its map rounds it and bears the ripples."""
    rough = dataclasses.replace(model, bundle=bundle_file(tmp_path / "rough.png", 0.25))
    from kiss3d_cli.export.exporting import _bumped, _fine
    from kiss3d_cli.export.simplify import simplified

    options = Options(to="blender", faces=800)
    low = simplified(rough, 800, ATLAS)
    size = low.texture.image.shape[0]
    plain = decoded(low.mesh, low.texture, low.normal_map)[2]
    fine = _bumped(low, _fine(rough, options, []), options)
    assert fine.normal_map.shape == (size, size, 3)
    places, _, shaded = decoded(fine.mesh, fine.texture, fine.normal_map)
    seen = (places.abs().amax(1) > 0.75 * RADIUS) & (places[:, 1].abs() < 0.6 * RADIUS)
    wanted = rippled(normalize(places, dim=1) * RADIUS, 0.25)
    assert float(degrees(plain, wanted)[seen].mean()) > 6
    assert float(degrees(shaded, wanted)[seen].mean()) < 4


@pytest.mark.parametrize("given", ["no bundle", "no texture"])
def test_a_map_that_is_asked_for_and_can_not_be_is_one_sentence(model, tmp_path, given):
    asked = model if given == "no bundle" else Model(model.mesh, bundle=bundle_file(tmp_path / "b.png", 0.25))
    made = export(asked, Options(to="blender", normal_map=True), "ball")
    assert len([note for note in made.notes if "no finer relief" in note]) == 1
    assert not export(asked, Options(to="blender"), "ball").notes
