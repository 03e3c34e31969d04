"""What is published of the large reconstruction model: PRM's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.models.store.model import Model, Network

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings

CHECKPOINT_FILE = "final_ckpt.ckpt"


def _check(folders: Mapping[str, Path], findings: Findings) -> None:
    from kiss3d_cli.models.lrm.checkpoint import check_files

    check_files(folders, findings)


NETWORK = Network(
    (
        Model(
            "prm",
            "LTT/PRM",
            (CHECKPOINT_FILE,),
            1.6,
            "none stated; derived from InstantMesh, Apache-2.0",
            False,
            False,
            "reconstruction from four views",
        ),
    ),
    check=_check,
)
