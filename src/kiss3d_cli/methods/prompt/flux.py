"""What the bundle shall show, as Flux reads it: T5's and CLIP's reading of the caption, and Redux's of the picture.

A stage of its own, so that the bundle with another seed, strength or number of steps loads none of the three encoders.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from kiss3d_cli.methods.base import Machine, Opened
from kiss3d_cli.methods.bundle.flux_settings import ALL_IN_ONE, L, Lora, OfFlux, prompt_cost
from kiss3d_cli.methods.cost import Cost, Surroundings


class PromptSettings(Lora):
    section: ClassVar[str] = "bundle"

    redux: bool = True
    """Add the picture's Redux tokens to the prompt (the Redux weights are gated)."""


class Prompt(OfFlux[L]):
    """Write `prompt.safetensors` (t5, clip) and `redux.safetensors` (redux; no tokens without Redux)."""

    stage = "prompt"
    writes = ("prompt.safetensors", "redux.safetensors")

    @abstractmethod
    def redux(self, settings: L) -> bool:
        """Whether the picture's Redux tokens are added."""

    def models(self, settings: L) -> tuple[str, ...]:
        redux = ("flux-redux",) if self.redux(settings) else ()
        return (ALL_IN_ONE, "t5-tokenizer", "clip-tokenizer", *redux, *settings.lora)

    def cost(self, settings: L, around: Surroundings) -> Cost:
        return prompt_cost(redux=self.redux(settings))

    @contextmanager
    def open(self, settings: L, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.prompt.reading import Reader

        with Reader(settings, machine, redux=self.redux(settings)) as reader:
            yield reader.read


class Flux(Prompt[PromptSettings]):
    """T5's and CLIP's reading of the caption, and Redux's of the picture where asked."""

    name, version = "flux", 2
    settings = PromptSettings
    reads = ("caption/caption.json", "preprocess/image.png")
    help = "encodes caption and picture"
    default = True

    def redux(self, settings: PromptSettings) -> bool:
        return settings.redux and settings.method != "enhance"  # the published way from a mesh has none
