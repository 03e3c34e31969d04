"""The prompt of a run without a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened
from kiss3d_cli.methods.bundle.flux_settings import PACKAGES, Lora, prompt_cost
from kiss3d_cli.methods.cost import Cost, Surroundings


class Text(Method[Lora]):
    """T5's and CLIP's reading of the caption; no Redux tokens, as there is no picture."""

    stage, name, version = "prompt", "text", 1
    settings = Lora
    reads = ("caption/caption.json",)
    writes = ("prompt.safetensors", "redux.safetensors")
    packages = PACKAGES

    def models(self, settings: Lora) -> tuple[str, ...]:
        return ("flux-dev", "t5-tokenizer", "clip-tokenizer", *settings.lora)

    def cost(self, settings: Lora, around: Surroundings) -> Cost:
        return prompt_cost(redux=False)

    @contextmanager
    def open(self, settings: Lora, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.prompt.reading import Reader

        with Reader(settings, machine, redux=False) as reader:
            yield reader.read
