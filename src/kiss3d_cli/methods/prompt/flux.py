"""What the bundle shall show, as Flux reads it: T5's and CLIP's reading of the caption, and Redux's of the picture.

A stage of its own, so that the bundle with another seed, strength or number of steps loads none of the three encoders.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, ClassVar

from kiss3d_cli.core.device import release
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.files import write_durably
from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.bundle.flux_settings import PACKAGES, Lora, bundle_lora
from kiss3d_cli.models.store.comfyui import flux_files

BUNDLE_PROMPT = "A grid of 2x4 multi-view image, elevation 5. White background."
"""What the bundle's LoRA was trained with."""
WORKING = 2**29
"""Video memory for the activations of 512 words."""


class PromptSettings(Lora):
    section: ClassVar[str] = "bundle"

    redux: bool = True
    """Add the picture's Redux tokens to the prompt (the Redux weights are gated)."""


class Flux(Weightless[PromptSettings]):
    """Write `prompt.safetensors` (t5, clip) and `redux.safetensors` (redux; no tokens without Redux)."""

    stage, name, version = "prompt", "flux", 2
    settings = PromptSettings
    reads = ("caption/caption.json", "preprocess/image.png")
    writes = ("prompt.safetensors", "redux.safetensors")
    packages = PACKAGES

    def models(self, settings: PromptSettings) -> tuple[str, ...]:
        redux = ("flux-redux",) if settings.redux else ()
        return ("flux-dev", "t5-tokenizer", "clip-tokenizer", *redux, *settings.lora)

    def work(self, settings: PromptSettings, machine: Machine, context: Context) -> None:
        import torch

        from kiss3d_cli.image.png import read_png
        from kiss3d_cli.methods.memory import explained
        from kiss3d_cli.models.flux.loading import load_clip, load_t5
        from kiss3d_cli.models.flux.redux import load_redux
        from kiss3d_cli.models.flux.text import (
            CLIP_LENGTH,
            CLIP_PADDING,
            T5_LENGTH,
            T5_PADDING,
            Tokenizer,
            clip_summary,
            t5_states,
        )
        from kiss3d_cli.models.runtime.offload import Residence

        def on_device(model: torch.nn.Module, name: str, lists: tuple[str, ...]) -> Residence:
            device = machine.device
            return Residence({name: model}, lists, device.torch, limit=device.limit_bytes, working=WORKING, what=name)

        files, lora = flux_files(machine.models["flux-dev"]), bundle_lora(machine)
        caption = _caption(context.inputs["caption/caption.json"])
        device, half = machine.device.torch, machine.device.half
        # T5's residuals leave float16's range; weights in fp8 cost the same in whatever dtype they are widened to
        t5_dtype = torch.float32 if half == torch.float16 else half
        long_tokens = Tokenizer(machine.models["t5-tokenizer"] / "tokenizer.json", T5_LENGTH, T5_PADDING)
        short_tokens = Tokenizer(machine.models["clip-tokenizer"] / "tokenizer.json", CLIP_LENGTH, CLIP_PADDING)
        words, short = long_tokens(f"{BUNDLE_PROMPT} {caption}"), short_tokens(BUNDLE_PROMPT)
        if words.dropped:
            context.warnings.append(f"The caption is long: the last {words.dropped} of its pieces were left out.")
        started = time.perf_counter()
        with explained(
            machine.device, lambda: "while reading the prompt", "close other programs on the GPU, then resume the run"
        ):
            context.progress(0.05, "T5")
            t5 = load_t5(files.t5, t5_dtype, lora=lora, scale=settings.lora_scale, device=device)
            with on_device(t5, "T5", ("encoder.block",)) as residence:
                residence.expect(["T5"])
                states = t5_states(t5, words.ids.to(device)).to("cpu", half)
                context.facts["t5_streamed_bytes"] = residence.plan.streamed_bytes
            del t5
            release(machine.device)
            context.progress(0.6, "CLIP")
            clip = load_clip(files.clip, half, lora=lora, scale=settings.lora_scale)
            with on_device(clip, "CLIP", ("encoder.layers",)):
                summary = clip_summary(clip, short.ids.to(device)).to("cpu", half)
            del clip
            tokens = states.new_zeros(1, 0, states.shape[-1])
            if settings.redux:
                release(machine.device)
                context.progress(0.8, "Redux")
                redux = load_redux(machine.models["flux-redux"], half)
                with on_device(redux, "Redux", ("vision.encoder.layers",)):
                    tokens = redux(read_png(context.inputs["preprocess/image.png"])).to("cpu", half)
        if tokens.shape[-1] != states.shape[-1]:
            raise BadInput(
                f"Redux's tokens have {tokens.shape[-1]} channels, T5's {states.shape[-1]}",
                place="bundle.redux",
                hint="use the published models together",
            )
        context.facts["seconds_encoders"] = round(time.perf_counter() - started, 3)
        _write(context.output / "prompt.safetensors", {"t5": states, "clip": summary})
        _write(context.output / "redux.safetensors", {"redux": tokens})


def _caption(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["caption"])


def _write(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save

    write_durably(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
