"""What the workers on one folder tell each other of the runs that have ended well.

    FOLDER/.claims/notices/HEX.jsonl      a file of each worker, which it alone appends to

A worker that reads there that a run has ended need not look at it: a look costs milliseconds, and every worker of a
command reports every run. A notice names a job by its number, so workers of other pictures or settings are not heard,
nor is what was said before a worker began: since then the run may have changed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kiss3d_cli.core import files
from kiss3d_cli.core.records import BadRecord, Fields, parse_json, write_json

FOLDER = "notices"
_KEPT = 7 * 86400.0
"""Seconds after which the notices of a worker are removed."""
_LARGEST = 2**26
"""Bytes that are read of a file at a time."""


@dataclass(frozen=True)
class Notice:
    """A run that ended well: the number of its job, the job's key and the name of the run folder."""

    job: int
    key: str
    run: str


class Notices:
    """The notices of the workers on one folder.

    Args:
        claims: the folder of claims, which is there.
        command: equal for workers with the same jobs and settings.
        since: what was said earlier is not heard, seconds of `time.time`.

    Raises:
        OSError: the folder can't be made.
    """

    def __init__(self, claims: Path, command: str, since: float) -> None:
        self._folder, self._command, self._since = claims / FOLDER, command, since
        files.make_folder(self._folder)
        self._own = self._folder / f"{secrets.token_hex(16)}.jsonl"
        self._read: dict[Path, int] = {}
        for path in self._folder.glob("*.jsonl"):
            if path.lstat().st_mtime < since - _KEPT:
                files.remove(path)

    def tell(self, notice: Notice) -> None:
        """Tell the others. Raises OSError."""
        record = {"command": self._command, "time": time.time(), **vars(notice)}
        files.append(self._own, write_json(record).replace(b"\n", b" ") + b"\n")

    def heard(self) -> Iterator[Notice]:
        """What the others have told since the last call. What can't be read is left out: the run is looked at then."""
        for path in sorted(self._folder.glob("*.jsonl")):
            if path == self._own:
                continue
            try:
                with files.reading(path, within=self._folder) as stream:
                    stream.seek(self._read.get(path, 0))
                    data = stream.read(_LARGEST)
            except OSError:
                continue
            whole = data[: data.rfind(b"\n") + 1]  # the rest of the last line is still being written
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                try:
                    record = parse_json(line)
                    fields = Fields(record)
                    if fields.text("command") == self._command and fields.number("time") >= self._since:
                        yield Notice(fields.whole("job"), fields.text("key"), Path(fields.text("run")).name)
                except BadRecord:
                    continue
