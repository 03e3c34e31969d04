"""How long a run takes on a card of known rates, and how much memory it needs: counts over rates."""

from __future__ import annotations

import dataclasses

from kiss3d_cli.pipeline.config import Config
from kiss3d_cli.pipeline.work import GIB, GIGA, Work, stage_work


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a machine does in a second.

    Attributes:
        name: of the card.
        matrix: operations of half-precision matrix products.
        memory: bytes of video memory read and written.
        host: bytes copied from host memory to the card.
        disk: bytes read from disk.
    """

    name: str
    matrix: float
    memory: float
    host: float
    disk: float


RTX_3060 = Rates("RTX 3060", 20e12, 288 * GIGA, 20 * GIGA, 2.5 * GIGA)
"""Its public 25.6 TFLOP/s (half precision, 32-bit accumulation) and 360 GB/s at 80 %, PCIe 4, an ordinary NVMe disk."""
START_SECONDS = 6.0
"""Importing torch, transformers and diffusers."""


@dataclasses.dataclass(frozen=True)
class StageEstimate:
    """One stage on one machine."""

    stage: str
    seconds: float
    video_bytes: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A whole run on one machine.

    Attributes:
        seconds: from start to mesh.
        video_bytes: the most that any stage uses.
        least_video_bytes: the smallest limit under which every stage works; 0 if none needs a GPU.
        disk_bytes: read from disk once.
    """

    stages: tuple[StageEstimate, ...]
    seconds: float
    video_bytes: float
    least_video_bytes: float
    disk_bytes: float


def seconds_of(work: Work, rates: Rates) -> float:
    """Copies run beside the arithmetic, so that the longer of the two counts; reading from disk comes before."""
    computing = work.flops / rates.matrix + work.traffic / rates.memory
    return work.loaded / rates.disk + max(computing, work.streamed / rates.host) + work.host_seconds


def estimate(config: Config, rates: Rates) -> Estimate:
    """Model a run. The limit of the configuration decides how much is streamed."""
    limit = None if config["device.memory_limit"] is None else config["device.memory_limit"] * GIB
    work = stage_work(config, limit)
    stages = tuple(StageEstimate(name, seconds_of(entry, rates), entry.video) for name, entry in work.items())
    return Estimate(
        stages,
        START_SECONDS + sum(stage.seconds for stage in stages),
        max(entry.video for entry in work.values()),
        max(entry.least_video for entry in work.values()),
        sum(entry.loaded for entry in work.values()),
    )
