"""Alignment: the rotation search against brute force, ICP and whole alignments against known transforms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.align.align import Alignment, align, distinct
from kiss3d_cli.evaluation.align.icp import Icp
from kiss3d_cli.evaluation.align.rotation_search import (
    RotationObjective,
    RotationSearch,
    brute_force_rotations,
    rotation_grid,
    search_rotations,
    view_grid,
    view_scales,
)
from kiss3d_cli.evaluation.metrics import SurfaceSample, sample_surface


def lopsided() -> trimesh.Trimesh:
    """A closed body without any symmetry."""
    body = trimesh.creation.icosphere(subdivisions=3)
    x, y, z = np.asarray(body.vertices).T
    body.vertices = np.stack([1.5 * x + 0.3 * y**2, y + 0.4 * z**3 + 0.2 * x, 0.6 * z - 0.25 * x**2], 1)
    return body


def sample(mesh: trimesh.Trimesh, count: int, seed: int) -> SurfaceSample:
    return sample_surface(np.asarray(mesh.vertices), np.asarray(mesh.faces), count, np.random.default_rng(seed))


def transform(degrees: float, axis: list[float], scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    matrix = trimesh.transformations.rotation_matrix(np.radians(degrees), axis)
    matrix[:3, :3] *= scale
    matrix[:3, 3] = [shift, -shift, 0.5 * shift]
    return np.asarray(matrix)


def left_over(found: Alignment, made: np.ndarray) -> tuple[float, float, float]:
    """Rotation in degrees, scale and translation that remain of a known transform after the alignment."""
    rest = Alignment(found.kind, found.matrix @ made, 0, 0.0, 0.0)
    return rest.degrees, rest.scale, float(np.abs(rest.matrix[:3, 3]).max())


# -- the rotation grid and its search


def test_the_grid_is_6912_rotations_with_identity_and_quarter_turns() -> None:
    grid = rotation_grid()
    assert grid.shape == (6912, 3, 3)
    np.testing.assert_allclose(grid @ grid.transpose(0, 2, 1), np.tile(np.eye(3), (6912, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(grid), 1, atol=1e-12)
    for turn in (np.eye(3), [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], [[1, 0, 0], [0, 0, 1], [0, -1, 0]]):
        assert (grid == np.array(turn)).all((1, 2)).any()


def test_the_grid_leaves_no_rotation_far_away() -> None:
    grid = rotation_grid().reshape(-1, 9)
    seeds = np.random.default_rng(0).random((200, 3))
    random = np.stack([trimesh.transformations.random_rotation_matrix(seed)[:3, :3] for seed in seeds])
    trace = (random.reshape(-1, 9) @ grid.T).max(1)
    assert np.degrees(np.arccos((trace - 1) / 2)).max() < 19


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_below_every_value(seed: int) -> None:
    generator = np.random.default_rng(seed)
    clouds = [generator.normal(size=(count, 3)) * [1, 0.6, 0.3] * 10.0**seed for count in (120, 80)]
    objective = RotationObjective(*clouds, workers=1)
    some = rotation_grid()[generator.integers(0, 6912, 200)]
    bounds = objective.lower_bounds(some)
    values = np.array([objective(rotation) for rotation in some])
    assert (bounds <= values).all()
    assert (bounds >= 0.5 * values).all()  # and are worth having


def test_the_view_grid_has_as_many_rotations_and_identity() -> None:
    grid = view_grid()
    assert grid.shape == (6912, 3, 3)
    np.testing.assert_allclose(grid @ grid.transpose(0, 2, 1), np.tile(np.eye(3), (6912, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(grid), 1, atol=1e-12)
    assert (grid == np.eye(3)).all((1, 2)).any()


def test_the_view_search_finds_what_brute_force_finds_scaled_anew_at_each_rotation() -> None:
    """Against the definition: turn, subtract the mean, divide by the larger of width and height, measure."""
    generator = np.random.default_rng(0)
    source, target = sample(lopsided(), 90, 0).points, sample(trimesh.creation.box((2, 1, 0.7)), 90, 1).points
    source, target = source - source.mean(0), target - target.mean(0)
    target = target / np.ptp(target[:, :2], axis=0).max()
    some = view_grid()[np.sort(generator.choice(6912, 300, replace=False))]
    objective = RotationObjective(source, target, workers=1, asking=90, in_view=True)

    def measured(rotation: np.ndarray) -> float:
        turned = source @ rotation.T
        turned = turned - turned.mean(0)
        turned = turned / max(np.ptp(turned[:, 0]), np.ptp(turned[:, 1]))
        apart = np.linalg.norm(turned[:, None] - target[None], axis=-1)
        return float((apart.min(0).mean() + apart.min(1).mean()) / 2)

    values = np.array([measured(rotation) for rotation in some])
    np.testing.assert_allclose([objective(rotation) for rotation in some], values, rtol=1e-9)
    bounds = objective.lower_bounds(some)
    assert (bounds <= values).all()
    assert (bounds >= 0.4 * values).all()
    found = search_rotations(objective, 3, some)
    np.testing.assert_array_equal(found.index, np.argsort(values)[:3])
    np.testing.assert_allclose(found.chamfer, np.sort(values)[:3], rtol=1e-9)
    assert found.evaluated < 300
    assert view_scales(source, some)[0] == pytest.approx(1 / np.ptp(source @ some[0].T, axis=0)[:2].max())


@pytest.mark.parametrize(("first", "second"), [("body", "body"), ("body", "box"), ("ball", "box")])
def test_the_search_finds_what_brute_force_finds(first: str, second: str) -> None:
    meshes = {"body": lopsided(), "box": trimesh.creation.box((2, 1, 0.7)), "ball": trimesh.creation.icosphere()}
    turned = sample(meshes[first], 150, 0).transformed(transform(77, [3, 1, 2]))
    objective = RotationObjective(turned.points, sample(meshes[second], 150, 1).points, workers=1)
    grid = rotation_grid()
    grid = grid if first == second else np.random.default_rng(0).permutation(grid)[:1500]
    found, expected = search_rotations(objective, grid=grid), brute_force_rotations(objective, grid=grid)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.chamfer, expected.chamfer)
    assert found.considered == expected.evaluated == len(grid)
    assert found.evaluated < (400 if first == second else len(grid))


def test_starts_are_apart() -> None:
    turns = np.stack([transform(angle, [0, 0, 1])[:3, :3] for angle in (0, 10, 30, 40, 60)])
    kept = distinct(RotationSearch(turns, np.zeros(5), np.arange(5), 5, 5))
    np.testing.assert_array_equal(kept, turns[[0, 2, 4]])


def test_too_few_points_are_refused() -> None:
    few, many = sample(lopsided(), 99, 0), sample(lopsided(), 200, 1)
    with pytest.raises(BadInput, match="99 points are too few"):
        align("rigid", few, many)
    assert align("yaw", few, many).candidates == 4
    assert align("none", few, many).chamfer_before is None


# -- ICP


@pytest.mark.parametrize("scaling", [False, True])
def test_icp_undoes_a_small_transform_of_the_same_points_exactly(scaling: bool) -> None:
    target = sample(lopsided(), 1500, 0)
    made = transform(8, [1, -2, 0.5], 1.08 if scaling else 1.0, 0.05)
    found = Icp(target.transformed(made), target, scaling, workers=1).run(np.eye(4))
    np.testing.assert_allclose(found.matrix @ made, np.eye(4), atol=1e-6)
    assert found.chamfer < 1e-6
    assert found.iterations < 60


def test_icp_never_ends_worse_than_it_started() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        clouds = []
        for _side in range(2):
            normals = generator.normal(size=(40, 3))
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            clouds.append(SurfaceSample(generator.normal(size=(40, 3)), normals, np.zeros(40, dtype=np.int64)))
        icp = Icp(*clouds, scaling=True, workers=1)
        assert icp.run(np.eye(4)).chamfer <= icp.run(np.eye(4), iterations=0).chamfer


def test_icp_on_a_plane_does_not_drift_away() -> None:
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    lifted = sample(square, 300, 0).transformed(transform(0, [0, 0, 1], shift=0.02))
    found = Icp(lifted, sample(square, 300, 1), scaling=True, workers=1).run(np.eye(4))
    assert np.isfinite(found.matrix).all()
    assert abs((found.matrix @ [0.5, 0.5, 0.01, 1])[2]) < 1e-3


# -- whole alignments


def test_rigid_undoes_any_rotation_and_shift() -> None:
    body = lopsided()
    made = transform(133, [2, -1, 4], shift=0.3)
    found = align("rigid", sample(body, 4000, 0).transformed(made), sample(body, 4000, 1), workers=2)
    degrees, scale, shift = left_over(found, made)
    assert degrees < 0.1
    assert scale == pytest.approx(1, abs=1e-12)
    assert shift < 0.005
    assert found.chamfer_after < 0.2 * found.chamfer_before


@pytest.mark.parametrize("scale", [0.02, 37.0])
def test_similarity_undoes_any_scale_too(scale: float) -> None:
    cube = trimesh.creation.box((1.0, 1.1, 1.25))
    made = transform(71, [1, 1, -3], scale, 0.3)
    found = align("similarity", sample(cube, 4000, 0).transformed(made), sample(cube, 4000, 1), workers=2)
    moved = np.asarray(cube.vertices) @ (found.matrix @ made)[:3, :3].T + (found.matrix @ made)[:3, 3]
    # the box has half turns of its own, so corners are compared as a set
    distance = np.linalg.norm(moved[:, None] - np.asarray(cube.vertices)[None], axis=-1)
    assert distance.min(0).max() < 0.01
    assert distance.min(1).max() < 0.01
    assert found.scale * scale == pytest.approx(1, rel=0.005)


def test_the_same_on_any_number_of_threads_and_never_worse_than_nothing() -> None:
    body, box = lopsided(), trimesh.creation.box((2, 1, 0.7))
    source, target = sample(body, 600, 0), sample(box, 600, 1)
    one, two = (align("similarity", source, target, workers=workers) for workers in (1, 2))
    np.testing.assert_array_equal(one.matrix, two.matrix)
    assert one.chamfer_after < one.chamfer_before
    same = align("rigid", target, target, workers=1)
    assert same.chamfer_after == same.chamfer_before == 0
    np.testing.assert_array_equal(same.matrix, np.eye(4))
