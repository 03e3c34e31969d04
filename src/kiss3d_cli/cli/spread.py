"""`--shard I/N` and `--ray [ADDRESS]`: many runs by more processes than this one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kiss3d_cli.core.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from kiss3d_cli.pipeline.jobs import Job, RunReport
    from kiss3d_cli.pipeline.launch import Request
    from kiss3d_cli.pipeline.many_runs import ManyFinished

RAY = "--ray"
_ADDRESS = re.compile(r"auto|local|ray://\S+|[^/\s]+:\d+")


@dataclass(frozen=True)
class Spread:
    """How many runs are spread; false for one process that does all.

    Raises:
        BadInput: both ways were asked for, or a share that is none.
    """

    shard: str | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.shard is not None and self.ray is not None:
            cause = "--shard and --ray were both given"
            raise BadInput(cause, place=RAY, hint="give one: with --ray the shares are cut for you")
        if self.shard is not None:
            from kiss3d_cli.pipeline.shards import Shard

            Shard.parse(self.shard)

    def __bool__(self) -> bool:
        return self.shard is not None or self.ray is not None

    @property
    def option(self) -> str:
        return RAY if self.ray is not None else "--shard"

    def run(
        self, jobs: Sequence[Job | RunReport], request: Request, folder: Path, once: bool, **told: Any
    ) -> ManyFinished:
        """Run the jobs. Arguments and errors as of `many_runs.run_many`."""
        from kiss3d_cli.pipeline.cluster import run_on_cluster
        from kiss3d_cli.pipeline.many_runs import run_many
        from kiss3d_cli.pipeline.shards import Shard, run_shard

        if self.ray is not None:
            return run_on_cluster(jobs, request, folder, self.ray, told["announce"], once=once)
        if self.shard is not None:
            return run_shard(jobs, request, folder, Shard.parse(self.shard), once=once, **told)
        return run_many(jobs, request, folder, once=once, **told)


def with_address(args: Sequence[str]) -> list[str]:
    """The same arguments with `local` after a `--ray` that no address follows."""
    found: list[str] = []
    for index, word in enumerate(args):
        if word == "--":
            return [*found, *args[index:]]
        found.append(word)
        following = args[index + 1] if index + 1 < len(args) else ""
        if word == RAY and not _ADDRESS.fullmatch(following):
            found.append("local")
    return found
