"""What every way of captioning shares."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from kiss3d_cli.methods.base import Context, Settings

READS = ("preprocess/image.png", "preprocess/mask.png")
WRITES = ("caption.json",)


class Given(Settings):
    text: str | None = None
    """A caption to use instead of one made from the picture."""


def measured(context: Context) -> dict[str, Any]:
    """A description measured from the picture."""
    from kiss3d_cli.image.describe import describe
    from kiss3d_cli.image.png import read_png

    rgb = read_png(context.inputs["preprocess/image.png"])
    mask = read_png(context.inputs["preprocess/mask.png"]) > 127
    return {"source": "describe", **dataclasses.asdict(describe(rgb, mask))}


def write_caption(context: Context, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (context.output / "caption.json").write_text(text, encoding="utf-8")
