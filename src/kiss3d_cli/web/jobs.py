"""Runs that a page starts: one at a time on each device, told apart by their run folders.

All that matters is on disk, as with the command line. What is kept here, progress and the last error, may be lost with
the process: the run folder can be resumed.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from kiss3d_cli.core.errors import BadInput, Interrupted, Kiss3dError, from_exception
from kiss3d_cli.core.progress import Reporter
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.launch import Request
from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs
from kiss3d_cli.report.run_report import is_current, write_report


@dataclasses.dataclass(frozen=True)
class StageProgress:
    """One stage: `status` is running, done, skipped, off, later, failed or interrupted."""

    stage: str
    status: str
    share: float = 0.0
    doing: str = ""
    seconds: float = 0.0


class Job:
    """One run at work or waiting for it; also the reporter that the runner tells. Every method may be called anywhere.

    Attributes:
        folder: the run folder.
        cancelled: set to stop it at the next safe point.
        state: waiting, running, done, failed or cancelled.
        error: why it failed, else None.
        version: grows with every change.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.cancelled = threading.Event()
        self.state = "waiting"
        self.error: Kiss3dError | None = None
        self.version = 0
        self._lock = threading.Lock()
        self._stages: dict[str, StageProgress] = {}

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "running")

    def stages(self) -> dict[str, StageProgress]:
        """What has been told of each stage so far."""
        with self._lock:
            return dict(self._stages)

    def stage_started(self, stage: str, method: str) -> None:
        self._tell(StageProgress(stage, "running", doing=method))

    def stage_progress(self, stage: str, fraction: float, doing: str) -> None:
        self._tell(StageProgress(stage, "running", fraction, doing))

    def stage_ended(self, stage: str, status: str, seconds: float) -> None:
        self._tell(StageProgress(stage, status, 1.0, "", seconds))

    def message(self, text: str) -> None:
        """Warnings are in the manifests."""

    def become(self, state: str, error: Kiss3dError | None = None) -> None:
        with self._lock:
            self.state, self.error = state, error
            self.version += 1

    def begin(self) -> bool:
        """From waiting to running; False if it was cancelled before."""
        with self._lock:
            if self.state != "waiting":
                return False
            self.state = "running"
            self.version += 1
            return True

    def cancel(self) -> None:
        """Stop at the next safe point; at once if it only waits."""
        with self._lock:
            self.cancelled.set()
            if self.state == "waiting":
                self.state = "cancelled"
            self.version += 1

    def _tell(self, progress: StageProgress) -> None:
        with self._lock:
            self._stages[progress.stage] = progress
            self.version += 1


class Jobs:
    """All jobs of one outputs folder.

    Args:
        outputs: where run folders are made and looked for.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._queues: dict[str, queue.Queue[tuple[Job, Callable[[Job], None]]]] = {}

    def start(self, request: Request) -> Job:
        """Check a request, make its run folder and put it in the queue of its device.

        Raises:
            BadInput, Missing: as `launch.prepare` and `launch.open_run`.
        """
        prepared = launch.prepare(dataclasses.replace(request, out=self.outputs))
        folder = launch.open_run(prepared)

        def work(job: Job) -> None:
            launch.work(folder, prepared.models, request.until, _reporter(job), job.cancelled)

        return self._enqueue(folder, prepared.device.name, work)

    def resume(self, name: str, command: str = "") -> Job:
        """Go on with a run. Raises BadInput if it is at work already, or as `find` and `RunFolder.record`."""
        folder = self.find(name)
        device = str(folder.record().device.get("name", "cpu"))

        def work(job: Job) -> None:
            launch.resume(folder.path, command=command, reporter=_reporter(job), cancelled=job.cancelled)

        return self._enqueue(folder, device, work)

    def cancel(self, name: str) -> None:
        """Stop a job at its next safe point; one that waits never starts."""
        job = self.job(name)
        if job is not None:
            job.cancel()

    def job(self, name: str) -> Job | None:
        """The last job on the run of this name."""
        with self._lock:
            return self._jobs.get(name)

    def names(self) -> list[str]:
        """Run folders, the newest first; none that a link leads away from the outputs folder."""
        return [run.path.name for run in find_runs(self.outputs) if self._is_own(run.path)]

    def find(self, name: str) -> RunFolder:
        """The run folder of this name. Raises BadInput if it is not one of `names`."""
        if name not in self.names():
            raise BadInput("there is no such run", place=name[:80], hint="choose one from the list")
        return RunFolder(self.outputs / name)

    def report(self, name: str) -> None:
        """Write the report of a run without one, or with one of before it was killed. Raises OSError."""
        folder = self.find(name)
        if not is_current(folder):
            write_report(folder)

    def cancel_all(self) -> list[Job]:
        """Cancel every job that is at work or waits, and say which these are."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.active]
        for job in jobs:
            job.cancel()
        return jobs

    def _is_own(self, path: Path) -> bool:
        return path.resolve().parent == self.outputs.resolve()

    def _enqueue(self, folder: RunFolder, device: str, work: Callable[[Job], None]) -> Job:
        name = folder.path.name
        job = Job(folder)
        with self._lock:
            known = self._jobs.get(name)
            if known is not None and known.active:
                raise BadInput("this run is at work already", place=name, hint="wait for it to end, or cancel it")
            self._jobs[name] = job
            if device not in self._queues:
                self._queues[device] = queue.Queue()
                threading.Thread(target=_serve, args=(self._queues[device],), daemon=True, name=device).start()
            self._queues[device].put((job, work))
        return job


def _serve(waiting: queue.Queue[tuple[Job, Callable[[Job], None]]]) -> None:
    """One device's work, one job after the other, until the process ends."""
    while True:
        job, work = waiting.get()
        if not job.begin():
            continue
        try:
            work(job)
        except BaseException as error:  # whatever a job does, the next one is served
            known = from_exception(error) or Kiss3dError(f"{type(error).__name__}: {error}")
            _report(job)
            job.become("cancelled" if isinstance(known, Interrupted) else "failed", known)
        else:
            _report(job)
            job.become("done")


def _report(job: Job) -> None:
    try:
        write_report(job.folder)
    except Exception as error:  # the run is not touched by it
        job.folder.log("report", error=f"{type(error).__name__}: {error}")


def _reporter(job: Job) -> Reporter:
    return job
