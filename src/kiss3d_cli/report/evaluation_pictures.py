"""Figures of an evaluation: the error map, precision and recall over the threshold, and the two meshes overlaid."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.files import replacing
from kiss3d_cli.evaluation.compare import EvaluatedMesh, Evaluation
from kiss3d_cli.evaluation.metrics import f_score
from kiss3d_cli.geometry.cameras import View, bundle_cameras
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_normals

SIZE = 384
_COLORMAP = "inferno"
_PREDICTION, _TRUTH = (0.85, 0.35, 0.1), (0.1, 0.35, 0.75)


def check_matplotlib() -> None:
    """Raises Missing if the pictures can't be drawn, for a caller who wants to know before the long work."""
    if importlib.util.find_spec("matplotlib") is None:
        raise Missing(
            "the pictures of an evaluation need matplotlib, which is not installed",
            place="--out",
            hint="pip install 'kiss3d[eval]', or --no-pictures",
        )


def write_pictures(found: Evaluation, folder: Path) -> list[Path]:
    """Write error.ply, error.png, precision_recall.png and overlay.png; no overlay with a point cloud.

    Args:
        found: any evaluation.
        folder: it is there.

    Raises:
        Missing: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib import colormaps

    scale = max(found.protocol.thresholds)
    scan = found.truth.report is None
    pair = (found.prediction, found.truth)
    errors = [_vertex_errors(mesh, other) for mesh, other in zip(pair, pair[::-1], strict=True)]
    colors = [torch.from_numpy(colormaps[_COLORMAP](np.minimum(error / scale, 1))[:, :3]) for error in errors]
    meshes = [mesh.tensors(color) for mesh, color in zip(pair, colors, strict=True)]
    given = _as_given(found.prediction).with_colors(colors[0])
    write_mesh(folder / "error.ply", given)
    placed = [_in_view(mesh, found.truth) for mesh in meshes[: 1 if scan else 2]]
    _draw_errors(placed, scale, found.protocol.unit, folder / "error.png")
    _draw_precision_recall(found, folder / "precision_recall.png")
    names = ["error.ply", "error.png", "precision_recall.png"]
    if not scan:
        _draw_overlay(placed, folder / "overlay.png")
        names.append("overlay.png")
    return [folder / name for name in names]


def _vertex_errors(mesh: EvaluatedMesh, other: EvaluatedMesh) -> Float[np.ndarray, " N"]:
    """Distance from every vertex to the other mesh's samples; 0 for vertices without a face."""
    used = np.zeros(len(mesh.vertices), dtype=bool)
    used[mesh.faces] = True
    error = np.zeros(len(mesh.vertices))
    if not used.any():
        return error
    error[used] = KDTree(other.sample.points).query(mesh.vertices[used], workers=-1)[0]
    return error


def _as_given(mesh: EvaluatedMesh) -> Mesh:
    """The mesh in its own frame again; vertices without a face, which may be NaN, are put to the origin."""
    back = np.linalg.inv(mesh.matrix)
    vertices = mesh.vertices @ back[:3, :3].T + back[:3, 3]
    return Mesh(torch.from_numpy(np.nan_to_num(vertices, posinf=0, neginf=0)), torch.from_numpy(mesh.faces))


def _in_view(mesh: Mesh, truth: EvaluatedMesh) -> Mesh:
    """Centred on the ground truth, its farthest vertex at distance 1."""
    used = truth.vertices if truth.report is None else truth.vertices[np.unique(truth.faces)]
    center = (used.min(0) + used.max(0)) / 2
    scale = 1 / np.linalg.norm(used - center, axis=-1).max()
    vertices = torch.nan_to_num((mesh.vertices - torch.from_numpy(center)) * scale)
    return Mesh(vertices.float(), mesh.faces, None if mesh.colors is None else mesh.colors.float())


def _shade(mesh: Mesh, view: int) -> tuple[Float[Tensor, "H W 1"], Float[Tensor, "H W 1"]]:
    """Brightness under a lamp at the camera, and where the mesh is seen; surfaces seen from behind are lit too."""
    rendered = render_normals(mesh, bundle_cameras()[[view]], (SIZE, SIZE))
    return 0.25 + 0.75 * rendered.normals[0, :, :, 2:].abs(), rendered.mask[0, :, :, None]


def _draw_errors(meshes: list[Mesh], scale: float, unit: str, path: Path) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, axes = _grid(len(meshes), 4)
    labels = ("prediction:\ndistance to the ground truth", "ground truth:\ndistance to the prediction")
    for row, (mesh, label) in enumerate(zip(meshes, labels, strict=False)):
        for view in View:
            colors = render_colors(mesh, bundle_cameras()[[view]], (SIZE, SIZE)).colors[0]
            light, mask = _shade(mesh, view)
            axes[row][view].imshow((colors * (1 - mask + mask * (0.5 + 0.5 * light))).clamp(0, 1).numpy())
            axes[row][view].set_title(view.name.lower() if row == 0 else "")
        axes[row][0].set_ylabel(label)
    bar = figure.colorbar(ScalarMappable(Normalize(0, scale), _COLORMAP), ax=axes, shrink=0.8, extend="max")
    bar.set_label(f"distance / {unit}")
    with replacing(path) as partial:
        figure.savefig(partial, metadata={"Software": None})


def _draw_precision_recall(found: Evaluation, path: Path) -> None:
    figure, axes = _grid(1, 1, size=(6.5, 4.2), frame=True)
    axis = axes[0][0]
    thresholds = np.linspace(0, 2 * max(found.protocol.thresholds), 201)
    scores = [f_score(found.nearest, float(threshold)) for threshold in thresholds]
    for name in ("precision", "recall", "f_score"):
        axis.plot(thresholds, [getattr(score, name) for score in scores], label=name.replace("f_score", "F-score"))
    for threshold in found.protocol.thresholds:
        axis.axvline(threshold, color="0.8", zorder=0)
    axis.set(xlabel=f"threshold / {found.protocol.unit}", ylim=(-0.02, 1.02), xlim=(0, thresholds[-1]))
    axis.set_title(f"protocol {found.protocol.name}, alignment {found.alignment.kind}")
    axis.legend()
    with replacing(path) as partial:
        figure.savefig(partial, metadata={"Software": None})


def _draw_overlay(meshes: list[Mesh], path: Path) -> None:
    from matplotlib.patches import Patch

    figure, axes = _grid(1, 4)
    for view in View:
        image = torch.ones(SIZE, SIZE, 3)
        shown = [_shade(mesh, view) for mesh in meshes]
        weight = shown[0][1] + shown[1][1]
        tints = torch.tensor([_PREDICTION, _TRUTH])
        lit = sum(mask * light * tint for (light, mask), tint in zip(shown, tints, strict=True))
        image = torch.where(weight > 0, lit / weight.clamp_min(1), image)
        axes[0][view].imshow(image.clamp(0, 1).numpy())
        axes[0][view].set_title(view.name.lower())
    handles = [Patch(color=_PREDICTION, label="prediction"), Patch(color=_TRUTH, label="ground truth")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, metadata={"Software": None})


def _grid(rows: int, columns: int, size: tuple[float, float] | None = None, frame: bool = False) -> tuple[Any, Any]:
    """A figure with its own canvas: no global state, no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size or (2.6 * columns + 1.2, 2.7 * rows + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    if not frame:
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    return figure, axes
