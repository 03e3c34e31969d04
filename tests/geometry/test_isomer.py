"""ISOMER on objects known in closed form, from every start, and on input that makes no sense."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
import trimesh

from ellipsoids import HALF_FIELD, RADIUS, Cast, Ellipsoid, cast
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.compare import evaluate
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import BUILT_IN, Backend
from kiss3d_cli.geometry.refine.isomer import Refined, refine
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.settings import IntegrationSettings, IsomerSettings
from kiss3d_cli.geometry.surface.manifold import find_defects
from kiss3d_cli.geometry.surface.topology import report

SIZE = 96
PIXEL = 2 * RADIUS * math.tan(HALF_FIELD) / SIZE
"""World units, in the middle of the object."""
BODY = Ellipsoid((0.05, 0.02, 0.1), (0.5, 0.75, 0.35))
INTEGRATION = IntegrationSettings(sizes=(24, 48, 96), rounds=(4, 3, 2))
SMALL = IsomerSettings(size=SIZE, integration=INTEGRATION, fine_steps=6, target_faces=6000)


@pytest.fixture(scope="module")
def seen() -> Cast:
    return cast([BODY], SIZE)


def refined(seen: Cast, start="hull", settings: IsomerSettings = SMALL, **options) -> Refined:
    return refine(start, seen.normals, seen.mask, bundle_cameras(), settings, **options)


def rough_start() -> Mesh:
    """A ball around the body, none of whose normals is right."""
    ball = trimesh.creation.icosphere(4)
    points = torch.tensor(ball.vertices.copy(), dtype=torch.float32) * 0.6 + torch.tensor(BODY.center)
    return Mesh(points, torch.tensor(ball.faces.copy(), dtype=torch.int64))


def seen_distance(mesh: Mesh) -> torch.Tensor:
    """Distance to the body, where its views look."""
    return BODY.distance(mesh.vertices[mesh.vertices[:, 1] > -0.6]).abs()


@pytest.mark.parametrize("start", ["hull", "sphere", "mesh"])
def test_every_start_comes_to_the_surface(seen, start):
    result = refined(seen, rough_start() if start == "mesh" else start)
    mesh = result.mesh
    assert find_defects(mesh.faces).is_closed_manifold
    found = report(mesh.vertices.double().numpy(), mesh.faces.numpy())
    assert (found.components, found.genus) == (1, 0)
    assert seen_distance(mesh).median() < 0.4 * PIXEL
    assert seen_distance(mesh).quantile(0.95) < PIXEL
    assert len(result.losses) == 6


def agreement(mesh: Mesh, seen: Cast) -> tuple[float, float]:
    """IoU of the masks, and the median angle between normals in degrees."""
    shown = render_normals(mesh, bundle_cameras(), (SIZE, SIZE), antialiased=False)
    inside = shown.mask.bool()
    both = inside & seen.mask
    angle = torch.rad2deg(torch.acos((shown.normals * seen.normals).sum(-1)[both].clamp(-1, 1)))
    return float(both.sum() / (inside | seen.mask).sum()), float(angle.median())


def test_without_integration_stage_one_carries_a_sphere_to_the_object():
    seen = cast([BODY, Ellipsoid((0.15, 0.35, 0.5), (0.25, 0.2, 0.2))], SIZE)
    result = refined(seen, "sphere", replace(SMALL, integrate=False, coarse_steps=60, fine_steps=10))
    assert len(result.losses) == 70
    assert find_defects(result.mesh.faces).is_closed_manifold
    overlap, angle = agreement(result.mesh, seen)
    assert overlap > 0.98
    assert angle < 5


def test_steps_take_the_noise_off(seen):
    ball = trimesh.creation.icosphere(4)
    points = torch.tensor(ball.vertices.copy() * BODY.radii + BODY.center, dtype=torch.float32)
    noise = 0.008 * torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    start = Mesh(points + noise, torch.tensor(ball.faces.copy(), dtype=torch.int64))
    assert agreement(start, seen)[1] > 5
    result = refined(seen, start, replace(SMALL, integrate=False, fine_steps=15))
    overlap, angle = agreement(result.mesh, seen)
    assert overlap > 0.98
    assert angle < 2


def test_tiles_of_another_size_than_asked_for():
    mesh = refined(cast([BODY], 64), settings=replace(SMALL, integration=replace(INTEGRATION, sizes=(16, 32, 64)))).mesh
    assert seen_distance(mesh).median() < 0.4 * PIXEL * SIZE / 64


def test_three_views_weigh_the_same(monkeypatch):
    """Two of them are drawn by one thread and the third by another: the gradient is that of all three at once."""
    from kiss3d_cli.geometry.refine import isomer

    seen = cast([BODY], SIZE)
    three = (seen.normals[:3], seen.mask[:3], bundle_cameras()[[0, 1, 2]])
    settings = replace(SMALL, view_weights=(1.0, 0.8, 0.6), integrate=False, fine_steps=1)
    found = refine(rough_start(), *three, settings)
    monkeypatch.setattr(isomer._Views, "parts", lambda views: [views])
    at_once = refine(rough_start(), *three, settings)
    assert found.losses == pytest.approx(at_once.losses, rel=1e-5)
    torch.testing.assert_close(found.mesh.vertices, at_once.mesh.vertices, atol=1e-5, rtol=0)


def test_the_same_mesh_on_one_thread_and_on_two(seen):
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(refined(seen, settings=replace(SMALL, fine_steps=4, coarse_steps=2)))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0].mesh.faces, found[1].mesh.faces)
    assert torch.equal(found[0].mesh.vertices, found[1].mesh.vertices)
    assert found[0].losses == found[1].losses


def test_the_target_is_renewed_as_asked(seen, monkeypatch):
    from kiss3d_cli.geometry.refine.explicit_target import TargetViews

    calls = []
    gather = TargetViews.gather
    monkeypatch.setattr(TargetViews, "gather", lambda self, mesh: calls.append(len(calls)) or gather(self, mesh))
    refined(seen, rough_start(), replace(SMALL, integrate=False, fine_steps=9, renewals=2, renewal_interval=4))
    assert len(calls) == 4  # steps 0 and 1, then 4 and 8


def test_progress_is_told_and_may_stop_the_work(seen):
    told: list[tuple[float, str]] = []

    class Stop(Exception):
        pass

    def progress(share: float, doing: str) -> None:
        told.append((share, doing))
        if doing.startswith("step 3"):
            raise Stop

    with pytest.raises(Stop):
        refined(seen, progress=progress)
    assert [doing for _, doing in told] == ["integrating the normals", "step 1 of 6", "step 2 of 6", "step 3 of 6"]
    assert [share for share, _ in told] == sorted(share for share, _ in told)


def test_the_backend_finds_the_faces(seen):
    calls = []

    def find(clip, faces, size):
        calls.append(size)
        return BUILT_IN.find(clip, faces, size)

    settings = replace(SMALL, integrate=False)
    with_it = refined(seen, rough_start(), settings, backend=Backend("counting", find, find)).mesh
    assert set(calls) == {(SIZE, SIZE)}
    assert len(calls) >= 2 * SMALL.fine_steps
    assert torch.equal(with_it.vertices, refined(seen, rough_start(), settings).mesh.vertices)


def test_open_and_dirty_starts_are_repaired_and_said_so(seen):
    ball = rough_start()
    vertices = ball.vertices.clone()
    vertices[5] = torch.nan
    result = refined(seen, Mesh(vertices, ball.faces))
    assert "not finite" in result.notes[0]
    assert "edges with one face" in result.notes[1]
    assert seen_distance(result.mesh).median() < 0.4 * PIXEL


def test_an_object_cut_off_at_the_border_is_said(seen):
    moved = Cast(seen.normals.roll(30, 1), seen.mask.roll(30, 1), seen.depth)
    moved.mask[:, :20] = False
    assert bool(moved.mask[:, -1].any())
    result = refined(moved, settings=replace(SMALL, fine_steps=1))
    assert "touches the border" in result.notes[0]


def no_faces(seen):
    return Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)), seen, SMALL


def nothing_finite(seen):
    ball = rough_start()
    return Mesh(torch.full_like(ball.vertices, torch.nan), ball.faces), seen, SMALL


def empty_view(seen):
    shown = torch.tensor([True, False, True, True])
    return "hull", replace(seen, mask=seen.mask & shown[:, None, None]), SMALL


def not_finite(seen):
    return "hull", replace(seen, normals=torch.full_like(seen.normals, torch.inf)), SMALL


def not_unit(seen):
    return "hull", replace(seen, normals=seen.normals * 0.2), SMALL


def turned_away(seen):
    return "hull", replace(seen, normals=-seen.normals), SMALL


def few_weights(seen):
    return "hull", seen, replace(SMALL, view_weights=(1.0, 1.0))


def contradictory(seen):
    mask = torch.zeros_like(seen.mask)
    for view, row in enumerate((5, 5, 85, 85)):
        mask[view, row : row + 6, 40:50] = True
    return "hull", Cast(torch.tensor([0.0, 0.0, 1.0]).expand_as(seen.normals), mask, seen.depth), SMALL


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_faces, "no faces"),
        (nothing_finite, "no faces"),
        (empty_view, "View 1 shows nothing"),
        (not_finite, "not finite"),
        (not_unit, "not unit vectors"),
        (turned_away, "point away"),
        (few_weights, "2 view weights were given for 4 views"),
        (contradictory, "contradict each other"),
    ],
)
def test_what_makes_no_sense_is_told(seen, make, message):
    start, views, settings = make(seen)
    with pytest.raises(BadInput, match=message) as error:
        refined(views, start, settings)
    assert error.value.hint


@pytest.mark.gpu
def test_fifty_steps_at_full_size_on_a_gpu():
    """Under 3 s and the surface that the CPU finds; the first call compiles kernels and is not counted."""
    seen = cast([BODY, Ellipsoid((0.15, 0.35, 0.5), (0.25, 0.2, 0.2))], 512)
    settings = IsomerSettings(target_faces=100_000)
    views = (seen.normals.cuda(), seen.mask.cuda(), bundle_cameras().to("cuda"))
    refine("hull", *views, settings)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    mesh = refine("hull", *views, settings).mesh
    torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    assert find_defects(mesh.faces).is_closed_manifold
    on_cpu = refine("hull", seen.normals, seen.mask, bundle_cameras(), settings).mesh
    distance = evaluate(mesh.to("cpu"), on_cpu, alignment="none").distances
    assert distance.chamfer_l1 < 0.003
    assert seconds < 3
