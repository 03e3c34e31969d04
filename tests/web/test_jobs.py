"""What the page asks of the service, and what it shows of it; a real worker process does the runs."""

from __future__ import annotations

import dataclasses
import time

import pytest

import forks
from kiss3d_cli.core.errors import BadInput, RunInUse
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.launch import Request, mesh_of
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.stages import stages
from kiss3d_cli.serve.service import Service
from kiss3d_cli.serve.view import View
from kiss3d_cli.web.fragments import progress
from kiss3d_cli.web.jobs import Jobs
from patience import PATIENCE
from pictures import QUICK, draw_figure


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("jobs") / "out", together=1)
    with forks.workers():
        service.start()
        yield Jobs(service)
        service.close()


@pytest.fixture
def request_for(tmp_path):
    picture = draw_figure(tmp_path / "figure.png")

    def asked(*settings: str, **changes) -> Request:
        return Request({"picture": picture}, preset="draft", settings=(*QUICK, *settings), **changes)

    return asked


def ended(jobs: Jobs, name: str) -> View:
    end = time.monotonic() + PATIENCE
    while jobs.active(name):
        assert time.monotonic() < end
        time.sleep(0.02)
    return jobs.view(name)


def refines(jobs: Jobs, name: str) -> None:
    end = time.monotonic() + PATIENCE
    while not any(told["stage"] == "refine" and told["share"] > 0 for told in jobs.view(name).stages):
        assert jobs.active(name)
        assert time.monotonic() < end
        time.sleep(0.02)


def told(view: View) -> dict[str, str]:
    return {stage["stage"]: stage["status"] for stage in view.stages}


def test_what_the_page_starts_is_what_the_command_makes(jobs, request_for):
    name = jobs.start(request_for())
    view = ended(jobs, name)
    assert view.ticket.state == "done"
    assert set(told(view)) == {stage.name for stage in stages()}
    assert (told(view)["refine"], told(view)["eval"]) == ("done", "off")
    assert mesh_of(jobs.find(name)) is not None
    assert (jobs.find(name).path / "report.html").is_file()
    assert jobs.names()[0] == name
    assert "Done" in progress(view)


def test_cancelled_at_work_and_while_it_waits_and_taken_up(jobs, request_for):
    long = jobs.start(request_for("refine.steps=400", name="long"))
    refines(jobs, long)
    second = jobs.start(request_for(until="preprocess", name="second"))
    assert "Waiting for the runs before it" in progress(jobs.view(second))
    with pytest.raises(BadInput, match="at work"):
        jobs.resume(long)
    jobs.cancel(second)
    assert jobs.view(second).ticket.state == "cancelled"
    assert not jobs.view(second).stages
    jobs.cancel(long)
    assert "Stopping at the next safe point" in progress(jobs.view(long)) or not jobs.active(long)
    view = ended(jobs, long)
    assert view.ticket.state == "cancelled"
    assert told(view)["refine"] == "interrupted"
    assert mesh_of(jobs.find(long)) is None
    jobs.resume(second)
    assert ended(jobs, second).ticket.state == "done"


def test_a_run_of_the_command_line_is_taken_up(jobs, request_for):
    asked = request_for(until="preprocess", out=jobs.outputs, name="typed")
    folder = launch.start(launch.prepare(asked)).folder
    name = folder.path.name
    assert name in jobs.names()
    assert jobs.view(name) is None
    with locked(folder.path), pytest.raises(RunInUse, match="another process works in it"):
        jobs.resume(name)
    jobs.resume(name)
    view = ended(jobs, name)
    assert view.ticket.state == "done"
    assert (told(view)["preprocess"], told(view)["refine"]) == ("skipped", "done")
    page = folder.path / "report.html"
    made = page.stat().st_mtime_ns
    jobs.report(name)
    assert page.stat().st_mtime_ns == made
    folder.log("killed after this")
    jobs.report(name)
    assert page.stat().st_mtime_ns > made


def test_a_failure_is_told_and_escaped(jobs, request_for):
    name = jobs.start(request_for(until="preprocess", name="fails"))
    ended(jobs, name)
    (jobs.find(name).path / "run.json").write_text("{", encoding="utf-8")
    jobs.service.again(name)
    view = ended(jobs, name)
    assert view.ticket.state == "failed"
    assert "run.json" in progress(view)
    error = {**view.ticket.error, "cause": "<b>no such thing</b>"}
    shown = progress(dataclasses.replace(view, ticket=dataclasses.replace(view.ticket, error=error)))
    assert "&lt;b&gt;no such thing" in shown


@pytest.mark.parametrize("name", ["..", "../elsewhere", "", "nothing", "link"])
def test_no_run_but_those_of_the_folder_is_found(jobs, request_for, tmp_path, name):
    asked = request_for(until="preprocess", out=tmp_path / "elsewhere")
    folder = launch.open_run(launch.prepare(asked)).path
    link = jobs.outputs / "link"
    link.symlink_to(folder)
    try:
        with pytest.raises(BadInput, match="no such run"):
            jobs.find(name)
    finally:
        link.unlink()


def test_bad_requests_are_refused_before_anything_is_made(jobs, tmp_path):
    before = jobs.names()
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(BadInput):
        jobs.start(Request({"picture": tmp_path / "text.png"}, preset="draft"))
    assert jobs.names() == before
