"""Repair of every fault by hand, and decimation."""

from __future__ import annotations

import sys

import pytest
import torch
import trimesh
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.surface.manifold import face_components, find_defects
from kiss3d_cli.geometry.surface.repair import repair, what_to_try
from kiss3d_cli.geometry.surface.topology import weld


def bean(subdivisions: int = 3) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    points = torch.tensor(ball.vertices, dtype=torch.float32)
    points = points * torch.tensor([0.9, 0.6, 0.5]) + 0.2 * points[:, [1, 0, 2]] ** 2
    return Mesh(points, torch.tensor(ball.faces, dtype=torch.int64))


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices.double()[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c, dim=-1)).sum()) / 6


def check(mesh: Mesh, *, faces: Tensor, vertices: Tensor | None = None, words: str) -> Mesh:
    broken = Mesh(mesh.vertices if vertices is None else vertices, faces)
    done = repair(broken)
    assert find_defects(done.mesh.faces).is_closed_manifold
    assert done.defects.is_closed_manifold
    assert any(words in note for note in done.notes), done.notes
    assert volume(done.mesh) == pytest.approx(volume(mesh), rel=0.02)
    return done.mesh


def test_a_sound_mesh_comes_back_untouched() -> None:
    mesh = bean()
    done = repair(mesh)
    assert torch.equal(done.mesh.vertices, mesh.vertices)
    assert torch.equal(done.mesh.faces, mesh.faces)
    assert done.notes == []


def test_holes_are_filled() -> None:
    mesh = bean()
    gone = torch.ones(len(mesh.faces), dtype=torch.bool)
    gone[[5, 6, 7, 100]] = False
    closed = check(mesh, faces=mesh.faces[gone], words="edges with one face")
    assert len(closed.faces) >= len(mesh.faces) - 4


def test_duplicate_degenerate_and_turned_faces_are_mended() -> None:
    mesh = bean()
    check(mesh, faces=torch.cat([mesh.faces, mesh.faces[:3]]), words="3 duplicate faces")
    check(mesh, faces=torch.cat([mesh.faces, mesh.faces[:2, [0, 1, 1]]]), words="2 degenerate faces")
    turned = mesh.faces.clone()
    turned[:40] = turned[:40].flip(1)
    check(mesh, faces=turned, words="disagree")


def test_a_fin_and_two_bodies_that_touch_in_a_vertex_are_parted() -> None:
    mesh = bean()
    fin = torch.cat([mesh.faces, torch.tensor([[int(mesh.faces[0, 0]), int(mesh.faces[0, 1]), len(mesh.vertices)]])])
    tip = torch.cat([mesh.vertices, torch.tensor([[2.0, 2, 2]])])
    check(mesh, faces=fin, vertices=tip, words="more than two faces")
    shift = mesh.vertices + 3
    shift[0] = mesh.vertices[0]
    second = torch.where(mesh.faces == 0, 0, mesh.faces + len(mesh.vertices))
    done = repair(Mesh(torch.cat([mesh.vertices, shift]), torch.cat([mesh.faces, second])))
    assert done.defects.is_closed_manifold
    assert any("1 vertices between separate fans" in note for note in done.notes)


def test_inside_out_is_turned_and_nan_and_loose_vertices_are_dropped() -> None:
    mesh = bean()
    assert volume(check(mesh, faces=mesh.faces.flip(1), words="inside out")) > 0
    points = torch.cat([mesh.vertices, torch.full((1, 3), torch.nan), torch.ones(2, 3)])
    extra = torch.cat([mesh.faces, torch.tensor([[0, 1, len(mesh.vertices)]])])
    done = check(mesh, faces=extra, vertices=points, words="Dropped 1 faces")
    assert torch.equal(done.vertices, mesh.vertices)


@pytest.mark.parametrize(
    ("vertices", "faces"),
    [
        (torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)),
        (torch.full((3, 3), torch.nan), torch.tensor([[0, 1, 2]])),
        (torch.zeros(3, 3), torch.tensor([[0, 1, 2]])),
        (torch.eye(3), torch.tensor([[0, 1, 1], [2, 2, 2]])),
    ],
)
def test_nothing_to_repair_is_refused(vertices: Tensor, faces: Tensor) -> None:
    with pytest.raises(BadInput):
        repair(Mesh(vertices, faces))


def test_decimation_keeps_a_thin_ring_a_ring() -> None:
    ring = trimesh.creation.torus(1.0, 0.02, major_sections=60, minor_sections=8)
    mesh = Mesh(torch.tensor(ring.vertices, dtype=torch.float32), torch.tensor(ring.faces, dtype=torch.int64))
    small = decimate(mesh, 40)
    assert find_defects(small.faces).is_closed_manifold
    assert len(small.vertices) == len(small.faces) // 2  # Euler's number is 0


def test_decimation_reaches_its_number_and_keeps_shape_and_topology() -> None:
    mesh = bean(4)
    colored = mesh.with_colors((mesh.vertices + 1.5) / 3)
    small = decimate(colored, 500)
    assert 490 <= len(small.faces) <= 500
    assert find_defects(small.faces).is_closed_manifold
    assert volume(small) == pytest.approx(volume(mesh), rel=0.01)
    assert small.colors is not None
    torch.testing.assert_close(small.colors, (small.vertices + 1.5) / 3, atol=0.03, rtol=0)
    again = decimate(colored, 500)
    assert torch.equal(again.vertices, small.vertices)
    assert torch.equal(again.faces, small.faces)
    assert decimate(mesh, len(mesh.faces)) is mesh
    with pytest.raises(BadInput, match="3 faces"):
        decimate(mesh, 3)


def tangled(seed: int) -> tuple[Tensor, Tensor]:
    """A bean with several faults at once: holes, fins, doubled, turned and lost faces, a body that touches it."""
    draw = torch.Generator().manual_seed(seed)
    mesh = bean(2)
    count, corners = len(mesh.faces), len(mesh.vertices)
    faces = mesh.faces[torch.rand(count, generator=draw) > 0.1]
    fins = torch.randint(0, corners, (5, 3), generator=draw)
    again = faces[torch.randint(0, len(faces), (5,), generator=draw)]
    second = torch.where(mesh.faces < 3, mesh.faces, mesh.faces + corners)
    vertices = torch.cat([mesh.vertices, mesh.vertices + 2])
    flips = torch.rand(len(faces), generator=draw) < 0.3
    faces = torch.where(flips[:, None], faces.flip(1), faces)
    return vertices, torch.cat([faces, fins, again, second])


@pytest.mark.parametrize("seed", range(8))
def test_many_faults_at_once_end_in_a_closed_manifold(seed: int) -> None:
    done = repair(Mesh(*tangled(seed)))
    assert done.defects == find_defects(done.mesh.faces)
    assert done.defects.is_closed_manifold
    assert not any("MeshLab" in note for note in done.notes)
    assert torch.isfinite(done.mesh.vertices).all()


def test_a_soup_of_triangles_is_stitched() -> None:
    mesh = bean(2)
    soup = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), torch.arange(mesh.faces.numel()).reshape(-1, 3))
    done = repair(soup)
    assert done.defects.is_closed_manifold
    assert len(done.mesh.vertices) == len(mesh.vertices)
    assert volume(done.mesh) == pytest.approx(volume(mesh), rel=1e-6)


def test_two_cubes_that_share_an_edge_come_apart_and_a_wall_between_rooms_goes() -> None:
    cube = trimesh.creation.box()
    points, faces = torch.tensor(cube.vertices, dtype=torch.float32), torch.tensor(cube.faces, dtype=torch.int64)
    for offset, size in ((torch.tensor([1.0, 1, 0]), 2.0), (torch.tensor([1.0, 0, 0]), 2.0)):
        corners = torch.cat([points, points + offset])
        number = torch.from_numpy(weld(corners.double().numpy()))
        joined = torch.zeros(int(number.max()) + 1, 3)
        joined[number] = corners
        done = repair(Mesh(joined, number[torch.cat([faces, faces + len(points)])]))
        assert done.defects.is_closed_manifold
        assert volume(done.mesh) == pytest.approx(size, abs=1e-4)


def test_a_hole_of_many_corners_is_closed_without_a_bulge() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4)
    open_ball = ball.faces[(ball.vertices[ball.faces][:, :, 2] < 0.5).all(1)]
    mesh = Mesh(torch.tensor(ball.vertices, dtype=torch.float32), torch.tensor(open_ball, dtype=torch.int64))
    done = repair(mesh)
    assert done.defects.is_closed_manifold
    assert float(done.mesh.vertices[:, 2].max()) < 0.52
    cap = torch.pi * (2 + 0.5) * 0.25 / 3  # of a unit ball, above a height of 0.5
    assert volume(done.mesh) == pytest.approx(4 / 3 * torch.pi - cap, rel=0.02)


def test_meshlab_is_not_imported_for_what_can_be_mended_and_is_named_where_it_would_help(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pymeshlab", None)  # importing it raises ImportError
    assert repair(Mesh(*tangled(0))).defects.is_closed_manifold
    moebius = torch.tensor([[0, 1, 3], [3, 2, 0], [2, 3, 5], [5, 4, 2], [4, 5, 0], [0, 1, 4]])
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("kiss3d_cli.geometry.surface.repair._mend", lambda mesh: mesh)
    monkeypatch.setattr("kiss3d_cli.geometry.surface.repair.find_spec", lambda name: True)
    with pytest.raises(Missing, match="can't be loaded"):
        repair(Mesh(points, moebius))
    monkeypatch.setattr("kiss3d_cli.geometry.surface.repair.find_spec", lambda name: None)
    done = repair(Mesh(points, moebius))
    assert not done.defects.is_closed_manifold
    assert "pip install 'kiss3d[pymeshlab]'" in what_to_try()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_decimation_does_not_depend_on_the_unit(scale: float) -> None:
    mesh = bean(3)
    small, moved = decimate(mesh, 300), decimate(Mesh(mesh.vertices * scale, mesh.faces), 300)
    assert len(moved.faces) == len(small.faces)
    assert volume(moved) == pytest.approx(volume(small) * scale**3, rel=1e-3)


def test_an_open_mesh_and_several_bodies_are_decimated_too() -> None:
    mesh = bean(3)
    half = Mesh(mesh.vertices, mesh.faces[(mesh.vertices[mesh.faces][:, :, 2] > 0).all(1)])
    assert len(decimate(half, 100).faces) <= 100
    two = Mesh(torch.cat([mesh.vertices, mesh.vertices + 3]), torch.cat([mesh.faces, mesh.faces + len(mesh.vertices)]))
    small = decimate(two, 200)
    assert find_defects(small.faces).is_closed_manifold
    assert int(face_components(small.faces).max()) == 1
    assert len(decimate(two, 4).faces) == 8  # two tetrahedra: fewer would be another topology
