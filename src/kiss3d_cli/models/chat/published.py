"""Any chat model of the hub in the layout of transformers; which one is the user's choice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.models.store.model import TRANSFORMERS_FILES, Model, Network

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings


def _check(folders: Mapping[str, Path], findings: Findings) -> None:
    from kiss3d_cli.models.chat.expander import check_files

    check_files(folders, findings)


NETWORK = Network(
    check=_check,
    unlisted=Model(
        "",
        "",
        ("config.json", "*.safetensors", "*.jinja", *TRANSFORMERS_FILES),
        None,
        "see its page",
        False,
        False,
        "expands the caption",
    ),
)
