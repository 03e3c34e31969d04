"""Pictures as latents, latents as the transformer's tokens: 2 x 2 latents of 16 channels each are one token of 64."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kiss3d_cli.models.flux.networks import LATENT_SCALE, LATENT_SHIFT

PIXELS = 8
"""Pixels along a side of one latent."""
PATCH = 2
"""Latents along a side of one token."""
TILE = 512
"""Side of a tile of the tiled decoder, in pixels."""
DECODE_CHANNELS = 1408
"""Numbers alive per pixel at the worst moment of decoding: the last but one level of the decoder holds four tensors of
256 channels (in, normalised, activated, upsampled) and three of 128."""


def pack(latents: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 N D"]:
    """Latents as tokens, row by row."""
    _one, channels, height, width = latents.shape
    patches = latents.reshape(1, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(1, height * width // PATCH**2, channels * PATCH**2)


def unpack(tokens: Float[Tensor, "1 N D"], height: int, width: int) -> Float[Tensor, "1 C h w"]:
    """The inverse of `pack` for latents of this height and width."""
    channels = tokens.shape[-1] // PATCH**2
    patches = tokens.reshape(1, height // PATCH, width // PATCH, channels, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(1, channels, height, width)


def token_places(height: int, width: int, device: torch.device) -> Float[Tensor, "N 3"]:
    """Each image token's coordinates for the rotary embedding: 0, row, column; for latents of this height and width."""
    rows = torch.arange(height // PATCH, device=device, dtype=torch.float32)
    columns = torch.arange(width // PATCH, device=device, dtype=torch.float32)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    return torch.cat([torch.zeros_like(grid[:, :1]), grid], 1)


def noise(height: int, width: int, channels: int, seed: int) -> Float[Tensor, "1 N D"]:
    """Standard normal tokens, drawn on the CPU so that every device starts from the same."""
    random = torch.Generator().manual_seed(seed)
    return pack(torch.randn(1, channels, height, width, generator=random))


@torch.inference_mode()
def encode(vae: nn.Module, picture: Float[Tensor, "H W 3"]) -> Float[Tensor, "1 N D"]:
    """A picture in [0, 1] as tokens, in float32: the mean of the encoder's distribution, so that nothing is drawn."""
    parameter = next(vae.parameters())
    images = (picture.permute(2, 0, 1)[None] * 2 - 1).to(parameter.device, parameter.dtype)
    mean: Tensor = vae.encode(images).latent_dist.mode()  # type: ignore[operator]
    return pack((mean.float() - LATENT_SHIFT) * LATENT_SCALE)


@torch.inference_mode()
def decode(vae: nn.Module, tokens: Float[Tensor, "1 N D"], height: int, width: int) -> Float[Tensor, "H W 3"]:
    """Tokens as a picture in [0, 1].

    Args:
        height, width: of the picture, in pixels.
    """
    parameter = next(vae.parameters())
    latents = unpack(tokens, height // PIXELS, width // PIXELS) / LATENT_SCALE + LATENT_SHIFT
    images: Tensor = vae.decode(latents.to(parameter.device, parameter.dtype)).sample  # type: ignore[operator]
    return (images[0].float().permute(1, 2, 0) / 2 + 0.5).clamp(0, 1)


def use_tiles(vae: nn.Module, side: int = TILE) -> None:
    """Let the VAE work tile by tile, blended over a quarter of a tile: less memory, slightly other pixels."""
    vae.enable_tiling()  # type: ignore[operator]
    vae.tile_sample_min_size = side  # type: ignore[assignment]
    vae.tile_latent_min_size = side // PIXELS  # type: ignore[assignment]


def decode_bytes(pixels: int, dtype: torch.dtype) -> int:
    """What decoding so many pixels at once needs beside the weights."""
    return pixels * DECODE_CHANNELS * dtype.itemsize
