"""Volume overlap against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from kiss3d_cli.evaluation.solid import solid_of
from kiss3d_cli.evaluation.volume import VolumeOverlap, _crossings, occupancy, volume_overlap


def overlap(prediction: trimesh.Trimesh, truth: trimesh.Trimesh) -> VolumeOverlap:
    a, b = (np.asarray(mesh.vertices, dtype=np.float64) for mesh in (prediction, truth))
    return volume_overlap(a, np.asarray(prediction.faces), b, np.asarray(truth.faces))


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Of two boxes given as (2, 3) low and high corners."""
    shared = np.prod(np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None))
    return float(shared / (np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared))


@pytest.mark.parametrize("seed", range(4))
def test_boxes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = np.stack([generator.random(3) * 0.3, 0.7 + generator.random(3) * 0.5])
    second = first + generator.normal(scale=0.1, size=(2, 3))
    found = overlap(trimesh.creation.box(bounds=first), trimesh.creation.box(bounds=second))
    assert found.iou == pytest.approx(box_iou(first, second), abs=0.005)
    assert found.reason is None
    assert found.prediction_volume == pytest.approx(np.prod(first[1] - first[0]), rel=0.005)


@pytest.mark.parametrize("distance", [0.0, 0.4, 1.0, 1.9, 2.5])
def test_spheres_of_different_radius(distance: float) -> None:
    r, s = 1.0, 0.8
    first = trimesh.creation.icosphere(subdivisions=5)
    second = first.copy().apply_scale(s).apply_translation(np.array([2, 3, 6]) / 7 * distance)
    if distance >= r + s:
        shared = 0.0
    elif distance <= r - s:
        shared = 4 / 3 * np.pi * s**3
    else:  # a lens
        d = distance
        shared = np.pi * (r + s - d) ** 2 * (d * d + 2 * d * (r + s) - 3 * (r - s) ** 2) / (12 * d)
    expected = shared / (4 / 3 * np.pi * (r**3 + s**3) - shared)
    found = overlap(first, second).iou
    assert found == pytest.approx(expected, abs=0.005)
    assert found == overlap(second, first).iou


def test_a_mesh_against_itself_is_one() -> None:
    torus = trimesh.creation.torus(1.0, 0.4)
    assert overlap(torus, torus).iou == 1.0


def test_parts_that_overlap_count_once_holes_count_and_winding_does_not() -> None:
    box = trimesh.creation.box((1, 1, 1))
    inner = trimesh.creation.box((0.5, 0.5, 0.5))
    inner.invert()
    hollow = trimesh.util.concatenate([box, inner])
    assert overlap(hollow, box).iou == pytest.approx(1 - 1 / 8, abs=0.005)
    doubled = trimesh.util.concatenate([box, box.copy().apply_translation([0.5, 0, 0])])
    whole = trimesh.creation.box(bounds=[[-0.5, -0.5, -0.5], [1, 0.5, 0.5]])
    assert overlap(doubled, whole).iou == 1.0
    turned = whole.copy()
    turned.invert()
    assert overlap(turned, whole).iou == 1.0


def test_no_ray_slips_through_a_closed_mesh() -> None:
    """Inside is one piece and all of it: every column of a convex body is one unbroken run, and the sum is right."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    vertices = (
        np.asarray(ball.vertices) @ trimesh.transformations.random_rotation_matrix(np.array([0.2, 0.4, 0.7]))[:3, :3]
    )
    inside = occupancy(vertices, np.asarray(ball.faces), np.full(3, -1.1), 2.2, 64)
    changes = np.abs(np.diff(inside.astype(np.int8), axis=-1, prepend=0, append=0)).sum(-1)
    assert set(np.unique(changes)) == {0, 2}
    assert inside.sum() * (2.2 / 64) ** 3 == pytest.approx(ball.volume, rel=2e-3)
    # vertices exactly on the rays' plane grid, axis-aligned: ties everywhere
    cube = trimesh.creation.box((1, 1, 1)).subdivide().subdivide()
    filled = occupancy(np.asarray(cube.vertices), np.asarray(cube.faces), np.full(3, -0.5), 1.0, 32)
    assert filled.all()


def test_a_ray_through_a_shared_edge_meets_exactly_one_of_the_two_faces() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b, c, d = generator.normal(size=(4, 3)) * 5 + 50
        across = np.array([a[1] - b[1], b[0] - a[0], 0.0])
        if ((c - a) @ across) * ((d - a) @ across) > 0:  # both on one side of the edge: mirror one
            d = a + b - d
        share = generator.random(500)[:, None]
        x, y, _ = (a + share * (b - a)).T  # on the edge but for rounding
        both = np.concatenate([np.tile([0, 1, 2], (500, 1)), np.tile([1, 0, 3], (500, 1))])
        met, _, _ = _crossings(np.stack([a, b, c, d]), np.arange(4), both, np.tile(x, 2), np.tile(y, 2))
        assert (met.reshape(2, 500).sum(0) == 1).all()


def test_open_meshes_give_a_reason() -> None:
    box = trimesh.creation.box((1, 1, 1))
    vertices, faces = np.asarray(box.vertices), np.asarray(box.faces)
    found = volume_overlap(vertices, faces[1:], vertices, faces)
    assert found.iou is None
    assert found.reason == "the volume is not defined (the prediction: it is not closed)"
    both = volume_overlap(vertices, faces[1:], vertices, faces[1:])
    assert both.reason is not None
    assert "the prediction: it is not closed; the ground truth: it is not closed" in both.reason
    flat = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 1]], process=False)
    nothing = overlap(flat, flat)
    assert nothing.iou is None
    assert "neither mesh" in str(nothing.reason)


def box(low: tuple[float, ...], high: tuple[float, ...], *, inverted: bool = False) -> trimesh.Trimesh:
    made = trimesh.creation.box(bounds=[low, high])
    if inverted:
        made.invert()
    return made


def together(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.util.concatenate(list(meshes))


def doubled(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return together(mesh, trimesh.Trimesh(mesh.vertices, mesh.faces[:, ::-1], process=False))


L_SHAPE = trimesh.util.concatenate(
    [trimesh.creation.box(bounds=b) for b in ([[0, 0, 0], [2, 1, 1]], [[0, 1, 0], [1, 2, 1]])]
)
"""Two cells that share a wall, face for face once each way."""


@pytest.mark.parametrize(
    ("mesh", "volume"),
    [
        (box((0, 0, 0), (1, 2, 3)), 6),
        (doubled(box((0, 0, 0), (1, 2, 3))), 6),
        (together(box((0, 0, 0), (1, 1, 1)), doubled(box((2, 0, 0), (3, 1, 2)))), 3),
        (together(box((0, 0, 0), (1, 1, 1)), box((0, 0, 0), (1, 1, 1))), 1),
        (together(box((0, 0, 0), (2, 1, 1)), box((1, 0, 0), (3, 1, 1), inverted=True)), 3),
        (together(box((0, 0, 0), (2, 1, 1), inverted=True), box((1, 0, 0), (3, 1, 1), inverted=True)), 3),
        (together(box((0, 0, 0), (1, 1, 1)), box((2, 0, 0), (3, 1, 1), inverted=True)), 2),
        (together(box((0, 0, 0), (3, 3, 3)), box((1, 1, 1), (2, 2, 2), inverted=True)), 26),
        (together(box((0, 0, 0), (3, 3, 3), inverted=True), box((1, 1, 1), (2, 2, 2))), 26),
        (
            together(box((0, 0, 0), (5, 5, 5)), box((1, 1, 1), (4, 4, 4), inverted=True), box((2, 2, 2), (3, 3, 3))),
            125 - 27 + 1,
        ),
        (L_SHAPE, 3),
        (
            together(
                box((0, 0, 0), (1, 1, 1)), doubled(trimesh.Trimesh([[2, 0, 0], [3, 0, 0], [2, 1, 1]], [[0, 1, 2]]))
            ),
            1,
        ),
    ],
)
def test_the_solid_that_is_meant(mesh: trimesh.Trimesh, volume: float) -> None:
    found = overlap(mesh, mesh)
    assert found.iou == 1
    assert found.truth_volume == pytest.approx(volume, rel=0.01)


def test_half_of_the_faces_reversed_or_doubled_is_still_the_solid() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    generator = np.random.default_rng(0)
    some = generator.random(len(ball.faces)) < 0.5
    mixed = ball.faces.copy()
    mixed[some] = mixed[some][:, ::-1]
    half = np.concatenate([ball.faces, ball.faces[some][:, ::-1]])
    for faces in (mixed, half, np.concatenate([half, ball.faces[:200]])):
        assert overlap(trimesh.Trimesh(ball.vertices, faces, process=False), ball).iou == 1


def test_what_can_not_be_told_has_a_reason() -> None:
    """A Moebius strip's double is a sheet; a doubled box with a doubled wall inside meets itself in edges of three."""
    cell = doubled(together(*(box((i, 0, 0), (i + 1, 1, 1)) for i in (0, 1))))
    found = overlap(cell, cell)
    assert found.iou is None
    assert "edges of more than two" in str(found.reason)
    whole = box((0, 0, 0), (1, 1, 1))
    three = trimesh.Trimesh(
        [[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, -1, 0]], [[0, 1, 2], [0, 1, 3], [0, 1, 4]], process=False
    )
    assert "not closed" in str(overlap(three, whole).reason)


@pytest.mark.parametrize("seed", range(3))
def test_shells_have_the_volumes_of_their_meshes_in_any_order_of_faces(seed: int) -> None:
    """Some doubled, some turned inside out face by face, some copied, with vertices of their own or shared."""
    generator = np.random.default_rng(seed)
    ring = trimesh.creation.torus(1.0, 0.3, major_sections=9, minor_sections=5)
    meshes = [
        box((4, 0, 0), (6, 1, 2)),
        trimesh.creation.icosphere(1),
        ring.apply_translation([0, 5, 0]),
        L_SHAPE.copy(),
    ]
    meshes[-1].apply_translation([0, 0, 9])
    changes = [
        lambda faces: faces,
        lambda faces: np.concatenate([faces, faces[:, ::-1]]),
        lambda faces: np.where(generator.random((len(faces), 1)) < 0.5, faces[:, ::-1], faces),
        lambda faces: np.concatenate([faces, np.roll(faces[::2], 1, 1)]),
    ]
    order = generator.permutation(4)
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    parts = [
        changes[which if mesh is not meshes[-1] else 0](mesh.faces + start)
        for mesh, start, which in zip(meshes, starts, order, strict=False)
    ]
    vertices = np.concatenate([np.asarray(mesh.vertices, float) for mesh in meshes])
    faces = generator.permutation(np.concatenate(parts))
    if seed == 1:
        vertices, faces = vertices[faces.reshape(-1)], np.arange(faces.size).reshape(-1, 3)
    solid = solid_of(vertices, faces)
    assert solid.reason is None
    assert np.sort(solid.volume) == pytest.approx(sorted(mesh.volume for mesh in meshes))
    owner = np.searchsorted(starts, np.arange(starts[-1]), side="right") if seed != 1 else None
    if owner is not None:
        assert len(set(zip(solid.shell.tolist(), owner[solid.faces[:, 0]].tolist(), strict=True))) == 4
