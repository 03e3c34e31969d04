"""What is published of Florence-2: Microsoft's weights in the layout of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.models.store.model import TRANSFORMERS_FILES, Model, Network

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings


def _check(folders: Mapping[str, Path], findings: Findings) -> None:
    from kiss3d_cli.models.florence2.captioner import check_files

    check_files(folders, findings)


NETWORK = Network(
    (
        Model(
            "florence2",
            "florence-community/Florence-2-large",
            ("config.json", "model.safetensors", "tokenizer.json", *TRANSFORMERS_FILES),
            1.6,
            "MIT",
            True,
            False,
            "caption of the picture",
        ),
    ),
    check=_check,
)
