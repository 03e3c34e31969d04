"""Flux as ComfyUI's users have it: one file for each part, in a folder for each kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from kiss3d_cli.models.flux import keys


def write_parts(all_in_one: Path, models: Path) -> None:
    """The four parts of an all-in-one file, under names of the user's own."""
    state = load_file(all_in_one)
    _part(state, keys.TRANSFORMER, models / "unet" / "mine" / "flux_fp8.safetensors")
    _part(state, keys.T5, models / "clip" / "t5_e4m3fn.safetensors")
    _part(state, "text_encoders.clip_l.transformer.", models / "text_encoders" / "l.safetensors")
    _part(state, keys.VAE, models / "vae" / "ae.safetensors")


def write_additions(weights: Path, models: Path) -> None:
    """The ControlNet and the LoRAs, from folders as on the hub."""
    for kind in ("controlnet", "loras"):
        (models / kind / "flux").mkdir(parents=True)
    union = weights / "InstantX" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(union, models / "controlnet" / "flux" / "union.safetensors")
    for name in ("rgb_normal", "rgb_normal_redux"):
        shutil.copyfile(weights / "LTT" / "Kiss3DGen" / f"{name}.safetensors", models / "loras" / f"{name}.safetensors")


def _part(state: dict[str, torch.Tensor], prefix: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}, path)
