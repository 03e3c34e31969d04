"""Low-rank changes of Flux's weights (Hu et al., "LoRA", 2021), folded in for good: no adapter is left at run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.flux.lora_names import HINT, LoraLayer, Network, place_lora
from kiss3d_cli.models.runtime.fp8 import Fp8Linear, Fp8Weight, quantize_change
from kiss3d_cli.models.runtime.weights import Shape, WeightFile


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


def read_lora(file: WeightFile, network: Network, shapes: Mapping[str, Shape]) -> dict[str, list[LowRank]]:
    """The changes of one network's layers, by the layers' names in the network's class.

    Args:
        file: in any of the forms of `lora_names`.
        shapes: of the network's tensors, by the names of its class.

    Raises:
        BadInput: a tensor that belongs nowhere, a layer that lacks a part, one of another shape, or values that are
            not finite.
    """
    found: dict[str, list[LowRank]] = {}
    for layer in place_lora(file, {network: shapes}):
        if layer.target.network == network:
            for name, change in zip(layer.target.layers, _changes(file, layer), strict=True):
                found.setdefault(name, []).append(change)
    return found


def _changes(file: WeightFile, layer: LoraLayer) -> list[LowRank]:
    """One change for each of the layers that a pair of matrices belongs to."""
    up, down = file.tensor(layer.up).float(), file.tensor(layer.down).float()
    factor = layer.factor if layer.alpha is None else float(file.tensor(layer.alpha)) / layer.rank
    if not bool(up.isfinite().all() and down.isfinite().all() and abs(factor) < float("inf")):
        raise BadInput(f"{layer.written} holds values that are not finite", place=str(file.path), hint=HINT)
    if layer.target.halves_swapped:
        up = torch.cat(tuple(reversed(up.chunk(2))))
    return [LowRank(part, down, factor) for part in torch.split(up, list(layer.rows))]


def fold(weight: Fp8Weight, changes: Sequence[LowRank], device: torch.device) -> Fp8Weight:
    """`weight + changes` in fp8: widened, added, narrowed again, on `device`.

    The new scale is the old one times a power of two, so that the weight's own grid stays what it was and only the
    change is rounded; where the old codes used little of e4m3's range the grid becomes finer.
    """
    scale = weight.scale.to(device) if weight.scale is not None else torch.ones((), device=device)
    total = _total(changes, device)
    folded = quantize_change(weight.codes.to(device).float(), total / scale)
    assert folded.scale is not None
    return Fp8Weight(folded.codes, folded.scale * scale)


def fold_module(model: nn.Module, changes: Mapping[str, Sequence[LowRank]], scale: float, device: torch.device) -> None:
    """Fold the changes of a LoRA into a network's linear layers, in place: exactly, but for those in fp8.

    Args:
        changes: of `read_lora`.
        scale: of the LoRA.
        device: where to do the arithmetic; the layers stay in host memory.
    """
    for name, parts in changes.items():
        layer, mine = model.get_submodule(name), [part.times(scale) for part in parts]
        if isinstance(layer, Fp8Linear):
            stored = Fp8Weight(layer.codes, None if layer.scale is None else torch.tensor(layer.scale))
            folded = fold(stored, mine, device)
            assert folded.scale is not None
            model.set_submodule(name, Fp8Linear(Fp8Weight(folded.codes.cpu(), folded.scale.cpu()), layer.bias))
        else:
            weight = layer.get_parameter("weight")
            changed = weight.to(device).float() + _total(mine, device)
            layer.register_parameter("weight", nn.Parameter(changed.to("cpu", weight.dtype), requires_grad=False))


def _total(changes: Sequence[LowRank], device: torch.device) -> Float[Tensor, "rows columns"]:
    return sum((change.change(device) for change in changes[1:]), start=changes[0].change(device))
