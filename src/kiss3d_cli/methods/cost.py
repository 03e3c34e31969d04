"""What a method costs: counts from its settings, the same on every machine, that a machine's rates turn into seconds.

Matrix operations are counted from the shapes of the layers (a multiplication and an addition are two); what no formula
covers is measured. `scripts/bench/costs.py` holds both against what a run really took.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

GIGA = 10**9
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run of a method costs.

    Attributes:
        flops: matrix operations on the device, in half precision.
        traffic: bytes read and written in the device's memory by everything that is not a matrix product.
        streamed: bytes copied to the device while it computes.
        loaded: bytes read from disk before that.
        host_seconds: work of one core of the processor that no formula here covers: measured, or a user's report.
        video: most bytes of video memory at once.
        least_video: the least with which it works; 0 if it does without a GPU.
        memory: most bytes of the host's memory at once, beside those of the libraries.
        prepared: bytes of files that the first run on a machine writes and all later ones read, by model.
    """

    flops: float = 0
    traffic: float = 0
    streamed: float = 0
    loaded: float = 0
    host_seconds: float = 0
    video: float = 0
    least_video: float = 0
    memory: float = 0
    prepared: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def then(self, other: Cost) -> Cost:
        """Both, one after the other: the work adds up, of the memory the larger counts."""
        return Cost(
            self.flops + other.flops,
            self.traffic + other.traffic,
            self.streamed + other.streamed,
            self.loaded + other.loaded,
            self.host_seconds + other.host_seconds,
            max(self.video, other.video),
            max(self.least_video, other.least_video),
            max(self.memory, other.memory),
            {**self.prepared, **other.prepared},
        )


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a cost depends on beside the method's own settings.

    Attributes:
        limit: bytes of video memory that may be used; weights beyond it are streamed. None for no limit.
        run: every setting of the run by its dotted key: how much other stages hand over depends on theirs.
    """

    limit: float | None = None
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
