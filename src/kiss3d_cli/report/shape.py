"""The mesh of a run as the report draws it: with its texture, its vertex colours, and its distance to the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.io.textured import read_textured_glb
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.texture.texture import Texture
from kiss3d_cli.report.run_view import RunView

MOST_FACES = 100_000
"""More than these are simplified, so that the page stays small; texture coordinates would not survive that."""
_SOURCES = (
    ("refine/mesh.ply", "the final mesh"),
    ("reconstruct/mesh.ply", "the reconstructed mesh, not refined yet"),
    ("reference/mesh.ply", "the first, rough mesh"),
)
_TRUTH_SAMPLES = 30_000


@dataclass(frozen=True)
class Shape:
    """
    Attributes:
        mesh: in the world frame; a vertex on a texture seam may be there several times.
        texture: None where the mesh has vertex colours or none at all.
        title: which mesh of the run it is.
        faces: how many the file has, before it was simplified for the page.
    """

    mesh: Mesh
    texture: Texture | None
    title: str
    faces: int


@dataclass(frozen=True)
class Errors:
    """Distance of every vertex to the ground truth.

    Attributes:
        distance: (N,) in `unit`.
        scale: the distance at which the colours end.
        unit: what lengths are measured in, in words.
    """

    distance: Float[np.ndarray, " N"]
    scale: float
    unit: str


def read_shape(run: RunView) -> Shape | None:
    """The most finished mesh that the run has; None if there is none.

    Raises:
        BadInput, OutOfMemory: it can't be read.
    """
    for reference, title in _SOURCES:
        path = run.artifact(reference)
        if path is None:
            continue
        glb = run.artifact("refine/mesh.glb") if reference.startswith("refine/") else None
        textured = None if glb is None else read_textured_glb(glb)
        if textured is not None and len(textured[0].faces) <= MOST_FACES:
            return Shape(*textured, title, len(textured[0].faces))
        mesh = read_mesh(path)
        return Shape(decimate(mesh, MOST_FACES), None, title, len(mesh.faces))
    return None


def measure_errors(run: RunView, mesh: Mesh) -> Errors | None:
    """How far every vertex is from the ground truth, in the frame and unit of metrics.json; None without either.

    Raises:
        BadInput, OutOfMemory: the ground truth can't be read.
    """
    metrics, path = run.json("eval/metrics.json"), run.input("ground_truth")
    if not metrics or path is None:
        return None
    from scipy.spatial import KDTree  # slow to import

    from kiss3d_cli.evaluation.files import read_truth
    from kiss3d_cli.evaluation.metrics import sample_surface

    try:
        to_common = [np.array(metrics[name]["to_common_frame"], float) for name in ("prediction", "ground_truth")]
        scale = max(float(score["threshold"]) for score in metrics["metrics"]["f_scores"])
        unit = str(metrics["normalisation"]["unit"])
    except (KeyError, TypeError, ValueError):
        return None
    if any(matrix.shape != (4, 4) or not np.isfinite(matrix).all() for matrix in to_common) or not scale > 0:
        return None
    truth, _ = read_truth(path)
    points, generator = _moved(truth.vertices.numpy(), to_common[1]), np.random.default_rng(0)
    if len(truth.faces):
        points = sample_surface(points, truth.faces.numpy(), _TRUTH_SAMPLES, generator).points
    else:
        points = generator.permutation(points[np.isfinite(points).all(-1)])[:_TRUTH_SAMPLES]
    vertices = _moved(mesh.vertices.double().numpy(), to_common[0])
    return Errors(np.asarray(KDTree(points).query(vertices)[0]), scale, unit)


def _moved(vertices: Float[np.ndarray, "N 3"], matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "N 3"]:
    return vertices @ matrix[:3, :3].T + matrix[:3, 3]
