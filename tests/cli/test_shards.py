"""Many runs by several processes on one folder: shares, claims, and a Ray cluster."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import forks
from conftest import call
from kiss3d_cli.cli.spread import with_address
from kiss3d_cli.pipeline.jobs import jobs_of
from kiss3d_cli.pipeline.launch import Request
from kiss3d_cli.pipeline.notices import FOLDER
from kiss3d_cli.pipeline.shards import CLAIMS, Shard, _Claimed, run_shard
from pictures import draw_figure

pytestmark = pytest.mark.timeout(1800)
QUICK = ("--preset", "draft", "--until", "preprocess", "--set", "preprocess.size=64")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures that differ, and one that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    figure = draw_figure(tmp_path / "figure.png").read_bytes()
    for number in range(5):  # bytes after a PNG's end belong to no part of it
        (folder / f"p{number}.png").write_bytes(figure + bytes([number]))
    (folder / "q.png").write_bytes(b"no picture")
    return folder


def process(pictures: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kiss3d_cli", "run", str(pictures), "--out", str(out), *QUICK, *options]
    return forks.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def runs(out: Path) -> list[str]:
    return sorted(path.parent.name.rpartition("-")[0].rpartition("-")[0] for path in out.glob("[!.]*/run.json"))


def test_two_processes_share_the_work_and_tell_the_same(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    both = [process(pictures, out, "--shard", f"{share}/2", "--json") for share in (1, 2)]
    told = []
    for one in both:
        text, said = one.communicate()
        assert one.returncode == 2, said
        assert "Traceback" not in said
        told.append({run["name"]: run["status"] for run in json.loads(text)["runs"]})
    assert runs(out) == ["p0", "p1", "p2", "p3", "p4"], "each is made once"
    for name in told[0]:
        states = sorted(one[name] for one in told)
        assert states == (["failed", "failed"] if name == "q" else ["done", "skipped"]), name
    table = (out / "runs.md").read_text(encoding="utf-8")
    assert table.count("| p") == 5 + 1, "five rows and the head"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f"p{number}" in page for number in range(5)), "one of them wrote the page of all runs"
    again = call("run", pictures, "--out", out, *QUICK, "--shard", "2/3", "--json")
    assert {run["status"] for run in again.json["runs"]} == {"skipped", "failed"}
    shutil.rmtree(next(out.glob("p3-*")))
    anew = call("run", pictures, "--out", out, *QUICK, "--shard", "2/3", "--json")
    assert {run["name"]: run["status"] for run in anew.json["runs"]}["p3"] == "done"
    assert runs(out) == ["p0", "p1", "p2", "p3", "p4"]


def test_what_a_killed_process_claimed_is_done_by_the_other(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = process(pictures, out, "--shard", "1/2")
    while not list(out.glob("[!.]*/run.json")):
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.communicate()
    answer = call("run", pictures, "--out", out, *QUICK, "--shard", "2/2", "--json")
    assert {run["name"]: run["status"] in ("done", "skipped") for run in answer.json["runs"]} == {
        **dict.fromkeys(["p0", "p1", "p2", "p3", "p4"], True),
        "q": False,
    }
    assert runs(out) == ["p0", "p1", "p2", "p3", "p4"], "nothing twice"


def test_every_share_has_all_jobs_in_an_order_of_its_own() -> None:
    for count in (1, 2, 3, 7):
        orders = [Shard(index, count).order(5) for index in range(count)]
        assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
        assert [order[0] for order in orders[:5]] == list(range(min(count, 5)))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1/999999999", "¹/2"])
def test_a_share_that_is_none(pictures: Path, tmp_path: Path, text: str) -> None:
    answer = call("run", pictures, "--out", tmp_path / "out", *QUICK, "--shard", text)
    assert answer.code == 2
    assert "--shard" in answer.err
    assert not (tmp_path / "out").exists()


def test_one_picture_is_not_spread(picture: Path, tmp_path: Path) -> None:
    for options in (("--shard", "1/2"), ("--ray",)):
        answer = call("run", picture, "--out", tmp_path / "out", *QUICK, *options)
        assert answer.code == 2
        assert "there is one run to do" in answer.err
    both = call("run", picture, picture, "--out", tmp_path / "out", *QUICK, "--shard", "1/2", "--ray", "auto")
    assert both.code == 2
    assert "--shard and --ray were both given" in both.err


def test_an_address_may_follow() -> None:
    assert with_address(["a", "--ray"]) == ["a", "--ray", "local"]
    assert with_address(["--ray", "folder/", "--json"]) == ["--ray", "local", "folder/", "--json"]
    for address in ("auto", "local", "ray://head:10001", "10.0.0.1:6379"):
        assert with_address(["--ray", address, "b"]) == ["--ray", address, "b"]
    assert with_address(["--", "--ray"]) == ["--", "--ray"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_is_named(pictures: Path, tmp_path: Path) -> None:
    answer = call("run", pictures, "--out", tmp_path / "out", *QUICK, "--ray")
    assert answer.code == 3
    assert "pip install 'kiss3d[ray]'" in answer.err


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_a_cluster_of_two_workers(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"""
import sys
from pathlib import Path
from kiss3d_cli.pipeline.cluster import run_on_cluster
from kiss3d_cli.pipeline.jobs import jobs_of
from kiss3d_cli.pipeline.launch import Request
if __name__ == "__main__":
    request = Request(preset="draft", until="preprocess", settings=("preprocess.size=64",))
    jobs, out = jobs_of([Path({str(pictures)!r})]), Path({str(out)!r})
    found = run_on_cluster(jobs, request, out, once=True, workers=2, processors=1)
    print(sorted((report.name, report.status == "failed") for report in found.reports))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == str([*((f"p{n}", False) for n in range(5)), ("q", True)])
    assert runs(out) == ["p0", "p1", "p2", "p3", "p4"]


def test_what_another_worker_has_done_is_told_and_not_looked_at(pictures: Path, tmp_path: Path) -> None:
    """A worker starts, another one does all; then the first finds nothing to look at but what can't be run."""
    out, requested = tmp_path / "out", Request(preset="draft", until="preprocess", settings=("preprocess.size=64",))
    jobs = jobs_of([pictures])
    out.mkdir()
    first = _Claimed(jobs, requested, out, once=True, announce=lambda _text: None, ended=lambda _run: None)
    told = run_shard(jobs, requested, out, Shard(1, 2), once=True)
    assert [report.status for report in told.reports] == [*["done"] * 5, "failed"]
    (notices,) = (out / CLAIMS / FOLDER).glob("*.jsonl")
    notices.write_bytes(b'{"command": 1}\nno JSON\n' + notices.read_bytes() + b'{"job": 5, "key"')  # a line is written
    first.hear()
    found = [report and (report.name, report.status, report.run_dir) for report in first.reports]
    assert found == [*((report.name, "skipped", report.run_dir) for report in told.reports[:5]), None]
    lines = notices.read_bytes().splitlines(keepends=True)
    for other in ({"settings": ("preprocess.size=80",)}, {"seed": 1}):
        deaf = _Claimed(jobs, dataclasses.replace(requested, **other), out, True, lambda _text: None, lambda _run: None)
        deaf._since = deaf._notices._since = first._since
        deaf.hear()
        assert set(deaf.reports) == {None}, "another command's"
    late = _Claimed(jobs, requested, out, once=True, announce=lambda _text: None, ended=lambda _run: None)
    late.hear()
    assert set(late.reports) == {None}, "told before it began"
    notices.write_bytes(b"".join(lines[2:7]).replace(b'"run": "', b'"run": "../../'))
    again = _Claimed(jobs, requested, out, once=True, announce=lambda _text: None, ended=lambda _run: None)
    again._since = again._notices._since = first._since
    again.hear()
    assert [report and report.run_dir for report in again.reports] == [
        *(report.run_dir for report in told.reports[:5]),
        None,
    ]
