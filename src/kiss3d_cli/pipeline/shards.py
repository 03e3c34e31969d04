"""Many runs by several processes on one folder, on one machine or many, without a coordinator.

Each process begins with its share, then takes what no one has claimed, and at last what a process that went away has
left. A claim is an operating system's lock on a folder of its own below the folder of runs, so that it goes with its
process:

    FOLDER/.claims/KEY/
      run.lock       held while someone works on this job
      run            the name of the run folder that was made for it
      failed         why it failed, and when: the others need not find that out for themselves

What has ended well is told the others in `notices`.

Shares are cut by guided self-scheduling (Polychronopoulos and Kuck, IEEE Trans. Computers 1987): a process claims half
of an even share of what is left at a time. Early batches are large, so that each network is loaded once for many runs;
late ones are small, so that nobody waits for the slowest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from kiss3d_cli.core.errors import BadInput, Kiss3dError, RunInUse
from kiss3d_cli.core.files import make_folder, read_bytes, write_durably
from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.core.progress import Reporter, Silent
from kiss3d_cli.core.records import BadRecord, Fields, parse_json, write_json
from kiss3d_cli.pipeline.batch import Order, execute_all
from kiss3d_cli.pipeline.jobs import Job, RunReport
from kiss3d_cli.pipeline.launch import Request
from kiss3d_cli.pipeline.lock import is_locked, locked
from kiss3d_cli.pipeline.many_runs import TOGETHER, ManyFinished, ManyRuns, finish
from kiss3d_cli.pipeline.notices import Notice, Notices
from kiss3d_cli.pipeline.run_folder import RUN, RunFolder, find_runs
from kiss3d_cli.pipeline.runner import Task
from kiss3d_cli.pipeline.stages import stages

CLAIMS = ".claims"
_POLL = 1.0
"""Seconds between two looks at what others have claimed, when there is nothing else to do."""
_RARELY, _LONGEST_POLL = 20.0, 10.0
"""The same, over the seconds that the last look took, and at most."""
_LARGEST = 2**16


@dataclass(frozen=True)
class Shard:
    """A share of the jobs: every `count`-th, from `index` on, which counts from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `I/N` with I from 1 to N. Raises BadInput."""
        index, slash, count = text.partition("/")
        if not (slash and index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
            raise BadInput(f"'{text[:40]}' is not I/N", place="--shard", hint="--shard 1/4 is the first of four")
        if not 1 <= int(index) <= int(count) <= 100_000:
            cause = f"there is no share {index[:8]} of {count[:8]}"
            raise BadInput(cause, place="--shard", hint=f"from 1/{count[:8]} to {count[:8]}/{count[:8]}")
        return cls(int(index) - 1, int(count))

    def order(self, jobs: int) -> list[int]:
        """All jobs: this share first, then those of the others, the next share's first."""
        return [job for step in range(self.count) for job in range((self.index + step) % self.count, jobs, self.count)]


def run_shard(
    jobs: Sequence[Job | RunReport],
    request: Request,
    folder: Path,
    shard: Shard,
    reporter: Callable[[str], Reporter] = lambda _name: Silent(),
    cancelled: Event | None = None,
    announce: Callable[[str], None] = lambda _text: None,
    ended: Callable[[RunFolder], None] = lambda _run: None,
    *,
    once: bool = False,
    order: Order = "auto",
) -> ManyFinished:
    """Work on a share of the jobs, and on whatever the others leave, until every job has ended.

    Arguments and errors as of `many_runs.run_many`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    many = _Claimed(jobs, request, folder, once, announce, ended)
    todo = deque(number for number in shard.order(len(jobs)) if many.reports[number] is None)
    elsewhere: deque[int] = deque()
    looking = 0.0
    while todo or elsewhere:
        if not todo:
            time.sleep(min(max(_POLL, _RARELY * looking), _LONGEST_POLL))
            todo, elsewhere, looking = elsewhere, todo, 0.0
        began = time.monotonic()
        many.hear()
        size = min(TOGETHER, -(-len(todo) // (2 * shard.count)))
        with ExitStack() as stack:
            tasks: list[Task] = []
            while todo and len(tasks) < size:
                number = todo.popleft()
                task = None if many.reports[number] else many.begin(number, stack, reporter, cancelled)
                if task is not None:
                    tasks.append(task)
                elif many.reports[number] is None and not many.is_twin(number):
                    elsewhere.append(number)
            looking += time.monotonic() - began
            execute_all(tasks, stages(), order)
    reports = many.all_reports()
    many.write_reports()
    return finish(folder, reports, request)


class _Claimed(ManyRuns):
    """Jobs of which each is claimed before it is begun."""

    def _open(self) -> None:
        self._claims = self._folder / CLAIMS
        make_folder(self._claims)
        self._of: dict[int, Path] = {}
        self._since = time.time()
        given = [(job.name, *map(str, job.inputs.values())) for job in self._jobs if isinstance(job, Job)]
        asked = {**vars(self._request), "inputs": {}, "command": ""}
        self._notices = Notices(self._claims, json_sha256({"jobs": repr(given), "request": repr(asked)}), self._since)

    def hear(self) -> None:
        """Take note of what the others have done."""
        for notice in self._notices.heard():
            run = RunFolder(self._folder / notice.run)
            if notice.job < len(self._jobs) and self.reports[notice.job] is None and (run.path / RUN).is_file():
                self._first.setdefault(notice.key, notice.job)
                self.pass_over(notice.job, run)

    def begin(
        self, number: int, stack: ExitStack, reporter: Callable[[str], Reporter], cancelled: Event | None
    ) -> Task | None:
        """The task of a job, None if there is nothing to do, or someone else is at it: then it has no report."""
        claim = self._of.get(number)
        if claim is not None and is_locked(claim):
            return None
        try:
            with ExitStack() as own:
                task = super().begin(number, own, reporter, cancelled)
                if task is not None:
                    stack.enter_context(own.pop_all())
        except RunInUse:
            return None
        return task

    def _take(self, number: int, key: str, stack: ExitStack) -> RunFolder | None:
        claim = self._claims / key[:32]
        known = claim.is_dir()
        make_folder(claim)
        self._of[number] = claim
        stack.enter_context(locked(claim))
        failure = _failure(claim / "failed", self._since)
        if failure is not None:
            raise failure
        try:
            run = RunFolder(self._folder / Path(read_bytes(claim / "run", _LARGEST).decode()).name)
            if (run.path / RUN).is_file():  # else someone has removed it
                return run
        except (OSError, ValueError):
            pass
        if known:  # who claimed it may have been killed before it could say which run folder it made
            self._look_again()
        return super()._take(number, key, stack)

    def _made(self, number: int, run: RunFolder) -> None:
        write_durably(self._of[number] / "run", run.path.name.encode())

    def _went_well(self, number: int, run: RunFolder) -> None:
        self._notices.tell(Notice(number, self._keys[number], run.path.name))

    def _went_wrong(self, number: int, error: Kiss3dError) -> None:
        if (claim := self._of.get(number)) is not None and not isinstance(error, _FailedElsewhere):
            record = {"time": time.time(), "error": error.cause, "place": error.place, "exit_code": error.exit_code}
            write_durably(claim / "failed", write_json(record))

    def _look_again(self) -> None:
        self._earlier = self._found(find_runs(self._folder))


class _FailedElsewhere(Kiss3dError):
    """What another process found wrong with a job."""


def _failure(path: Path, since: float) -> _FailedElsewhere | None:
    """The failure that another process of this command had with a job; an older one is no reason not to try again."""
    try:
        record = parse_json(read_bytes(path, _LARGEST))
        fields = Fields(record)
        if fields.number("time") < since:
            return None
        place = record.get("place")
        error = _FailedElsewhere(fields.text("error"), place=place if isinstance(place, str) else None)
        error.exit_code = fields.whole("exit_code")  # type: ignore[misc]
        return error
    except (OSError, BadRecord):
        return None
