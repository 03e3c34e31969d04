"""Point metrics against brute force, point-cloud-utils and closed forms."""

from __future__ import annotations

import numpy as np
import point_cloud_utils as pcu
import pytest
from scipy.spatial.distance import cdist

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.metrics import SurfaceSample, distances, f_score, nearest, sample_surface


def cloud(points: np.ndarray, normals: np.ndarray | None = None) -> SurfaceSample:
    points = np.asarray(points, dtype=np.float64)
    normals = np.tile([0.0, 0.0, 1.0], (len(points), 1)) if normals is None else np.asarray(normals, dtype=np.float64)
    return SurfaceSample(points, normals, np.zeros(len(points), dtype=np.int64))


def random_cloud(seed: int, count: int) -> SurfaceSample:
    generator = np.random.default_rng(seed)
    normals = generator.normal(size=(count, 3))
    points = generator.random((count, 3)) * [1, 0.5, 0.2]
    return cloud(points, normals / np.linalg.norm(normals, axis=1, keepdims=True))


def test_a_drawn_case_by_hand() -> None:
    # prediction: two points; truth: three. Distances forward 1 and 2, backward 1, 2 and 4.
    prediction = cloud([[0, 0, 0], [10, 0, 0]], [[0, 0, 1], [1, 0, 0]])
    truth = cloud([[0, 1, 0], [10, 2, 0], [10, -4, 0]], [[0, 0, -1], [0.6, 0.8, 0], [0, 1, 0]])
    found = nearest(prediction, truth)
    np.testing.assert_allclose(found.to_truth, [1, 2])
    np.testing.assert_allclose(found.to_prediction, [1, 2, 4])
    np.testing.assert_allclose(found.to_truth_cosine, [1, 0.6])
    np.testing.assert_allclose(found.to_prediction_cosine, [1, 0.6, 0])
    result = distances(found, (1.0, 1.5, 5.0))
    assert result.accuracy == 1.5
    assert result.completeness == pytest.approx(7 / 3)
    assert result.chamfer_l1 == pytest.approx((1.5 + 7 / 3) / 2)
    assert result.chamfer_l2 == pytest.approx(2.5 + 7)
    assert result.hausdorff == 4
    assert result.hausdorff_95 == pytest.approx(2 + 0.9 * 2)
    assert result.normal_consistency == pytest.approx((0.8 + 1.6 / 3) / 2)
    at_one, middle, all_hit = result.f_scores
    assert (at_one.precision, at_one.recall, at_one.f_score) == (0, 0, 0)  # at the threshold is no hit
    assert (middle.precision, middle.recall) == (0.5, pytest.approx(1 / 3))
    assert middle.f_score == pytest.approx(2 * 0.5 / 3 / (0.5 + 1 / 3))
    assert (all_hit.precision, all_hit.recall, all_hit.f_score) == (1, 1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_brute_force_and_point_cloud_utils(seed: int) -> None:
    prediction, truth = random_cloud(seed, 900), random_cloud(seed + 100, 1100)
    found = nearest(prediction, truth)
    matrix = cdist(prediction.points, truth.points)
    np.testing.assert_allclose(found.to_truth, matrix.min(1), rtol=1e-6)
    np.testing.assert_allclose(found.to_prediction, matrix.min(0), rtol=1e-6)
    cosines = np.abs(prediction.normals @ truth.normals.T)
    np.testing.assert_allclose(found.to_truth_cosine, cosines[np.arange(900), matrix.argmin(1)], rtol=1e-6)
    np.testing.assert_allclose(found.to_prediction_cosine, cosines[matrix.argmin(0), np.arange(1100)], rtol=1e-6)
    result = distances(found, (0.05,))
    # point-cloud-utils gives the sum of the two means
    assert result.chamfer_l1 == pytest.approx(pcu.chamfer_distance(prediction.points, truth.points) / 2, rel=1e-6)
    assert result.hausdorff == pytest.approx(pcu.hausdorff_distance(prediction.points, truth.points), rel=1e-6)
    forward, _ = pcu.k_nearest_neighbors(prediction.points, truth.points, k=1)
    backward, _ = pcu.k_nearest_neighbors(truth.points, prediction.points, k=1)
    assert result.chamfer_l2 == pytest.approx((forward**2).mean() + (backward**2).mean(), rel=1e-6)
    assert result.f_scores[0].precision == (forward < 0.05).mean()
    assert result.f_scores[0].recall == (backward < 0.05).mean()
    assert 0 < result.f_scores[0].precision < 1


def test_symmetric_and_the_same_on_any_number_of_threads() -> None:
    a, b = random_cloud(1, 3000), random_cloud(2, 2500)
    one, two = distances(nearest(a, b, workers=1), (0.02,)), distances(nearest(a, b, workers=2), (0.02,))
    assert one == two
    swapped = distances(nearest(b, a), (0.02,))
    for name in ("chamfer_l1", "chamfer_l2", "hausdorff", "hausdorff_95", "normal_consistency"):
        assert getattr(swapped, name) == getattr(one, name), name
    assert swapped.f_scores[0].precision == one.f_scores[0].recall
    assert swapped.f_scores[0].f_score == one.f_scores[0].f_score
    assert swapped.accuracy == one.completeness != one.accuracy


def test_f_score_counts_on_both_sides_separately() -> None:
    prediction, truth = cloud([[0, 0, 0], [0, 0, 9]]), cloud([[0, 0, 0.1]])
    score = f_score(nearest(prediction, truth), 0.2)
    assert (score.precision, score.recall) == (0.5, 1.0)


# -- sampling

SHAPE = np.array([[0, 0, 0], [4, 0, 0], [0, 3, 0], [0, 0, 2], [4, 0, 0]], dtype=np.float64)
TRIANGLES = np.array([[1, 4, 2], [0, 1, 2], [0, 3, 1], [0, 0, 1]])  # areas 0, 6, 4, 0


def test_samples_are_uniform_by_area_and_lie_on_their_faces() -> None:
    sample = sample_surface(SHAPE, TRIANGLES, 40_000, np.random.default_rng(7))
    share = np.bincount(sample.faces, minlength=4) / 40_000
    assert share[0] == share[3] == 0
    assert share[1] == pytest.approx(0.6, abs=0.01)  # 4 standard deviations
    np.testing.assert_allclose(sample.normals[sample.faces == 1], [[0, 0, 1]] * int((sample.faces == 1).sum()))
    np.testing.assert_allclose(sample.normals[sample.faces == 2], [[0, 1, 0]] * int((sample.faces == 2).sum()))
    on_first = sample.points[sample.faces == 1]
    assert (on_first[:, 2] == 0).all()
    assert (on_first.min(0) >= 0).all()
    assert (on_first[:, 0] / 4 + on_first[:, 1] / 3 <= 1 + 1e-12).all()
    # uniform inside a triangle: the mean is its centroid, each corner's quarter has a quarter of the points
    np.testing.assert_allclose(on_first.mean(0), [4 / 3, 1, 0], atol=0.03)
    for barycentric in (on_first[:, 0] / 4, on_first[:, 1] / 3, 1 - on_first[:, 0] / 4 - on_first[:, 1] / 3):
        assert (barycentric > 0.5).mean() == pytest.approx(0.25, abs=0.012)


def test_a_seed_gives_the_same_points_and_another_seed_gives_others() -> None:
    first, again, other = (sample_surface(SHAPE, TRIANGLES, 100, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.points, again.points)
    assert (first.points != other.points).any()


def test_bad_requests() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(BadInput, match="0 points"):
        sample_surface(SHAPE, TRIANGLES, 0, generator)
    with pytest.raises(BadInput, match="no area"):
        sample_surface(SHAPE, TRIANGLES[3:], 5, generator)
    with pytest.raises(BadInput, match="no area"):
        sample_surface(SHAPE, TRIANGLES[:0], 5, generator)


def test_a_similarity_moves_points_and_keeps_normals_unit() -> None:
    sample = random_cloud(3, 50)
    matrix = np.eye(4)
    matrix[:3, :3] = 2.5 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    matrix[:3, 3] = [1, 2, 3]
    moved = sample.transformed(matrix)
    x, y, z = sample.points.T
    np.testing.assert_allclose(moved.points, np.stack([1 - 2.5 * y, 2 + 2.5 * x, 3 + 2.5 * z], 1))
    x, y, z = sample.normals.T
    np.testing.assert_allclose(moved.normals, np.stack([-y, x, z], 1), atol=1e-15)
