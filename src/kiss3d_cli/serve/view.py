"""A run as its service has it in memory, and as it tells it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kiss3d_cli.serve.tickets import Ticket


@dataclasses.dataclass(frozen=True)
class View:
    """What is known of a run.

    Attributes:
        ticket: its place in the queue.
        stages: how far each is.
        version: grows with every change.
        stopping: it is at work, and was cancelled.
    """

    ticket: Ticket
    stages: tuple[Mapping[str, Any], ...]
    version: int
    stopping: bool = False


class Run:
    """A ticket in memory."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.stages: dict[str, Mapping[str, Any]] = {str(stage.get("stage")): stage for stage in ticket.stages}
        self.version = 0
        self.cancelled = False

    def view(self) -> View:
        stopping = self.cancelled and not self.ticket.ended
        return View(self.ticket, tuple(self.stages.values()), self.version, stopping)
