"""Encoding the prompt with T5 and CLIP and the picture with Redux, within the device's memory limit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kiss3d_cli.core.device import DeviceInfo, release
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.out_of_memory import explained
from kiss3d_cli.models.flux.loading import load_clip, load_t5
from kiss3d_cli.models.flux.redux import load_redux
from kiss3d_cli.models.flux.resident import Told
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

WORKING = 2**29
"""Video memory for the activations of 512 words."""
LISTS = {"T5": "encoder.block", "CLIP": "encoder.layers", "Redux": "vision.encoder.layers"}
"""The list of blocks of each encoder."""
HINT = "close other programs on the GPU, then resume the run"


@dataclasses.dataclass(frozen=True)
class EncoderFiles:
    """Where the weights and the vocabularies are.

    Attributes:
        redux: its folder; None if no picture is ever read.
        lora: folded into T5 and CLIP, as far as it has parts for them; None for none.
    """

    t5: Path
    clip: Path
    t5_words: Path
    clip_words: Path
    redux: Path | None = None
    lora: Path | None = None
    lora_scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Reading:
    """What Flux is told, in host memory: T5's states, CLIP's summary, and Redux's tokens, if any."""

    states: Float[Tensor, "1 L D"]
    summary: Float[Tensor, "1 C"]
    picture: Float[Tensor, "1 P E"]


class Encoders:
    """For one run each encoder is let go before the next one; for many, all stay on the device under one plan."""

    def __init__(self, files: Callable[[], EncoderFiles], device: DeviceInfo, *, alone: bool) -> None:
        """
        Args:
            files: looks the weights up when they are first needed.
            alone: there will be one run.
        """
        self._files, self._device, self._alone = files, device, alone
        self._stack = ExitStack()
        self._residence: Residence | None = None
        self._networks: dict[str, Any] = {}

    def __enter__(self) -> Encoders:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def read(self, told: Told, words: str, summary: str, picture: UInt8[np.ndarray, "H W 3"] | None = None) -> Reading:
        """Read what the picture shall show.

        Args:
            words: for T5; the last of them are left out if there are more than it takes.
            summary: for CLIP.
            picture: for Redux; None for no tokens of it.

        Raises:
            OutOfMemory: with what to change.
            BadInput: the tokens of Redux and of T5 don't fit each other.
        """
        files, device, half = self._files(), self._device.torch, self._device.half
        long_tokens = Tokenizer(files.t5_words, T5_LENGTH, T5_PADDING)
        short_tokens = Tokenizer(files.clip_words, CLIP_LENGTH, CLIP_PADDING)
        said, short = long_tokens(words), short_tokens(summary)
        if said.dropped:
            told.warnings.append(f"The caption is long: the last {said.dropped} of its pieces were left out.")
        started = time.perf_counter()
        with explained(self._device, lambda: "while reading the prompt", HINT):
            told.progress(0.05, "T5")
            with self._on_device("T5") as (t5, residence):
                residence.expect(["T5"])
                states = t5_states(t5, said.ids.to(device)).to("cpu", half)
                told.facts["t5_streamed_bytes"] = residence.plan.streamed_bytes
            told.progress(0.6, "CLIP")
            with self._on_device("CLIP") as (clip, _):
                pooled = clip_summary(clip, short.ids.to(device)).to("cpu", half)
            tokens = states.new_zeros(1, 0, states.shape[-1])
            if picture is not None:
                told.progress(0.8, "Redux")
                with self._on_device("Redux") as (redux, _):
                    tokens = redux(picture).to("cpu", half)
        if tokens.shape[-1] != states.shape[-1]:
            raise BadInput(
                f"Redux's tokens have {tokens.shape[-1]} channels, T5's {states.shape[-1]}",
                place="bundle.redux",
                hint="use the published models together",
            )
        told.facts["seconds_encoders"] = round(time.perf_counter() - started, 3)
        return Reading(states, pooled, tokens)

    @contextmanager
    def _on_device(self, name: str) -> Iterator[tuple[Any, Residence]]:
        if not self._alone and self._residence is None:
            self._settle()
        if self._residence is None:
            network = self._load(name)
            with self._resident({name: network}, name) as residence:
                yield network, residence
            del network
            release(self._device)
            return
        yield self._networks[name], self._residence

    def _settle(self) -> None:
        """Bring all encoders to the device to stay."""
        names = [name for name in LISTS if name != "Redux" or self._files().redux is not None]
        self._networks = {name: self._load(name) for name in names}
        self._residence = self._stack.enter_context(self._resident(self._networks, "the encoders of the prompt"))

    def _resident(self, networks: dict[str, nn.Module], what: str) -> Residence:
        device = self._device
        lists = [LISTS[name] for name in networks]
        return Residence(networks, lists, device.torch, limit=device.limit_bytes, working=WORKING, what=what)

    def _load(self, name: str) -> nn.Module:
        files, device, half = self._files(), self._device.torch, self._device.half
        if name == "T5":
            # T5's residuals leave float16's range; weights in fp8 cost the same in whatever dtype they are widened to
            dtype = torch.float32 if half == torch.float16 else half
            return load_t5(files.t5, dtype, lora=files.lora, scale=files.lora_scale, device=device)
        if name == "CLIP":
            return load_clip(files.clip, half, lora=files.lora, scale=files.lora_scale)
        assert files.redux is not None, "who gives a picture says where Redux is"
        return load_redux(files.redux, half)
