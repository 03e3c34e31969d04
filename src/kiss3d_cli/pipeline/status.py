"""The state of a run folder, stage by stage, without changing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline.launch import plan_resume
from kiss3d_cli.pipeline.plan import Action, inspect_all
from kiss3d_cli.pipeline.run_folder import Absent, Complete, Damaged, RunFolder
from kiss3d_cli.pipeline.stages import stages


@dataclasses.dataclass(frozen=True)
class StageStatus:
    """One stage: `status` is done, stale, damaged, missing, failed or off; `reason` says why."""

    stage: str
    method: str
    status: str
    reason: str
    seconds: float | None
    peak_rss_bytes: int | None
    peak_vram_bytes: int | None
    warnings: tuple[str, ...]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class RunStatus:
    name: str
    preset: str
    rows: tuple[StageStatus, ...]

    @property
    def check(self) -> Mapping[str, Any] | None:
        """The numbers of the mesh's check against its picture; None if it was not made, or is not up to date."""
        row = next((row for row in self.rows if row.stage == "check" and row.status == "done"), None)
        found = None if row is None else row.facts.get("check")
        return found if isinstance(found, Mapping) else None

    @property
    def exported(self) -> tuple[str, ...]:
        """Files of the stage `export` that are up to date, by their paths in the run folder, the mesh first."""
        row = next((row for row in self.rows if row.stage == "export" and row.status == "done"), None)
        names = None if row is None else row.facts.get("bytes")
        return tuple(f"export/{name}" for name in names) if isinstance(names, Mapping) else ()


def read_status(folder: RunFolder) -> RunStatus:
    """Look at every stage. Raises BadInput or DamagedRun if run.json can't be used."""
    record = folder.record()
    try:
        states = inspect_all(folder, stages())
        plan, _models, _missing = plan_resume(folder, record, states=states)
    except BadInput as error:
        error.place = f"{folder.path}: {error.place}"
        raise
    rows = []
    for step in plan:
        state = states[step.stage.name]
        manifest = state.manifest if isinstance(state, Complete) else None
        if step.action is Action.OFF:
            status, reason = "off", step.reason
        elif isinstance(state, Damaged):
            status, reason = "damaged", state.what
        elif isinstance(state, Absent):
            status, reason = ("failed", state.failure) if state.failure else ("missing", "not made yet")
        elif step.action is Action.SKIP:
            status, reason = "done", ""
        else:
            status, reason = "stale", step.reason
        rows.append(
            StageStatus(
                step.stage.name,
                step.method,
                status,
                reason,
                manifest.seconds if manifest else None,
                manifest.peak_rss_bytes if manifest else None,
                manifest.peak_vram_bytes if manifest else None,
                manifest.warnings if manifest else (),
                manifest.facts if manifest else {},
            )
        )
    assert len(rows) == len(stages())
    return RunStatus(record.name, record.preset, tuple(rows))
