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
    """Caption to use instead of a generated one."""


class Expanded(Given):
    expand: bool = False
    """Expand the caption with a language model to describe four views, as the published code always does. Off by
    default: it takes 15 GB of weights and half a minute, for words that repeat what the reference bundle shows."""
    expand_model: str = "Qwen/Qwen2-7B-Instruct"
    """Chat model that expands the caption."""
    expand_temperature: float = Field(0.7, ge=0, le=2)
    """Sampling temperature of the chat model; 0 is greedy decoding."""
    expand_tokens: int = Field(512, ge=16, le=4096)
    """Maximum length of the expansion, in tokens."""
    expand_seed: int = Field(42, ge=0, le=2**63 - 1)
    """Seed for sampling the expansion; separate from the run's seed, so that changing that one keeps the caption."""


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
