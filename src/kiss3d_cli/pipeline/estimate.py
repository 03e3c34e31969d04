"""What a plan will take: the costs that the methods declare over a machine's rates, or what the stages took before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kiss3d_cli.core.device import DeviceInfo, modelled_gpu
from kiss3d_cli.core.manifest import Manifest
from kiss3d_cli.methods.base import Method
from kiss3d_cli.methods.cost import GIB, GIGA, Cost, Surroundings
from kiss3d_cli.pipeline.config import Config
from kiss3d_cli.pipeline.inputs import kinds
from kiss3d_cli.pipeline.plan import Action, Step, make_plan
from kiss3d_cli.pipeline.run_folder import Absent, Complete, StageState
from kiss3d_cli.pipeline.stages import stages


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


DISK = 2.0 * GIGA
"""Bytes a second assumed of a disk: reading one to find out would take longer than it is worth."""
RTX_3060 = Rates("RTX 3060", 20e12, 288 * GIGA, 20 * GIGA, 2.5 * GIGA)
"""Its public 25.6 TFLOP/s (half precision, 32-bit accumulation) and 360 GB/s at 80 %, PCIe 4, an ordinary NVMe disk."""
START_SECONDS = 6.0
"""Importing torch, transformers and diffusers."""
START_BYTES = 0.35 * GIB
"""The host's memory that the libraries take."""
WORKING = (Action.RUN, Action.CHECK)


@dataclasses.dataclass(frozen=True)
class StageEstimate:
    """One stage on one machine.

    Attributes:
        seconds: None if its method declares no cost, and it was not made before.
        sure: it will run; else only if what it reads comes out different.
        video_bytes, least_video_bytes: the most that it uses on a GPU, and the smallest limit under which it works.
        memory_bytes: of the host.
        disk_bytes: read once.
        prepared: bytes of files written by the first run on a machine, by model.
    """

    stage: str
    seconds: float | None
    sure: bool = True
    video_bytes: float = 0
    least_video_bytes: float = 0
    memory_bytes: float = START_BYTES
    disk_bytes: float = 0
    prepared: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is left of a run, on one machine; of the stages that will run or may."""

    stages: tuple[StageEstimate, ...] = ()

    @property
    def seconds(self) -> float:
        """From start to mesh, of the stages whose time is known; with those that only may run."""
        return self._seconds(self.stages)

    @property
    def sure_seconds(self) -> float:
        """The same without those that only may run."""
        return self._seconds([stage for stage in self.stages if stage.sure])

    @property
    def unknown(self) -> tuple[str, ...]:
        """The stages whose time is not known."""
        return tuple(stage.stage for stage in self.stages if stage.seconds is None)

    @property
    def video_bytes(self) -> float:
        """The most that any stage uses."""
        return max((stage.video_bytes for stage in self.stages), default=0)

    @property
    def least_video_bytes(self) -> float:
        """The smallest limit under which every stage works; 0 if none needs a GPU."""
        return max((stage.least_video_bytes for stage in self.stages), default=0)

    @property
    def memory_bytes(self) -> float:
        """The most of the host's that any stage uses."""
        return max((stage.memory_bytes for stage in self.stages), default=0)

    @property
    def disk_bytes(self) -> float:
        return sum(stage.disk_bytes for stage in self.stages)

    @property
    def prepared_bytes(self) -> float:
        return sum({model: size for stage in self.stages for model, size in stage.prepared.items()}.values())

    @staticmethod
    def _seconds(chosen: Sequence[StageEstimate]) -> float:
        return START_SECONDS + sum(stage.seconds or 0 for stage in chosen) if chosen else 0.0


def seconds_of(cost: Cost, rates: Rates) -> float:
    """Copies run beside the arithmetic, so that the longer of the two counts; reading from disk comes before."""
    computing = cost.flops / rates.matrix + cost.traffic / rates.memory
    return cost.loaded / rates.disk + max(computing, cost.streamed / rates.host) + cost.host_seconds


def cost_of(method: Method[Any], config: Config, limit: float | None) -> Cost | None:
    """What a method costs under a configuration.

    Args:
        limit: bytes of video memory that may be used; weights beyond it are streamed. None for no limit.
    """
    return method.cost(config.of(method), Surroundings(limit, config.values))


def whole_costs(config: Config, limit: float | None) -> dict[str, Cost]:
    """What the stages of a whole run from a picture cost, by name; those that declare it."""
    found = {step.stage.name: cost_of(_method(step), config, limit) for step in _whole(config)}
    return {stage: cost for stage, cost in found.items() if cost is not None}


def rates_here(device: DeviceInfo) -> Rates | None:
    """The rates of a device of this machine, measured once; None if it had no room for that."""
    from kiss3d_cli.core.machine import measured

    found = measured(device)
    return None if found is None else Rates(device.model, found.matrix, found.memory, found.host, DISK)


def estimate(config: Config, rates: Rates) -> Estimate:
    """A whole run from a picture, on a card with the memory that the configuration allows."""
    limit = None if config["device.memory_limit"] is None else config["device.memory_limit"] * GIB
    card = modelled_gpu(rates.name, None if limit is None else int(limit))
    return estimate_plan(_whole(config), config, card, lambda: rates)


def estimate_plan(
    plan: Sequence[Step],
    config: Config,
    device: DeviceInfo,
    rates: Callable[[], Rates | None],
    before: Mapping[str, StageState] | None = None,
) -> Estimate:
    """What the stages of a plan that will run, or may, are going to take.

    Args:
        rates: of the device, asked for where a stage needs them; None if they can't be known.
        before: what is on disk, by stage name, where it was made on this device. What a stage took then counts, times
            the ratio of what its method says of today's settings and of those.
    """
    made = {name: state.manifest for name, state in (before or {}).items() if isinstance(state, Complete)}
    then = Config({**config.values, **{k: v for manifest in made.values() for k, v in manifest.settings.items()}})
    found = []
    for step in plan:
        if step.action in WORKING:
            manifest = made.get(step.stage.name)
            same = manifest if manifest is not None and manifest.method == step.method else None
            found.append(_estimate(step, config, then, device, rates, same))
    return Estimate(tuple(found))


def _estimate(
    step: Step,
    config: Config,
    then: Config,
    device: DeviceInfo,
    rates: Callable[[], Rates | None],
    manifest: Manifest | None,
) -> StageEstimate:
    limit = None if device.limit_bytes is None else float(device.limit_bytes)
    method, sure = _method(step), step.action is Action.RUN
    cost = cost_of(method, config, limit)
    earlier = None if manifest is None else _earlier(method, then, limit)
    seconds = _seconds(cost, earlier, manifest, rates)
    if cost is None:
        rss = START_BYTES if manifest is None else float(manifest.peak_rss_bytes)
        return StageEstimate(step.stage.name, seconds, sure, memory_bytes=rss)
    return StageEstimate(
        step.stage.name,
        seconds,
        sure,
        cost.video,
        cost.least_video,
        _memory(cost, earlier, manifest, device),
        cost.loaded,
        cost.prepared,
    )


def _seconds(
    cost: Cost | None, earlier: Cost | None, manifest: Manifest | None, rates: Callable[[], Rates | None]
) -> float | None:
    if manifest is not None and cost == earlier:  # also where neither is known
        return manifest.seconds
    known = rates() if cost is not None else None
    if cost is None or known is None:
        return None
    counted = seconds_of(cost, known)
    if manifest is None or earlier is None or not (was := seconds_of(earlier, known)):
        return counted
    return manifest.seconds * counted / was


def _memory(cost: Cost, earlier: Cost | None, manifest: Manifest | None, device: DeviceInfo) -> float:
    def held(of: Cost) -> float:
        # a network that wants a GPU is in the host's memory where there is none
        return of.memory if device.is_gpu or not of.least_video else max(of.memory, of.video)

    if manifest is None or earlier is None:
        return START_BYTES + held(cost)
    return max(START_BYTES, manifest.peak_rss_bytes + held(cost) - held(earlier))


def _earlier(method: Method[Any], then: Config, limit: float | None) -> Cost | None:
    """What the method says of the settings that a stage was made with; None if they are not its settings of today."""
    try:
        return cost_of(method, then, limit)
    except (KeyError, TypeError, ValueError, ValidationError):
        return None


def _method(step: Step) -> Method[Any]:
    return step.stage.methods[step.method]


def _whole(config: Config) -> list[Step]:
    """The steps of a run of which nothing is there, from whatever it starts from."""
    given = {name: "" for name, kind in kinds().items() if kind.starts}
    plan = make_plan(stages(), config, given, {stage.name: Absent() for stage in stages()}, {})
    return [step for step in plan if step.action in WORKING]
