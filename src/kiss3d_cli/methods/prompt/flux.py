"""What the bundle shall show, as Flux reads it: T5's and CLIP's reading of the caption, and Redux's of the picture.

A stage of its own, so that the bundle with another seed, strength or number of steps loads none of the three encoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from kiss3d_cli.methods.base import Machine, Method, Opened
from kiss3d_cli.methods.bundle.flux_settings import PACKAGES, Lora, prompt_cost
from kiss3d_cli.methods.cost import Cost, Surroundings


class PromptSettings(Lora):
    section: ClassVar[str] = "bundle"

    redux: bool = True
    """Add the picture's Redux tokens to the prompt (the Redux weights are gated)."""


class Flux(Method[PromptSettings]):
    """Write `prompt.safetensors` (t5, clip) and `redux.safetensors` (redux; no tokens without Redux)."""

    stage, name, version = "prompt", "flux", 2
    settings = PromptSettings
    reads = ("caption/caption.json", "preprocess/image.png")
    writes = ("prompt.safetensors", "redux.safetensors")
    packages = PACKAGES

    def models(self, settings: PromptSettings) -> tuple[str, ...]:
        redux = ("flux-redux",) if settings.redux else ()
        return ("flux-dev", "t5-tokenizer", "clip-tokenizer", *redux, *settings.lora)

    def cost(self, settings: PromptSettings, around: Surroundings) -> Cost:
        return prompt_cost(redux=settings.redux)

    @contextmanager
    def open(self, settings: PromptSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.prompt.reading import Reader

        with Reader(settings, machine, redux=settings.redux) as reader:
            yield reader.read
