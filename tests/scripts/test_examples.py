"""The example objects: their modelling, their tracing, and the files in data/examples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from examples import field as tracing
from examples.files import LONGEST_SIDE, Sizes, make_example
from examples.objects import OBJECTS
from examples.patterns import speckled, stripes
from examples.render import bundle, rays
from examples.sdf import (
    box,
    cone,
    cylinder,
    ellipsoid,
    half_space,
    prism,
    revolved,
    smooth_curve,
    sphere,
    torus,
    tube,
    union,
)
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.surface.manifold import face_components, find_defects
from kiss3d_cli.image.bundle import split_bundle

DATA = Path(__file__).parents[2] / "data"
EXAMPLES = DATA / "examples"


def points(*rows):
    return torch.tensor(rows, dtype=torch.float32).T.contiguous()


@pytest.mark.parametrize(
    ("shape", "point", "expected"),
    [
        (sphere(0.5), (0, 0, 2), 1.5),
        (box(1, 2, 3, 0.1), (2, 0, 0), 1.0),
        (box(1, 2, 3, 0.0), (2, 3, 3), math.sqrt(2)),
        (box(1, 2, 3, 0.1), (0, 0, 2.5), -0.5),
        (cylinder(0.5, 1, 0.0), (0.8, 1.4, 0), 0.5),
        (cylinder(0.5, 1, 0.1), (0, 0, 0.2), -0.3),
        (torus(1, 0.25), (0, 0.5, 1), 0.25),
        (cone((0, 0, 0), (0, 2, 0), 0.5), (1, 1, 0), 0.5),
        (cone((0, 0, 0), (0, 2, 0), 0.5, 0.25), (0, 3, 0), 0.75),
        # Its side leans by 30 degrees: the nearest of the spheres is at height 1 - tan(30) sqrt(3) = 0, of radius 1.
        (cone((0, 0, 0), (0, 2, 0), 1.0, 0.0), (math.sqrt(3), 1, 0), 1.0),
        (ellipsoid(1, 2, 0.5), (0, 0, 0.5), 0.0),
        (half_space((0, 2, 0), 0.5), (7, 2, 0), 1.5),
        (prism([(-1, -1), (1, -1), (1, 1), (-1, 1)], 0.5, 0.0), (0.25, 0, 0.1), -0.4),
        (prism([(0, 0), (2, 0), (0, 2)], 9, 0.0), (2, 2, 0), math.sqrt(2)),
        (revolved([(0, -1), (0.5, -1), (0.5, 1), (0, 1)], steps=1), (0, 0, 2), 1.5),
        (revolved([(0, 1), (0.5, 1), (0.5, -1), (0, -1)], steps=1), (0.3, 0.1, 0), -0.2),
        (sphere(0.5).at(1, 2, 3), (1, 2, 4), 0.5),
        (box(1, 0.2, 0.2, 0.0).turned("z", 90), (0, 1.5, 0), 0.5),
        (box(1, 0.2, 0.2, 0.0).at(2, 0, 0).turned("y", 90), (0, 0, -4), 1.0),
        (sphere(0.5).scaled(2), (0, 0, 2), 1.0),
        (sphere(0.5).at(1, 0, 0).mirrored(), (-2, 0, 0), 0.5),
        (sphere(0.1).at(0, 0, 1).around(4), (2, 0, 0), 0.9),
        (union(sphere(0.5), sphere(0.5).at(2, 0, 0)), (1, 0, 0), 0.5),
        (union(sphere(0.5), sphere(0.5).at(2, 0, 0), smooth=0.4), (1, 0, 0), 0.4),
        (box(1, 1, 1, 0.0).cut(sphere(0.5), smooth=0.0), (0, 0, 0.2), 0.3),
    ],
)
def test_distance_at_a_drawn_point(shape, point, expected):
    assert float(shape.distance(points(point))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "shape",
    [
        box(0.6, 0.3, 0.8, 0.05),
        cylinder(0.4, 0.7),
        torus(0.6, 0.2),
        cone((0.1, -0.5, 0), (-0.2, 0.4, 0.3), 0.4, 0.1),
        revolved([(0, -0.7), (0.5, -0.5), (0.2, 0.1), (0.4, 0.6), (0, 0.8)], steps=1),
        prism([(-0.5, -0.4), (0.6, -0.2), (0.1, 0.1), (0.2, 0.7)], 0.3),
    ],
)
def test_exact_distances_lead_to_the_surface(shape):
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(3, 4000, generator=generator) * 3 - 1.5
    outside = p[:, shape.distance(p) > 0.02]
    q = outside.clone().requires_grad_()
    d = shape.distance(q)
    (slope,) = torch.autograd.grad(d.sum(), q)
    assert torch.allclose(slope.norm(dim=0), torch.ones_like(d), atol=1e-3)
    assert float(shape.distance(outside - slope * d.detach()).abs().max()) < 1e-4


def test_a_smooth_profile_swells_its_chords_to_meet_the_curve():
    profile = [(0.0, -1.0), (0.6, -0.8), (1.0, 0.0), (0.6, 0.8), (0.0, 1.0)]
    corner, middle, other = (torch.tensor(point) for point in smooth_curve([list(p) for p in profile], 4)[4:7])
    chord = (corner + other) / 2
    assert float((middle - chord).norm()) > 0.015
    smooth = revolved(profile, steps=2)
    for r, y in (corner.tolist(), middle.tolist(), other.tolist()):
        assert abs(float(smooth.distance(points((r, y, 0))))) < 1e-3


def scattered(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = []
    for k in range(12):
        x, y, z, r = (torch.rand(4, generator=generator) * 2 - 1).tolist()
        shape = (
            sphere(0.1 + abs(r) / 5),
            box(0.2, 0.1, 0.3),
            tube([(0, 0, 0), (0.2, 0.3, 0), (0, 0.5, 0.1)], [0.1] * 3),
        )[k % 3]
        shapes.append(shape.painted((abs(x), abs(y), abs(z)), abs(r)).turned("xyz"[k % 3], 77 * k).at(x, y, z))
    solid = union(*shapes[:8], smooth=0.1, bleed=0.05)
    return union(solid, union(*shapes[8:]).scaled(0.7).mirrored().decal(shapes[0].grown(0.1)), smooth=0.02).cut(
        sphere(0.3)
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_focused_shape_is_the_same_within_its_ball(seed):
    shape = scattered(seed)
    generator = torch.Generator().manual_seed(seed + 100)
    for radius in (0.05, 0.2, 0.6):
        center = torch.rand(3, 1, generator=generator) * 2 - 1
        offset = torch.randn(3, 500, generator=generator)
        p = center + radius * offset / offset.norm(dim=0) * torch.rand(500, generator=generator)
        local, d = shape.focus(center, radius)
        assert torch.equal(local.distance(p), shape.distance(p))
        assert torch.equal(local.paint(p), shape.paint(p))
        assert d == pytest.approx(float(shape.distance(center)), abs=0.06)  # fillets are not counted


def test_a_traced_sphere_is_where_algebra_puts_it():
    radius, tile = 0.8, 64
    ball = sphere(radius).at(0.1, -0.05, 0.15).painted((0.2, 0.5, 0.7))
    traced = tracing.sampled(ball, 1.0, 64)
    cameras = bundle_cameras()
    image = bundle(traced, tile)
    assert image.shape == (2 * tile, 4 * tile, 3)
    center = torch.tensor([0.1, -0.05, 0.15])
    for view, normals in enumerate(image[tile:].split(tile, dim=1)):
        origin, directions = rays(cameras, view, tile)
        to = center - origin
        along = directions.T @ to
        gap = radius**2 - (to @ to - along**2)
        hit = (normals < 1).any(-1).flatten()
        clear = gap.abs() > 2e-3  # grazing rays may go either way
        assert torch.equal(hit[clear], gap[clear] > 0)
        inside = hit & (gap > 0.02)
        point = origin + directions.T * (along - gap.clamp_min(0).sqrt())[:, None]
        local = (point - center) / radius @ cameras.rotation[view].T
        encoded = (local * torch.tensor([-1.0, 1.0, 1.0]) + 1) / 2
        assert float((encoded[inside] - normals.reshape(-1, 3)[inside]).abs().max()) < 2e-3


def test_an_example_has_the_same_bytes_on_one_thread_and_on_two(tmp_path):
    sizes = Sizes(picture=32, tile=64, field=40, grid=40, faces=800)
    body = revolved([(0, -0.8), (0.15, -0.7), (0.35, 0.1), (0, 0.5)], steps=2).painted(
        speckled((0.8, 0.5, 0.2), 0.2, 0.3)
    )
    shape = union(body, cone((0, 0, 0), (0.8, 0.6, 0.2), 0.2, 0.1).painted(stripes((0, 0, 1), (1, 1, 0), 0, 0.2), 0.9))
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            make_example("toy", shape, tmp_path / str(count), seed=1, sizes=sizes)
    finally:
        torch.set_num_threads(threads)
    files = sorted(path.name for path in (tmp_path / "1" / "toy").iterdir())
    assert files == ["bundle.png", "cluttered.jpg", "mesh.ply", "picture.png"]
    for name in files:
        assert (tmp_path / "1" / "toy" / name).read_bytes() == (tmp_path / "2" / "toy" / name).read_bytes()


def test_a_committed_object_is_the_one_that_the_scripts_make(tmp_path):
    make_example("robot", OBJECTS["robot"](), tmp_path, 1, Sizes(picture=48, tile=64, field=64, grid=64, faces=2000))
    made, committed = (split_bundle(np.asarray(Image.open(at / "robot" / "bundle.png"))) for at in (tmp_path, EXAMPLES))
    here, there = made.mask.float(), torch.nn.functional.avg_pool2d(committed.mask.float(), 8)
    whole = (there == 0) | (there == 1)
    assert torch.equal(here[whole], there[whole])
    rgb = torch.nn.functional.avg_pool2d(committed.rgb.permute(0, 3, 1, 2), 8).permute(0, 2, 3, 1)
    assert float((made.rgb - rgb).abs().mean()) < 0.01
    mesh = read_mesh(tmp_path / "robot" / "mesh.ply")
    assert find_defects(mesh.faces).is_closed_manifold
    assert len(mesh.faces) <= 2000


def test_every_object_is_committed_and_all_of_it_is_small():
    assert sorted(folder.name for folder in EXAMPLES.iterdir()) == sorted(OBJECTS)
    assert len(OBJECTS) >= 6
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 8_000_000


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_the_ground_truth_mesh_is_a_closed_manifold_in_the_frame(name):
    mesh = read_mesh(EXAMPLES / name / "mesh.ply")
    assert find_defects(mesh.faces).is_closed_manifold
    assert int(face_components(mesh.faces).max()) == 0
    assert len(mesh.faces) <= 25_000
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    assert float((high - low).max()) == pytest.approx(LONGEST_SIDE, abs=0.01)
    assert float((high + low).abs().max()) < 0.01
    assert float(torch.linalg.det(mesh.vertices[mesh.faces]).sum()) > 0  # faces look outwards
    assert mesh.colors is not None
    assert float(mesh.colors.std(0).max()) > 0.05


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_pictures_show_the_front_of_the_bundle(name):
    picture = np.asarray(Image.open(EXAMPLES / name / "picture.png"))
    views = split_bundle(np.asarray(Image.open(EXAMPLES / name / "bundle.png")))
    assert picture.shape == (768, 768, 4)
    assert views.notes == ()
    assert views.mask.shape == (4, 512, 512)
    edges = [views.mask[:, 0], views.mask[:, -1], views.mask[:, :, 0], views.mask[:, :, -1]]
    assert not any(bool(edge.any()) for edge in edges)
    rows = ((np.arange(512) + 0.5) * 1.5).astype(int)
    front = picture[rows][:, rows, 3] > 127
    truth = views.mask[0].numpy()
    assert (front & truth).sum() / (front | truth).sum() > 0.985
    with Image.open(EXAMPLES / name / "cluttered.jpg") as photo:
        assert photo.mode == "RGB"
        assert photo.size == (1024, 768)


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_rays_cast_at_the_mesh_see_the_normals_of_the_bundle(name):
    """The bundle is traced from the distances and never saw the mesh; a flipped axis or view would show here."""
    mesh = read_mesh(EXAMPLES / name / "mesh.ply")
    solid = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    views = split_bundle(np.asarray(Image.open(EXAMPLES / name / "bundle.png")))
    cameras = bundle_cameras()
    step = torch.arange(0, 512, 4)
    rows, columns = torch.meshgrid(step, step, indexing="ij")
    for view in range(4):
        origin, directions = rays(cameras, view, 512, rows.flatten(), columns.flatten())
        starts = origin.numpy()[None].repeat(directions.shape[1], 0)
        _, ray, face = solid.ray.intersects_location(starts, directions.T.numpy(), multiple_hits=False)
        local = solid.face_normals[face] @ cameras.rotation[view].numpy().T
        mask = views.mask[view][::4, ::4].flatten().numpy()
        hit = np.zeros_like(mask)
        hit[ray] = True
        assert (hit & mask).sum() / (hit | mask).sum() > 0.98
        both = mask[ray]
        truth = views.normals[view][::4, ::4].reshape(-1, 3).numpy()[ray[both]]
        angle = np.degrees(np.arccos((local[both] * truth).sum(1).clip(-1, 1)))
        assert np.median(angle) < 3.5
        assert (angle < 20).mean() > 0.96
