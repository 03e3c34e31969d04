"""Runs that programs ask for: accepted, queued on disk, done by one worker process a device, and told about.

What counts is on disk: tickets say what was accepted, run folders what was made. `Service` keeps a copy of the tickets
in memory so that asking costs nothing, and beside it only what may be lost: how far a stage is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, Kiss3dError
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.launch import Request
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.run_folder import RunFolder
from kiss3d_cli.serve.logs import event
from kiss3d_cli.serve.process import WorkerProcess
from kiss3d_cli.serve.tickets import Ticket, Tickets, now
from kiss3d_cli.serve.view import Run, View
from kiss3d_cli.serve.worker import told_error

TRIES = 2
"""How often a worker may begin with a run; one that dies twice with it is not asked again."""
_BUSY_SECONDS = 2.0
"""Before a run whose folder another process holds is tried again: a worker that lost its service lets go of it soon."""


class QueueFull(Kiss3dError):
    """As many runs wait as may."""


class Service:
    """All runs of one outputs folder that came through it.

    Args:
        out: where run folders are made.
        longest_queue: runs that may wait at a time.
        together: runs that go through the stages together, so that each network is loaded once for them.

    Raises:
        RunInUse: another service works in this folder.
    """

    def __init__(self, out: Path, *, longest_queue: int = 1000, together: int = 8) -> None:
        self.out, self.longest_queue, self.together = out, longest_queue, together
        self._tickets = Tickets(out)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(locked(self._tickets.root))
        self._moves = threading.RLock()
        """Held while a ticket changes its state, which waits for the disk."""
        self._changed = threading.Condition()
        """Held for a moment, to look at what is in memory or to change it. Never while the disk is waited for."""
        self._runs: dict[str, Run] = {}
        self._waiting: dict[str, deque[str]] = {}
        self._workers: dict[str, threading.Thread] = {}
        self._processes: dict[str, WorkerProcess] = {}
        self._closed = False
        self._keys: dict[str, threading.Lock] = {}
        self.lost: list[str] = []
        self.seconds: Counter[str] = Counter()
        self.stage_runs: Counter[str] = Counter()
        self.free_video_memory: dict[str, int] = {}
        for name, ticket in self._tickets.read_all():
            if ticket is None or not (out / name).is_dir():
                self.lost.append(name)
                continue
            self._runs[name] = Run(ticket)
        self._order = itertools.count(max((run.ticket.order for run in self._runs.values()), default=0) + 1)

    def start(self) -> None:
        """Go on with everything that was accepted and has not ended."""
        for run in sorted(self._runs.values(), key=lambda run: run.ticket.order):
            if not run.ticket.ended:
                with self._moves:  # that the service was stopped is no fault of the run
                    self._become(run, state="waiting", attempts=0)
                    self._enqueue(run)

    def close(self) -> None:
        """Stop at once, and leave the folder; what is at work is taken up again by the next service on it."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            processes = list(self._processes.values())
            self._changed.notify_all()
        for process in processes:
            process.kill()
        for worker in list(self._workers.values()):
            worker.join(10)
        for process in processes:
            process.close()
        self._stack.close()

    # -- what clients ask for -----------------------------------------------------------------------------------------

    def accept(
        self, request: Request, options: Mapping[str, str] | None = None, key: str | None = None, digest: str = ""
    ) -> tuple[View, bool]:
        """Check a request, make its run folder and put it into the queue.

        Args:
            options: kept in the ticket for whoever asks for its result.
            key: an Idempotency-Key: the run that it stands for already is answered, and no other is made.
            digest: of the request, to tell a key that is used for another.

        Returns:
            The run, and whether it is new.

        Raises:
            BadInput, Missing: as `launch.prepare` and `launch.open_run`; QueueFull.
        """
        with contextlib.ExitStack() as stack:
            if key is not None:
                with self._changed:
                    own = self._keys.setdefault(key, threading.Lock())
                stack.enter_context(own)  # the same request may come twice at a time
                stack.callback(self._keys.pop, key, None)
                if (known := self._bound(key, digest)) is not None:
                    return known, False
            return self._accept(request, dict(options or {}), key, digest), True

    def _bound(self, key: str, digest: str) -> View | None:
        """The run that a key stands for already."""
        if (bound := self._tickets.bound(key)) is None:
            return None
        name, earlier = bound
        if earlier != digest:
            hint = "use a new key for a new request"
            raise BadInput("this key was used for another request", place="Idempotency-Key", hint=hint)
        return self.view(name)

    def _accept(self, request: Request, options: dict[str, str], key: str | None, digest: str) -> View:
        with self._changed:
            if sum(map(len, self._waiting.values())) >= self.longest_queue:
                raise QueueFull(f"{self.longest_queue} runs wait already", hint="try again later")
        prepared = launch.prepare(dataclasses.replace(request, out=self.out))
        folder = launch.open_run(prepared)
        with self._changed:
            order = next(self._order)
        ticket = Ticket(folder.path.name, order, now(), prepared.device.name, until=request.until, options=options)
        if key is not None:  # first: a key without a ticket stands for nothing
            self._tickets.bind(key, ticket.id, digest)
        self._tickets.write(ticket)
        event("run", run=ticket.id, state=ticket.state, device=ticket.device)
        run = Run(ticket)
        with self._changed:
            self._runs[ticket.id] = run
        self._enqueue(run)
        view = self.view(ticket.id)
        assert view is not None
        return view

    def view(self, name: str) -> View | None:
        """What is known of a run now; None if it did not come through this service."""
        with self._changed:
            run = self._runs.get(name)
            return None if run is None else run.view()

    def views(self) -> list[View]:
        """All runs, the newest first."""
        with self._changed:
            runs = sorted(self._runs.values(), key=lambda run: -run.ticket.order)
            return [run.view() for run in runs]

    def wait(self, name: str, version: int, timeout: float) -> View | None:
        """The view of a run once it is newer than a version, or as it is after so many seconds."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or name not in self._runs or self._runs[name].version != version, timeout
            )
        return self.view(name)

    def cancel(self, name: str) -> View | None:
        """Stop a run at its next safe point; it stays resumable. One that has ended stays as it is."""
        with self._moves:
            run = self._runs.get(name)
            if run is None:
                return None
            run.cancelled = not run.ticket.ended
            process = self._processes.get(run.ticket.device)
            if run.ticket.state == "waiting":
                with self._changed, contextlib.suppress(KeyError, ValueError):
                    self._waiting[run.ticket.device].remove(name)
                self._become(run, state="cancelled")
            elif run.ticket.state == "running" and process is not None:
                process.tell({"do": "cancel", "id": name})
            with self._changed:
                run.version += 1
                self._changed.notify_all()
        return self.view(name)

    def again(self, name: str) -> View | None:
        """Put a run that ended into the queue again, to go on where it stopped. Raises BadInput if it has not."""
        with self._moves:
            run = self._runs.get(name)
            if run is None:
                return None
            if not run.ticket.ended:
                raise BadInput("this run waits or is at work", place=name, hint="wait for it to end, or cancel it")
            run.cancelled = False
            self._become(run, clear=True, state="waiting", attempts=0, error=None, stages=(), warnings=())
            self._enqueue(run)
        return self.view(name)

    def take_up(self, folder: RunFolder) -> None:
        """Go on with a run of this outputs folder, also one that did not come through the service.

        Raises:
            BadInput, DamagedRun: it waits or is at work, or its record can't be read.
            RunInUse: another process works in it.
        """
        name = folder.path.name
        with self._moves:
            if name in self._runs:
                self.again(name)
                return
            with locked(folder.path):
                device = str(folder.record().device.get("name", "cpu"))
            with self._changed:
                run = self._runs[name] = Run(Ticket(name, next(self._order), now(), device))
            self._become(run, state="waiting")
            self._enqueue(run)

    def folder(self, name: str) -> RunFolder:
        """The run folder of a run of this service."""
        assert name in self._runs
        return RunFolder(self.out / name)

    def counts(self) -> dict[str, int]:
        """Runs by state."""
        with self._changed:
            return Counter(run.ticket.state for run in self._runs.values())

    # -- the queue ----------------------------------------------------------------------------------------------------

    def _enqueue(self, run: Run) -> None:
        device = run.ticket.device
        with self._moves:
            if run.ticket.state != "waiting":
                self._become(run, state="waiting")
            if device not in self._workers:
                self._waiting[device] = deque()
                worker = threading.Thread(target=self._work, args=(device,), daemon=True, name=f"worker of {device}")
                self._workers[device] = worker
                worker.start()
            with self._changed:
                self._waiting[device].append(run.ticket.id)
                self._changed.notify_all()

    def _become(self, run: Run, *, clear: bool = False, **changes: Any) -> None:
        """Change a ticket, on disk first. The caller holds `_moves`."""
        ticket = dataclasses.replace(run.ticket, **changes)
        self._tickets.write(ticket)
        cause = None if ticket.error is None else ticket.error.get("cause")
        event("run", run=ticket.id, state=ticket.state, attempts=ticket.attempts, error=cause)
        with self._changed:
            run.ticket = ticket
            if clear:
                run.stages = {}
            run.version += 1
            self._changed.notify_all()

    def _next(self, device: str) -> list[Run]:
        """What a free worker does next; waits for it. Empty when the service is closed."""
        waiting = self._waiting[device]
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(waiting))
                if self._closed:
                    return []
            with self._moves:
                if not waiting:  # it was cancelled meanwhile
                    continue
                with self._changed:
                    runs = [self._runs[waiting.popleft()]]
                    # one that a worker died with goes alone: it may not take others down with it
                    while runs[0].ticket.attempts == 0 and len(runs) < self.together and waiting:
                        if self._runs[waiting[0]].ticket.attempts:
                            break
                        runs.append(self._runs[waiting.popleft()])
                for run in runs:
                    self._become(run, clear=True, state="running", attempts=run.ticket.attempts + 1)
                return runs

    def _work(self, device: str) -> None:
        """One device's worker process, started again when it dies."""
        process: WorkerProcess | None = None
        while runs := self._next(device):
            if process is None or not process.alive:
                process = self._spawn(device)
            process.tell({"do": "run", "runs": [self._order_of(run) for run in runs]})
            for run in runs:
                if run.cancelled:  # between its turn and its being told
                    process.tell({"do": "cancel", "id": run.ticket.id})
            busy = self._follow(process, {run.ticket.id: run for run in runs})
            if self._closed:
                return
            if not process.alive:
                self._died(process, runs)
            if busy:
                time.sleep(_BUSY_SECONDS)
                for run in busy:
                    with self._moves:
                        self._become(run, state="waiting", attempts=run.ticket.attempts - 1)
                        self._enqueue(run)

    def _spawn(self, device: str) -> WorkerProcess:
        process = WorkerProcess()
        event("worker", device=device, state="started", process=process.pid)
        with self._changed:
            self._processes[device] = process
            if self._closed:
                process.kill()
        return process

    def _order_of(self, run: Run) -> dict[str, Any]:
        return {"id": run.ticket.id, "folder": str(self.out / run.ticket.id), "until": run.ticket.until}

    def _follow(self, process: WorkerProcess, runs: Mapping[str, Run]) -> list[Run]:
        """Take in what a worker tells until it has done its runs, or died; returns those whose folder is in use."""
        busy: list[Run] = []
        for told in process.told():
            if "idle" in told:
                return busy
            run = runs.get(str(told.get("id")))
            if run is None:
                continue
            if told.get("busy") and not run.cancelled:
                busy.append(run)
                continue
            if "ended" in told:
                with self._moves:
                    ended = {"state": told["ended"], "error": told["error"], "warnings": tuple(told["warnings"])}
                    self._become(run, stages=tuple(run.stages.values()), **ended)
                continue
            stage = {name: told[name] for name in ("stage", "status", "share", "doing", "seconds")}
            if stage["status"] != "running":
                event("stage", run=run.ticket.id, stage=told["stage"], status=told["status"], seconds=told["seconds"])
            with self._changed:
                run.stages[told["stage"]] = stage
                if stage["status"] in ("done", "failed"):
                    self.seconds[told["stage"]] += stage["seconds"]
                    self.stage_runs[told["stage"]] += 1
                if (free := told.get("free_video_memory")) is not None:
                    self.free_video_memory[run.ticket.device] = free
                run.version += 1
                self._changed.notify_all()
        return busy

    def _died(self, process: WorkerProcess, runs: list[Run]) -> None:
        """A worker ended with its runs: each is tried once more, as far as it has come."""
        event("worker", device=runs[0].ticket.device, state="died", process=process.pid, how=process.death())
        for run in runs:
            with self._moves:
                if run.ticket.state != "running":
                    continue
                stages = tuple(run.stages.values())
                if run.cancelled:
                    self._become(run, state="cancelled", stages=stages)
                elif run.ticket.attempts < TRIES:
                    self._enqueue(run)
                else:
                    cause = f"the worker process died twice with it ({process.death()})"
                    hint = "memory may have run out: use smaller settings, or the preset draft"
                    error = told_error(Kiss3dError(cause, place=run.ticket.id, hint=hint))
                    self._become(run, state="failed", error=error, stages=stages)
