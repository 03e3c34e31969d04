"""What every way of captioning shares."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from kiss3d_cli.methods.base import Context, Settings
from kiss3d_cli.methods.cost import GIGA, Cost

READS = ("preprocess/image.png", "preprocess/mask.png")
WRITES = ("caption.json",)


class Given(Settings):
    text: str | None = None
    """A caption to use instead of one made from the picture."""


class Expanded(Given):
    expand: bool = False
    """Let a language model expand the caption to describe four views, as every published run does. It is off: it takes
    15 GB of weights and half a minute for words that repeat what the reference bundle shows."""
    expand_model: str = "Qwen/Qwen2-7B-Instruct"
    """The chat model that expands the caption."""
    expand_temperature: float = Field(0.7, ge=0, le=2)
    """Its temperature; 0 takes the likeliest word each time."""
    expand_tokens: int = Field(512, ge=16, le=4096)
    """Longest expansion, in its tokens."""
    expand_seed: int = Field(42, ge=0, le=2**63 - 1)
    """Seed of its words: not that of the run, so that another seed of the run leaves the caption as it is."""


def expansion_cost(settings: Expanded) -> Cost:
    """What expanding the caption costs, with a chat model of seven billion parameters."""
    return Cost(loaded=15 * GIGA, host_seconds=24, memory=15 * GIGA) if settings.expand else Cost()


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
