"""A plan on a terminal: what will be done, why, and about what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kiss3d_cli.cli.invocation import as_typed_here
from kiss3d_cli.cli.terminal import error_record, print_json, show
from kiss3d_cli.core.errors import Kiss3dError

if TYPE_CHECKING:
    from kiss3d_cli.pipeline.estimate import Estimate, StageEstimate
    from kiss3d_cli.pipeline.launch import Planned

GIB = 2**30
GIGA = 10**9
LONG = 600
"""Seconds of a stage from which it is said that it is for a GPU."""


def show_plan(planned: Planned, json_output: bool, run_dir: str | None = None) -> None:
    """A dry run: the plan, what it needs and does not have here, and what it will take.

    Args:
        run_dir: of a run that is there.
    """
    estimate, refused = planned.estimate(), _refusal(planned)
    if json_output:
        print_json(_record(planned, estimate, refused, run_dir))
        return
    told = {stage.stage: stage for stage in estimate.stages}
    for step in planned.plan:
        line = f"{step.stage.name:<12} {step.method:<12} {step.action.value:<6} {step.reason}"
        show(f"{line}{_aside(told[step.stage.name], planned) if step.stage.name in told else ''}")
    for model in planned.missing:
        gate = ", gated" if model.gated else ""
        show(f"missing: {model.name} from {model.repository} ({model.gigabytes} GB{gate}; {model.licence})")
    for fault in planned.unusable:
        show(f"unusable: {fault.path} ({', '.join(fault.models)}): {fault.what}")
    for line in told_in_all(planned, estimate):
        show(line)
    if refused is not None:
        show(as_typed_here(f"refused: {refused}\n  try: {refused.hint}"))


def tell_plan(planned: Planned, tell: Callable[[str], None]) -> None:
    """Tell the plan of a run that is about to be resumed."""
    estimate = planned.estimate()
    told = {stage.stage: stage for stage in estimate.stages}
    for step in planned.plan:
        aside = _aside(told[step.stage.name], planned) if step.stage.name in told else ""
        tell(f"  {step.stage.name:<12} {step.action.value:<6} {step.reason}{aside}")
    for line in told_in_all(planned, estimate):
        tell(line)


def told_in_all(planned: Planned, estimate: Estimate) -> list[str]:
    """Estimated time, memory and download in words; empty if nothing is left to do."""
    if not estimate.stages:
        return []
    sure, most = estimate.sure_seconds, estimate.seconds
    times = [f"about {duration(sure)}"] if any(s.sure for s in estimate.stages) else []
    if most > sure:
        may = ", ".join(stage.stage for stage in estimate.stages if not stage.sure)
        times.append(f"up to {duration(most)} with {may}")
    if estimate.unknown:
        times.append(f"and what {', '.join(estimate.unknown)} take{'s' if len(estimate.unknown) == 1 else ''}")
    parts = [", ".join(times), f"up to {estimate.memory_bytes / GIB:.1f} GiB of memory"]
    if planned.device.is_gpu and estimate.video_bytes:
        parts.append(f"{estimate.video_bytes / GIB:.1f} GiB of video memory")
    if estimate.disk_bytes:
        parts.append(f"{estimate.disk_bytes / GIGA:.1f} GB of weights read")
    lines = [f"in all: {'; '.join(parts)} (on {planned.device.model})"]
    if slow := [stage.stage for stage in estimate.stages if _wants_gpu(stage, planned)]:
        names = f"{', '.join(slow[:-1])} and {slow[-1]}" if len(slow) > 1 else slow[0]
        verb = "is" if len(slow) == 1 else "are"
        lines.append(
            f"{names} {verb} for a GPU of {estimate.least_video_bytes / GIB:.0f} GiB or more: run this where there is "
            "one, or use --preset draft, which needs none"
        )
    if planned.missing:
        known = sum(model.gigabytes or 0 for model in planned.missing)
        more = " and some of unknown size" if any(model.gigabytes is None for model in planned.missing) else ""
        kept = f"; {estimate.prepared_bytes / GIGA:.1f} GB more are written beside them once" * bool(
            estimate.prepared_bytes
        )
        lines.append(f"to download first: {known:.1f} GB{more}{kept}")
    return lines


def duration(seconds: float) -> str:
    """A duration in words, such as `12 s` or `3 min`."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _aside(stage: StageEstimate, planned: Planned) -> str:
    if stage.seconds is None:
        return ""
    without = " without the GPU that it is made for" if _wants_gpu(stage, planned) else ""
    return f" (about {duration(stage.seconds)}{without})"


def _wants_gpu(stage: StageEstimate, planned: Planned) -> bool:
    """Whether it is long because the device is not the kind that it is made for."""
    return bool(stage.least_video_bytes) and not planned.device.is_gpu and (stage.seconds or 0) >= LONG


def _record(planned: Planned, estimate: Estimate, refused: Kiss3dError | None, run_dir: str | None) -> dict[str, Any]:
    told = {stage.stage: stage for stage in estimate.stages}

    def seconds(stage: str) -> float | None:
        found = told[stage].seconds if stage in told else 0.0
        return None if found is None else round(found, 1)

    return {
        "run_dir": run_dir,
        "mesh": None,
        "preset": planned.record.preset,
        "stages": [
            {
                "name": step.stage.name,
                "method": step.method,
                "action": step.action.value,
                "reason": step.reason,
                "seconds": seconds(step.stage.name),
            }
            for step in planned.plan
        ],
        "missing": [
            {
                "model": model.name,
                "repository": model.repository,
                "gigabytes": model.gigabytes,
                "licence": model.licence,
                "gated": model.gated,
            }
            for model in planned.missing
        ],
        "unusable": [
            {"file": str(fault.path), "models": list(fault.models), "what": fault.what} for fault in planned.unusable
        ],
        "refused": None if refused is None else error_record(refused),
        "device": planned.device.name,
        "estimate": {
            "seconds": round(estimate.sure_seconds, 1),
            "most_seconds": round(estimate.seconds, 1),
            "unknown": list(estimate.unknown),
            "memory_bytes": int(estimate.memory_bytes),
            "video_bytes": int(estimate.video_bytes),
            "least_video_bytes": int(estimate.least_video_bytes),
            "disk_bytes": int(estimate.disk_bytes),
            "download_bytes": int(sum(model.gigabytes or 0 for model in planned.missing) * GIGA),
        },
    }


def _refusal(planned: Planned) -> Kiss3dError | None:
    """Why the run would not start even with all weights there."""
    try:
        planned.require_machine()
    except Kiss3dError as error:
        return error
    return None
