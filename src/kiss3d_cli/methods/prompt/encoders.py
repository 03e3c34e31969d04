"""T5, CLIP and Redux at work on a caption and a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from kiss3d_cli.core.device import release
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.files import read_bytes, write_durably
from kiss3d_cli.core.records import LIMIT, Fields, parse_json
from kiss3d_cli.image.png import read_png
from kiss3d_cli.methods.base import Context, Machine
from kiss3d_cli.methods.bundle.flux_settings import Lora, bundle_lora
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
from kiss3d_cli.models.store.comfyui import flux_files

BUNDLE_PROMPT = "A grid of 2x4 multi-view image, elevation 5. White background."
"""What the bundle's LoRA was trained with."""
WORKING = 2**29
"""Video memory for the activations of 512 words."""
LISTS = {"T5": "encoder.block", "CLIP": "encoder.layers", "Redux": "vision.encoder.layers"}
"""The list of blocks of each encoder."""
HINT = "close other programs on the GPU, then resume the run"


class Encoders:
    """For one run each encoder is let go before the next one; for many, all stay on the device under one plan."""

    def __init__(self, settings: Lora, machine: Machine, *, redux: bool) -> None:
        """
        Args:
            redux: read the picture too.
        """
        self._settings, self._machine, self._redux = settings, machine, redux
        self._stack = ExitStack()
        self._residence: Residence | None = None
        self._networks: dict[str, Any] = {}

    def __enter__(self) -> Encoders:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def read(self, context: Context) -> None:
        """Write `prompt.safetensors` (t5, clip) and `redux.safetensors` (redux; no tokens without Redux)."""
        machine = self._machine
        caption = _caption(context.inputs["caption/caption.json"])
        device, half = machine.device.torch, machine.device.half
        long_tokens = Tokenizer(machine.models["t5-tokenizer"] / "tokenizer.json", T5_LENGTH, T5_PADDING)
        short_tokens = Tokenizer(machine.models["clip-tokenizer"] / "tokenizer.json", CLIP_LENGTH, CLIP_PADDING)
        words, short = long_tokens(f"{BUNDLE_PROMPT} {caption}"), short_tokens(BUNDLE_PROMPT)
        if words.dropped:
            context.warnings.append(f"The caption is long: the last {words.dropped} of its pieces were left out.")
        started = time.perf_counter()
        with explained(machine.device, lambda: "while reading the prompt", HINT):
            context.progress(0.05, "T5")
            with self._on_device("T5") as (t5, residence):
                residence.expect(["T5"])
                states = t5_states(t5, words.ids.to(device)).to("cpu", half)
                context.facts["t5_streamed_bytes"] = residence.plan.streamed_bytes
            context.progress(0.6, "CLIP")
            with self._on_device("CLIP") as (clip, _):
                summary = clip_summary(clip, short.ids.to(device)).to("cpu", half)
            tokens = states.new_zeros(1, 0, states.shape[-1])
            if self._redux:
                context.progress(0.8, "Redux")
                with self._on_device("Redux") as (redux, _):
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

    @contextmanager
    def _on_device(self, name: str) -> Iterator[tuple[Any, Residence]]:
        if self._machine.calls > 1 and self._residence is None:
            self._settle()
        if self._residence is None:
            network = self._load(name)
            with self._resident({name: network}, name) as residence:
                yield network, residence
            del network
            release(self._machine.device)
            return
        yield self._networks[name], self._residence

    def _settle(self) -> None:
        """Bring all encoders to the device to stay."""
        names = [name for name in LISTS if name != "Redux" or self._redux]
        self._networks = {name: self._load(name) for name in names}
        self._residence = self._stack.enter_context(self._resident(self._networks, "the encoders of the prompt"))

    def _resident(self, networks: dict[str, nn.Module], what: str) -> Residence:
        device = self._machine.device
        lists = [LISTS[name] for name in networks]
        return Residence(networks, lists, device.torch, limit=device.limit_bytes, working=WORKING, what=what)

    def _load(self, name: str) -> nn.Module:
        machine, scale = self._machine, self._settings.lora_scale
        files, lora = flux_files(machine.models["flux-dev"]), bundle_lora(machine)
        device, half = machine.device.torch, machine.device.half
        if name == "T5":
            # T5's residuals leave float16's range; weights in fp8 cost the same in whatever dtype they are widened to
            dtype = torch.float32 if half == torch.float16 else half
            return load_t5(files.t5, dtype, lora=lora, scale=scale, device=device)
        if name == "CLIP":
            return load_clip(files.clip, half, lora=lora, scale=scale)
        return load_redux(machine.models["flux-redux"], half)


def _caption(path: Path) -> str:
    return Fields(parse_json(read_bytes(path, LIMIT))).text("caption")


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    write_durably(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
