"""Many runs on the machines of a Ray cluster.

Ray starts the workers, gives each a GPU or a share of the processors, and starts one again that was lost. Who does
which run is agreed on the shared storage alone (`shards`): a lost worker, head or network leaves resumable runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, Kiss3dError, Missing
from kiss3d_cli.pipeline.jobs import Job, RunReport
from kiss3d_cli.pipeline.launch import Request
from kiss3d_cli.pipeline.many_runs import ManyFinished, finish
from kiss3d_cli.pipeline.run_folder import RunFolder
from kiss3d_cli.pipeline.shards import Shard, run_shard

LOCAL = "local"


def check_ray() -> None:
    """Raises Missing without the extra `ray`."""
    if importlib.util.find_spec("ray") is None:
        hint = "pip install 'kiss3d[ray]' (Linux; Ray's support of Windows is a beta)"
        raise Missing("--ray needs Ray, which is not installed", place="--ray", hint=hint)


def run_on_cluster(
    jobs: Sequence[Job | RunReport],
    request: Request,
    folder: Path,
    address: str = LOCAL,
    announce: Callable[[str], None] = lambda _text: None,
    *,
    once: bool = False,
    workers: int | None = None,
    processors: int = 2,
) -> ManyFinished:
    """Run the jobs on every GPU of a cluster, or on all its processors.

    Args:
        jobs, request, folder, once: as of `many_runs.run_many`; every machine sees the files under the same paths.
        address: of the cluster as Ray has it; `local` starts one on this machine.
        workers: how many; one for each GPU, or for every two processors, by default.
        processors: of a worker without a GPU.

    Raises:
        BadInput: there is no cluster at that address.
        Missing: Ray is not installed.
    """
    check_ray()
    import ray

    # what it prints about itself, and its statistics for its makers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = address == LOCAL
    try:
        ray.init(
            address=None if own else address,
            include_dashboard=False if own else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        cause = f"no Ray cluster answers there: {' '.join(str(error).split())[:200]}"
        raise BadInput(cause, place="--ray", hint="ray start --head on one machine, and its address here") from None
    try:
        there: dict[str, float] = ray.cluster_resources()
        gpus = 0 if _wants_cpu(request) else int(there.get("GPU", 0))
        processors = max(1, min(processors, int(there.get("CPU", 1))))
        count = workers or gpus or max(1, int(there.get("CPU", 1)) // processors)
        needs: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": processors}
        announce(f"{count} workers, each with {'a GPU' if gpus else f'{processors} processors'}")
        actor: Any = ray.remote(max_restarts=-1, max_task_retries=-1, **needs)(Worker)
        folder.mkdir(parents=True, exist_ok=True)
        place, asked = folder.resolve(), _absolute(request)
        given = [_job(job) for job in jobs]
        handles: list[Any] = [actor.remote() for _ in range(count)]
        reports: list[dict[str, Any]] = []
        waiting = [
            handle.work.remote(given, asked, place, Shard(index, count), once) for index, handle in enumerate(handles)
        ]
        for result in waiting:
            reports = ray.get(result)  # each ends when every run has, so that all report the same
    except ray.exceptions.RayError as error:
        cause = f"the cluster was lost: {' '.join(str(error).split())[:200]}"
        raise Kiss3dError(cause, place="--ray", hint="the same command goes on") from None
    finally:
        ray.shutdown()
    return finish(folder, tuple(RunReport(**report) for report in reports), request)


class Worker:
    """One process of the cluster."""

    def work(
        self, jobs: Sequence[Job | RunReport], request: Request, folder: Path, shard: Shard, once: bool
    ) -> list[dict[str, Any]]:
        """Work until every job has ended; the reports."""
        from kiss3d_cli.report.run_report import is_current, write_report

        def reported(run: RunFolder) -> None:
            with contextlib.suppress(Exception):  # the run is not touched by its report
                if not is_current(run):
                    write_report(run)

        finished = run_shard(jobs, request, folder, shard, ended=reported, once=once)
        return [dataclasses.asdict(report) for report in finished.reports]


def _wants_cpu(request: Request) -> bool:
    return any(text.replace(" ", "") == "device.name=cpu" for text in request.settings)


def _absolute(request: Request) -> Request:
    config = None if request.config_file is None else request.config_file.absolute()
    return dataclasses.replace(request, config_file=config, out=request.out.absolute())


def _job(job: Job | RunReport) -> Job | RunReport:
    if isinstance(job, RunReport):
        return job
    inputs = {name: value.absolute() if isinstance(value, Path) else value for name, value in job.inputs.items()}
    return dataclasses.replace(job, inputs=inputs)
