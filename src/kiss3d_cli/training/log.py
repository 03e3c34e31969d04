"""The log of a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kiss3d_cli.core.records import BadRecord, Fields, parse_json
from kiss3d_cli.training.checkpoints import Progress

LOG = "log.jsonl"


class Log:
    """One JSON object a line; TensorBoard's events beside it where that is installed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board: Any = SummaryWriter(str(folder / "tensorboard"))
        except ImportError:
            self.board = None

    def cut(self, step: int) -> None:
        """Drops lines after the checkpoint: those steps are taken again."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if Fields(parse_json(line)).whole("step") <= step:
                    kept.append(line)
            except BadRecord:  # the line that a kill cut off
                continue
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def step(self, state: Progress, values: dict[str, float], rate: float) -> None:
        self._write({"step": state.step, "seconds": round(state.seconds, 3), "rate": rate, **values})

    def held_out(self, state: Progress, values: dict[str, float]) -> None:
        self._write({"step": state.step, "seconds": round(state.seconds, 3), "held_out": values})

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(row) + "\n")
        if self.board is not None:
            flat = {f"held_out/{k}": v for k, v in row["held_out"].items()} if "held_out" in row else row
            for key, value in flat.items():
                if key != "step":
                    self.board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
