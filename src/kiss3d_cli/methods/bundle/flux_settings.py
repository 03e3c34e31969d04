"""What both ways of drawing a bundle with Flux share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from kiss3d_cli.methods.base import Machine, Settings
from kiss3d_cli.methods.shared import Seeded, not_a_multiple
from kiss3d_cli.models.store.locate import file_of

PACKAGES = ("diffusers", "transformers")


class Lora(Settings):
    section: ClassVar[str] = "bundle"

    method: str
    lora_scale: float = Field(1.0, ge=0, le=4)
    """Scale of the bundle LoRA."""

    @property
    def lora(self) -> tuple[str, ...]:
        """The model of the route's LoRA; it may have parts for the text encoders too."""
        if self.lora_scale == 0:
            return ()
        return ("redux-lora",) if self.method == "redux" else ("bundle-lora",)


class Drawing(Lora, Seeded):
    section: ClassVar[str] = "bundle"

    tile: int = Field(512, ge=128, le=1024)
    """Side of one of the bundle's eight tiles, in pixels; for Flux a multiple of 8."""
    model: Literal["dev", "schnell"] = "dev"
    """`dev` is FLUX.1-dev, `schnell` its merge with FLUX.1-schnell, which needs fewer steps; both in fp8."""
    scheduler: Literal["heun", "euler"] = "heun"
    """Flow-match solver; Heun calls the transformer twice a step."""
    steps: int = Field(20, ge=1, le=1000)
    """Denoising steps of the full schedule."""
    guidance: float = Field(3.5, ge=0, le=50)
    """Flux's distilled guidance."""
    strength: float = Field(0.95, ge=0, le=1)
    """Share of the schedule that is run: 1 starts from noise, 0 returns the picture that it starts from."""
    redux_scale: float | None = Field(None, ge=0, le=4)
    """Factor of the Redux tokens; empty means the published one: 1 on the redux route, else 0.5."""

    @property
    def redux_factor(self) -> float:
        """Of the Redux tokens."""
        if self.redux_scale is not None:
            return self.redux_scale
        return 1.0 if self.method == "redux" else 0.5

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        yield from not_a_multiple("tile", self.tile, 8, "flux")  # the VAE's latents are halved once more


def drawing_models(settings: Drawing) -> tuple[str, ...]:
    """The all-in-one file has the VAE, so that it is there beside another transformer too."""
    return (
        "flux-dev",
        *(("flux-schnell",) if settings.model == "schnell" else ()),
        *settings.lora,
    )


def bundle_lora(machine: Machine) -> Path | None:
    """The LoRA's file of the route; None if its scale is 0."""
    files = {"bundle-lora": "rgb_normal.safetensors", "redux-lora": "rgb_normal_redux.safetensors"}
    return next((file_of(machine.models[name], file) for name, file in files.items() if name in machine.models), None)
