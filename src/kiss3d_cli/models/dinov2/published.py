"""What is published of DINOv2: Meta's weights in the layout of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.models.store.model import Model, Network

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings


def _check(folders: Mapping[str, Path], findings: Findings) -> None:
    from kiss3d_cli.models.dinov2.features import check_files

    check_files(folders, findings)


NETWORK = Network(
    (
        Model(
            "dinov2",
            "facebook/dinov2-base",
            ("config.json", "model.safetensors"),
            0.35,
            "Apache-2.0",
            True,
            False,
            "features of the views, for a WaveMesh-Diff that was trained with them",
        ),
    ),
    check=_check,
)
