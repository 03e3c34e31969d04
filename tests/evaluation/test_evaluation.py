"""Whole evaluations against closed forms, an independent implementation, and themselves."""

from __future__ import annotations

import json

import numpy as np
import point_cloud_utils as pcu
import pytest
import torch
import trimesh
from scipy.spatial import KDTree

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.align.rotation_search import view_grid
from kiss3d_cli.evaluation.compare import Evaluation, evaluate
from kiss3d_cli.evaluation.protocols import PROTOCOLS
from kiss3d_cli.geometry.mesh import Mesh


def tensors(mesh: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.from_numpy(np.array(mesh.vertices, np.float64)), torch.from_numpy(np.array(mesh.faces, np.int64)))


def lopsided() -> trimesh.Trimesh:
    """A closed body without any symmetry."""
    body = trimesh.creation.icosphere(subdivisions=3)
    x, y, z = np.asarray(body.vertices).T
    body.vertices = np.stack([1.5 * x + 0.3 * y**2, y + 0.4 * z**3 + 0.2 * x, 0.6 * z - 0.25 * x**2], 1)
    return body


BODY = lopsided()


def plane(height: float) -> Mesh:
    corners = [[0, 0, height], [2, 0, height], [2, 1, height], [0, 1, height]]
    return Mesh(torch.tensor(corners, dtype=torch.float64), torch.tensor([[0, 1, 2], [0, 2, 3]]))


def test_concentric_spheres() -> None:
    ball = trimesh.creation.icosphere(subdivisions=5)
    found = evaluate(tensors(ball.copy().apply_scale(0.8)), tensors(ball))
    gap = (1 - 0.8) / 2  # the ground truth's box has side 2
    assert found.distances.chamfer_l1 == pytest.approx(gap, rel=2e-3)
    assert found.distances.chamfer_l2 == pytest.approx(2 * gap**2, rel=4e-3)
    assert found.distances.accuracy == pytest.approx(gap, rel=2e-3)
    assert found.distances.completeness == pytest.approx(gap, rel=2e-3)
    assert found.distances.hausdorff == pytest.approx(gap, rel=1e-2)
    assert found.distances.normal_consistency == pytest.approx(1, abs=1e-3)
    assert [score.f_score for score in found.distances.f_scores] == [0, 0, 0]
    assert found.volume.iou == pytest.approx(0.8**3, abs=0.005)


def test_shifted_planes() -> None:
    found = evaluate(plane(0.06), plane(0.0))
    # 0.06 / 2, over samples: the nearest of 100,000 points is not straight below
    assert found.distances.chamfer_l1 == pytest.approx(0.03, rel=2e-3)
    assert found.distances.hausdorff >= 0.03
    assert found.distances.normal_consistency == pytest.approx(1)
    assert [score.f_score for score in found.distances.f_scores] == [0, 0, 1]
    assert found.volume.iou is None
    assert "not closed" in str(found.volume.reason)


def test_a_mesh_against_itself_is_at_the_floor_of_sampling() -> None:
    found = evaluate(tensors(BODY), tensors(BODY))
    # the mean distance to the nearest of N uniform points on area A is 1 / (2 sqrt(N / A))
    scale = 1 / np.ptp(BODY.vertices, axis=0).max()
    floor = 0.5 * np.sqrt(BODY.area * scale**2 / 100_000)
    assert found.distances.chamfer_l1 == pytest.approx(floor, rel=0.02)
    assert all(score.f_score == 1 for score in found.distances.f_scores[1:])
    assert found.volume.iou == 1


def test_seeds_reproduce_to_the_last_digit_on_any_number_of_threads() -> None:
    other = tensors(BODY.copy().apply_scale([1.1, 0.9, 1]))
    runs = [evaluate(other, tensors(BODY), seed=5, points=20_000, workers=workers) for workers in (1, 2)]
    records = [run.record() for run in runs]
    for record in records:
        record.pop("seconds")
    assert json.dumps(records[0]) == json.dumps(records[1])
    changed = evaluate(other, tensors(BODY), seed=6, points=20_000)
    assert changed.distances.chamfer_l1 != runs[0].distances.chamfer_l1
    assert changed.distances.chamfer_l1 == pytest.approx(runs[0].distances.chamfer_l1, rel=0.01)
    assert evaluate(other, tensors(BODY), seed=0, points=100).seed == 0


def test_swapping_the_two_changes_nothing_but_the_samples() -> None:
    other = tensors(BODY.copy().apply_scale([1.0, 0.9, 1]).apply_translation([0.02, 0.01, 0]))
    pairs = ((other, tensors(BODY)), (tensors(BODY), other))
    there, back = (evaluate(*pair, points=30_000).distances for pair in pairs)
    assert there.chamfer_l1 == pytest.approx(back.chamfer_l1, rel=0.01)
    assert there.normal_consistency == pytest.approx(back.normal_consistency, rel=0.01)
    assert there.f_scores[0].precision == pytest.approx(back.f_scores[0].recall, abs=0.01)


def test_agrees_with_an_independent_pipeline_on_its_own_samples() -> None:
    """point-cloud-utils samples, normalises and measures by itself: under 1 % apart."""
    other = BODY.copy().apply_scale([1.1, 0.85, 1.0]).apply_translation([0.05, -0.03, 0.02])
    found = evaluate(tensors(other), tensors(BODY))
    low, high = BODY.bounds
    clouds = []
    for seed, mesh in ((11, other), (12, BODY)):
        vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
        index, barycentric = pcu.sample_mesh_random(vertices, faces, 100_000, random_seed=seed)
        points = pcu.interpolate_barycentric_coords(faces, index, barycentric, vertices)
        clouds.append((points - (low + high) / 2) / (high - low).max())
    assert found.distances.chamfer_l1 == pytest.approx(pcu.chamfer_distance(*clouds) / 2, rel=0.01)
    forward, _ = pcu.k_nearest_neighbors(clouds[0], clouds[1], k=1)
    backward, _ = pcu.k_nearest_neighbors(clouds[1], clouds[0], k=1)
    assert found.distances.chamfer_l2 == pytest.approx((forward**2).mean() + (backward**2).mean(), rel=0.01)
    for score in found.distances.f_scores:
        assert score.precision == pytest.approx((forward < score.threshold).mean(), abs=0.01)
        assert score.recall == pytest.approx((backward < score.threshold).mean(), abs=0.01)


@pytest.mark.parametrize(("protocol", "unchanged"), [("kiss3d", False), ("kiss3dgen", True), ("triposr", True)])
def test_own_normalisation_ignores_scale_and_place_and_the_default_does_not(protocol: str, unchanged: bool) -> None:
    moved = tensors(BODY.copy().apply_scale(250).apply_translation([1000, -2000, 30]))
    plain = evaluate(tensors(BODY), tensors(BODY), protocol=protocol, alignment="none", points=5000)
    found = evaluate(moved, tensors(BODY), protocol=protocol, alignment="none", points=5000)
    same = found.distances.chamfer_l1 == pytest.approx(plain.distances.chamfer_l1, rel=1e-9)
    assert same == unchanged
    assert bool(found.warnings) == (not unchanged)


def test_both_moved_together_is_the_same_in_the_default_protocol() -> None:
    other = BODY.copy().apply_scale([1.1, 0.9, 1])
    plain = evaluate(tensors(other), tensors(BODY), points=5000)
    for mesh_units in (1000.0, 0.1):
        both = [mesh.copy().apply_scale(mesh_units).apply_translation([3, 4, 5]) for mesh in (other, BODY)]
        found = evaluate(tensors(both[0]), tensors(both[1]), points=5000)
        assert found.distances.chamfer_l1 == pytest.approx(plain.distances.chamfer_l1, rel=1e-9)
        assert found.warnings == ()


@pytest.mark.parametrize("turns", range(4))
def test_yaw_finds_the_quarter_turn(turns: int) -> None:
    centred = BODY.copy().apply_translation(-BODY.bounds.mean(0))
    angle = np.radians(90 * turns)
    turned = centred.copy().apply_transform(trimesh.transformations.rotation_matrix(angle, [0, 1, 0]))
    found = evaluate(tensors(turned), tensors(centred), alignment="yaw", points=5000)
    assert found.alignment.degrees == pytest.approx(min(90 * turns, 360 - 90 * turns), abs=1e-6)
    np.testing.assert_allclose(found.prediction.vertices, found.truth.vertices, atol=1e-9)
    assert found.alignment.chamfer_before is not None
    assert found.distances.chamfer_l1 <= found.alignment.chamfer_before


def test_the_record_holds_all_that_decides_the_numbers() -> None:
    found = evaluate(plane(0.06), plane(0.0), points=200, seed=3, alignment="yaw")
    record = json.loads(json.dumps(found.record()))
    assert record["schema_version"] == 1
    assert (record["protocol"]["id"], record["protocol"]["version"]) == ("kiss3d", 1)
    assert (record["points"], record["seed"]) == (200, 3)
    assert record["as_published"] is False
    assert record["deviations"] == ["200 points instead of 100000"]
    assert record["normalisation"]["unit"] == "longest side of the ground truth's box"
    assert record["alignment"]["kind"] == "yaw"
    assert np.shape(record["alignment"]["matrix"]) == (4, 4)
    assert record["definitions"]["chamfer_l1"] == {"squared": False, "directions": "mean"}
    assert record["definitions"]["chamfer_l2"] == {"squared": True, "directions": "sum"}
    assert [score["threshold"] for score in record["metrics"]["f_scores"]] == [0.01, 0.02, 0.05]
    assert record["metrics"]["volume_iou"] is None
    assert "not closed" in record["volume_iou"]["reason"]
    assert len(record["prediction"]["sha256"]) == 64
    assert record["prediction"]["sha256"] != record["ground_truth"]["sha256"]
    assert record["prediction"]["report"]["faces"] == 2
    assert record["seconds"] > 0
    np.testing.assert_allclose(np.array(record["ground_truth"]["to_common_frame"]) @ [1, 0.5, 0, 1], [0, 0, 0, 1])


def test_vertices_without_a_face_do_not_move_the_frame() -> None:
    mesh = plane(0.0)
    stray = Mesh(torch.cat([mesh.vertices, torch.tensor([[1e6, 0, 0], [torch.nan, 0, 0]]).double()]), mesh.faces)
    a, b = evaluate(plane(0.1), mesh, points=100), evaluate(plane(0.1), stray, points=100)
    assert a.distances == b.distances


@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_protocols_say_when_they_are_not_followed(name: str) -> None:
    protocol = PROTOCOLS[name]

    def run(**options: object) -> Evaluation:
        return evaluate(plane(0.06), plane(0.0), protocol=name, **options)  # type: ignore[arg-type]

    assert run(points=200).deviations == (f"200 points instead of {protocol.points}",)
    other = "yaw"
    expected = () if name == "kiss3d" else (f"alignment yaw instead of {protocol.alignment}",)
    assert run(alignment=other).deviations == expected


def test_bad_requests_name_the_option() -> None:
    mesh = plane(0.0)
    for options, place in (
        ({"protocol": "mine"}, "--protocol"),
        ({"alignment": "mine"}, "--align"),
        ({"points": 0}, "--points"),
        ({"seed": -1}, "--seed"),
    ):
        with pytest.raises(BadInput) as caught:
            evaluate(mesh, mesh, **options)  # type: ignore[arg-type]
        assert caught.value.place == place
        assert caught.value.hint
    empty = Mesh(mesh.vertices, mesh.faces[:0])
    with pytest.raises(BadInput, match=r"mine\.obj: the mesh is empty"):
        evaluate(empty, mesh, prediction_place="mine.obj")


# -- point clouds and the published protocols


def cloud(points: np.ndarray) -> Mesh:
    return Mesh(torch.from_numpy(np.asarray(points, np.float64)), torch.zeros(0, 3, dtype=torch.int64))


def test_a_point_cloud_is_measured_by_its_points_and_by_nothing_that_needs_a_surface() -> None:
    found = evaluate(
        plane(0.0), cloud(np.array([[x, y, 0.75] for x in (0.1, 0.4, 1.7) for y in (0.2, 0.3)])), points=2000
    )
    scale = 1 / 1.6  # the cloud's longest side
    # every point of the scan lies 0.75 over the plane; the plane's points lie far from the six
    assert found.distances.completeness == pytest.approx(0.75 * scale, rel=2e-3)
    assert found.distances.accuracy > found.distances.completeness
    assert found.distances.normal_consistency is None
    assert found.volume.iou is None
    assert "point cloud" in str(found.volume.reason)
    record = found.record()
    assert record["ground_truth"]["kind"] == "point cloud"
    assert record["ground_truth"]["report"] is None
    assert record["ground_truth"]["samples"] == 6
    assert any("point cloud" in warning for warning in record["warnings"])
    assert not record["as_published"]


def test_a_dense_scan_of_a_body_tells_about_the_same_as_the_body() -> None:
    scan = cloud(trimesh.sample.sample_surface(BODY, 60_000, seed=3)[0])
    prediction = tensors(BODY.copy().apply_scale(0.95))
    by_points, by_surface = (evaluate(prediction, truth).distances for truth in (scan, tensors(BODY)))
    assert by_points.chamfer_l1 == pytest.approx(by_surface.chamfer_l1, rel=0.05)
    assert by_points.f_scores[-1].f_score == pytest.approx(by_surface.f_scores[-1].f_score, abs=0.02)


@pytest.mark.parametrize("protocol", ["kiss3d", "kiss3dgen", "triposr", "meshrcnn"])
def test_every_protocol_takes_a_scan(protocol: str) -> None:
    scan = cloud(trimesh.sample.sample_surface(BODY, 2000, seed=3)[0])
    found = evaluate(tensors(BODY), scan, protocol=protocol, points=500, workers=1)
    assert found.distances.completeness < 0.1 * (10 if protocol == "meshrcnn" else 2)
    assert found.distances.normal_consistency is None


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.zeros((5, 3)), np.full((9, 3), np.nan)])
def test_a_cloud_without_extent_is_refused(points: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"usable points|coincide"):
        evaluate(tensors(BODY), cloud(points))


def test_mesh_rcnn_is_its_public_definition() -> None:
    """Both by the scale that makes the longest side of the ground truth's box 10; squared, summed (its Chamfer-L2)."""
    prediction = BODY.copy().apply_scale(0.9)
    found = evaluate(tensors(prediction), tensors(BODY), protocol="meshrcnn", seed=5)
    scale = 10 / BODY.extents.max()
    shift = found.prediction.matrix[:3, 3]
    np.testing.assert_allclose(found.prediction.matrix, found.truth.matrix)
    np.testing.assert_allclose(found.prediction.matrix[:3, :3], scale * np.eye(3))
    a, b = (mesh.sample.points - shift for mesh in (found.prediction, found.truth))
    to_truth, to_prediction = KDTree(b).query(a)[0], KDTree(a).query(b)[0]
    assert found.distances.chamfer_l2 == pytest.approx((to_truth**2).mean() + (to_prediction**2).mean())
    precision, recall = (to_truth < 0.5).mean(), (to_prediction < 0.5).mean()
    assert found.distances.f_scores[2].threshold == 0.5
    assert found.distances.f_scores[2].f_score == pytest.approx(2 * precision * recall / (precision + recall))


def test_zero_shape_finds_the_rotation_and_scales_in_the_view() -> None:
    turn = view_grid()[1234].T
    prediction = BODY.copy()
    prediction.vertices = np.asarray(prediction.vertices) @ turn.T * 3 + [5, 6, 7]
    found = evaluate(tensors(prediction), tensors(BODY), protocol="zeroshape", points=400, workers=1)
    same = evaluate(tensors(BODY), tensors(BODY), protocol="zeroshape", alignment="none", points=400, workers=1)
    assert found.distances.chamfer_l1 < 1.2 * same.distances.chamfer_l1
    assert found.alignment.candidates == 6912
    for points in (found.prediction.sample.points, found.truth.sample.points):
        np.testing.assert_allclose(points.mean(0), 0, atol=1e-9)
        assert np.ptp(points[:, :2], axis=0).max() == pytest.approx(1)
    assert found.alignment.chamfer_before is not None
    assert found.alignment.chamfer_before > found.distances.chamfer_l1
    with pytest.raises(BadInput, match="does not go with"):
        evaluate(tensors(BODY), tensors(BODY), protocol="kiss3d", alignment="view-grid")


def test_the_alignment_is_told_on_the_points_that_are_measured() -> None:
    found = evaluate(tensors(BODY.copy().apply_translation([0.2, 0, 0])), tensors(BODY), alignment="rigid", points=3000)
    assert found.alignment.chamfer_after == found.distances.chamfer_l1
    assert found.record()["alignment"]["chamfer_before"] > found.distances.chamfer_l1
    plain = evaluate(tensors(BODY), tensors(BODY), points=500).record()["alignment"]
    assert plain["chamfer_before"] is None
    assert plain["chamfer_after"] is None
