"""What Flux, its ControlNet and their encoders compute and move: counts from their published sizes.

The tests hold the formulas against a count of what diffusers' classes really do. Nothing here loads torch.
"""

from __future__ import annotations

import dataclasses

GIGA = 10**9


@dataclasses.dataclass(frozen=True)
class Transformer:
    """The sizes that Flux's transformer and ControlNet differ in."""

    double_blocks: int
    single_blocks: int
    bytes: float
    width: int = 3072

    @property
    def blocks(self) -> int:
        return self.double_blocks + self.single_blocks


FLUX = Transformer(19, 38, 11.9 * GIGA)
CONTROLNET = Transformer(5, 10, 3.4 * GIGA)
T5_WORDS, REDUX_WORDS = 512, 729
T5_PARAMETERS, T5_BYTES = 4.73e9, 4.8 * GIGA
VAE_BYTES, CLIP_BYTES, REDUX_BYTES = 0.17 * GIGA, 0.25 * GIGA, 1.0 * GIGA
VAE_ENCODE, VAE_DECODE = 4.5e6, 9.9e6
"""Operations per pixel, counted at 1280 x 640."""
VAE_SHARE = 0.5
"""Convolutions reach about half the rate of matrix products."""
DECODE_BYTES = 1408 * 2
"""Bytes alive per pixel at the worst moment of decoding in half precision."""
PASSES = 60
"""Times a block reads or writes one tensor of the model's width outside its matrix products."""
WIDENING = 5
"""Bytes of traffic per weight and call: one read in fp8, two written and two read again in half precision."""
LARGEST = 2 * (12 + 6) * FLUX.width**2
"""Bytes of a double block: the weights and the modulation of two streams."""
OUTSIDE = 0.25 * GIGA
"""Bytes of what embeds and what ends: wide in the ControlNet."""


def transformer_flops(sizes: Transformer, tokens: int) -> float:
    """One call for so many tokens of text and image: 12 width^2 weights a token in every block, and attention.

    What modulates the blocks is computed once per call, not per token, and does not count.
    """
    return float(sizes.blocks * (24 * sizes.width**2 * tokens + 4 * tokens**2 * sizes.width))


def transformer_traffic(sizes: Transformer, tokens: int) -> float:
    """Bytes of one call beside its matrix products."""
    return WIDENING * sizes.bytes + PASSES * sizes.blocks * tokens * sizes.width * 2


def vae_flops(pixels: int, encoded: int) -> float:
    """Decoding one picture and encoding so many, as if they were matrix products."""
    return pixels * (VAE_DECODE + encoded * VAE_ENCODE) / VAE_SHARE


@dataclasses.dataclass(frozen=True)
class Memory:
    """Where the weights are while Flux is at work, in bytes.

    Attributes:
        weights: of all networks.
        working: what a step needs beside them.
        streamed: of the weights, those that stay in host memory and are copied in every call.
        least: the smallest limit under which it works.
    """

    weights: float
    working: float
    streamed: float
    least: float


def memory(pixels: int, words: int, controls: int, limit: float | None) -> Memory:
    """How a picture of so many pixels fits a limit of video memory, in bytes; None for no limit."""
    import torch

    from kiss3d_cli.models.flux.denoise import working_bytes

    image = pixels // 256
    control_blocks = CONTROLNET.blocks if controls else 0
    working = working_bytes(words + image + 1, image, FLUX.width, control_blocks, controls, torch.bfloat16)
    weights = FLUX.bytes + (CONTROLNET.bytes if controls else 0)
    fits = limit is None or weights + working <= limit
    streamed = 0.0 if fits or limit is None else weights + working + 2 * LARGEST - limit
    return Memory(weights, working, streamed, OUTSIDE + 2 * LARGEST + working)
