"""The prompt read by Flux's encoders: from what the stages wrote to the networks' terms, and back."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from kiss3d_cli.core.files import read_bytes, write_durably
from kiss3d_cli.core.records import LIMIT, Fields, parse_json
from kiss3d_cli.image.png import read_png
from kiss3d_cli.methods.base import Context, Machine, once
from kiss3d_cli.methods.bundle.flux_settings import Lora, bundle_lora
from kiss3d_cli.models.flux.comfyui import flux_files
from kiss3d_cli.models.flux.encoders import EncoderFiles, Encoders

BUNDLE_PROMPT = "A grid of 2x4 multi-view image, elevation 5. White background."
"""What the bundle's LoRA was trained with."""


class Reader:
    """The encoders at work on the captions of runs with these settings, and on their pictures if `redux`."""

    def __init__(self, settings: Lora, machine: Machine, *, redux: bool) -> None:
        files = once(lambda: _files(settings, machine, redux=redux))
        self._redux, self._encoders = redux, Encoders(files, machine.device, alone=machine.calls == 1)

    def __enter__(self) -> Reader:
        self._encoders.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._encoders.__exit__(*error)

    def read(self, context: Context) -> None:
        """Write `prompt.safetensors` (t5, clip) and `redux.safetensors` (redux; no tokens without Redux)."""
        caption = Fields(parse_json(read_bytes(context.inputs["caption/caption.json"], LIMIT))).text("caption")
        picture = read_png(context.inputs["preprocess/image.png"]) if self._redux else None
        found = self._encoders.read(context, f"{BUNDLE_PROMPT} {caption}", BUNDLE_PROMPT, picture)
        _write(context.output / "prompt.safetensors", {"t5": found.states, "clip": found.summary})
        _write(context.output / "redux.safetensors", {"redux": found.picture})


def _files(settings: Lora, machine: Machine, *, redux: bool) -> EncoderFiles:
    models, parts = machine.models, flux_files(machine.models["flux-dev"])
    return EncoderFiles(
        parts.t5,
        parts.clip,
        models["t5-tokenizer"] / "tokenizer.json",
        models["clip-tokenizer"] / "tokenizer.json",
        models["flux-redux"] if redux else None,
        bundle_lora(machine),
        settings.lora_scale,
    )


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    write_durably(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
