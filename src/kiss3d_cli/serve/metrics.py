"""/metrics, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from kiss3d_cli import __version__
from kiss3d_cli.serve.service import Service
from kiss3d_cli.serve.tickets import STATES


class _Collector:
    """What the service knows, at the moment of asking."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts = self._service.counts()
        runs = GaugeMetricFamily("kiss3d_runs", "Runs by state.", labels=["state"])
        for state in STATES:
            runs.add_metric([state], counts.get(state, 0))
        yield runs
        seconds = CounterMetricFamily("kiss3d_stage_seconds", "Seconds of work by stage.", labels=["stage"])
        made = CounterMetricFamily("kiss3d_stage_runs", "Stages that were worked on.", labels=["stage"])
        for stage, spent in sorted(self._service.seconds.items()):
            seconds.add_metric([stage], spent)
            made.add_metric([stage], self._service.stage_runs[stage])
        yield seconds
        yield made
        memory = GaugeMetricFamily("kiss3d_video_memory_free_bytes", "Free video memory.", labels=["device"])
        for device, free in sorted(self._service.free_video_memory.items()):
            memory.add_metric([device], free)
        yield memory
        info = GaugeMetricFamily("kiss3d_info", "The version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


def routes(service: Service) -> Any:
    """The router. Needs the extra `serve`."""

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service))
    router = APIRouter()

    def metrics() -> Any:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    router.add_api_route("/metrics", metrics, methods=["GET"], response_class=Response)
    return router
