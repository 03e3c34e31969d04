"""What all ways of reading a prompt and drawing a bundle with Flux share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import Field

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.methods.base import Machine, Method, Prospect, Settings
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import Seeded, not_a_multiple
from kiss3d_cli.models.flux.published import LORAS
from kiss3d_cli.models.store.locate import file_of

Asked = tuple[str, float, float, float]
"""A control: its mode, its scale, and where it sets in and ends."""
CONTROLNET = "flux-controlnet"
ALL_IN_ONE = "flux-dev"
"""The model that every way of working with Flux loads."""
LARGE = 2 * 10**9
"""Bytes of its file from which Flux is not for the CPU."""
FROM_A_PICTURE = "start from a picture, kiss3d run image.png --preset draft"


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
        return ("redux-lora",) if self.method in ("redux", "enhance") else ("bundle-lora",)


class Drawing(Lora, Seeded):
    section: ClassVar[str] = "bundle"

    tile: int = Field(512, ge=64, le=1024)
    """Side length of each of the bundle's eight tiles, in pixels; a multiple of 8 for Flux."""
    model: Literal["dev", "schnell"] = "dev"
    """`dev` is FLUX.1-dev, `schnell` its merge with FLUX.1-schnell, which needs fewer steps; both are fp8."""
    scheduler: Literal["heun", "euler"] = "heun"
    """Flow-matching solver; Heun evaluates the transformer twice per step."""
    steps: int = Field(20, ge=1, le=1000)
    """Denoising steps of the full schedule."""
    guidance: float = Field(3.5, ge=0, le=50)
    """Distilled guidance scale of Flux."""
    strength: float = Field(0.95, ge=0, le=1)
    """Share of the schedule that is run: 1 starts from pure noise, 0 returns the input."""
    redux_scale: float | None = Field(None, ge=0, le=4)
    """Scale of the Redux tokens; empty means the published one: 1 on the redux route, else 0.5."""

    @property
    def transformer(self) -> str:
        """The model that has the transformer."""
        return "flux-dev" if self.model == "dev" else "flux-schnell"

    @property
    def redux_factor(self) -> float:
        """Of the Redux tokens."""
        if self.redux_scale is not None:
            return self.redux_scale
        return 1.0 if self.method == "redux" else 0.5

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        yield from not_a_multiple("tile", self.tile, 8, "flux")  # the VAE's latents are halved once more


L = TypeVar("L", bound=Lora)


class OfFlux(Method[L]):
    """A method that works with Flux."""

    packages = ("diffusers", "transformers")

    def require(self, settings: L, prospect: Prospect) -> None:
        """Flux would end up on Metal, or at its full size on a CPU that nobody asked for by name."""
        from_words = settings.method == "text"
        without = FROM_A_PICTURE if from_words else "--preset draft, or --set bundle.method=reference"
        if from_words and prospect.pull is not None:
            without += f"; on a machine with a GPU {prospect.pull} gets the weights"
        device = prospect.device
        if device.name == "mps":
            raise Missing("Flux can't run on Metal: torch has no fp8 there", place="device.name=mps", hint=without)
        if device.is_gpu or device.why == "asked for" or prospect.size_of(ALL_IN_ONE) < LARGE:
            return
        raise Missing(
            f"Flux needs a GPU ({device.why.removeprefix('auto: ')}); on a CPU one bundle takes many hours",
            place="bundle.method",
            hint=f"{without}, or --set device.name=cpu to wait for it",
        )


def drawing_models(settings: Drawing) -> tuple[str, ...]:
    """The all-in-one file has the VAE, so that it is there beside another transformer too."""
    return (
        *dict.fromkeys((ALL_IN_ONE, settings.transformer)),
        *settings.lora,
    )


def prompt_cost(*, redux: bool) -> Cost:
    """What reading the prompt costs."""
    from kiss3d_cli.models.flux import work

    return Cost(
        flops=2 * work.T5_PARAMETERS * work.T5_WORDS,
        traffic=work.WIDENING * work.T5_BYTES,
        loaded=work.T5_BYTES + work.CLIP_BYTES + (work.REDUX_BYTES if redux else 0),
        host_seconds=1,
        video=work.T5_BYTES + GIB,
        least_video=1.2 * GIB,
    )


def drawing_calls(settings: Drawing, strength: float, asked: Sequence[Asked] = ()) -> tuple[int, int]:
    """How often drawing calls the transformer, and the ControlNet."""
    from kiss3d_cli.models.flux.schedule import acts, make_schedule

    schedule = make_schedule(settings.scheduler, settings.steps, strength, 8 * settings.tile**2 // 256)
    looks = [schedule.calls_of(step) for step in range(schedule.steps)]
    controlled = sum(
        look for _, _, start, end in asked for step, look in enumerate(looks) if acts(start, end, step, schedule.steps)
    )
    return sum(looks), controlled


def drawing_cost(settings: Drawing, around: Surroundings, strength: float, asked: Sequence[Asked] = ()) -> Cost:
    """What drawing a bundle costs.

    Args:
        around: its `run` says whether Redux's tokens stand beside the words.
        strength: share of the schedule that is run.
        asked: the controls.
    """
    from kiss3d_cli.models.flux import work

    redux = around.run.get("bundle.redux", True) and around.run.get("prompt.method") != "text"
    words = work.T5_WORDS + (work.REDUX_WORDS if redux else 0)
    pixels = 8 * settings.tile**2
    tokens = words + pixels // 256
    calls, controlled = drawing_calls(settings, strength, asked)
    memory = work.memory(pixels, words, len(asked), around.limit)
    share = memory.streamed / memory.weights
    most = memory.weights + memory.working
    return Cost(
        flops=calls * work.transformer_flops(work.FLUX, tokens)
        + controlled * work.transformer_flops(work.CONTROLNET, tokens + 1)
        + work.vae_flops(pixels, 1 + len(asked)),
        traffic=calls * work.transformer_traffic(work.FLUX, tokens)
        + controlled * work.transformer_traffic(work.CONTROLNET, tokens),
        streamed=share * (calls * work.FLUX.bytes + controlled * work.CONTROLNET.bytes),
        loaded=memory.weights + work.VAE_BYTES,
        host_seconds=1,
        video=max(min(most, around.limit or most), work.VAE_BYTES + pixels * work.DECODE_BYTES),
        least_video=memory.least,
        memory=memory.streamed,
        prepared={settings.transformer: work.FLUX.bytes, **({CONTROLNET: work.CONTROLNET.bytes} if asked else {})},
    )


def bundle_lora(machine: Machine) -> Path | None:
    """The LoRA's file of the route; None if its scale is 0."""
    return next((file_of(machine.models[name], file) for name, file in LORAS.items() if name in machine.models), None)
