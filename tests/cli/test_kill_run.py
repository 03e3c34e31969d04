"""The real pipeline, killed with SIGKILL in the middle of its writes and resumed.

`tests/pipeline/test_kill.py` goes through every write of the runner with stages of no cost; here it is the real stages,
at a few writes spread over the run, and at every one of them with `-m slow`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_run import hashes

import forks
from inject_errors import SMALL as SMALLEST
from pictures import SMALL

NURSERY = """
import json, os, sys
sys.path.insert(0, {scripts!r})
from killing import die_at_write
from kiss3d_cli.cli.app import app
import cv2, fast_simplification, scipy.sparse.csgraph, scipy.spatial, torch, trimesh
from kiss3d_cli.geometry.refine import isomer
from kiss3d_cli.pipeline import launch
for line in sys.stdin:
    root, boundary, arguments = json.loads(line)
    if (child := os.fork()) == 0:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        seen = [0]
        die_at_write(root, boundary, seen)
        app(arguments, standalone_mode=False)
        with open(root + ".writes", "w") as file:
            file.write(str(seen[0]))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def run_in_fork(tmp_path, picture):
    """Runs that are killed at a write, in forks of a process that has imported everything: half the time."""
    code = NURSERY.format(scripts=str(Path(__file__).parents[2] / "scripts"))
    process = forks.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    options = [part for setting in SMALLEST for part in ("--set", setting)]

    def run(out: Path, boundary: int) -> int:
        arguments = ["run", str(picture), "--preset", "draft", "--out", str(out), *options]
        print(json.dumps([str(out), boundary, arguments]), file=process.stdin, flush=True)
        return int(process.stdout.readline())

    yield run
    process.stdin.close()
    process.stdout.close()
    process.wait()


def kill_and_resume(kiss3d, tmp_path, run_in_fork, boundaries_of) -> None:
    whole = tmp_path / "whole"
    assert run_in_fork(whole, 0) == 0
    expected = hashes(next(whole.glob("*/run.json")).parent)
    count = int(whole.with_name("whole.writes").read_text(encoding="ascii"))
    assert count > 80
    for boundary in boundaries_of(count):
        out = tmp_path / f"kill-{boundary}"
        assert run_in_fork(out, boundary) == -9, f"write {boundary} was not reached"
        folders = [path.parent for path in out.glob("[!.]*/run.json")]
        if folders:  # else killed before the run folder came to its place: nothing to resume, and no half of one
            answer = kiss3d("resume", folders[0], "--json")
            assert answer.code == 0, answer.err
            assert hashes(folders[0]) == expected, f"another result after a kill at write {boundary}"
        shutil.rmtree(out, ignore_errors=True)


def test_killed_at_writes_spread_over_the_run(kiss3d, tmp_path, run_in_fork):
    kill_and_resume(kiss3d, tmp_path, run_in_fork, lambda count: [round(count * s) for s in (0.3, 0.9)])


@pytest.mark.slow
@pytest.mark.timeout(12 * 3600)
def test_killed_at_every_write(kiss3d, tmp_path, run_in_fork):
    kill_and_resume(kiss3d, tmp_path, run_in_fork, lambda count: range(1, count + 1))


def test_the_same_result_on_one_thread_and_on_two(tmp_path, picture, finished_run):
    threads = 1 if torch.get_num_threads() > 1 else 2  # the finished run has been made on as many as there are here
    options = [part for setting in SMALL for part in ("--set", setting)]
    arguments = ["run", str(picture), "--preset", "draft", "--out", str(tmp_path), *options]
    code = f"import torch; torch.set_num_threads({threads})\nfrom kiss3d_cli.cli.app import app\napp({arguments!r})"
    environment = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, check=True, capture_output=True)
    assert hashes(next(tmp_path.glob("*/run.json")).parent) == hashes(finished_run["run_dir"])
