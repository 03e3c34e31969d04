from __future__ import annotations

import threading
import time

import pytest

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.methods.caption.describe import Describe
from kiss3d_cli.methods.preprocess.grabcut import GrabCut
from kiss3d_cli.methods.refine.isomer import Isomer
from kiss3d_cli.pipeline.launch import Request, mesh_of
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.stages import stages
from kiss3d_cli.web.fragments import progress
from kiss3d_cli.web.jobs import Job, Jobs
from patience import PATIENCE
from pictures import QUICK, draw_figure


@pytest.fixture
def request_for(tmp_path):
    picture = draw_figure(tmp_path / "figure.png")
    return lambda **changes: Request({"picture": picture}, preset="draft", settings=QUICK, **changes)


def wait(job: Job) -> Job:
    end = time.monotonic() + PATIENCE
    while job.active:
        assert time.monotonic() < end
        time.sleep(0.02)
    return job


class Gate:
    """A stage that waits in its first safe point until it is opened; then it does what it always did."""

    def __init__(self, monkeypatch, method: type) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        original = method.work

        def held(method, settings, machine, context):
            self.reached.set()
            assert self.opened.wait(PATIENCE)
            context.progress(0.1)
            original(method, settings, machine, context)

        monkeypatch.setattr(method, "work", held)


def test_a_job_makes_what_the_command_makes(tmp_path, request_for):
    jobs = Jobs(tmp_path / "out")
    job = wait(jobs.start(request_for()))
    assert job.state == "done"
    assert mesh_of(job.folder) is not None
    assert (job.folder.path / "report.html").is_file()
    told = job.stages()
    assert set(told) == {stage.name for stage in stages()}
    assert told["refine"].status == "done"
    assert told["eval"].status == "off"
    assert jobs.names() == [job.folder.path.name]


def test_a_job_that_waited_sees_the_memory_that_is_free_when_it_starts(tmp_path, request_for, monkeypatch):
    gate, seen = Gate(monkeypatch, GrabCut), []
    original = Describe.work
    monkeypatch.setattr(Describe, "work", lambda *a: (seen.append(a[2].device.limit_bytes), original(*a))[1])
    free = [1]
    monkeypatch.setattr(
        devices, "resolve", lambda *_: devices.DeviceInfo("cpu", "CPU", "test", memory_bytes=9, limit_bytes=free[0])
    )
    jobs = Jobs(tmp_path / "out")
    first = jobs.start(request_for(until="caption"))
    assert gate.reached.wait(PATIENCE)
    second = jobs.start(request_for(until="caption"))
    free[0] = 8  # the first gives its memory back
    gate.opened.set()
    assert [wait(first).state, wait(second).state] == ["done", "done"]
    assert seen == [1, 8]


def test_cancel_leaves_a_run_that_can_be_resumed(tmp_path, request_for, monkeypatch):
    gate = Gate(monkeypatch, Isomer)
    jobs = Jobs(tmp_path / "out")
    job = jobs.start(request_for())
    name = job.folder.path.name
    assert gate.reached.wait(PATIENCE)
    with pytest.raises(BadInput, match="at work already"):
        jobs.resume(name)
    jobs.cancel(name)
    assert "Stopping at the next safe point" in progress(job)
    gate.opened.set()
    assert wait(job).state == "cancelled"
    assert "interrupted" in (job.folder.path / "report.html").read_text(encoding="utf-8")
    assert mesh_of(job.folder) is None
    again = wait(Jobs(tmp_path / "out").resume(name))
    assert again.state == "done"
    assert [again.stages()[stage].status for stage in ("preprocess", "reconstruct", "refine")] == [
        "skipped",
        "skipped",
        "done",
    ]


def test_one_job_at_a_time_and_one_that_waits_can_be_cancelled(tmp_path, request_for, monkeypatch):
    gate = Gate(monkeypatch, Describe)
    jobs = Jobs(tmp_path / "out")
    first = jobs.start(request_for(until="caption", name="first"))
    assert gate.reached.wait(PATIENCE)
    second = jobs.start(request_for(until="caption", name="second"))
    third = jobs.start(request_for(until="caption", name="third"))
    jobs.cancel(third.folder.path.name)
    assert third.state == "cancelled"
    time.sleep(0.2)
    assert (first.state, second.state) == ("running", "waiting")
    assert "Waiting for the runs before it" in progress(second)
    gate.opened.set()
    assert [wait(job).state for job in (first, second, third)] == ["done", "done", "cancelled"]
    assert not third.stages()


def test_a_report_is_made_where_none_was_left(tmp_path, request_for):
    jobs = Jobs(tmp_path / "out")
    folder = wait(jobs.start(request_for(until="preprocess"))).folder
    page, name = folder.path / "report.html", folder.path.name
    made = page.stat().st_mtime_ns
    jobs.report(name)
    assert page.stat().st_mtime_ns == made
    folder.log("killed after this")
    jobs.report(name)
    assert page.stat().st_mtime_ns > made
    page.unlink()
    jobs.report(name)
    assert page.is_file()


def test_a_failure_is_told_and_the_next_job_is_served(tmp_path, request_for, monkeypatch):
    def broken(*_):
        raise ValueError("<b>no such thing</b>")

    monkeypatch.setattr(Describe, "work", broken)
    jobs = Jobs(tmp_path / "out")
    job = wait(jobs.start(request_for(until="caption")))
    assert job.state == "failed"
    assert "&lt;b&gt;no such thing" in progress(job)
    assert wait(jobs.start(request_for(until="preprocess"))).state == "done"


def test_a_run_that_another_process_holds_fails_alone(tmp_path, request_for):
    jobs = Jobs(tmp_path / "out")
    job = wait(jobs.start(request_for(until="preprocess")))
    with locked(job.folder.path):
        again = wait(jobs.resume(job.folder.path.name))
    assert again.state == "failed"
    assert "another process works in it" in str(again.error)


@pytest.mark.parametrize("name", ["..", "../elsewhere", "", "nothing", "link"])
def test_no_run_but_those_of_the_folder_is_found(tmp_path, request_for, name):
    elsewhere = Jobs(tmp_path / "elsewhere")
    folder = wait(elsewhere.start(request_for(until="preprocess"))).folder.path
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(folder)
    with pytest.raises(BadInput, match="no such run"):
        Jobs(out).find(name)


def test_bad_requests_are_refused_before_anything_is_made(tmp_path, request_for):
    jobs = Jobs(tmp_path / "out")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(BadInput):
        jobs.start(Request({"picture": tmp_path / "text.png"}, preset="draft"))
    assert jobs.names() == []
