"""The queue of a service, on disk: one record for each run that was accepted.

    OUT/.service/
      runs/NAME.json        the ticket of the run folder OUT/NAME
      keys/SHA256.json      which run an Idempotency-Key stands for

A ticket is written after its run folder is whole and before the client is answered, so that a kill at any moment loses
no run that was accepted. What a run has made is in its folder; a ticket only says where in the queue it stands.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiss3d_cli.core.files import make_folder, write_durably
from kiss3d_cli.core.folders import entries
from kiss3d_cli.core.records import BadRecord, Fields, read_sealed, seal

SCHEMA_VERSION = 1
FOLDER = ".service"
STATES = ("waiting", "running", "done", "failed", "cancelled")
ENDED = ("done", "failed", "cancelled")


@dataclasses.dataclass(frozen=True)
class Ticket:
    """One accepted run.

    Attributes:
        id: the name of its run folder.
        order: place in the queue; smaller is earlier.
        submitted: when it was accepted, in UTC.
        device: torch's name of where it will run.
        state: one of `STATES`.
        until: the last stage to run.
        attempts: how often a worker began with it; a worker that dies with a run begins with it once more.
        stages: of a run that ended: what became of each, as `workers.StageProgress`.
        warnings: of a run that ended.
        error: of a run that failed: cause, place, hint and exit code, in the command line's words.
        options: what the route that accepted it will want to know again.
    """

    id: str
    order: int
    submitted: str
    device: str = "cpu"
    state: str = "waiting"
    until: str | None = None
    attempts: int = 0
    stages: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    error: Mapping[str, Any] | None = None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Tickets:
    """The records of one outputs folder."""

    def __init__(self, out: Path) -> None:
        self.root = out / FOLDER
        self._runs, self._keys = self.root / "runs", self.root / "keys"
        for folder in (self.root, self._runs, self._keys):
            folder.parent.mkdir(parents=True, exist_ok=True)
            make_folder(folder)

    def write(self, ticket: Ticket) -> None:
        record = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(ticket)}
        write_durably(self._runs / f"{ticket.id}.json", seal(record))

    def read_all(self) -> Iterator[tuple[str, Ticket | None]]:
        """The id of every record, and its ticket; None where the record can't be trusted."""
        for path in entries(self._runs, "*.json"):
            if path.name.startswith("."):
                continue
            try:
                yield path.stem, _ticket(read_sealed(path, SCHEMA_VERSION, 0, within=self.root))
            except (OSError, BadRecord):
                yield path.stem, None

    def bind(self, key: str, run: str, request: str) -> None:
        """Keep which run an Idempotency-Key stands for, and the hash of the request that it came with."""
        record = {"schema_version": SCHEMA_VERSION, "run": run, "request": request}
        write_durably(self._keys / f"{_digest(key)}.json", seal(record))

    def bound(self, key: str) -> tuple[str, str] | None:
        """The run and the request of an Idempotency-Key; None for one that was not seen before."""
        try:
            record = Fields(read_sealed(self._keys / f"{_digest(key)}.json", SCHEMA_VERSION, 0, within=self.root))
            return record.text("run"), record.text("request")
        except (OSError, BadRecord):
            return None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _ticket(record: dict[str, Any]) -> Ticket:
    fields = Fields(record)
    state = fields.text("state")
    if state not in STATES:
        raise BadRecord(f"'{state}' is no state")
    name = fields.text("id")
    if name != Path(name).name or name.startswith("."):
        raise BadRecord("its id is no name of a run folder")
    stages = record.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise BadRecord("'stages' is not a list of objects")
    until = record.get("until")
    return Ticket(
        id=name,
        order=fields.whole("order"),
        submitted=fields.text("submitted"),
        device=fields.text("device"),
        state=state,
        until=until if isinstance(until, str) else None,
        attempts=fields.whole("attempts"),
        stages=tuple(stages),
        warnings=fields.texts("warnings"),
        error=None if record.get("error") is None else fields.object("error"),
        options=fields.text_by_name("options"),
    )
