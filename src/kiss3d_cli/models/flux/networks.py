"""The networks of Flux, each with the configuration that its weights' shapes imply: nothing is fetched to know them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from kiss3d_cli.models.runtime.weights import Shape, build

LATENT_SCALE, LATENT_SHIFT = 0.3611, 0.1159
"""Flux's VAE: latents are `(encoded - LATENT_SHIFT) * LATENT_SCALE`."""
CLIP_HEAD = 64


def transformer(shapes: Mapping[str, Shape]) -> nn.Module:
    """FluxTransformer2DModel from the shapes of its tensors, without memory."""
    from diffusers import FluxTransformer2DModel

    return build(lambda: FluxTransformer2DModel(**_flux_config(shapes)))


def controlnet(shapes: Mapping[str, Shape]) -> nn.Module:
    """FluxControlNetModel (Union) from the shapes of its tensors, without memory."""
    from diffusers import FluxControlNetModel

    modes = shapes["controlnet_mode_embedder.weight"][0] if "controlnet_mode_embedder.weight" in shapes else None
    with warnings.catch_warnings():
        # diffusers 0.42 warns of a deprecated import that it makes itself
        warnings.filterwarnings("ignore", message=".*FluxPosEmbed.*", category=FutureWarning)
        return build(lambda: FluxControlNetModel(**_flux_config(shapes), num_mode=modes))


def _flux_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    width, channels = shapes["x_embedder.weight"]
    (head,) = shapes["transformer_blocks.0.attn.norm_q.weight"]
    # Flux turns 16, 56 and 56 of a head's 128 channels by the three coordinates.
    spatial = head * 7 // 16
    return {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": _count(shapes, "transformer_blocks."),
        "num_single_layers": _count(shapes, "single_transformer_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in shapes,
        "axes_dims_rope": (head - 2 * spatial, spatial, spatial),
    }


def t5_encoder(shapes: Mapping[str, Shape]) -> nn.Module:
    """T5EncoderModel (version 1.1: gated GELU, no scaling) from the shapes of its tensors, without memory."""
    from transformers import T5Config, T5EncoderModel

    words, width = shapes["shared.weight"]
    first = "encoder.block.0.layer."
    buckets, heads = shapes[f"{first}0.SelfAttention.relative_attention_bias.weight"]
    config = T5Config(
        vocab_size=words,
        d_model=width,
        d_kv=shapes[f"{first}0.SelfAttention.q.weight"][0] // heads,
        d_ff=shapes[f"{first}1.DenseReluDense.wi_0.weight"][0],
        num_layers=_count(shapes, "encoder.block."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return build(lambda: T5EncoderModel(config))


def clip_encoder(shapes: Mapping[str, Shape]) -> nn.Module:
    """CLIPTextModel from the shapes of its tensors, without memory. The last word of its vocabulary ends a text."""
    from transformers import CLIPTextConfig, CLIPTextModel

    words, width = shapes["embeddings.token_embedding.weight"]
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=shapes["encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=_count(shapes, "encoder.layers."),
        num_attention_heads=max(1, width // CLIP_HEAD),
        max_position_embeddings=shapes["embeddings.position_embedding.weight"][0],
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    return build(lambda: CLIPTextModel(config))


def vae(shapes: Mapping[str, Shape]) -> nn.Module:
    """AutoencoderKL from the shapes of its tensors, without memory."""
    from diffusers import AutoencoderKL

    levels = _count(shapes, "encoder.down_blocks.")
    channels = tuple(shapes[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels))
    return build(
        lambda: AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=channels,
            layers_per_block=_count(shapes, "encoder.down_blocks.0.resnets."),
            latent_channels=shapes["encoder.conv_out.weight"][0] // 2,
            scaling_factor=LATENT_SCALE,
            shift_factor=LATENT_SHIFT,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    )


_STACKS: Mapping[str, tuple[str, ...]] = {
    "transformer": ("transformer_blocks.", "single_transformer_blocks."),
    "t5_encoder": ("encoder.block.",),
    "clip_encoder": ("encoder.layers.",),
}


def stacks(make: Callable[[dict[str, Shape]], nn.Module], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """How many equal blocks a network of this module has of each kind, as far as none is missing: see `runtime.blocks`.

    Args:
        make: the function of this module.
        shapes: what it would be given.
    """
    numbers = {prefix: _numbers(shapes, prefix) for prefix in _STACKS.get(make.__name__, ())}
    return {prefix: len(found) for prefix, found in numbers.items() if found == set(range(len(found)))}


def _count(shapes: Mapping[str, Shape], prefix: str) -> int:
    """How many numbers follow the prefix: a block that lacks a tensor counts, so that it is missed."""
    return len(_numbers(shapes, prefix))


def _numbers(shapes: Mapping[str, Shape], prefix: str) -> set[int]:
    texts = {name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)}
    return {int(text) for text in texts if text.isdecimal()}
