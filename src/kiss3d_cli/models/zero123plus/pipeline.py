"""Zero123++: from one picture to a grid of views of the same object (Shi et al. 2023, arXiv 2310.15110).

Each network is loaded when its turn comes and let go before the next one, so that the largest one decides how much
memory is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Kiss3dError, Missing
from kiss3d_cli.models.runtime.convert import converted
from kiss3d_cli.models.runtime.pretrained import (
    check_shapes,
    damage_as_missing,
    load_module,
    load_weights,
    quiet,
    read_json,
)
from kiss3d_cli.models.zero123plus.attention import ReferenceUnet
from kiss3d_cli.models.zero123plus.preprocess import FeatureExtractor
from kiss3d_cli.models.zero123plus.sampler import Condition, Noise, OnStep, denoise, draw

HINT = "get the files again: kiss3d models pull zero123plus flexgen"
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
    folder: Path,
    unet_weights: Path,
    picture: UInt8[np.ndarray, "S S 3"],
    *,
    side: int,
    steps: int,
    guidance: float,
    noise: Noise,
    device: torch.device,
    dtype: torch.dtype,
    on_step: OnStep | None = None,
) -> Grid:
    """Draw the grid of views; in float32 once more where float16 overflows.

    Args:
        folder: the model's folder in the published layout.
        unet_weights: the UNet's weights as safetensors; see `prepare_unet`.
        picture: the object on white.
        side: of the whole grid, in pixels.
        steps: denoising steps.
        guidance: scale of classifier-free guidance; at 1 and below there is none.
        noise: the order of draws is that of the published pipeline: the picture's latent, the zero picture's, the
            first latents, then for each step the condition's noise and the scheduler's.
        dtype: of the networks. Published in float16; bfloat16 is eight times as far from float32.
        on_step: see `sampler.denoise`.

    Raises:
        BadInput: a side that the networks can't make, or half precision on the CPU.
        Missing: weights that are not there, damaged or of another model.
        Kiss3dError: the views hold values that are not numbers.
    """
    options: dict[str, Any] = {"side": side, "steps": steps, "guidance": guidance, "noise": noise, "on_step": on_step}
    before = noise.states()
    grid = _draw(folder, unet_weights, picture, device=device, dtype=dtype, **options)
    if not np.isfinite(grid.image).all() and dtype != torch.float32:
        noise.restore(before)
        grid = _draw(folder, unet_weights, picture, device=device, dtype=torch.float32, **options)
    if not np.isfinite(grid.image).all():
        raise Kiss3dError(
            "the views hold values that are not numbers",
            hint="use --set device.name=cpu, or report it with the name of your GPU",
        )
    return grid


def _draw(
    folder: Path,
    unet_weights: Path,
    picture: UInt8[np.ndarray, "S S 3"],
    *,
    side: int,
    steps: int,
    guidance: float,
    noise: Noise,
    device: torch.device,
    dtype: torch.dtype,
    on_step: OnStep | None,
) -> Grid:
    """The grid, with whatever values come out."""
    from diffusers import AutoencoderKL

    where: dict[str, Any] = {"device": device, "dtype": dtype, "hint": HINT}
    scheduler = read_scheduler(folder)
    with torch.inference_mode():
        embeddings = _embed(folder, picture, guidance > 1, where)
        vae = load_module(AutoencoderKL, folder, subfolder="vae", **where)
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        latents = _encode(
            vae, FeatureExtractor.read(folder / "feature_extractor_vae", HINT)(picture), guidance > 1, noise
        )
        unet = empty_unet(folder)
        deepest = factor * 2 ** (len(unet.config.block_out_channels) - 1)
        if side % deepest:
            raise BadInput(
                f"the side of the grid is {side} pixels, but must be a multiple of {deepest}",
                hint=f"use {max(1, round(side / deepest)) * deepest} pixels",
            )
        load_weights(unet, unet_weights, **where)
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
        image = _decode(vae, grid)
    image = image.clamp(0, 1).where(image.isfinite(), torch.nan)  # an infinite value would pass for white
    return Grid(image.permute(1, 2, 0).cpu().numpy(), _record(scheduler), dtype)


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


def read_tokenizer(folder: Path) -> Tensor:
    """(1, T) The empty prompt in words, padded to the length of CLIP. Raises Missing if there is no such tokenizer."""
    from transformers import CLIPTokenizer

    place = folder / "tokenizer"
    try:
        with quiet():
            tokenizer = CLIPTokenizer.from_pretrained(str(place), local_files_only=True)
        length = tokenizer.model_max_length
        words: Tensor = tokenizer(
            "", padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
    except Exception as error:  # the tokenizers' own errors have no class but this
        raise Missing(f"the tokenizer can't be read: {error}", place=str(place), hint=HINT) from error
    return words


def read_ramp(folder: Path, words: int) -> list[float]:
    """By how much each word's embedding takes the picture's. Raises Missing if there is not one for each."""
    path = folder / "model_index.json"
    ramp = read_json(path, HINT).get("ramping_coefficients")
    if not isinstance(ramp, list) or len(ramp) != words or not all(isinstance(share, int | float) for share in ramp):
        cause = "the file is damaged: it has no ramping coefficient for each token"
        raise Missing(cause, place=str(path), hint=HINT)
    return ramp


def empty_unet(folder: Path) -> Any:
    """The UNet of the folder's config without memory for its weights."""
    from diffusers import UNet2DConditionModel

    config = read_json(folder / "unet" / "config.json", HINT)
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


def _embed(
    folder: Path, picture: UInt8[np.ndarray, "S S 3"], guided: bool, where: dict[str, Any]
) -> Float[Tensor, "B T D"]:
    """The empty prompt's embedding, to which the picture's is added, token by token along a ramp."""
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

    tokens = read_tokenizer(folder)
    ramp = read_ramp(folder, tokens.shape[1])
    device, dtype = where["device"], where["dtype"]
    text_encoder = load_module(CLIPTextModel, folder, subfolder="text_encoder", **where)
    text = text_encoder(tokens.to(device)).last_hidden_state
    del text_encoder
    vision_encoder = load_module(CLIPVisionModelWithProjection, folder, subfolder="vision_encoder", **where)
    pixels = FeatureExtractor.read(folder / "feature_extractor_clip", HINT)(picture)
    seen = vision_encoder(pixels.to(device, dtype)).image_embeds[:, None]
    within = text + seen * torch.tensor(ramp, device=device, dtype=dtype)[:, None]
    return torch.cat([text, within]) if guided else within


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
