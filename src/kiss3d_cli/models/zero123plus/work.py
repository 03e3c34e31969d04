"""What Zero123++ computes: counted on the class of its UNet. Nothing here loads torch."""

from __future__ import annotations

UNET = (1.666e8, 7.247e3)
"""Operations of Stable Diffusion 2.1's UNet: per latent, and per pair of them (counted at 64^2 and 128^2)."""
STEP_BYTES = 12e9
"""Traffic of a step beside its matrix products."""
UNET_BYTES = 3.5e9
"""The UNet, converted once."""
FILE_BYTES = 5.0e9
"""Read from disk: the encoders, the VAE and FlexGen's UNet."""
VIDEO_BYTES = 7 * 2**30
"""Most video memory at once: nothing of it is streamed."""


def unet_flops(latents: int) -> float:
    linear, quadratic = UNET
    return linear * latents + quadratic * latents**2


def step_flops(tile: int, guidance: float) -> float:
    """One step for a grid of two by two tiles: the picture's own pass, then the grid's, twice under guidance."""
    side = tile // 8
    return (2 if guidance > 1 else 1) * unet_flops((2 * side) ** 2) + unet_flops(side**2)
