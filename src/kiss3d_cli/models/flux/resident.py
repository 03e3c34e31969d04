"""Flux, its ControlNet and its VAE on a device, within its memory limit, for one picture or for many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from kiss3d_cli.core.device import DeviceInfo, release
from kiss3d_cli.core.errors import OutOfMemory
from kiss3d_cli.models.flux import latents as latent
from kiss3d_cli.models.flux.denoise import working_bytes
from kiss3d_cli.models.flux.loading import load_controlnet, load_transformer, load_vae
from kiss3d_cli.models.runtime.offload import Residence, module_bytes

BLOCKS = ("transformer_blocks", "single_transformer_blocks")


@runtime_checkable
class Told(Protocol):
    """Who is told how far a picture is, and what came of it: its `facts` grow."""

    @property
    def progress(self) -> Callable[[float, str], None]: ...

    @property
    def warnings(self) -> list[str]: ...

    @property
    def facts(self) -> dict[str, Any]: ...

    @property
    def scratch(self) -> Path:
        """A folder that outlives a failed or killed attempt."""
        ...


@dataclasses.dataclass(frozen=True)
class Files:
    """Where the weights are.

    Attributes:
        controlnet: None if no control is ever asked for.
        lora: folded into the transformer; None for none.
    """

    transformer: Path
    vae: Path
    controlnet: Path | None = None
    lora: Path | None = None
    lora_scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Load:
    """How much a step has to hold: tokens in all, of them the image's, and how many controls act at once."""

    tokens: int
    image_tokens: int
    controls: int


class Networks:
    """Networks that come and go.

    For one picture the VAE is let go before Flux and loaded again after it. For many, all of them stay on the device
    under one plan, in which the VAE works in the room of Flux's activations.
    """

    def __init__(self, files: Callable[[], Files], device: DeviceInfo, *, alone: bool) -> None:
        """
        Args:
            files: looks the weights up when they are first needed.
            alone: there will be one picture.
        """
        self._files, self._device, self._alone = files, device, alone
        self._stack = ExitStack()
        self._residence: Residence | None = None
        self._networks: dict[str, nn.Module] = {}
        self._vae_working = 0

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def flux(self, told: Told, load: Load, ever: Load) -> Iterator[tuple[dict[str, nn.Module], Residence]]:
        """Flux within the memory limit, with its ControlNet where a control acts: under `load`, or `ever` in a run."""
        if not self._alone and self._residence is None:
            self._settle(told, ever)
        if self._residence is None:
            networks = self._load(told, controlled=load.controls > 0)
            with self._resident(networks, _working(networks, load, self._device.half), "Flux") as residence:
                yield networks, residence
            return
        yield self._networks, self._residence

    @contextmanager
    def vae(self, told: Told, pixels: int) -> Iterator[nn.Module]:
        """The VAE on the device, in tiles if the whole picture does not fit."""
        device, half = self._device, self._device.half
        vae = self._networks.get("VAE")
        if vae is None:
            vae = load_vae(self._files().vae, half)
        working = latent.decode_bytes(pixels, half)
        if device.limit_bytes is not None and working + module_bytes(vae) > device.limit_bytes:
            latent.use_tiles(vae)
            working = latent.decode_bytes(latent.TILE**2, half)
            told.facts["vae_tile"] = latent.TILE
        if not self._alone:
            self._networks["VAE"], self._vae_working = vae.to(device.torch), working
            yield vae
            return
        with self._resident({"VAE": vae}, working, "the VAE"):
            yield vae

    def release(self) -> None:
        """Give back what one picture let go of."""
        if self._alone:
            release(self._device)

    def _settle(self, told: Told, ever: Load) -> None:
        """Bring all networks to the device to stay; where they have no room together, each run is as one alone."""
        networks = self._load(told, controlled=ever.controls > 0)
        room = max(_working(networks, ever, self._device.half), self._vae_working)
        try:
            residence = self._resident({**self._networks, **networks}, room, "Flux")
        except OutOfMemory:
            self._alone = True
            self._networks.clear()
            return
        self._networks |= networks
        self._residence = self._stack.enter_context(residence)

    def _load(self, told: Told, *, controlled: bool) -> dict[str, nn.Module]:
        files, device = self._files(), self._device

        def preparing(low: float, high: float, what: str) -> Callable[[float], None]:
            return lambda share: told.progress(low + (high - low) * share, what)

        networks: dict[str, nn.Module] = {}
        if controlled:
            assert files.controlnet is not None, "who asks for a control says where the ControlNet is"
            progress = preparing(0.05, 0.08, "preparing the ControlNet (once)")
            networks["controlnet"] = load_controlnet(files.controlnet, device.half, progress=progress)
        networks["transformer"] = load_transformer(
            files.transformer,
            files.lora,
            files.lora_scale,
            device.half,
            device=device.torch,
            progress=preparing(0.08, 0.2, "folding the LoRA into Flux (once)"),
        )
        return networks

    def _resident(self, networks: dict[str, nn.Module], working: int, what: str) -> Residence:
        device = self._device
        return Residence(networks, BLOCKS, device.torch, limit=device.limit_bytes, working=working, what=what)


def _working(networks: dict[str, nn.Module], load: Load, dtype: torch.dtype) -> int:
    config: Any = networks["transformer"].config
    width = config.num_attention_heads * config.attention_head_dim
    control = networks.get("controlnet")
    blocks = 0 if control is None else sum(len(list(control.get_submodule(path).children())) for path in BLOCKS)
    return working_bytes(load.tokens, load.image_tokens, int(width), blocks, load.controls, dtype)
