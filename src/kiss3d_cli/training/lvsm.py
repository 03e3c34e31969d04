"""What the view synthesis model learns: its losses, its held-out measures, and pictures of what it draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.lvsm.config import LvsmConfig
from kiss3d_cli.models.lvsm.network import Lvsm
from kiss3d_cli.models.lvsm.perceptual import PictureLoss, gradient_loss
from kiss3d_cli.models.lvsm.quality import psnr
from kiss3d_cli.models.lvsm.weights import export
from kiss3d_cli.training.lvsm_batches import LvsmBatch, PosedBatches, gather, require
from kiss3d_cli.training.posed import RING
from kiss3d_cli.training.posed_shards import PosedShard, find_posed
from kiss3d_cli.training.task import Task

WEIGHTS = {"l2": 1.0, "mask": 0.1, "likeness": 0.5}
GRADIENTS = 0.05
"""Weight of `likeness` where it is the difference of gradients, a number ten times smaller than VGG-19's."""
USUAL = 0.01
"""Squared error of a picture at 20 dB."""
TRIALS = {"4 given": ([0, 1, 2, 3], False), "2 given": ([0, 1], False), "1 given and guess": ([0], True)}
"""What is measured: views of the ring that are given, and whether the others are guessed."""
RANDOM = 2
"""Random views that are drawn beside what is missing of the ring."""


class LvsmTask(Task[LvsmBatch]):
    """View synthesis from posed pictures."""

    name = "lvsm"
    leading, measure = "psnr", "PSNR of views that were not given, in dB; held out: from the four views of the ring"
    baseline = "nearest"
    others = ("l2", "mask", "likeness")
    legend = "given; then drawn and true, from four views of the ring, and below from the front and a guess"

    def __init__(
        self,
        views: Path,
        held_out: Path | None,
        config: LvsmConfig | None = None,
        *,
        likeness: PictureLoss | None = None,
        checkpointing: bool = False,
    ) -> None:
        """Args:
        views: posed shards to train on.
        held_out: posed shards to measure on.
        config: sizes of the network.
        likeness: a perceptual loss; the difference of gradients if None.
        checkpointing: recompute layers instead of keeping what they computed.
        """
        self.views, self.held_out, self.config = views, held_out, config or LvsmConfig()
        self.likeness, self.checkpointing = likeness, checkpointing

    def network(self) -> nn.Module:
        return Lvsm(self.config, checkpointing=self.checkpointing)

    def batches(self, size: int, seed: int, share: float) -> PosedBatches:
        return PosedBatches(self.views, size, seed, size=self.config.size, share=share, carved=self.config.carved)

    def losses(self, network: nn.Module, batch: LvsmBatch) -> dict[str, Tensor]:
        drawn, truth = network(*batch.planes()).float(), batch.asked.rgba
        if isinstance(self.likeness, nn.Module):
            self.likeness.to(drawn.device)
        weights = WEIGHTS if self.likeness is not None else WEIGHTS | {"likeness": GRADIENTS}
        colors, true_colors = (rgba[:, :, :3].flatten(0, 1) for rgba in (drawn, truth))
        squared = (colors - true_colors).square().flatten(1).mean(1)
        found = {
            "l2": squared.mean(),
            "mask": (drawn[:, :, 3] - truth[:, :, 3]).square().mean(),
            "likeness": (self.likeness or gradient_loss)(colors, true_colors),
        }
        # as PSNR has it, a picture that is nearly right counts as much as one of which little is known
        even = USUAL * (squared / (squared.detach() + USUAL / 10)).mean()
        total = sum((weights[key] * value for key, value in (found | {"l2": even}).items()), torch.zeros(()).to(drawn))
        return {"loss": total, "psnr": psnr(colors.detach().clamp(0, 1), true_colors).mean(), **found}

    @torch.inference_mode()
    def look(self, network: nn.Module, held_out: Path, sheet: Path, limit: int) -> dict[str, float]:
        """PSNR of the colours on white: from each of TRIALS, of copying the nearest given view, and of the guesses."""
        from PIL import Image

        assert isinstance(network, Lvsm)
        totals: dict[str, list[float]] = {}
        rows: list[np.ndarray] = []
        for name, (given, guess) in TRIALS.items():
            shown = 0
            for batch in held_out_batches(held_out, self.config, given, guess, limit):
                drawn = network(*batch.planes()).clamp(0, 1)
                truth = batch.asked.rgba[:, :, :3]
                totals.setdefault(name, []).extend(psnr(drawn[:, :, :3], truth).flatten().tolist())
                near = psnr(nearest(batch), truth).flatten().tolist()
                totals.setdefault(f"nearest of {name}", []).extend(near)
                if batch.guess is not None:
                    key = "guess" if guess else f"hull of {name}"
                    totals.setdefault(key, []).extend(psnr(batch.guess[:, :, :3], truth).flatten().tolist())
                if len(given) != 2 and shown < 6:
                    rows += list(_rows(batch, drawn))[: 6 - shown]
                    shown += len(truth)
        if not totals:
            raise BadInput("the held-out views are empty", place=str(held_out))
        Image.fromarray(_stacked(rows)).save(sheet)
        figures = {name: float(np.mean(values)) for name, values in totals.items()}
        return {"psnr": figures["4 given"], "nearest": figures["nearest of 4 given"], **figures}

    def export(self, path: Path, tensors: dict[str, Tensor]) -> str:
        return export(path, self.config, tensors)


def held_out_batches(
    folder: Path, config: LvsmConfig, given: list[int], guess: bool, limit: int
) -> Iterator[LvsmBatch]:
    """The first objects of a folder, in order, unchanged: what is missing of the ring, and random views.

    Args:
        config: the size of pictures, and whether several views are shown with their hull.
        given: views of the ring. guess: with what the first view's inflation shows; no random views then.
        limit: pictures that are asked for, at most.
    """
    for path in find_posed(folder):
        shard = PosedShard(path)
        require(shard, config.size)
        asked = [view for view in range(1, RING) if view not in given]
        if not guess:
            asked += list(range(RING, min(shard.views, RING + RANDOM)))
        elif shard.coarse != RING - 1:
            continue
        count = min(shard.count, limit // len(asked))
        if count:
            found = gather([(shard, number) for number in range(count)], [given] * count, [asked] * count, guess)
            yield found.carved() if config.carved and not guess and len(given) > 1 else found
        limit -= count * len(asked)
        if limit < len(asked):
            return


def nearest(batch: LvsmBatch) -> Float[Tensor, "B T 3 S S"]:
    """For each view that is asked for, the given one whose camera looks in the most similar direction."""
    back, other = (sight.world_to_camera[:, :, 2, :3] for sight in (batch.given, batch.asked))
    closest = torch.einsum("bti,bvi->btv", other, back).argmax(-1)
    return torch.stack([rgba[which, :3] for rgba, which in zip(batch.given.rgba, closest, strict=True)])


def _rows(batch: LvsmBatch, drawn: Tensor) -> Iterator[np.ndarray]:
    """Of each object: the first given picture, then what was drawn and what is true."""
    for number in range(len(drawn)):
        tiles = [batch.given.rgba[number, 0, :3]]
        for place in range(min(3, drawn.shape[1])):
            tiles += [drawn[number, place, :3], batch.asked.rgba[number, place, :3]]
        yield (torch.cat(tiles, -1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    """Rows under one another, shorter ones filled up with white."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])
