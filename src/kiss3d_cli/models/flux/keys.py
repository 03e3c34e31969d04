"""From the names of published Flux files to those of diffusers' and transformers' classes.

The original code fuses what diffusers keeps apart: query, key and value (and, in single blocks, the first layer of the
MLP) are rows of one matrix. A module's tensor is a view of those rows, so that splitting copies and widens nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.weights import Layout, Place, Shape

TRANSFORMER = "model.diffusion_model."
VAE = "vae."
T5 = "text_encoders.t5xxl.transformer."
CLIP = "text_encoders.clip_l.transformer.text_model."
_TRANSFORMERS = (TRANSFORMER, "diffusion_model.", "")
_VAES = (VAE, "first_stage_model.", "")  # ComfyUI; Forge and sd.cpp; a file of its own
_T5S = (T5, "t5xxl.transformer.", "")
_CLIPS = (CLIP, "clip_l.transformer.text_model.", "text_model.")
_OTHERS = ("vae.", "first_stage_model.", "text_encoders.", "cond_stage_model.", "conditioner.")
"""What else an all-in-one file may hold beside a transformer of which the names have no prefix."""

_DOUBLE = {
    "{s}_mod.lin": "norm1{c}.linear",
    "{s}_attn.proj": "attn.{o}",
    "{s}_mlp.0": "ff{c}.net.0.proj",
    "{s}_mlp.2": "ff{c}.net.2",
}
_STREAMS = (
    {"s": "img", "c": "", "o": "to_out.0", "qkv": ("to_q", "to_k", "to_v"), "norm": ("norm_q", "norm_k")},
    {
        "s": "txt",
        "c": "_context",
        "o": "to_add_out",
        "qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
        "norm": ("norm_added_q", "norm_added_k"),
    },
)
_TOP = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """A stored layer of the original code as layers of diffusers.

    Attributes:
        layers: diffusers' layers, in the order of their rows.
        rows: how many rows each has, in units of the model's width.
        halves_swapped: the one layer's two halves change places.
    """

    layers: tuple[str, ...]
    rows: tuple[int, ...] = ()
    halves_swapped: bool = False


def split_layer(layer: str) -> Split | None:
    """What a layer of the original transformer (its name ends before `.weight`) is in diffusers; None if unknown."""
    if layer in _TOP:
        return Split((_TOP[layer],))
    if layer == "final_layer.adaLN_modulation.1":
        return Split(("norm_out.linear",), halves_swapped=True)  # stored as shift, scale; diffusers has scale, shift
    if match := re.fullmatch(r"double_blocks\.(\d+)\.(.+)", layer):
        block, rest = f"transformer_blocks.{match[1]}.", match[2]
        for stream in _STREAMS:
            if rest == f"{stream['s']}_attn.qkv":
                return Split(tuple(f"{block}attn.{name}" for name in stream["qkv"]), (1, 1, 1))
            for pattern, target in _DOUBLE.items():
                if rest == pattern.format(s=stream["s"]):
                    return Split((block + target.format(c=stream["c"], o=stream["o"]),))
        return None
    if match := re.fullmatch(r"single_blocks\.(\d+)\.(.+)", layer):
        block = f"single_transformer_blocks.{match[1]}."
        if match[2] == "linear1":
            names = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
            return Split(tuple(block + name for name in names), (1, 1, 1, 4))
        simple = {"linear2": "proj_out", "modulation.lin": "norm.linear"}
        return Split((block + simple[match[2]],)) if match[2] in simple else None
    return None


def _norm_scale(name: str) -> str | None:
    match = re.fullmatch(r"double_blocks\.(\d+)\.(img|txt)_attn\.norm\.(query|key)_norm\.scale", name)
    if match:
        norms = _STREAMS[match[2] == "txt"]["norm"]
        return f"transformer_blocks.{match[1]}.attn.{norms[match[3] == 'key']}.weight"
    match = re.fullmatch(r"single_blocks\.(\d+)\.norm\.(query|key)_norm\.scale", name)
    return f"single_transformer_blocks.{match[1]}.attn.norm_{match[2][0]}.weight" if match else None


_SCALE_SUFFIXES = (".scale_weight", ".weight_scale")
_UNUSED_SUFFIXES = (".scale_input", ".input_scale", ".comfy_quant")
"""Scales of activations, for arithmetic in fp8, which is not done here, and ComfyUI's name for the kind of fp8."""
_UNUSED = ("scaled_fp8", "__index_timestep_zero__")


def transformer_prefix(names: Iterable[str]) -> str | None:
    """What stands before the transformer's names: `model.diffusion_model.` or nothing; None without a transformer."""
    return _prefix(names, _TRANSFORMERS, ("img_in.weight",))


def _prefix(names: Iterable[str], prefixes: Iterable[str], signs: Iterable[str]) -> str | None:
    """The prefix under which one of these names is there."""
    known = set(names)
    return next((prefix for prefix in prefixes if any(f"{prefix}{sign}" in known for sign in signs)), None)


def transformer_layout(shapes: Mapping[str, Shape], prefix: str) -> Layout:
    """FluxTransformer2DModel in a file of the original code.

    Args:
        shapes: of every tensor in the file.
        prefix: of the transformer's names.

    Raises:
        Missing: a tensor under the prefix that has no place in the model.
    """
    width = shapes[f"{prefix}img_in.weight"][0]
    places: dict[str, Place] = {}
    scales: dict[str, str] = {}
    unknown = []
    for stored in shapes:
        if not stored.startswith(prefix):
            continue
        name = stored.removeprefix(prefix)
        norm = _norm_scale(name)
        layer, _, kind = name.rpartition(".")
        split = split_layer(layer)
        if norm is not None:
            places[norm] = Place(stored)
        elif f".{kind}" in _SCALE_SUFFIXES and split is not None:
            scales[f"{prefix}{layer}.weight"] = stored
        elif f".{kind}" in _UNUSED_SUFFIXES or name in _UNUSED:
            continue
        elif split is None or kind not in ("weight", "bias"):
            if not name.startswith(_OTHERS):
                unknown.append(stored)
        elif len(split.layers) == 1:
            places[f"{split.layers[0]}.{kind}"] = Place(stored, halves_swapped=split.halves_swapped)
        else:
            start = 0
            for target, rows in zip(split.layers, split.rows, strict=True):
                places[f"{target}.{kind}"] = Place(stored, start, start + rows * width)
                start += rows * width
            if start != shapes[stored][0]:
                unknown.append(stored)
    if unknown:
        raise _unknown(unknown)
    return Layout(places, scales)


def plain_layout(names: Iterable[str], prefix: str = "", unused: Iterable[str] = ()) -> Layout:
    """A file that names its tensors as the class does, below a prefix."""
    kept = [name for name in names if name.startswith(prefix)]
    scales = {name[: -len(s)] + ".weight": name for name in kept for s in _SCALE_SUFFIXES if name.endswith(s)}
    dropped = {*scales.values(), *(prefix + name for name in (*unused, *_UNUSED))}
    ends = _UNUSED_SUFFIXES
    return Layout({n.removeprefix(prefix): Place(n) for n in kept if n not in dropped and not n.endswith(ends)}, scales)


def t5_layout(names: Iterable[str]) -> Layout:
    """T5EncoderModel, in an all-in-one file or one of its own.

    The input embedding is stored once and used under two names.
    """
    known = list(names)
    prefix = _prefix(known, _T5S, ("encoder.block.0.layer.0.SelfAttention.q.weight",))
    layout = plain_layout(known, T5 if prefix is None else prefix)
    shared = layout.places.get("shared.weight") or layout.places.get("encoder.embed_tokens.weight")
    places = dict(layout.places)
    if shared is not None:
        places.update({"shared.weight": shared, "encoder.embed_tokens.weight": shared})
    return Layout(places, layout.scales)


def clip_layout(names: Iterable[str]) -> Layout:
    """CLIPTextModel of transformers 5, whose names have lost their `text_model.`."""
    known = list(names)
    prefix = _prefix(known, _CLIPS, ("embeddings.token_embedding.weight",))
    return plain_layout(known, CLIP if prefix is None else prefix, unused=("embeddings.position_ids",))


def vae_layout(shapes: Mapping[str, Shape]) -> Layout:
    """AutoencoderKL, in the names of the original code or in diffusers', those before 0.18 included."""
    prefix = _prefix(shapes, _VAES, ("encoder.conv_in.weight",))
    prefix = VAE if prefix is None else prefix
    names = [name.removeprefix(prefix) for name in shapes if name.startswith(prefix)]
    levels = 1 + max((int(m[1]) for name in names if (m := re.match(r"decoder\.up\.(\d+)\.", name))), default=-1)
    places = {}
    for name in names:
        target = _diffusers_vae_name(name) if levels == 0 else _vae_name(name, levels)
        if target is not None:
            places[target] = Place(f"{prefix}{name}")
    return Layout(places, {})


_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _diffusers_vae_name(name: str) -> str | None:
    if not name.startswith(("encoder.", "decoder.")):
        return None
    match = re.fullmatch(r"(.+\.attentions\.0)\.(\w+)\.(weight|bias)", name)
    if match is None or match[2] not in _OLD_ATTENTION:
        return name
    return f"{match[1]}.{_OLD_ATTENTION[match[2]]}.{match[3]}"


def _vae_name(name: str, levels: int) -> str | None:
    match = re.fullmatch(r"(encoder|decoder)\.(.+)\.(weight|bias)", name)
    if match is None:
        return None
    half, layer, kind = match.groups()
    plain = {"conv_in": "conv_in", "conv_out": "conv_out", "norm_out": "conv_norm_out"}
    attention = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    if layer in plain:
        target = plain[layer]
    elif part := re.fullmatch(r"mid\.block_([12])\.(\w+)", layer):
        target = f"mid_block.resnets.{int(part[1]) - 1}.{_resnet(part[2])}"
    elif (part := re.fullmatch(r"mid\.attn_1\.(\w+)", layer)) and part[1] in attention:
        target = f"mid_block.attentions.0.{attention[part[1]]}"
    elif part := re.fullmatch(r"(down|up)\.(\d+)\.block\.(\d+)\.(\w+)", layer):
        target = f"{_vae_block(part[1], int(part[2]), levels)}.resnets.{part[3]}.{_resnet(part[4])}"
    elif part := re.fullmatch(r"(down|up)\.(\d+)\.(?:down|up)sample\.conv", layer):
        target = f"{_vae_block(part[1], int(part[2]), levels)}.{part[1]}samplers.0.conv"
    else:
        return None
    return f"{half}.{target}.{kind}"


def _vae_block(direction: str, level: int, levels: int) -> str:
    # The original decoder counts its levels from the finest, diffusers in the order in which they are passed.
    return f"down_blocks.{level}" if direction == "down" else f"up_blocks.{levels - 1 - level}"


def _resnet(layer: str) -> str:
    return "conv_shortcut" if layer == "nin_shortcut" else layer


def _unknown(names: list[str]) -> Missing:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Missing(
        f"the file holds tensors that have no place in Flux: {', '.join(names[:3])}{more}",
        hint="use flux1-dev-fp8.safetensors of Comfy-Org/flux1-dev",
    )


def original_layers(double_blocks: int, single_blocks: int) -> list[str]:
    """The names of every linear layer of the original transformer."""
    layers = [*_TOP, "final_layer.adaLN_modulation.1"]
    for block in range(double_blocks):
        for stream in _STREAMS:
            layers.append(f"double_blocks.{block}.{stream['s']}_attn.qkv")
            layers += [f"double_blocks.{block}.{pattern.format(s=stream['s'])}" for pattern in _DOUBLE]
    for block in range(single_blocks):
        layers += [f"single_blocks.{block}.{name}" for name in ("linear1", "linear2", "modulation.lin")]
    return layers
