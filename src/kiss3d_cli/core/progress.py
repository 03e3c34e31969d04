"""Progress reports of a run, and its cancellation."""

from __future__ import annotations

import threading
from typing import Protocol, runtime_checkable

from kiss3d_cli.core.errors import Interrupted


@runtime_checkable
class Reporter(Protocol):
    """What a terminal, a page or a test shows of a run. Every method returns at once."""

    def stage_started(self, stage: str, method: str) -> None: ...

    def stage_progress(self, stage: str, fraction: float, doing: str) -> None: ...

    def stage_ended(self, stage: str, status: str, seconds: float) -> None: ...

    def message(self, text: str) -> None: ...


class Silent:
    """A reporter that shows nothing."""

    def stage_started(self, stage: str, method: str) -> None:
        pass

    def stage_progress(self, stage: str, fraction: float, doing: str) -> None:
        pass

    def stage_ended(self, stage: str, status: str, seconds: float) -> None:
        pass

    def message(self, text: str) -> None:
        pass


class Progress:
    """Progress within one stage. Each call is also a safe point at which a cancelled run stops.

    Args:
        stage: the stage's name.
        reporter: who is told.
        cancelled: set from outside to stop the run at the next safe point.
    """

    def __init__(self, stage: str, reporter: Reporter | None = None, cancelled: threading.Event | None = None) -> None:
        self._stage = stage
        self._reporter: Reporter = reporter if reporter is not None else Silent()
        self._cancelled = cancelled

    def __call__(self, fraction: float, doing: str = "") -> None:
        """Say how far the stage is, 0 to 1, and what it does now. Raises Interrupted if the run was cancelled."""
        if self._cancelled is not None and self._cancelled.is_set():
            raise Interrupted("cancelled", place=self._stage)
        self._reporter.stage_progress(self._stage, min(max(fraction, 0.0), 1.0), doing)
