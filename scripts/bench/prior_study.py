"""What each part of the prior's training buys: one part changed at a time, the same minutes for each.

    kiss3d train data --objects FOLDER                                              # outputs/prior/views
    kiss3d train data --objects FOLDER --split held-out --procedural 0 --shards 6 --out outputs/prior/held-out
    python scripts/bench/prior_study.py [--minutes 5] [--only NAME ...]

The error is the mean depth error of 192 views of held-out families, in half picture sides, by the averaged weights at
the end. Each row is one training on one thread; a row that is done is kept in --out, so that a study that was stopped
goes on. Two more seeds of the first row say how far trainings of one kind are apart. A shard holds objects in its first
half and procedural ones in its second. Nothing else may run on the same core: minutes are counted. Prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kiss3d_cli.models.prior import network as parts
from kiss3d_cli.models.prior.network import Prior, PriorConfig
from kiss3d_cli.training import prior
from kiss3d_cli.training.checkpoints import read_checkpoint, under
from kiss3d_cli.training.loop import TrainSettings, train
from kiss3d_cli.training.prior import Batch, PriorTask, Views
from kiss3d_cli.training.shards import find_shards


class Flat(Prior):
    """Depths from an upright plane on, not from the inflation, which it still reads."""

    def forward(self, rgba: Tensor, base: Tensor) -> parts.PriorAnswer:
        answer = super().forward(rgba, base)
        bulge = parts.base_depth(base) - parts.base_depth(torch.zeros_like(base))
        return dataclasses.replace(answer, depth=answer.depth - bulge)


class FlatTask(PriorTask):
    def network(self) -> torch.nn.Module:
        return Flat(self.config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class SquaredTask(PriorTask):
    """Squared errors of depth, as large as the absolute ones at the inflation's error."""

    def losses(self, network: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        answer = network(batch.rgba, batch.base)
        found = prior.losses(answer, batch)
        squared = prior._mean((answer.depth - batch.depth).square(), batch.known[:, None]) / 0.2
        return {**found, "loss": found["loss"] - found["depth"] + squared}


class HalfTask(PriorTask):
    """Trained on one half of every shard."""

    first = True

    def batches(self, size: int, seed: int, share: float) -> Views:
        return _Half(self.views, size, seed, share=share, first=self.first)


class MadeUpTask(HalfTask):
    first = False


class _Half(Views):
    def __init__(self, folder: Path, batch: int, seed: int, *, share: float, first: bool) -> None:
        self.first = first
        super().__init__(folder, batch, seed, share=share)

    def _open(self, path: Path) -> tuple[Any, int]:
        opened, count = super()._open(path)
        half = count // 2
        return (opened, half) if self.first else (_Shifted(opened, half), count - half)


@dataclasses.dataclass(frozen=True)
class _Shifted:
    """A shard without its first rows."""

    opened: Any
    skipped: int

    def get_slice(self, key: str) -> _Shifted:
        return _Shifted(self.opened.get_slice(key), self.skipped)

    def __getitem__(self, rows: slice) -> Any:
        return self.opened[rows.start + self.skipped : rows.stop + self.skipped]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One row: what is changed, and how."""

    name: str
    widths: tuple[int, int, int] = (32, 64, 160)
    share: float = 1.0
    seed: int = 0
    kind: type[PriorTask] = PriorTask


ARMS = (
    Arm("as shipped"),
    Arm("as shipped, seed 1", seed=1),
    Arm("as shipped, seed 2", seed=2),
    Arm("no residual", kind=FlatTask),
    Arm("squared errors", kind=SquaredTask),
    Arm("a tenth of the views", share=0.1),
    Arm("a hundredth of the views", share=0.01),
    Arm("objects alone", kind=HalfTask),
    Arm("procedural alone", kind=MadeUpTask),
    Arm("1 M parameters", widths=(24, 56, 120)),
    Arm("3 M parameters", widths=(40, 88, 216)),
    Arm("10 M parameters", widths=(72, 160, 400)),
)


def measured(arm: Arm, views: Path, held_out: Path, out: Path, minutes: float) -> dict[str, float]:
    """Trains and measures, unless that was done."""
    folder = out / arm.name.replace(" ", "-").replace(",", "")
    kept = folder / "study.json"
    if kept.is_file():
        found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    task = arm.kind(views, None, PriorConfig(widths=arm.widths))
    settings = TrainSettings(minutes=minutes, batch=16, share=arm.share, seed=arm.seed)
    checkpoint = read_checkpoint(train(task, folder, settings), task.name)
    averaged = under(checkpoint.tensors, "average.")
    network = task.network()
    network.load_state_dict(averaged)
    errors = prior.held_out_errors(network.eval(), held_out, 192, torch.device("cpu"))  # type: ignore[arg-type]
    result = {
        "parameters": float(sum(value.numel() for value in averaged.values())),
        "views": float(
            64 * max(1, round(arm.share * len(find_shards(views)))) // (2 if issubclass(arm.kind, HalfTask) else 1)
        ),
        "samples": float(checkpoint.state.step * settings.batch),
        "depth": errors["depth"],
        "inflation": errors["inflation"],
    }
    kept.write_text(json.dumps(result), encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=Path, default=Path("outputs/prior/views"))
    parser.add_argument("--held-out", type=Path, default=Path("outputs/prior/held-out"))
    parser.add_argument("--out", type=Path, default=Path("outputs/prior/study"))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", nargs="*", help="names of rows")
    given = parser.parse_args()
    print("| changed | parameters, M | views | samples | depth error | inflation |\n|---|---|---|---|---|---|")
    for arm in ARMS:
        if given.only and arm.name not in given.only:
            continue
        found = measured(arm, given.views, given.held_out, given.out, given.minutes)
        print(
            f"| {arm.name} | {found['parameters'] / 1e6:.1f} | {found['views']:,.0f} | {found['samples']:,.0f} | "
            f"{found['depth']:.4f} | {found['inflation']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
