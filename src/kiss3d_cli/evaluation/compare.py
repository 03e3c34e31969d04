"""One prediction against one ground truth by a named protocol; everything that determines the numbers is recorded."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.align.align import Alignment, align
from kiss3d_cli.evaluation.align.rotation_search import view_scales
from kiss3d_cli.evaluation.metrics import Distances, Nearest, SurfaceSample, distances, nearest, sample_surface
from kiss3d_cli.evaluation.pictures import RenderedMetrics, compare_renderings
from kiss3d_cli.evaluation.protocols import NORMALISATIONS, Protocol, get_alignment, get_protocol
from kiss3d_cli.evaluation.volume import RESOLUTION, VolumeOverlap, volume_overlap
from kiss3d_cli.geometry.io.load import check_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.topology import MeshReport, report

SCHEMA_VERSION = 1
CLOUD = "a point cloud without a surface"
MOST_CLOUD_POINTS = 2_000_000
"""Of a larger scan that many are drawn at random."""


@dataclass(frozen=True)
class EvaluatedMesh:
    """One of the two meshes as measured.

    Attributes:
        vertices: (N, 3) in the normalised (and, for the prediction, aligned) frame.
        faces: (F, 3).
        matrix: (4, 4) from the mesh as given to `vertices`.
        sample: the points that were compared, in the same frame.
        digest: sha256 of the mesh as given (float64 vertices, int64 faces).
        report: of the mesh as given; None for a point cloud.
    """

    vertices: Float[np.ndarray, "N 3"]
    faces: np.ndarray
    matrix: Float[np.ndarray, "4 4"]
    sample: SurfaceSample
    digest: str
    report: MeshReport | None

    def tensors(self, colors: Float[Tensor, "N 3"] | None = None) -> Mesh:
        """The mesh in the common frame."""
        return Mesh(torch.from_numpy(self.vertices), torch.from_numpy(self.faces), colors)


@dataclass(frozen=True)
class Evaluation:
    """What one comparison found and how it was made.

    Attributes:
        protocol: the protocol as published.
        alignment: the kind that was used and the transform found, in the normalised frame.
        points: samples on each mesh.
        seed: of the samples and of the rotation search.
        distances: the metrics, in the protocol's unit.
        volume: volume IoU, or None with the reason.
        rendered: the comparison of pictures, if it was asked for and the ground truth has a surface.
        prediction, truth: the two meshes in the common frame.
        nearest: distance and |cos| of every sample.
        deviations: how the settings differ from the published protocol, as sentences.
        warnings: what a reader of the numbers must know.
        seconds: wall time of the comparison, without loading.
    """

    protocol: Protocol
    alignment: Alignment
    points: int
    seed: int
    distances: Distances
    volume: VolumeOverlap
    rendered: RenderedMetrics | None
    prediction: EvaluatedMesh
    truth: EvaluatedMesh
    nearest: Nearest = field(repr=False)
    deviations: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    def record(self) -> dict[str, Any]:
        """All of it as plain values for metrics.json; only `seconds` differs between two runs."""
        values = asdict(self.distances)
        values["f_scores"] = [asdict(score) for score in self.distances.f_scores]
        return {
            "schema_version": SCHEMA_VERSION,
            "protocol": {"id": self.protocol.name, "version": self.protocol.version, "source": self.protocol.source},
            "as_published": not self.deviations,
            "deviations": list(self.deviations),
            "warnings": list(self.warnings),
            "normalisation": {
                "kind": self.protocol.normalisation,
                "meaning": NORMALISATIONS[self.protocol.normalisation],
                "unit": self.protocol.unit,
            },
            "alignment": self.alignment.record(),
            "points": self.points,
            "seed": self.seed,
            "definitions": {
                "chamfer_l1": {"squared": False, "directions": "mean"},
                "chamfer_l2": {"squared": True, "directions": "sum"},
                "hausdorff": {"squared": False, "directions": "max"},
                "hausdorff_95": {"squared": False, "directions": "max of the 95th percentiles"},
                "normal_consistency": {"value": "|cos|", "directions": "mean"},
                "f_scores": {"hit": "distance < threshold", "unit": self.protocol.unit},
            },
            "metrics": {**values, "volume_iou": self.volume.iou},
            "volume_iou": asdict(self.volume),
            "rendered": None if self.rendered is None else asdict(self.rendered),
            "prediction": _mesh_record(self.prediction),
            "ground_truth": _mesh_record(self.truth),
            "seconds": round(self.seconds, 3),
        }


def _mesh_record(mesh: EvaluatedMesh) -> dict[str, Any]:
    return {
        "sha256": mesh.digest,
        "to_common_frame": mesh.matrix.tolist(),
        "kind": "point cloud" if mesh.report is None else "mesh",
        "samples": len(mesh.sample.points),
        "report": None if mesh.report is None else asdict(mesh.report),
    }


@dataclass(frozen=True)
class _Given:
    vertices: Float[np.ndarray, "N 3"]
    faces: np.ndarray
    used: Float[np.ndarray, "M 3"]
    place: str

    @property
    def is_cloud(self) -> bool:
        return not len(self.faces)


class Options(TypedDict, total=False):
    """How two meshes are compared; see `evaluate`, which has the defaults."""

    protocol: str
    alignment: str | None
    points: int | None
    seed: int


def evaluate(
    prediction: Mesh,
    ground_truth: Mesh,
    *,
    protocol: str = "kiss3d",
    alignment: str | None = None,
    points: int | None = None,
    seed: int = 0,
    looks: tuple[Mesh, Mesh] | None = None,
    workers: int = -1,
    prediction_place: str = "prediction",
    ground_truth_place: str = "ground truth",
) -> Evaluation:
    """Compare a prediction with its ground truth.

    Args:
        prediction, ground_truth: any units and frames; float64 vertices keep what the files hold. A ground truth
            without faces is a point cloud: accuracy and completeness are measured against its points, and what needs
            a surface is None with the reason.
        protocol: a name in `protocols.PROTOCOLS`.
        alignment: another kind than the protocol's, recorded as a deviation.
        points: another number of samples than the protocol's, likewise.
        seed: the same seed gives the same numbers to the last digit, on any number of threads.
        looks: to also compare pictures: the prediction and the ground truth again, as they are to be rendered. They
            may have other vertices (a texture splits them) and colours, and are in the same frames.
        workers: threads of the nearest-neighbour searches, -1 for all cores.
        prediction_place, ground_truth_place: names for messages.

    Raises:
        BadInput: an unusable mesh (see `load.check_mesh`) or option.
    """
    started = time.perf_counter()
    chosen = get_protocol(protocol)
    kind = chosen.alignment if alignment is None else get_alignment(alignment)
    count = chosen.points if points is None else points
    if kind == "view-grid" and chosen.normalisation != "view-box":
        raise BadInput(
            f"the alignment '{kind}' does not go with the protocol '{chosen.name}'",
            place="--align",
            hint="use --align none, yaw, rigid or similarity",
        )
    if count < 1:
        raise BadInput(f"{count} points are not a sample", place="--points", hint="ask for 1 or more")
    if seed < 0:
        raise BadInput(f"a seed cannot be negative ({seed})", place="--seed", hint="use 0 or more")
    pair = (_given(prediction, prediction_place), _given(ground_truth, ground_truth_place, cloud=True))
    scan = pair[1].is_cloud

    # one stream for each role, so that a mesh against itself is compared through different points
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)]
    raw = [_sample(mesh, count, stream) for mesh, stream in zip(pair, streams, strict=True)]
    frames = normalisation_matrices(chosen, pair, (raw[0], raw[1]))
    samples = [sample.transformed(frame) for sample, frame in zip(raw, frames, strict=True)]
    found = align(kind, samples[0], samples[1], workers=workers)
    matrices = [found.matrix @ frames[0], frames[1]]
    before, samples[0] = samples[0], samples[0].transformed(found.matrix)
    neighbours = nearest(samples[0], samples[1], workers)
    measures = distances(neighbours, chosen.thresholds)
    if kind != "none":  # the search judges by fewer points: both sides of the alignment on all of them
        given = distances(nearest(before, samples[1], workers), ()).chamfer_l1
        found = replace(found, chamfer_before=given, chamfer_after=measures.chamfer_l1)
    with ThreadPoolExecutor(1 if workers == 1 else 2) as pool:
        reports = list(pool.map(lambda mesh: None if mesh.is_cloud else report(mesh.vertices, mesh.faces), pair))
    measured = [
        EvaluatedMesh(
            vertices=_apply(matrix, mesh.vertices),
            faces=mesh.faces,
            matrix=matrix,
            sample=sample,
            digest=_digest(mesh),
            report=described,
        )
        for mesh, matrix, sample, described in zip(pair, matrices, samples, reports, strict=True)
    ]
    if scan:
        overlap = VolumeOverlap(None, f"the ground truth is {CLOUD}", RESOLUTION, None, None)
    else:
        overlap = volume_overlap(measured[0].vertices, measured[0].faces, measured[1].vertices, measured[1].faces)
    rendered = None
    if looks is not None and not scan:
        rendered = compare_renderings(_moved(looks[0], matrices[0]), _moved(looks[1], matrices[1]))
    return Evaluation(
        protocol=chosen,
        alignment=found,
        points=count,
        seed=seed,
        distances=measures,
        volume=overlap,
        rendered=rendered,
        prediction=measured[0],
        truth=measured[1],
        nearest=neighbours,
        deviations=_deviations(chosen, kind, count, scan),
        warnings=_warnings(chosen, kind, pair, pictures=looks is not None),
        seconds=time.perf_counter() - started,
    )


def _given(mesh: Mesh, place: str, *, cloud: bool = False) -> _Given:
    """What was given, checked; a ground truth may be a point cloud."""
    vertices = mesh.vertices.detach().cpu().to(torch.float64).numpy()
    if cloud and not len(mesh.faces):
        points = check_cloud(vertices, place)
        return _Given(points, np.zeros((0, 3), np.int64), points, place)
    check_mesh(mesh, place)
    faces = mesh.faces.cpu().numpy()
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    return _Given(vertices, faces, vertices[used], place)


def check_cloud(points: Float[np.ndarray, "N 3"], place: str) -> Float[np.ndarray, "M 3"]:
    """The finite points of a cloud. Raises BadInput if they can't be measured against."""
    points = points[np.isfinite(points).all(-1)]
    if len(points) < 3 or not np.ptp(points, axis=0).max() > 0:
        cause = f"the point cloud has {len(points)} usable points" if len(points) < 3 else "all its points coincide"
        raise BadInput(cause, place=place, hint="give a scan with points, or a mesh")
    return points


def _sample(mesh: _Given, count: int, generator: np.random.Generator) -> SurfaceSample:
    """Points on the surface; of a point cloud its own points, `MOST_CLOUD_POINTS` at most."""
    if not mesh.is_cloud:
        return sample_surface(mesh.vertices, mesh.faces, count, generator)
    points = mesh.vertices
    if len(points) > MOST_CLOUD_POINTS:
        points = points[np.sort(generator.choice(len(points), MOST_CLOUD_POINTS, replace=False))]
    return SurfaceSample(points, None, None)


def normalisation_matrices(
    protocol: Protocol, pair: tuple[_Given, _Given], samples: tuple[SurfaceSample, SurfaceSample]
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "4 4"]]:
    """The (4, 4) matrices that bring both meshes into the protocol's frame. Unused vertices do not count.

    Args:
        protocol: says how.
        pair: the prediction and the ground truth.
        samples: of each, in its own frame.
    """
    prediction, truth = pair
    if protocol.normalisation in ("ground-truth-box", "ground-truth-box-10"):
        frame = _box_matrix(truth.used, 10.0 if protocol.normalisation == "ground-truth-box-10" else 1.0)
        return frame, frame
    if protocol.normalisation == "own-box":
        return _box_matrix(prediction.used, 2.0), _box_matrix(truth.used, 2.0)
    if protocol.normalisation == "view-box":
        return _view_matrix(samples[0].points), _view_matrix(samples[1].points)
    return _centroid_matrix(prediction), _centroid_matrix(truth)


def _view_matrix(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "4 4"]:
    middle = points.mean(0)
    return _scaling(float(view_scales(points - middle, np.eye(3)[None])[0]), middle)


def _box_matrix(vertices: Float[np.ndarray, "N 3"], side: float) -> Float[np.ndarray, "4 4"]:
    low, high = vertices.min(0), vertices.max(0)
    return _scaling(side / float((high - low).max()), (low + high) / 2)


def _centroid_matrix(mesh: _Given) -> Float[np.ndarray, "4 4"]:
    if mesh.is_cloud:
        centroid = mesh.used.mean(0)
        return _scaling(1 / float(np.linalg.norm(mesh.used - centroid, axis=-1).max()), centroid)
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    centroid = np.einsum("f,fi->i", area, (a + b + c) / 3) / area.sum()
    return _scaling(1 / float(np.linalg.norm(mesh.used - centroid, axis=-1).max()), centroid)


def _scaling(scale: float, center: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = -scale * center
    return matrix


def _apply(matrix: Float[np.ndarray, "4 4"], vertices: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return np.asarray(np.einsum("nj,ij->ni", vertices, matrix[:3, :3]) + matrix[:3, 3])


def _moved(mesh: Mesh, matrix: Float[np.ndarray, "4 4"]) -> Mesh:
    vertices = _apply(matrix, mesh.vertices.detach().cpu().double().numpy())
    return Mesh(torch.from_numpy(vertices), mesh.faces.cpu(), None if mesh.colors is None else mesh.colors.cpu())


def _digest(mesh: _Given) -> str:
    found = hashlib.sha256(np.ascontiguousarray(mesh.vertices, dtype="<f8").data)
    found.update(np.ascontiguousarray(mesh.faces, dtype="<i8").data)
    return found.hexdigest()


def _deviations(protocol: Protocol, kind: str, points: int, scan: bool) -> tuple[str, ...]:
    found = []
    if scan:
        found.append("the ground truth's own points instead of samples of a surface")
    # the project's own protocol offers every alignment; the published ones fix it
    if kind != protocol.alignment and protocol.name != "kiss3d":
        found.append(f"alignment {kind} instead of {protocol.alignment}")
    if points != protocol.points:
        found.append(f"{points} points instead of {protocol.points}")
    return tuple(found)


def _warnings(protocol: Protocol, kind: str, pair: tuple[_Given, _Given], *, pictures: bool) -> tuple[str, ...]:
    found = []
    if pair[1].is_cloud:
        lost = "normal consistency, volume IoU" + (" and the comparison of pictures" if pictures else "")
        found.append(f"The ground truth is {CLOUD}: {lost} can't be measured against it.")
    sides = [float(np.ptp(mesh.used, axis=0).max()) for mesh in pair]
    ratio = max(sides) / min(sides)
    if protocol.normalisation == "ground-truth-box" and kind != "similarity" and ratio > 2:
        larger = "prediction" if sides[0] > sides[1] else "ground truth"
        found.append(
            f"The {larger} is {ratio:.4g} times as large as the other mesh, so the numbers mostly measure scale: "
            "if the units differ, use --align similarity."
        )
    return tuple(found)
