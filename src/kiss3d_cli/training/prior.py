"""What the prior learns: batches from shards, its losses, and pictures of what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.prior.network import Prior, PriorAnswer, PriorConfig, base_depth
from kiss3d_cli.models.prior.weights import export
from kiss3d_cli.training.shards import KEYS, find_shards, read_shard
from kiss3d_cli.training.task import Batches, Task, Tensors

WEIGHTS = {"depth": 1.0, "normals": 0.1, "back": 0.1, "sides": 0.08, "gap": 0.02, "spread": 0.02}
"""Of the losses: the depth leads, the others must not cost it anything."""
LEAST_SPREAD, MOST_SPREAD = -6.0, 1.0


@dataclass(frozen=True)
class Batch(Tensors):
    """Pictures and what is true of them; B pictures of S x S pixels.

    Attributes:
        rgba, base: what the network reads.
        depth: (B, 2, S, S), moved so that its middle has the inflation's mean depth: nobody can see how far away an
            object is.
        normals: (B, 3, S, S). back: (B, 3, S, S). sides: (B, 6, s, s), half as fine. gap: (B, S, S).
        known: (B, S, S) and sides_known: (B, 2, s, s), 1 where there is something to be right about.
    """

    rgba: Float[Tensor, "B 4 S S"]
    base: Float[Tensor, "B S S"]
    depth: Float[Tensor, "B 2 S S"]
    normals: Float[Tensor, "B 3 S S"]
    back: Float[Tensor, "B 3 S S"]
    sides: Float[Tensor, "B 6 s s"]
    gap: Float[Tensor, "B S S"]
    known: Float[Tensor, "B S S"]
    sides_known: Float[Tensor, "B 2 s s"]


def to_batch(arrays: dict[str, np.ndarray]) -> Batch:
    """Rows of shards as tensors."""
    found = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    known = found["known"].float()
    base = found["base"].float()
    depth = found["depth"].float()
    weight = known / known.sum((1, 2), keepdim=True).clamp_min(1)
    middle = ((depth.mean(1) - base_depth(base).mean(1)) * weight).sum((1, 2))
    return Batch(
        rgba=_planes(found["rgba"]) / 255,
        base=base,
        depth=depth - middle[:, None, None, None],
        normals=_planes(found["normals"]) / 127,
        back=_planes(found["back"]) / 255,
        sides=_planes(found["sides"]) / 255,
        gap=found["gap"].float(),
        known=known,
        sides_known=_planes(found["sides_known"]),
    )


def _planes(image: Tensor) -> Tensor:
    return image.permute(0, 3, 1, 2).float().contiguous()


def mirrored(batch: Batch) -> Batch:
    """Left and right exchanged."""
    turned = {key: value.flip(-1) for key, value in vars(batch).items()}
    turned["normals"] = turned["normals"] * torch.tensor([-1.0, 1, 1])[:, None, None]
    turned["sides"] = turned["sides"].roll(3, 1)
    turned["sides_known"] = turned["sides_known"].flip(1)
    return Batch(**turned)


def recolored(batch: Batch, generator: torch.Generator) -> Batch:
    """Channels exchanged, contrast and brightness changed, now and then grey: alike in the picture and the answers."""
    count = len(batch.rgba)
    order = torch.stack([torch.randperm(3, generator=generator) for _ in range(count)])
    order[torch.rand(count, generator=generator) < 0.6] = torch.arange(3)
    grey = (torch.rand(count, 1, 1, 1, generator=generator) < 0.1).float()
    gain = 1 + 0.2 * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5)
    lift = 0.1 * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5)

    def change(colors: Tensor) -> Tensor:
        picked = torch.gather(colors, 1, order[:, :, None, None].expand(-1, -1, *colors.shape[2:]))
        mixed = picked + grey * (picked.mean(1, keepdim=True) - picked)
        return (mixed * gain + lift).clamp(0, 1)

    sides = torch.cat([change(batch.sides[:, :3]), change(batch.sides[:, 3:])], 1)
    rgba = torch.cat([change(batch.rgba[:, :3]), batch.rgba[:, 3:]], 1)
    return Batch(**{**vars(batch), "rgba": rgba, "back": change(batch.back), "sides": sides})


class Views(Batches[Batch]):
    """Random batches of a folder of shards; the same for the same seed, step and shards."""

    def __init__(self, folder: Path, batch: int, seed: int, *, share: float = 1.0) -> None:
        """Args:
        folder: of shards; it may grow, see `refresh`.
        batch: pictures a step.
        seed: of the choice.
        share: only the first part of the shards is used, to learn what more of them would bring.
        """
        self.folder, self.size, self.seed, self.share = folder, batch, seed, share
        self.opened: dict[Path, tuple[Any, int]] = {}
        self.paths: list[Path] = []
        self.refresh()

    def refresh(self) -> bool:
        """Looks for new shards; whether there are some."""
        before, found = self.paths, find_shards(self.folder)
        self.paths = found[: max(1, round(self.share * len(found)))]
        return self.paths != before

    def batch(self, step: int, rank: int = 0) -> Batch:
        """The batch of a step; augmented."""
        rng = np.random.default_rng([self.seed, step, rank])
        rows: dict[str, list[np.ndarray]] = {key: [] for key in KEYS}
        for _ in range(self.size):
            opened, count = self._open(self.paths[rng.integers(len(self.paths))])
            at = int(rng.integers(count))
            for key in KEYS:
                rows[key].append(opened.get_slice(key)[at : at + 1])
        found = to_batch({key: np.concatenate(value) for key, value in rows.items()})
        if rng.random() < 0.5:
            found = mirrored(found)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
        return recolored(found, generator)

    def _open(self, path: Path) -> tuple[Any, int]:
        if path not in self.opened:
            read_shard(path)  # says what is wrong with a damaged one
            opened: Any = safe_open(path, framework="np")
            self.opened[path] = (opened, opened.get_slice("known").get_shape()[0])
        return self.opened[path]


def all_views(folder: Path, limit: int, batch: int = 32) -> Iterator[Batch]:
    """The first views of a folder, in order, unchanged."""
    left = limit
    for path in find_shards(folder):
        arrays = read_shard(path)
        count = min(left, len(arrays["known"]))
        for start in range(0, count, batch):
            yield to_batch({key: value[start : min(start + batch, count)] for key, value in arrays.items()})
        left -= count
        if left <= 0:
            return


def losses(answer: PriorAnswer, batch: Batch) -> dict[str, Float[Tensor, ""]]:
    """Each loss by name, and `loss`, their weighted sum.

    The median is a shape that exists, a mean is fog: depths have an L1 loss. The spread is learned beside it, as the
    logarithm of a Laplace distribution's width, and does not act on the depth (Kendall and Gal 2017).
    """
    known = batch.known[:, None]
    error = (answer.depth - batch.depth).abs()
    spread = answer.spread.clamp(LEAST_SPREAD, MOST_SPREAD)
    level = batch.sides.shape[-1]
    sides = functional.avg_pool2d(answer.sides, answer.sides.shape[-1] // level)
    sides_known = batch.sides_known.repeat_interleave(3, 1)
    gap = functional.binary_cross_entropy_with_logits(answer.gap, batch.gap, reduction="none")
    found = {
        "depth": _mean(error, known),
        "normals": _mean((answer.normals - batch.normals).abs(), known),
        "back": _mean((answer.back - batch.back).abs(), known),
        "sides": _mean((sides - batch.sides).abs(), sides_known),
        "gap": _mean(gap[:, None], known),
        "spread": _mean(error.detach() * (-spread).exp() + spread, known),
    }
    total = sum((WEIGHTS[key] * value for key, value in found.items()), torch.zeros(()).to(error))
    return {"loss": total, **found}


def _mean(values: Float[Tensor, "B C H W"], weights: Tensor) -> Float[Tensor, ""]:
    """Over each picture's own pixels, then over the pictures: a thin object counts as much as a thick one."""
    weights = weights.expand_as(values)
    each = (values * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp_min(1)
    return each.mean()


@torch.inference_mode()
def held_out_errors(network: Prior, folder: Path, limit: int, device: torch.device) -> dict[str, float]:
    """Mean depth error of the network, of the inflation alone, and the other losses, on views never trained on."""
    total: dict[str, float] = {}
    count = 0
    for batch in all_views(folder, limit):
        there = batch.to(device)
        found = losses(network(there.rgba, there.base), there)
        found["inflation"] = _mean((base_depth(there.base) - there.depth).abs(), there.known[:, None])
        size = len(batch.rgba)
        for key, value in found.items():
            total[key] = total.get(key, 0.0) + float(value) * size
        count += size
    if count == 0:
        raise BadInput("the held-out views are empty", place=str(folder), hint="make them again: kiss3d train data")
    return {key: value / count for key, value in total.items()}


@torch.inference_mode()
def drawn(network: Prior, batch: Batch) -> np.ndarray:
    """(H, W, 3) uint8: for each picture itself, front and back depth as said and as true, normals, back colours."""
    answer = network(batch.rgba, batch.base)
    known = batch.known[:, None]

    def grey(depth: Tensor) -> Tensor:
        return ((depth / 1.6 + 0.5).clamp(0, 1) * known + 1 - known).expand(-1, 3, -1, -1)

    def colored(colors: Tensor) -> Tensor:
        return colors.clamp(0, 1) * known + 1 - known

    alpha = batch.rgba[:, 3:]
    columns = [
        batch.rgba[:, :3] * alpha + 1 - alpha,
        *(grey(depth[:, [side]]) for side in (0, 1) for depth in (answer.depth, batch.depth)),
        colored((answer.normals + 1) / 2),
        colored((batch.normals + 1) / 2),
        colored(answer.back),
        colored(batch.back),
    ]
    rows = torch.cat(columns, -1).permute(0, 2, 3, 1)
    return (rows.reshape(-1, *rows.shape[2:]) * 255).round().byte().cpu().numpy()


class PriorTask(Task[Batch]):
    """The learned prior: front and back depth of the object in a picture, over its inflation."""

    name = "prior"
    leading, measure = "depth", "Mean error of depth, in half picture sides"
    baseline = "inflation"
    others = ("normals", "back", "sides", "gap")
    legend = "picture; front depth said, true; back depth said, true; normals said, true; back colours said, true"

    def __init__(self, views: Path, held_out: Path | None, config: PriorConfig | None = None) -> None:
        """Args:
        views: shards to train on.
        held_out: shards to measure on.
        config: sizes of the network.
        """
        self.views, self.held_out, self.config = views, held_out, config or PriorConfig()

    def network(self) -> nn.Module:
        return Prior(self.config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batches(self, size: int, seed: int, share: float) -> Views:
        return Views(self.views, size, seed, share=share)

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return losses(network(batch.rgba, batch.base), batch)

    def look(self, network: nn.Module, held_out: Path, sheet: Path, limit: int) -> dict[str, float]:
        from PIL import Image

        assert isinstance(network, Prior)
        first = next(iter(all_views(held_out, 24, batch=24)))
        picked = type(first)(**{key: value[::2] for key, value in vars(first).items()})
        Image.fromarray(drawn(network, picked)).save(sheet)
        return held_out_errors(network, held_out, limit, torch.device("cpu"))

    def export(self, path: Path, tensors: dict[str, Tensor]) -> str:
        return export(path, self.config, tensors)
