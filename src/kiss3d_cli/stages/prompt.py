"""What the bundle shall show, as Flux reads it: T5's and CLIP's reading of the caption, and Redux's of the picture.

A stage of its own, so that the bundle with another seed, strength or number of steps loads none of the three encoders.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from kiss3d_cli.core.device import release
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.files import write_durably
from kiss3d_cli.core.stage import Context
from kiss3d_cli.image.png import read_png
from kiss3d_cli.models.flux.loading import DEV_FILE, load_clip, load_t5
from kiss3d_cli.models.flux.redux import load_redux
from kiss3d_cli.models.flux.text import CLIP_LENGTH, T5_LENGTH, Tokenizer, clip_summary, t5_states
from kiss3d_cli.models.runtime.offload import Residence
from kiss3d_cli.stages.memory import explained

BUNDLE_PROMPT = "A grid of 2x4 multi-view image, elevation 5. White background."
"""What the bundle's LoRA was trained with."""
WORKING = 2**29
"""Video memory for the activations of 512 words."""


def flux(context: Context) -> None:
    """Write `prompt.safetensors` (t5, clip) and `redux.safetensors` (redux; no tokens without Redux)."""
    source = context.models["flux-dev"] / DEV_FILE
    caption = _caption(context.inputs["caption/caption.json"])
    lora, scale = bundle_lora(context), float(context.settings["bundle.lora_scale"])
    device, half = context.device.torch, context.device.half
    # T5's residuals leave float16's range; weights in fp8 cost the same in whatever dtype they are widened to
    t5_dtype = torch.float32 if half == torch.float16 else half
    long_tokens = Tokenizer(context.models["t5-tokenizer"] / "tokenizer.json", T5_LENGTH, "<pad>")
    short_tokens = Tokenizer(context.models["clip-tokenizer"] / "tokenizer.json", CLIP_LENGTH, "<|endoftext|>")
    words, short = long_tokens(f"{BUNDLE_PROMPT} {caption}"), short_tokens(BUNDLE_PROMPT)
    if words.dropped:
        context.warnings.append(f"The caption is long: the last {words.dropped} of its pieces were left out.")
    started = time.perf_counter()
    with explained(context, lambda: "while reading the prompt", "close other programs on the GPU, then resume the run"):
        context.progress(0.05, "T5")
        t5 = load_t5(source, t5_dtype, lora=lora, scale=scale, device=device)
        with _on_device(context, t5, "T5", ("encoder.block",)) as residence:
            residence.expect(["T5"])
            states = t5_states(t5, words.ids.to(device)).to("cpu", half)
            context.facts["t5_streamed_bytes"] = residence.plan.streamed_bytes
        del t5
        release(context.device)
        context.progress(0.6, "CLIP")
        clip = load_clip(source, half, lora=lora, scale=scale)
        with _on_device(context, clip, "CLIP", ("encoder.layers",)):
            summary = clip_summary(clip, short.ids.to(device)).to("cpu", half)
        del clip
        tokens = states.new_zeros(1, 0, states.shape[-1])
        if context.settings["bundle.redux"]:
            release(context.device)
            context.progress(0.8, "Redux")
            redux = load_redux(context.models["flux-redux"], half)
            with _on_device(context, redux, "Redux", ("vision.encoder.layers",)):
                tokens = redux(_picture(context.inputs["preprocess/image.png"])).to("cpu", half)
    if tokens.shape[-1] != states.shape[-1]:
        raise BadInput(
            f"Redux's tokens have {tokens.shape[-1]} channels, T5's {states.shape[-1]}",
            place="bundle.redux",
            hint="use the published models together",
        )
    context.facts["seconds_encoders"] = round(time.perf_counter() - started, 3)
    _write(context.output / "prompt.safetensors", {"t5": states, "clip": summary})
    _write(context.output / "redux.safetensors", {"redux": tokens})


def bundle_lora(context: Context) -> Path | None:
    """The LoRA's file of the route; None if the route has none, or its scale is 0."""
    files = {"bundle-lora": "rgb_normal.safetensors", "redux-lora": "rgb_normal_redux.safetensors"}
    return next((context.models[name] / file for name, file in files.items() if name in context.models), None)


def _on_device(context: Context, model: nn.Module, name: str, lists: tuple[str, ...]) -> Residence:
    device = context.device
    return Residence({name: model}, lists, device.torch, limit=device.limit_bytes, working=WORKING, what=name)


def _caption(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["caption"])


def _picture(path: Path) -> Tensor:
    return torch.from_numpy(read_png(path).copy()).float() / 255


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    write_durably(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
