"""What the training loop asks of something that is to be learned: its network, its data, its losses, its measures."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T", bound="Tensors")


class Tensors:
    """A dataclass of tensors, of other such, and of what stays where it is."""

    def to(self: T, device: torch.device) -> T:
        """On a device; from pinned memory a GPU copies while it computes."""
        found: T = changed(self, lambda tensor: tensor.to(device, non_blocking=True))
        return found

    def pin_memory(self: T) -> T:
        found: T = changed(self, Tensor.pin_memory)
        return found


def changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A value with all tensors in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = {entry.name: changed(getattr(value, entry.name), change) for entry in dataclasses.fields(value)}
        return dataclasses.replace(value, **entries)
    return value


B = TypeVar("B", bound=Tensors)
"""A batch."""


class Batches(ABC, Generic[B]):
    """Where batches come from."""

    @abstractmethod
    def batch(self, step: int, rank: int = 0) -> B:
        """The batch of a step and process.

        It is the same for the same step, so that a resumed training takes the same steps: whatever is random in a
        step, noise included, is drawn here. Processes of their own may call it (`ahead.Ahead`).
        """

    def placed(self, batch: B, device: torch.device) -> B:
        """A batch on the device that trains; here it may be completed by what is quicker there, or kept there."""
        return batch.to(device)

    def refresh(self) -> bool:
        """Looks for new data; whether there is some."""
        return False


class Task(ABC, Generic[B]):
    """Something to learn.

    Attributes:
        name: `kiss3d train NAME` trains it, and `NAME.safetensors` is what it leaves.
        leading: the loss that is shown, watched, and drawn first. measure: what it is, for the report.
        baseline: a held-out figure that needs no training, to compare the leading loss with; None for none.
        others: losses that the report draws in its second chart.
        legend: what the columns of a sheet of pictures are.
        config: sizes of the network, with `as_dict()` for JSON; a checkpoint of others is refused.
        held_out: where the data to measure on is; None for none.
    """

    name: ClassVar[str]
    leading: ClassVar[str]
    measure: ClassVar[str]
    baseline: ClassVar[str | None] = None
    others: ClassVar[tuple[str, ...]] = ()
    legend: ClassVar[str] = ""
    config: Any
    held_out: Path | None = None

    @abstractmethod
    def network(self) -> nn.Module:
        """A new network; its first weights are drawn from torch's global generator, which the loop has seeded."""

    @abstractmethod
    def batches(self, size: int, seed: int, share: float) -> Batches[B]:
        """Args:
        size: samples a step and process.
        seed: of every choice.
        share: of the data that is used, in (0, 1].
        """

    @abstractmethod
    def losses(self, network: nn.Module, batch: B) -> dict[str, Tensor]:
        """`loss`, which is minimised, and its parts by name, `leading` among them."""

    @abstractmethod
    def look(self, network: nn.Module, held_out: Path, sheet: Path, limit: int) -> dict[str, float]:
        """Held-out figures of the averaged weights, `leading` and `baseline` among them; draws a sheet of pictures.

        Args:
            network: on the CPU, in evaluation mode.
            held_out: the data to measure on.
            sheet: the PNG to write.
            limit: samples to measure on at most.
        """

    @abstractmethod
    def export(self, path: Path, tensors: dict[str, Tensor]) -> str:
        """Writes the weights that a run loads; returns their sha256."""
