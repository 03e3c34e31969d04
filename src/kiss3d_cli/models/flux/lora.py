"""Low-rank changes of Flux's weights (Hu et al., "LoRA", 2021), folded in for good: no adapter is left at run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.flux.keys import original_layers, split_layer
from kiss3d_cli.models.runtime.fp8 import Fp8Weight, quantize_change
from kiss3d_cli.models.runtime.weights import Shape, WeightFile

_KINDS = {
    ".lora_up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora.up.weight": "up",
    ".lora.down.weight": "down",
    ".alpha": "alpha",
}
_PREFIXES = ("base_model.model.", "transformer.", "diffusion_model.", "model.diffusion_model.")
_KOHYA = "lora_unet_"


@dataclasses.dataclass(frozen=True)
class LowRank:
    """The change `factor * up @ down` of one weight.

    Attributes:
        up: (rows, rank).
        down: (rank, columns).
        factor: alpha over rank.
    """

    up: Tensor
    down: Tensor
    factor: float

    def times(self, scale: float) -> LowRank:
        return dataclasses.replace(self, factor=self.factor * scale)

    def change(self, device: torch.device) -> Float[Tensor, "rows columns"]:
        return self.factor * (self.up.to(device).float() @ self.down.to(device).float())


def read_lora(file: WeightFile, weights: Mapping[str, Shape]) -> dict[str, list[LowRank]]:
    """The changes of every layer, by diffusers' name of the layer.

    Kohya's names (`lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight`, `.lora_up.weight`, `.alpha`), PEFT's with
    diffusers' layers (`transformer.transformer_blocks.0.attn.to_q.lora_A.weight`) or with the original ones.

    Args:
        weights: shapes of the transformer's tensors, by diffusers' names.

    Raises:
        BadInput: a tensor that belongs nowhere, a layer that lacks a part, or one of another shape.
    """
    place = str(file.path)
    layers: dict[str, dict[str, str]] = {}
    hint = f"use the {file.path.name} that LTT/Kiss3DGen publishes"
    if not file.shapes:
        raise BadInput("the file holds no LoRA", place=place, hint=hint)
    for name in file.shapes:
        kind = next((suffix for suffix in _KINDS if name.endswith(suffix)), None)
        if kind is None:
            raise _unknown(name, place, hint)
        layers.setdefault(name.removesuffix(kind), {})[_KINDS[kind]] = name
    by_kohya = {layer.replace(".", "_"): layer for layer in original_layers(*_block_counts(weights))}
    found: dict[str, list[LowRank]] = {}
    for written, parts in layers.items():
        targets = _targets(written, by_kohya, weights)
        if not targets:
            raise _unknown(next(iter(parts.values())), place, hint)
        if "up" not in parts or "down" not in parts:
            raise BadInput(
                f"the layer {written} has no {'up' if 'down' in parts else 'down'} part", place=place, hint=hint
            )
        up, down = file.tensor(parts["up"]), file.tensor(parts["down"])
        rows = [weights[f"{target}.weight"][0] for target in targets]
        columns = weights[f"{targets[0]}.weight"][1]
        if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
            raise BadInput(f"the two parts of {written} do not fit each other", place=place, hint=hint)
        if (up.shape[0], down.shape[1]) != (sum(rows), columns):
            raise BadInput(
                f"the layer {written} changes {up.shape[0]} x {down.shape[1]} weights; "
                f"this transformer's has {sum(rows)} x {columns}",
                place=place,
                hint=hint,
            )
        if not bool(up.isfinite().all() and down.isfinite().all()):
            raise BadInput(f"{written} holds values that are not finite", place=place, hint=hint)
        rank = down.shape[0]
        factor = float(file.tensor(parts["alpha"])) / rank if "alpha" in parts else 1.0
        for target, part in zip(targets, torch.split(up, rows), strict=True):
            found.setdefault(target, []).append(LowRank(part, down, factor))
    return found


def _unknown(name: str, place: str, hint: str) -> BadInput:
    return BadInput(f"the LoRA's tensor {name} belongs to no layer of the transformer", place=place, hint=hint)


def _targets(written: str, by_kohya: Mapping[str, str], weights: Mapping[str, Shape]) -> tuple[str, ...]:
    """diffusers' layers behind a LoRA's name for a layer, in the order of their rows."""
    if written.startswith(_KOHYA):
        layer = by_kohya.get(written.removeprefix(_KOHYA), "")
    else:
        layer = written
        for prefix in _PREFIXES:
            layer = layer.removeprefix(prefix)
    split = split_layer(layer)
    if split is not None and not split.halves_swapped:
        return split.layers if all(f"{target}.weight" in weights for target in split.layers) else ()
    return (layer,) if len(weights.get(f"{layer}.weight", ())) == 2 else ()


def _block_counts(weights: Mapping[str, Shape]) -> tuple[int, int]:
    def count(prefix: str) -> int:
        return len({name.split(".")[1] for name in weights if name.startswith(prefix)})

    return count("transformer_blocks."), count("single_transformer_blocks.")


def fold(weight: Fp8Weight, changes: list[LowRank], device: torch.device) -> Fp8Weight:
    """`weight + changes` in fp8: widened, added, narrowed again, on `device`.

    The new scale is the old one times a power of two, so that the weight's own grid stays what it was and only the
    change is rounded; where the old codes used little of e4m3's range the grid becomes finer.
    """
    scale = weight.scale.to(device) if weight.scale is not None else torch.ones((), device=device)
    total = sum((change.change(device) for change in changes[1:]), start=changes[0].change(device))
    folded = quantize_change(weight.codes.to(device).float(), total / scale)
    assert folded.scale is not None
    return Fp8Weight(folded.codes, folded.scale * scale)
