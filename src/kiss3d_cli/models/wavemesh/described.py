"""Which features of the views' patches a network is trained with: its own alone, or DINOv2's beside them."""

from __future__ import annotations

from pathlib import Path

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.dinov2.features import NAME, Features
from kiss3d_cli.models.store.locate import find, missing_error
from kiss3d_cli.models.store.registry import lookup

CHOICES = ("auto", "own", "frozen")


def described_by(features: str, root: Path | None, device: str) -> Features | None:
    """DINOv2 where it is asked for; with `auto` on a GPU, if it is there: on a few cores it is most of the work.

    Args:
        features: of CHOICES. root: of the models; None for the Hugging Face cache. device: "cpu" or anything else.

    Raises:
        BadInput: another name. Missing: its weights are asked for and not here.
    """
    if features not in CHOICES:
        raise BadInput(f"there are no features {features}", place="--features", hint=f"choose of {', '.join(CHOICES)}")
    found = devices.resolve("cpu" if device == "cpu" else "auto")
    if features == "own" or (features == "auto" and not found.is_cuda):
        return None
    located = find(lookup(NAME), root)
    if located is not None:
        return Features(located.path, found.torch)
    if features == "frozen":
        raise missing_error([lookup(NAME)], root, "train with --features own")
    return None
