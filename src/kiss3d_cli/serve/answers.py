"""The JSON of the service, as its OpenAPI describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from kiss3d_cli.pipeline.launch import mesh_of
from kiss3d_cli.report.run_report import REPORT
from kiss3d_cli.report.run_view import own_file
from kiss3d_cli.serve.service import Service
from kiss3d_cli.serve.view import View

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class StageAnswer(BaseModel):
    """One stage of a run."""

    stage: str = Field(examples=["refine"])
    status: str = Field(description="running, done, skipped, off, later, failed or interrupted", examples=["running"])
    share: float = Field(description="How far it is, from 0 to 1.", examples=[0.4])
    doing: str = Field(description="What it does now.", examples=["step 20 of 50"])
    seconds: float = Field(description="How long it took, when it has ended.", examples=[0.0])


class ErrorAnswer(BaseModel):
    """Why a run failed, in the words of the command line."""

    cause: str = Field(examples=["out of memory"])
    place: str | None = Field(None, examples=["stage refine"])
    hint: str | None = Field(None, examples=["use smaller settings"])
    exit_code: int = Field(examples=[4])


class RunAnswer(BaseModel):
    """One run."""

    id: str = Field(description="Also the name of its run folder.", examples=["fox-20260102-030405"])
    state: State
    submitted: str = Field(examples=["2026-01-02T03:04:05+00:00"])
    attempts: int = Field(description="How often a worker began with it.", examples=[1])
    stages: list[StageAnswer]
    warnings: list[str]
    error: ErrorAnswer | None = None
    files: list[str] = Field(description="What can be fetched now.", examples=[["report.html", "refine/mesh.glb"]])


class RunsAnswer(BaseModel):
    """Runs, the newest first."""

    runs: list[RunAnswer]
    total: int


class HealthAnswer(BaseModel):
    """The service is there; `status` of `healthy` is what scripts made for other services look for."""

    status: Literal["healthy"] = "healthy"
    version: str
    runs: dict[str, int] = Field(description="By state.", examples=[{"waiting": 2, "running": 1, "done": 40}])


class ProblemAnswer(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Unusable input"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["the file is no picture that can be read"])
    place: str | None = Field(None, examples=["picture"])
    hint: str | None = Field(None, examples=["give a PNG or a JPEG"])
    exit_code: int | None = Field(None, description="What the command line would end with.", examples=[2])


SUFFIXES = ("glb", "obj", "mtl", "png", "ply")


def run_answer(service: Service, view: View) -> dict[str, Any]:
    """The JSON of a run."""
    ticket = view.ticket
    return {
        "id": ticket.id,
        "state": ticket.state,
        "submitted": ticket.submitted,
        "attempts": ticket.attempts,
        "stages": list(view.stages),
        "warnings": list(ticket.warnings),
        "error": ticket.error,
        "files": files_of(service, ticket.id) if ticket.ended else [],
    }


def files_of(service: Service, name: str) -> list[str]:
    """The report and the final mesh of a run, those that are there."""
    folder = service.folder(name)
    mesh = mesh_of(folder)
    names = [REPORT]
    if mesh is not None:
        stage = mesh.parent.name
        names += [f"{stage}/mesh.{suffix}" for suffix in SUFFIXES]
    return [path for path in names if own_file(folder.path, path) is not None]
