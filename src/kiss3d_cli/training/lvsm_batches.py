"""Batches for view synthesis: given pictures, cameras asked for, what is guessed of them, and the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.lvsm.hull import hull_views, hulls_views
from kiss3d_cli.models.lvsm.network import query_planes, view_planes
from kiss3d_cli.models.lvsm.rays import Posed, pluecker, turned_to
from kiss3d_cli.training.posed import RING
from kiss3d_cli.training.posed_shards import PosedShard, find_posed
from kiss3d_cli.training.task import Batches, Tensors

TARGETS = 3
"""Of each object in a batch: the scene is read once for all of them."""
REFINED, OF_RING = 0.25, 0.45
"""Shares of batches that correct the guess of the ring's other views from its front, and that have some views of the
ring, its front among them, and are asked for the others; the rest has random views for everything.
"""
HIDDEN = 0.15
"""Share of the batches with several views whose hull is not shown."""
EPISODES = 2
"""Choices of views of each object where a hull is shown: what was carved is used again."""
CARVED = 3 * 2**29
"""Bytes of carved choices that are kept: 32,768 at 64 pixels."""
TOGETHER = 2**19
"""Rays that a GPU carves at once: a gigabyte of samples."""
OPENED = 64
"""Shards that are open at once."""
Key = tuple[Path, int, tuple[int, ...], tuple[int, ...]]
"""A shard, an object in it, the views that are given, and those that are asked for."""


@dataclass(frozen=True)
class Sight(Tensors):
    """Pictures of B objects with their cameras.

    Attributes:
        rgba: colours on white and masks, in [0, 1].
        world_to_camera, intrinsics: as of `posed.PosedViews`.
    """

    rgba: Float[Tensor, "B V 4 S S"]
    world_to_camera: Float[Tensor, "B V 4 4"]
    intrinsics: Float[Tensor, "B V 4"]

    def mirrored(self) -> Sight:
        """The world with left and right exchanged."""
        flip = torch.diag(torch.tensor([-1.0, 1, 1, 1])).to(self.world_to_camera)
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 2] = 1 - intrinsics[..., 2]
        return Sight(self.rgba.flip(-1), flip @ self.world_to_camera @ flip, intrinsics)


@dataclass(frozen=True)
class Change(Tensors):
    """How the objects of a batch are augmented, alike in all their pictures.

    Attributes:
        order: of their colour channels. grey: 1 for those that lose their colour.
        mirrored: whether left and right are exchanged.
    """

    order: Int[Tensor, "B 3"]
    grey: Float[Tensor, "B 1 1 1 1"]
    mirrored: bool

    @staticmethod
    def drawn(rng: np.random.Generator, count: int) -> Change:
        mirrored = bool(rng.random() < 0.5)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
        order = torch.stack([torch.randperm(3, generator=generator) for _ in range(count)])
        order[torch.rand(count, generator=generator) < 0.5] = torch.arange(3)
        grey = (torch.rand(count, 1, 1, 1, 1, generator=generator) < 0.05).float()
        return Change(order, grey, mirrored)

    def of(self, rgba: Float[Tensor, "B V 4 S S"]) -> Float[Tensor, "B V 4 S S"]:
        """Pictures in other colours; the white stays white."""
        which = self.order[:, None, :, None, None].expand(-1, rgba.shape[1], -1, *rgba.shape[3:])
        colors = torch.gather(rgba[:, :, :3], 2, which)
        colors = colors + self.grey * (colors.mean(2, keepdim=True) - colors)
        return torch.cat([colors, rgba[:, :, 3:]], 2)


@dataclass(frozen=True)
class LvsmBatch(Tensors):
    """What is given, and what is true.

    Attributes:
        given: V pictures of each object.
        asked: T others.
        guess: colours on white and masks of those others that are guessed already; None if nothing is.
        carving: of each object what its choice of views is kept by, if the hull of what is given is the guess and
            is still to be carved; a batch is made where hulls are slow, and carved where it is used.
        change: how it is augmented after that.
    """

    given: Sight
    asked: Sight
    guess: Float[Tensor, "B T 4 S S"] | None = None
    carving: tuple[Key, ...] = ()
    change: Change | None = None

    def mirrored(self) -> LvsmBatch:
        guess = None if self.guess is None else self.guess.flip(-1)
        return dataclasses.replace(self, given=self.given.mirrored(), asked=self.asked.mirrored(), guess=guess)

    def changed(self) -> LvsmBatch:
        """Augmented as `change` says."""
        if self.change is None:
            return self
        found = self.mirrored() if self.change.mirrored else self
        given, asked = (
            dataclasses.replace(sight, rgba=self.change.of(sight.rgba)) for sight in (found.given, found.asked)
        )
        return LvsmBatch(given, asked, None if found.guess is None else self.change.of(found.guess))

    def carved(self) -> LvsmBatch:
        """With the visual hull of what is given as the guess."""
        pairs = zip(*(_posed(sight) for sight in (self.given, self.asked)), strict=True)
        found = [hull_views(rgba, *cameras) for rgba, cameras in zip(self.given.rgba, pairs, strict=True)]
        return dataclasses.replace(self, guess=torch.stack(found))

    def planes(self) -> tuple[Float[Tensor, "B V 10 S S"], Float[Tensor, "B T 11 S S"]]:
        """What the network's `encode` and `decode` take."""
        size, reference = self.given.rgba.shape[-1], self.given.world_to_camera[:, 0]
        seen, other = (
            pluecker(turned_to(sight.world_to_camera, reference), sight.intrinsics, size)
            for sight in (self.given, self.asked)
        )
        return view_planes(self.given.rgba, seen), query_planes(other, self.guess)


def _posed(sight: Sight) -> list[Posed]:
    return [Posed(*cameras) for cameras in zip(sight.world_to_camera, sight.intrinsics, strict=True)]


def _of_all(sight: Sight, rows: list[int]) -> Posed:
    """The cameras of some objects, one after another."""
    return Posed(sight.world_to_camera[rows].flatten(0, 1), sight.intrinsics[rows].flatten(0, 1))


def gather(
    rows: Sequence[tuple[PosedShard, int]], given: Sequence[Sequence[int]], asked: Sequence[Sequence[int]], guess: bool
) -> LvsmBatch:
    """A batch of objects.

    Args:
        rows: shards, and the objects in them.
        given, asked: views of each.
        guess: give what is guessed of those that are asked for; they are 1 to `PosedShard.coarse` then.
    """

    def sight(which: Sequence[Sequence[int]]) -> Sight:
        pixels = np.stack(
            [shard.views_of(number, list(views)) for (shard, number), views in zip(rows, which, strict=True)]
        )
        poses, cameras = (
            np.stack(
                [getattr(shard, key)[number, list(views)] for (shard, number), views in zip(rows, which, strict=True)]
            )
            for key in ("world_to_camera", "intrinsics")
        )
        return Sight(_planes(pixels), torch.from_numpy(poses), torch.from_numpy(cameras))

    coarse = None
    if guess:
        views = [shard.coarse_of(number, list(views)) for (shard, number), views in zip(rows, asked, strict=True)]
        coarse = _planes(np.stack(views))
    return LvsmBatch(sight(given), sight(asked), coarse)


def _planes(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.moveaxis(pixels, -1, -3).astype(np.float32) / 255)


class PosedBatches(Batches[LvsmBatch]):
    """Random batches of a folder of posed shards; the same for the same seed, step and shards."""

    def __init__(
        self, folder: Path, batch: int, seed: int, *, size: int, share: float = 1.0, carved: bool = False
    ) -> None:
        """Args:
        folder: of shards; it may grow, see `refresh`.
        batch: objects a step.
        seed: of the choice.
        size: pixels a side that the network has.
        share: only the first part of the shards is used.
        carved: the hull of several views is shown.

        Raises:
            Missing: no shards. BadInput: views of another size.
        """
        self.folder, self.batch_size, self.seed, self.size, self.share = folder, batch, seed, size, share
        self.carved = carved
        self.hulls: dict[Key, Tensor] = {}
        self.opened: dict[Path, PosedShard] = {}
        self.paths: list[Path] = []
        self.refresh()
        self._open(self.paths[0])

    def refresh(self) -> bool:
        """Looks for new shards; whether there are some."""
        before, found = self.paths, find_posed(self.folder)
        self.paths = found[: max(1, round(self.share * len(found)))]
        return self.paths != before

    def batch(self, step: int, rank: int = 0) -> LvsmBatch:
        """The batch of a step, to be completed by `placed`."""
        rng = np.random.default_rng([self.seed, step, rank])
        first = self._open(self.paths[rng.integers(len(self.paths))])
        kind = float(rng.random()) if first.coarse == RING - 1 else 1.0
        guess, of_ring = kind < REFINED, kind < REFINED + OF_RING
        hull = self.carved and not guess and rng.random() >= HIDDEN
        number = 1 if guess else int(rng.integers(2 if hull or not of_ring else 1, RING + 1))
        rows, given, asked = [], [], []
        for place in range(self.batch_size):
            shard = first if place == 0 else self._open(self.paths[rng.integers(len(self.paths))])
            if guess and shard.coarse != RING - 1:
                shard = first
            rows.append((shard, int(rng.integers(shard.count))))
            seen, other = self._chosen(rng, rows[-1], number, of_ring and shard.coarse > 0, guess, hull)
            given.append(seen)
            asked.append(other)
        fewest = min(len(other) for other in asked)
        asked = [other[:fewest] for other in asked]
        found = gather(rows, given, asked, guess)
        chosen = zip(rows, given, asked, strict=True)
        keys = [(shard.path, number, tuple(seen), tuple(sought)) for (shard, number), seen, sought in chosen]
        change = Change.drawn(rng, self.batch_size)
        return dataclasses.replace(found, carving=tuple(keys) if hull else (), change=change)

    def placed(self, batch: LvsmBatch, device: torch.device) -> LvsmBatch:
        """The batch with its hulls, augmented."""
        moved = batch.to(device)
        if batch.carving:
            moved = dataclasses.replace(moved, guess=self._hulls(moved))
        return moved.changed()

    def _chosen(
        self,
        rng: np.random.Generator,
        row: tuple[PosedShard, int],
        number: int,
        of_ring: bool,
        guess: bool,
        hull: bool,
    ) -> tuple[list[int], list[int]]:
        """Views that are given, and asked for."""
        shard, place = row
        if hull:
            key = [self.seed, *shard.path.stem.encode(), place, number, of_ring, int(rng.integers(EPISODES))]
            rng = np.random.default_rng(key)
        if guess:
            return [0], [1, 2, 3]
        if not of_ring:
            views = rng.permutation(shard.views).tolist()
            return views[:number], views[number : number + TARGETS]
        seen = [0, *(1 + rng.permutation(RING - 1)[: number - 1]).tolist()]
        lacking = rng.permutation([view for view in range(1, RING) if view not in seen]).tolist()
        return seen, [*lacking, *(RING + rng.permutation(shard.views - RING)).tolist()][:TARGETS]

    def _hulls(self, batch: LvsmBatch) -> Float[Tensor, "B T 4 S S"]:
        """What the hulls show, on the device of the batch; carved once for each choice of views."""
        missing = [number for number, key in enumerate(batch.carving) if key not in self.hulls]
        rays = batch.asked.rgba[0, :, 0].numel()
        together = 1 if batch.given.rgba.device.type == "cpu" else max(1, TOGETHER // rays)
        for first in range(0, len(missing), together):
            rows = missing[first : first + together]
            cameras = (_of_all(sight, rows) for sight in (batch.given, batch.asked))
            for number, hull in zip(rows, hulls_views(batch.given.rgba[rows], *cameras), strict=True):
                kept = (hull * 255).round().byte()
                self.hulls[batch.carving[number]] = kept
        found = torch.stack([self.hulls[key] for key in batch.carving]).float() / 255
        while len(self.hulls) > CARVED // (found[0].nbytes // 4):
            self.hulls.pop(next(iter(self.hulls)))
        return found

    def _open(self, path: Path) -> PosedShard:
        if path not in self.opened:
            if len(self.opened) >= OPENED:
                self.opened.pop(next(iter(self.opened)))
            shard = PosedShard(path)
            require(shard, self.size)
            self.opened[path] = shard
        return self.opened[path]


def require(shard: PosedShard, size: int) -> None:
    """Raises BadInput: a shard whose views are not of the network's size, or too few."""
    if shard.size != size:
        hint = f"kiss3d train data --views {shard.views} --size {size}, or train with --size {shard.size}"
        raise BadInput(f"its views are {shard.size} pixels wide, not {size}", place=str(shard.path), hint=hint)
    if shard.views <= RING:
        hint = "make them with --views 12"
        raise BadInput(
            f"it has {shard.views} views of each object, and {RING + 1} are needed", place=str(shard.path), hint=hint
        )
