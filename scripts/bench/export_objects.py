"""Many meshes of others, each written for a slicer, a phone, an engine and a page, and read by programs of others."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Container, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from export_readers import check, slice_print

from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.model import Model
from kiss3d_cli.export.options import Options
from kiss3d_cli.geometry.mesh import Mesh


def pick(folder: Path, count: int, seed: int, but: Container[str]) -> Iterator[tuple[str, Model]]:
    """So many of a folder's objects, chosen at random, as `zip/id`."""
    names = []
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            names += [f"{path.stem}/{name}" for name in sorted(archive.namelist()) if name.endswith(".npz")]
    for index in np.random.default_rng(seed).permutation(len(names))[:count]:
        pack, _, name = names[index].partition("/")
        if names[index] not in but:
            with zipfile.ZipFile(folder / f"{pack}.zip") as archive:
                yield names[index], _model(archive.read(name))


def _model(data: bytes) -> Model:
    arrays = np.load(BytesIO(data), allow_pickle=False)
    colors = torch.from_numpy(arrays["c"].astype(np.float32) / 255)
    vertices, faces = arrays["v"].astype(np.float32), arrays["f"].astype(np.int64)
    return Model(Mesh(torch.from_numpy(vertices), torch.from_numpy(faces), colors))


def measure(model: Model) -> dict[str, Any]:
    """What each reader says, under `bad_*` if it is not "fine", and of the print whether it is closed."""
    half = max(16, len(model.mesh.faces) // 2)
    asked = {
        "print": Options(to="print"),
        "usdz": Options(to="ar"),
        "glb": Options(to="godot"),
        "packed_glb": Options(to="web", faces=half, texture=256),
    }
    found: dict[str, Any] = {"faces": len(model.mesh.faces)}
    for name, options in asked.items():
        try:
            made = export(model, options, "mesh")
        except Kiss3dError as error:
            found[f"bad_{name}"] = f"refused: {error}"
            continue
        with tempfile.TemporaryDirectory() as folder:
            for file, data in made.files.items():
                (Path(folder) / file).write_bytes(data)
            path = Path(folder) / next(iter(made.files))
            said = slice_print(path) if name == "print" else check(path)
        found[f"bad_{name}"] = None if said.endswith(": fine") else said
        if name == "print":
            volume = made.facts["volume_mm3"]
            found["bad_closed"] = None if made.facts["closed"] and volume > 0 else f"volume {volume}"
            found["crossing_pairs"] = made.facts["self_intersections"]
            found["notes"] = made.notes
    return found
