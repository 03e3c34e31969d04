"""Two files compared: what the readers leave out or take in a particular way is among the evaluation's warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch

from kiss3d_cli.evaluation.compare import Evaluation, Options, check_cloud, evaluate
from kiss3d_cli.geometry.io.load import read_geometry, read_mesh
from kiss3d_cli.geometry.mesh import Mesh


def read_truth(
    path: Path, dtype: torch.dtype = torch.float64, *, alone: bool = False, textures: bool = False
) -> tuple[Mesh, tuple[str, ...]]:
    """A ground truth and the reader's notes; a point cloud comes as a mesh without faces.

    Args:
        path, dtype, alone, textures: as for `read_geometry`.

    Raises:
        BadInput, OutOfMemory: as `read_geometry`; a point cloud without extent.
    """
    geometry = read_geometry(path, dtype, alone=alone, textures=textures)
    if geometry.mesh is not None:
        return geometry.mesh, geometry.notes
    assert geometry.points is not None
    check_cloud(geometry.points.points.double().numpy(), str(path))
    no_faces = torch.zeros(0, 3, dtype=torch.int64)
    return Mesh(geometry.points.points, no_faces, geometry.points.colors), geometry.notes


def evaluate_files(
    prediction: Path,
    ground_truth: Path,
    *,
    render: bool = False,
    ground_truth_place: str | None = None,
    **options: Unpack[Options],
) -> Evaluation:
    """Read two files and compare them; a ground truth may be a point cloud, which no pictures are made of.

    Args:
        prediction, ground_truth: the files.
        render: also compare pictures.
        ground_truth_place: its name for messages; its path by default.
        options: as for `evaluate`.

    Raises:
        BadInput, Missing, OutOfMemory: as `read_geometry` and `evaluate` do.
    """
    truth, said = read_truth(ground_truth)  # first: the likelier mistake
    notes = [f"ground truth: {note}" for note in said]

    def read(dtype: torch.dtype, textures: bool) -> Mesh:
        geometry = read_geometry(prediction, dtype, textures=textures)
        notes.extend(f"prediction: {note}" for note in geometry.notes)
        return geometry.mesh or read_mesh(prediction)  # which refuses a prediction without a surface

    mesh = read(torch.float64, False)
    looks = None
    if render and len(truth.faces):
        shown, said = read_truth(ground_truth, torch.float32, textures=True)
        looks = read(torch.float32, True), shown
        notes += [f"ground truth: {note}" for note in said]
    elif render:
        notes.append("no pictures were compared: the ground truth is a point cloud")
    found = evaluate(
        mesh,
        truth,
        looks=looks,
        prediction_place=str(prediction),
        ground_truth_place=str(ground_truth) if ground_truth_place is None else ground_truth_place,
        **options,
    )
    return replace(found, warnings=(*found.warnings, *dict.fromkeys(notes)))
