"""Zero123++: from one picture to a grid of views of the same object (Shi et al. 2023, arXiv 2310.15110).

Each network is loaded when its turn comes (see `networks`), so that the largest one decides how much memory is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Kiss3dError, Missing
from kiss3d_cli.models.runtime.convert import converted
from kiss3d_cli.models.runtime.pretrained import check_shapes, damage_as_missing, quiet, read_json
from kiss3d_cli.models.zero123plus.attention import ReferenceUnet
from kiss3d_cli.models.zero123plus.networks import HINT, Networks, empty_unet
from kiss3d_cli.models.zero123plus.preprocess import FeatureExtractor
from kiss3d_cli.models.zero123plus.sampler import Condition, Noise, OnStep, denoise, draw

LATENT_SCALE, LATENT_SHIFT = 0.75, 0.22
IMAGE_SCALE = 0.8 / 0.5
"""The model was trained on latents and pictures of less contrast; its outputs are brought back with these."""


@dataclass(frozen=True)
class Grid:
    """The views of one object.

    Attributes:
        image: (H, W, 3) in [0, 1]: the tiles, row by row.
        scheduler: the solver and its settings, for the record.
        dtype: that the networks ran in.
    """

    image: Float32[np.ndarray, "H W 3"]
    scheduler: dict[str, Any]
    dtype: torch.dtype

    @property
    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        return (self.image * 255).round().astype(np.uint8)


def prepare_unet(folder: Path, checkpoint: Path) -> Path:
    """The UNet's weights as safetensors: the file itself, or one beside the published pickle, written once.

    Args:
        folder: the model's folder, whose `unet/config.json` tells the tensors to expect.
        checkpoint: a safetensors file, or a pickle of a plain state dict.

    Raises:
        Missing: no such file, a damaged one, one of another model, one with code in it, or no place to write.
    """
    if not checkpoint.is_file():
        raise Missing("no such file", place=str(checkpoint), hint=HINT)
    if checkpoint.suffix == ".safetensors":
        return checkpoint
    expected = {name: tuple(value.shape) for name, value in empty_unet(folder).state_dict().items()}

    def fits(found: Mapping[str, tuple[int, ...]]) -> None:
        check_shapes(dict(found), expected, place=str(checkpoint), hint=HINT)

    return converted(checkpoint, entry=None, prefix="", check=fits, hint=HINT)


def draw_views(
    networks: Networks,
    picture: UInt8[np.ndarray, "S S 3"],
    *,
    side: int,
    steps: int,
    guidance: float,
    noise: Noise,
    on_step: OnStep | None = None,
) -> Grid:
    """Draw the grid of views; in float32 once more where float16 overflows.

    Args:
        networks: published in float16; bfloat16 is eight times as far from float32.
        picture: the object on white.
        side: of the whole grid, in pixels.
        steps: denoising steps.
        guidance: scale of classifier-free guidance; at 1 and below there is none.
        noise: the order of draws is that of the published pipeline: the picture's latent, the zero picture's, the
            first latents, then for each step the condition's noise and the scheduler's.
        on_step: see `sampler.denoise`.

    Raises:
        BadInput: a side that the networks can't make, or half precision on the CPU.
        Missing: weights that are not there, damaged or of another model.
        Kiss3dError: the views hold values that are not numbers.
    """
    options: dict[str, Any] = {"side": side, "steps": steps, "guidance": guidance, "noise": noise, "on_step": on_step}
    before = noise.states()
    grid = _draw(networks, picture, **options)
    if not np.isfinite(grid.image).all() and networks.dtype != torch.float32:
        noise.restore(before)
        grid = _draw(networks.in_float32(), picture, **options)
    if not np.isfinite(grid.image).all():
        raise Kiss3dError(
            "the views hold values that are not numbers",
            hint="use --set device.name=cpu, or report it with the name of your GPU",
        )
    return grid


def _draw(
    networks: Networks,
    picture: UInt8[np.ndarray, "S S 3"],
    *,
    side: int,
    steps: int,
    guidance: float,
    noise: Noise,
    on_step: OnStep | None,
) -> Grid:
    """The grid, with whatever values come out."""
    folder, guided = networks.folder, guidance > 1
    scheduler = read_scheduler(folder)
    with torch.inference_mode():
        text, within = networks.embeddings(picture)
        embeddings = torch.cat([text, within]) if guided else within
        vae = networks.vae()
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        latents = _encode(vae, FeatureExtractor.read(folder / "feature_extractor_vae", HINT)(picture), guided, noise)
        unet = empty_unet(folder)
        deepest = factor * 2 ** (len(unet.config.block_out_channels) - 1)
        if side % deepest:
            raise BadInput(
                f"the side of the grid is {side} pixels, but must be a multiple of {deepest}",
                hint=f"use {max(1, round(side / deepest)) * deepest} pixels",
            )
        unet = networks.unet(unet)
        grid = denoise(
            ReferenceUnet(unet),
            scheduler,
            Condition(embeddings, latents),
            size=(side // factor, side // factor),
            steps=steps,
            guidance=guidance,
            noise=noise,
            on_step=on_step,
        )
        del unet
        networks.let_unet_go()
        image = _decode(vae, grid)
    image = image.clamp(0, 1).where(image.isfinite(), torch.nan)  # an infinite value would pass for white
    return Grid(image.permute(1, 2, 0).cpu().numpy(), _record(scheduler), networks.dtype)


def read_scheduler(folder: Path) -> Any:
    """The published solver with the timesteps of the published pipeline. Raises Missing if the file configures none."""
    from diffusers import EulerAncestralDiscreteScheduler

    path = folder / "scheduler" / "scheduler_config.json"
    settings = read_json(path, HINT)
    missing = [key for key in ("beta_start", "beta_end", "beta_schedule", "prediction_type") if key not in settings]
    if missing:
        raise Missing(f"the file configures no scheduler: it lacks {', '.join(missing)}", place=str(path), hint=HINT)
    if settings["prediction_type"] != "v_prediction":
        raise Missing("the file configures a scheduler of another model", place=str(path), hint=HINT)
    with damage_as_missing(str(path), HINT, Exception), quiet():
        return EulerAncestralDiscreteScheduler.from_config({**settings, "timestep_spacing": "trailing"})


def _encode(vae: Any, pixels: Float32[Tensor, "1 3 H W"], guided: bool, noise: Noise) -> Float32[Tensor, "B 4 h w"]:
    """Latents of the picture and, with guidance, before them those of a zero picture."""

    def sample(values: Tensor) -> Tensor:
        posterior = vae.encode(values.to(vae.device, vae.dtype)).latent_dist
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return mean + deviation * draw(tuple(mean.shape), noise.condition, mean.device)

    latents = sample(pixels)
    return torch.cat([sample(torch.zeros_like(pixels)), latents]) if guided else latents


def _decode(vae: Any, latents: Float32[Tensor, "1 4 h w"]) -> Float32[Tensor, "3 H W"]:
    """The picture in [0, 1], but for what the network oversteps."""
    unscaled = latents / LATENT_SCALE + LATENT_SHIFT
    decoded = vae.decode((unscaled / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
    return (decoded[0].float() * IMAGE_SCALE + 1) / 2


def _record(scheduler: Any) -> dict[str, Any]:
    kept = ("prediction_type", "timestep_spacing", "beta_schedule", "beta_start", "beta_end", "num_train_timesteps")
    return {"name": type(scheduler).__name__, **{key: scheduler.config[key] for key in kept}}
