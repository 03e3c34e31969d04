"""The process that does the runs of a service on one device: `python -m kiss3d_cli.serve.worker`.

It reads one JSON object a line and answers with the same. It is told

    {"do": "run", "runs": [{"id": ..., "folder": ..., "until": ...}, ...]}    run these together, stage by stage
    {"do": "cancel", "id": ...}                                               stop one at its next safe point

and tells

    {"id": ..., "stage": ..., "status": ..., "share": ..., "doing": ..., "seconds": ...,
     "free_video_memory": ...}
    {"id": ..., "ended": "done" | "failed" | "cancelled", "error": {...} | null, "warnings": [...], "busy": bool}
    {"idle": true}                                                            all that it was told to run has ended

A fault of a library, or the system for want of memory, ends this process and not the service. It ends itself at once
when its input does: then the service is gone, and the next one takes its runs up again from their folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from kiss3d_cli.core.device import free_video_memory
from kiss3d_cli.core.errors import Interrupted, Kiss3dError, RunInUse, from_exception
from kiss3d_cli.core.records import BadRecord, parse_json

_LONGEST_LINE = 2**20


class _Teller:
    """Writes lines; the reporter of one run."""

    _lock = threading.Lock()

    def __init__(self, out: TextIO, run: str) -> None:
        self._out, self._run = out, run

    def tell(self, **entries: Any) -> None:
        line = json.dumps({"id": self._run, **entries}, allow_nan=False)
        with self._lock:
            self._out.write(line + "\n")
            self._out.flush()

    def stage_started(self, stage: str, method: str) -> None:
        self.tell(stage=stage, status="running", share=0.0, doing=method, seconds=0.0)

    def stage_progress(self, stage: str, fraction: float, doing: str) -> None:
        self.tell(stage=stage, status="running", share=round(fraction, 4), doing=doing, seconds=0.0)

    def stage_ended(self, stage: str, status: str, seconds: float) -> None:
        free = free_video_memory()
        self.tell(stage=stage, status=status, share=1.0, doing="", seconds=round(seconds, 3), free_video_memory=free)

    def message(self, text: str) -> None:
        """Warnings are told when the run has ended."""


def told_error(error: Kiss3dError) -> dict[str, Any]:
    """An error as tickets and answers have it."""
    return {"cause": error.cause, "place": error.place, "hint": error.hint, "exit_code": error.exit_code}


def serve(lines: TextIO, out: TextIO) -> None:
    """Work until the input ends."""
    waiting: queue.Queue[list[dict[str, Any]]] = queue.Queue()
    cancelled: dict[str, threading.Event] = {}
    threading.Thread(target=_listen, args=(lines, waiting, cancelled), daemon=True).start()
    while True:
        runs = waiting.get()
        _carry_out(runs, cancelled, out)
        for run in runs:
            cancelled.pop(run["id"], None)
        with _Teller._lock:
            out.write(json.dumps({"idle": True}) + "\n")
            out.flush()


def _listen(lines: TextIO, waiting: queue.Queue[list[dict[str, Any]]], cancelled: dict[str, threading.Event]) -> None:
    while line := lines.readline(_LONGEST_LINE):
        with contextlib.suppress(BadRecord, KeyError):
            told = parse_json(line)
            if told["do"] == "cancel":
                cancelled.setdefault(told["id"], threading.Event()).set()
            else:
                for run in told["runs"]:
                    cancelled[run["id"]] = threading.Event()
                waiting.put(told["runs"])
    os._exit(0)  # in the middle of whatever is at work: a run folder bears it like any kill


def _carry_out(runs: list[dict[str, Any]], cancelled: dict[str, threading.Event], out: TextIO) -> None:
    from kiss3d_cli.pipeline import launch
    from kiss3d_cli.pipeline.batch import execute_all
    from kiss3d_cli.pipeline.runner import Task
    from kiss3d_cli.pipeline.stages import stages
    from kiss3d_cli.report.run_report import write_report

    tellers = {run["id"]: _Teller(out, run["id"]) for run in runs}
    ended: set[str] = set()

    def end(name: str, error: Kiss3dError | None, task: Task | None = None) -> None:
        if name in ended:
            return
        ended.add(name)
        if task is not None:
            try:
                write_report(task.folder)
            except Exception as fault:  # the run is not touched by it
                task.folder.log("report", error=f"{type(fault).__name__}: {fault}")
        state = "done" if error is None else "cancelled" if isinstance(error, Interrupted) else "failed"
        warnings = [] if task is None else [f"{o.stage}: {text}" for o in task.outcomes for text in o.warnings]
        shown = None if error is None or state == "cancelled" else told_error(error)
        tellers[name].tell(ended=state, error=shown, warnings=warnings, busy=isinstance(error, RunInUse))

    try:
        with contextlib.ExitStack() as stack:
            tasks = []
            for run in runs:
                name = run["id"]
                try:
                    task = stack.enter_context(
                        launch.taken_up(
                            Path(run["folder"]),
                            until=run["until"],
                            reporter=tellers[name],
                            cancelled=cancelled[name],
                        )
                    )
                except Exception as error:
                    end(name, _known(error))
                    continue
                task.ended = lambda task, name=name: end(name, task.error, task)  # type: ignore[misc]
                tasks.append(task)
            execute_all(tasks, stages())
    except Exception as error:  # of one of them that stopped all
        for name in tellers:
            end(name, _known(error))


def _known(error: Exception) -> Kiss3dError:
    return from_exception(error) or Kiss3dError(f"{type(error).__name__}: {error}")


def main() -> None:
    # what libraries print must not get between the lines
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.stdin, out)


if __name__ == "__main__":
    main()
