"""How much every stage has to compute and to move: counts from the networks' sizes, the same on every machine.

Matrix operations are counted from the shapes of the layers (a multiplication and an addition are two); the tests hold
the formulas against a count of what the classes of diffusers really do.
"""

from __future__ import annotations

import dataclasses

from kiss3d_cli.pipeline.config import Config

GIGA = 10**9
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Work:
    """What a stage does once.

    Attributes:
        flops: matrix operations on the device, in half precision.
        traffic: bytes read and written in the device's memory by everything that is not a matrix product.
        streamed: bytes copied to the device while it computes.
        loaded: bytes read from disk before that.
        host_seconds: work of the processor that no formula here covers: measured, or a user's report.
        video: most bytes of video memory at once.
        least_video: the least with which it works; 0 if it does without a GPU.
    """

    flops: float = 0
    traffic: float = 0
    streamed: float = 0
    loaded: float = 0
    host_seconds: float = 0
    video: float = 0
    least_video: float = 0


@dataclasses.dataclass(frozen=True)
class Transformer:
    """The sizes that Flux's transformer and ControlNet differ in."""

    double_blocks: int
    single_blocks: int
    bytes: float
    width: int = 3072


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
UNET = (1.666e8, 7.247e3)
"""Operations of Stable Diffusion 2.1's UNet: per latent, and per pair of them (counted at 64^2 and 128^2)."""


def transformer_flops(sizes: Transformer, tokens: int) -> float:
    """One call for so many tokens of text and image: 12 width^2 weights a token in every block, and attention.

    What modulates the blocks is computed once per call, not per token, and does not count.
    """
    blocks = sizes.double_blocks + sizes.single_blocks
    return float(blocks * (24 * sizes.width**2 * tokens + 4 * tokens**2 * sizes.width))


def transformer_traffic(sizes: Transformer, tokens: int) -> float:
    blocks = sizes.double_blocks + sizes.single_blocks
    return WIDENING * sizes.bytes + PASSES * blocks * tokens * sizes.width * 2


def unet_flops(latents: int) -> float:
    linear, quadratic = UNET
    return linear * latents + quadratic * latents**2


def stage_work(config: Config, limit: float | None) -> dict[str, Work]:
    """The work of every stage that runs under a configuration, by name.

    Args:
        limit: bytes of video memory that may be used; weights beyond it are streamed. None for no limit.
    """
    work = {"preprocess": Work(host_seconds=2.0, loaded=0.18 * GIGA if config["preprocess.method"] == "rembg" else 0)}
    if config["caption.method"] == "florence2":
        # bound by starting kernels, not by arithmetic: some 150 words, 20 ms each for one beam and 30 for three
        words = 150 * (0.02 if config["caption.beams"] == 1 else 0.03)
        work["caption"] = Work(flops=2e12, loaded=1.6 * GIGA, host_seconds=words, video=3 * GIB, least_video=3 * GIB)
    elif config["caption.method"] == "describe":
        work["caption"] = Work(host_seconds=0.3)
    work |= _views_work(config)
    if config["bundle.method"] in ("flux", "redux", "text"):
        work |= _flux_work(config, limit)
    work["reconstruct"] = _lrm_work() if config["reconstruct.method"] == "lrm" else Work(host_seconds=2)
    # 33 s of one slow core in all, of which a third, colours and texture, stays on the processor beside a GPU
    work["refine"] = Work(host_seconds=12 if config["reconstruct.method"] == "lrm" else 33, video=2 * GIB)
    return work


def _lrm_work() -> Work:
    # the user's card took 4 s for the second pass with its surface
    return Work(loaded=1.5 * GIGA, host_seconds=3.5, video=5 * GIB, least_video=5 * GIB)


def _views_work(config: Config) -> dict[str, Work]:
    work = {}
    if config["multiview.method"] == "zero123plus":
        side = config["multiview.tile"] // 8
        grid, condition = (2 * side) ** 2, side**2
        guided = 2 if config["multiview.guidance"] > 1 else 1
        a_step = guided * unet_flops(grid) + unet_flops(condition)
        work["multiview"] = Work(
            flops=config["multiview.steps"] * a_step,
            traffic=config["multiview.steps"] * 12 * GIGA,
            loaded=5.0 * GIGA,
            host_seconds=1,
            video=7 * GIB,
            least_video=7 * GIB,
        )
    elif config["multiview.method"] in ("inflate", "prior"):
        work["multiview"] = Work(host_seconds=1)
    if config["reference.method"] != "none":
        work["reference"] = _lrm_work() if config["reference.method"] == "lrm" else Work(host_seconds=1)
    return work


def _flux_work(config: Config, limit: float | None) -> dict[str, Work]:
    import torch

    from kiss3d_cli.models.flux.denoise import working_bytes

    redux = config["bundle.redux"] and config["prompt.method"] != "text"
    words = T5_WORDS + (REDUX_WORDS if redux else 0)
    pixels = 8 * config["bundle.tile"] ** 2
    tokens = words + pixels // 256
    prompt = Work(
        flops=2 * T5_PARAMETERS * T5_WORDS,
        traffic=WIDENING * T5_BYTES,
        loaded=T5_BYTES + CLIP_BYTES + (REDUX_BYTES if redux else 0),
        host_seconds=1,
        video=T5_BYTES + GIB,
        least_video=1.2 * GIB,
    )
    calls, controlled = calls_of(config)
    controls = len(config["bundle.controls"]) if config["bundle.method"] == "flux" else 0
    control_blocks = CONTROLNET.double_blocks + CONTROLNET.single_blocks if controls else 0
    working = working_bytes(tokens + 1, pixels // 256, FLUX.width, control_blocks, controls, torch.bfloat16)
    weights = FLUX.bytes + (CONTROLNET.bytes if controls else 0)
    largest = 2 * (12 + 6) * FLUX.width**2  # a double block: the weights and the modulation of two streams
    outside = 0.25 * GIGA  # what embeds and what ends: wide in the ControlNet
    least = outside + 2 * largest + working
    fits = limit is None or weights + working <= limit
    streamed = 0.0 if fits or limit is None else weights + working + 2 * largest - limit
    share = streamed / weights
    drawn = Work(
        flops=calls * transformer_flops(FLUX, tokens)
        + controlled * transformer_flops(CONTROLNET, tokens + 1)
        + pixels * (VAE_DECODE + (1 + controls) * VAE_ENCODE) / VAE_SHARE,
        traffic=calls * transformer_traffic(FLUX, tokens) + controlled * transformer_traffic(CONTROLNET, tokens),
        streamed=share * (calls * FLUX.bytes + controlled * CONTROLNET.bytes),
        loaded=weights + VAE_BYTES,
        host_seconds=1,
        video=max(min(weights + working, limit or weights + working), VAE_BYTES + pixels * DECODE_BYTES),
        least_video=least,
    )
    return {"prompt": prompt, "bundle": drawn}


def calls_of(config: Config) -> tuple[int, int]:
    """How often a run calls the transformer, and the ControlNet."""
    strength = 1.0 if config["bundle.method"] == "text" else config["bundle.strength"]
    skipped = int(round(config["bundle.steps"] * (1 - strength), 9))
    steps = config["bundle.steps"] - skipped if strength > 0 else 0
    looks = [2 if config["bundle.scheduler"] == "heun" and index + 1 < steps else 1 for index in range(steps)]
    if config["bundle.method"] != "flux":
        return sum(looks), 0
    controlled = sum(
        look
        for start, end in zip(config["bundle.control_starts"], config["bundle.control_ends"], strict=True)
        for index, look in enumerate(looks)
        if index / steps >= start and (index + 1) / steps <= end
    )
    return sum(looks), controlled
