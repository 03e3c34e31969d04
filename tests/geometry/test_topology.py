"""The mesh report against drawn meshes and trimesh."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from kiss3d_cli.geometry.surface.topology import report, weld

TORUS = trimesh.creation.torus(1.0, 0.3)
BOX = trimesh.creation.box((1, 2, 3))


def joined(*parts: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    both = trimesh.util.concatenate(parts)
    return np.asarray(both.vertices), np.asarray(both.faces)


def test_two_pieces_with_a_handle() -> None:
    moved = BOX.copy().apply_translation([9, 0, 0])
    found = report(*joined(TORUS, moved))
    assert (found.watertight, found.closed, found.winding_consistent) == (True, True, True)
    assert (found.components, found.genus) == (2, 1)
    assert found.volume == pytest.approx(TORUS.volume + 6)
    assert found.area == pytest.approx(TORUS.area + 22)
    assert (found.degenerate_faces, found.duplicate_faces) == (0, 0)


def test_a_triangle_soup_counts_as_the_mesh_that_it_draws() -> None:
    soup = TORUS.triangles.reshape(-1, 3)
    found = report(soup, np.arange(len(soup)).reshape(-1, 3))
    assert found.vertices == 3 * len(TORUS.faces)
    assert (found.watertight, found.components, found.genus) == (True, 1, 1)


def test_an_open_box_an_inverted_one_and_one_with_a_turned_face() -> None:
    faces = np.asarray(BOX.faces)
    opened = report(np.asarray(BOX.vertices), faces[1:])
    assert (opened.watertight, opened.closed, opened.winding_consistent) == (False, False, True)
    assert opened.genus is None
    assert opened.volume is None
    inverted = report(np.asarray(BOX.vertices), faces[:, ::-1])
    assert inverted.closed
    assert inverted.volume == pytest.approx(-6)
    turned = np.concatenate([faces[:1, ::-1], faces[1:]])
    mixed = report(np.asarray(BOX.vertices), turned)
    assert (mixed.watertight, mixed.closed, mixed.winding_consistent) == (True, False, False)
    assert mixed.genus is None


def test_two_boxes_that_touch_along_an_edge_are_closed_but_not_manifold() -> None:
    found = report(*joined(BOX, BOX.copy().apply_translation([1, 2, 0])))
    assert (found.watertight, found.closed) == (False, True)
    assert found.components == 1
    assert found.volume == pytest.approx(12)


def test_degenerate_and_duplicate_faces() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [0.0, -0.0, 0]])
    faces = np.array([[0, 1, 2], [2, 0, 1], [1, 0, 2], [0, 1, 3], [0, 4, 1]])
    found = report(vertices, faces)
    assert found.duplicate_faces == 2  # the second and third have the corners of the first
    assert found.degenerate_faces == 2  # a sliver, and one that collapses as -0 equals 0
    assert found.components == 1


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_trimesh_on_random_meshes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.vertices += generator.normal(scale=0.05, size=mesh.vertices.shape)
    faces = np.asarray(mesh.faces)[generator.random(len(mesh.faces)) < (1.0 if seed == 0 else 0.6)]
    reference = trimesh.Trimesh(mesh.vertices, faces, process=False)
    found = report(np.asarray(mesh.vertices), faces)
    assert found.watertight == reference.is_watertight
    assert found.winding_consistent == reference.is_winding_consistent
    pieces = trimesh.graph.connected_components(reference.face_adjacency, nodes=np.arange(len(faces)), min_len=1)
    assert found.components == len(pieces)
    assert found.area == pytest.approx(reference.area)
    if found.closed:
        assert found.volume == pytest.approx(reference.volume)


def test_weld_numbers_positions() -> None:
    generator = np.random.default_rng(0)
    positions = generator.integers(-2, 3, size=(500, 3)).astype(np.float64)
    number = weld(positions)
    expected = np.unique(positions, axis=0, return_inverse=True)[1].reshape(-1)
    assert len(np.unique(number)) == len(np.unique(expected))
    assert len(np.unique(number * 1000 + expected)) == len(np.unique(expected))
