"""What is published of IS-Net: the file that rembg downloads, kept where rembg keeps it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.models.store.model import Model, Network

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings

FILE = "isnet-general-use.onnx"


def rembg_folder() -> Path:
    """`U2NET_HOME`, or `.u2net` in the user's folder, as rembg has it."""
    given = os.environ.get("U2NET_HOME")
    base = Path(given) if given else Path(os.environ.get("XDG_DATA_HOME", "~")) / ".u2net"
    return base.expanduser()


def _check(folders: Mapping[str, Path], findings: Findings) -> None:
    from kiss3d_cli.models.isnet.network import check_files

    check_files(folders, findings)


NETWORK = Network(
    (
        Model(
            "isnet",
            "danielgatis/rembg",
            (FILE,),
            0.18,
            "Apache-2.0",
            True,
            False,
            "cuts the object out",
            url="https://github.com/danielgatis/rembg/releases/download/v0.0.0/",
            sha256={FILE: "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a"},
        ),
    ),
    check=_check,
    folder=rembg_folder,
)
