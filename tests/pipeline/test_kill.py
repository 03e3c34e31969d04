"""A run is killed at every write boundary and resumed: it must end as if nothing had happened."""

from __future__ import annotations

import os
import shutil

import toy

from killing import die_at_write
from kiss3d_cli.pipeline.run_folder import Complete, Damaged, RunFolder


def _run_and_die(folder: RunFolder, boundary: int, stages, run) -> int:
    """Run in a child that kills itself at one write; returns its wait status."""
    child = os.fork()
    if child == 0:
        try:
            die_at_write(str(folder.path), boundary, [0])
            run(folder, stages)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def kill_everywhere(make, run, stages, tmp_path) -> int:
    """Kill fresh runs at write 1, 2, 3, ..., resume each, compare with an undisturbed run."""
    undisturbed = make(tmp_path / "undisturbed")
    run(undisturbed, stages)
    expected = toy.artifacts(undisturbed, stages)
    killed = 0
    for boundary in range(1, 10_000):
        place = tmp_path / f"kill-{boundary}"
        folder = make(place)
        status = _run_and_die(folder, boundary, stages, run)
        if not os.WIFSIGNALED(status):
            break
        killed += 1
        states = {stage.name: folder.inspect(stage) for stage in stages}
        assert not any(isinstance(state, Damaged) for state in states.values()), f"half a stage after kill {boundary}"
        whole = {name for name, state in states.items() if isinstance(state, Complete)}
        outcomes = run(folder, stages)
        again = {outcome.stage for outcome in outcomes if outcome.status == "done"}
        assert not again & whole, f"finished stages ran again after a kill at write {boundary}: {again & whole}"
        assert toy.artifacts(folder, stages) == expected, f"another result after a kill at write {boundary}"
        leftovers = [path.name for path in folder.path.iterdir() if path.name.startswith(".")]
        assert not leftovers, f"left behind after a kill at write {boundary}: {leftovers}"
        shutil.rmtree(place)
    return killed


def _make(parent):
    parent.mkdir()
    return toy.create(parent)


def test_killed_at_every_write_of_a_new_run(tmp_path):
    assert kill_everywhere(_make, toy.run, toy.STAGES, tmp_path) > 30


def _make_stale(parent):
    parent.mkdir()
    folder = toy.create(parent)
    toy.run(folder)
    toy.configure(folder, refine={"steps": 5})
    return folder


def test_killed_at_every_write_of_a_resumed_run_that_replaces_stages(tmp_path):
    """Old and new results trade places here: the moments between the renames are the dangerous ones."""
    undisturbed = _make_stale(tmp_path / "undisturbed")
    old = toy.artifacts(undisturbed)
    toy.run(undisturbed)
    new = toy.artifacts(undisturbed)
    assert old != new
    boundary, killed = 0, 0
    while True:
        boundary += 1
        folder = _make_stale(tmp_path / f"kill-{boundary}")
        status = _run_and_die(folder, boundary, toy.STAGES, toy.run)
        if not os.WIFSIGNALED(status):
            break
        killed += 1
        for stage in toy.STAGES:
            state = folder.inspect(stage)
            hashes = {f"{stage.name}/{artifact.path}": artifact.sha256 for artifact in state.manifest.artifacts}
            assert all(hashes[name] in (old[name], new[name]) for name in hashes)
        toy.run(folder)
        assert toy.artifacts(folder) == new
    assert killed > 30
