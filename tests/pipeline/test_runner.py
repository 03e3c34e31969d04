from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import weakref

import pytest
import torch
import toy

from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.errors import BadInput, DamagedRun, OutOfMemory, RunInUse
from kiss3d_cli.core.manifest import MANIFEST
from kiss3d_cli.pipeline import batch, runner
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.run_folder import Absent, Complete, Damaged, RunFolder
from kiss3d_cli.pipeline.runner import StageFailure
from patience import PATIENCE
from sealing import edit

FIRST, SECOND, THIRD = toy.STAGES


def edit_manifest(folder, stage, **changes):
    edit(folder.folder(stage) / MANIFEST, lambda record: record.update(changes))


def test_a_run_leaves_every_stage_with_its_record(tmp_path):
    folder = toy.create(tmp_path)
    assert toy.statuses(toy.run(folder)) == ["done"] * 3
    assert (folder.path / "multiview" / "c.txt").read_text(encoding="utf-8") == "5\nPANDAPANDA"
    manifest = folder.inspect(THIRD).manifest
    assert (manifest.facts, manifest.warnings) == ({"parts": 2}, ("A toy.",))
    assert manifest.peak_rss_bytes > 10**6
    events = [
        json.loads(line)["event"] for line in (folder.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert events == ["plan"] + ["stage"] * 6 + ["finished"]
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "caption",
        "input.txt",
        "log.jsonl",
        "multiview",
        "preprocess",
        "run.json",
        "run.lock",
    ]


def test_a_second_run_does_nothing(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    before = toy.artifacts(folder)
    assert toy.statuses(toy.run(folder)) == ["skipped"] * 3
    assert toy.artifacts(folder) == before


def test_an_option_runs_again_just_what_depends_on_it(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    toy.configure(folder, refine={"steps": 3}, bundle={"steps": 7})
    outcomes = toy.run(folder)
    assert toy.statuses(outcomes) == ["skipped", "done", "done"]
    assert outcomes[1].reason == "refine.steps changed from 2 to 3"
    assert outcomes[2].reason == "caption changed"


def test_a_stage_after_one_that_came_out_the_same_is_skipped(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    toy.configure(folder, seed=7)  # the second stage reads the seed, its result does not depend on it
    assert toy.statuses(toy.run(folder)) == ["skipped", "done", "skipped"]


def test_until_and_from(tmp_path):
    folder = toy.create(tmp_path)
    assert toy.statuses(toy.run(folder, until="caption")) == ["done", "done", "later"]
    assert toy.statuses(toy.run(folder)) == ["skipped", "skipped", "done"]
    assert toy.statuses(toy.run(folder, force_from="caption")) == ["skipped", "done", "done"]
    with pytest.raises(BadInput, match="there is no stage 'colour'"):
        toy.run(folder, until="colour")


def test_a_newer_method_runs_again(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    edit_manifest(folder, SECOND, version=0, key="of-version-0")
    outcomes = toy.run(folder)
    assert outcomes[1].reason == "kiss3d's florence2 is newer (version 0 to 1)"
    assert toy.statuses(outcomes) == ["skipped", "done", "skipped"]


@pytest.mark.parametrize("how", ["edited", "truncated", "gone", "manifest cut", "manifest gone", "folder gone"])
def test_damage_is_noticed_and_made_good(tmp_path, how):
    folder = toy.create(tmp_path)
    toy.run(folder)
    before = toy.artifacts(folder)
    path, manifest = folder.folder(FIRST) / "a.txt", folder.folder(FIRST) / MANIFEST
    if how == "edited":
        path.write_text("PANDO")
    elif how == "truncated":
        path.write_text("PAN")
    elif how == "gone":
        path.unlink()
    elif how == "manifest cut":
        manifest.write_text(manifest.read_text(encoding="utf-8")[:99])
    elif how == "manifest gone":
        manifest.unlink()
    else:
        shutil.rmtree(folder.folder(FIRST))
    assert isinstance(folder.inspect(FIRST), Absent if how == "folder gone" else Damaged)
    assert toy.statuses(toy.run(folder)) == ["done", "skipped", "skipped"]
    assert toy.artifacts(folder) == before


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/passwd", "a/../../b", "C:\\secret", "..\\secret", ""])
def test_a_manifest_that_leads_outside_is_not_followed(tmp_path, name):
    folder = toy.create(tmp_path)
    toy.run(folder)
    edit_manifest(folder, FIRST, artifacts=[{"path": name, "bytes": 1, "sha256": "0"}])
    state = folder.inspect(FIRST)
    assert isinstance(state, Damaged)
    assert "leads outside the run folder" in state.what


def test_links_that_lead_outside_are_not_followed(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    outside = tmp_path / "outside"
    folder.folder(FIRST).rename(outside)
    folder.folder(FIRST).symlink_to(outside)
    assert isinstance(folder.inspect(FIRST), Damaged)
    toy.run(folder)
    assert (outside / "a.txt").exists(), "what a link points to is not ours to remove"
    second = folder.folder(SECOND) / "b.txt"
    (tmp_path / "b.txt").write_bytes(second.read_bytes())
    second.unlink()
    second.symlink_to(tmp_path / "b.txt")
    assert isinstance(folder.inspect(SECOND), Damaged)


def test_a_failed_stage_leaves_its_work_aside_and_resumes(tmp_path):
    folder = toy.create(tmp_path, seed=13)
    with pytest.raises(BadInput) as caught:
        toy.run(folder)
    assert caught.value.place == "stage caption"
    aside = folder.failed(SECOND)
    assert (aside / "half.txt").exists()
    assert (
        json.loads((aside / "error.json").read_text(encoding="utf-8"))["error"] == "stage caption: 13 brings bad luck"
    )
    assert folder.inspect(SECOND) == Absent("stage caption: 13 brings bad luck")
    toy.configure(folder, seed=1)
    assert toy.statuses(toy.run(folder)) == ["skipped", "done", "done"]
    assert not aside.exists()


def test_a_fault_of_our_own_keeps_its_traceback(tmp_path):
    folder = toy.create(tmp_path, seed=14)
    with pytest.raises(StageFailure) as caught:
        toy.run(folder)
    assert caught.value.exit_code == 1
    assert (
        "ZeroDivisionError"
        in json.loads((folder.failed(SECOND) / "error.json").read_text(encoding="utf-8"))["traceback"]
    )


def test_every_stage_is_told_the_memory_that_is_free_when_it_begins(tmp_path, monkeypatch):
    """The kernels of the stages before take some hundred MiB that were free when the run began."""
    free = iter([5, 4, 3])
    cuda = {
        "mem_get_info": lambda _device: (next(free) * 2**30, 12 * 2**30),
        "memory_reserved": lambda _device: 0,
        "memory_allocated": lambda _device: 0,
        "max_memory_allocated": lambda _device: 0,
        "reset_peak_memory_stats": lambda _device: None,
    }
    for name, function in cuda.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(batch.devices, "release", lambda _device, **_options: None)
    monkeypatch.setattr(toy, "CPU", DeviceInfo("cuda:0", "GPU", "test", 12 * 2**30, 12 * 2**30))
    monkeypatch.setattr(toy, "seen", [])
    toy.run(toy.create(tmp_path, device={"memory_limit": 4}))
    assert [machine.device.limit_bytes / 2**30 for machine in toy.seen] == [4, 4, 3]


@pytest.mark.parametrize("end", ["killed", "failed"])
def test_what_an_attempt_left_is_taken_up_beside_an_older_result(tmp_path, monkeypatch, end):
    """Steps of diffusion with another seed, say: the result of the first seed is whole all the while."""
    folder = toy.create(tmp_path)
    toy.run(folder)
    toy.configure(folder, seed=7)
    found = []

    def repeat(context, settings):
        found.append(sorted(path.name for path in context.scratch.iterdir()))
        (context.scratch / "steps").write_text("8")
        if len(found) == 1:
            raise RuntimeError("the power is off")
        toy_repeat(context, settings)

    toy_repeat = toy.repeat
    monkeypatch.setattr(toy, "repeat", repeat)
    if end == "killed":
        monkeypatch.setattr(runner, "_failed", lambda *_arguments: StageFailure("nothing is recorded"))
    with pytest.raises(StageFailure):
        toy.run(folder)
    assert toy.statuses(toy.run(folder)) == ["skipped", "done", "skipped"]
    assert found == [["key"], ["key", "steps"]]
    toy.configure(folder, seed=8)
    toy.run(folder)
    assert found[2] == ["key"], "of another seed"
    assert not folder.scratch(SECOND).exists()


def test_whoever_keeps_the_error_keeps_nothing_of_the_failed_work(tmp_path, monkeypatch):
    """The page's server keeps the error of every job; the networks it failed with would stay on the GPU."""
    gone = []

    def fail(_context, _settings):
        network = torch.nn.Linear(1, 1)
        weakref.finalize(network, gone.append, "network")

        def ask():  # a function holds what it closes over, and its call holds the function
            raise RuntimeError(f"CUDA out of memory in {network}")

        try:
            ask()
        except RuntimeError as error:
            raise OutOfMemory("out of memory in step 2") from error

    monkeypatch.setattr(toy, "repeat", fail)
    monkeypatch.setattr(batch.devices, "release", lambda _device, **_options: gone.append("released"))
    with pytest.raises(OutOfMemory, match="in step 2") as caught:
        toy.run(toy.create(tmp_path))
    assert gone == ["released", "network", "released"], "the first stage, then the second"
    assert caught.value.__traceback__ is not None


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    folder = toy.create(tmp_path)
    monkeypatch.setattr(toy, "repeat", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match="the disk is full") as caught:
        toy.run(folder)
    assert caught.value.exit_code == 3
    assert isinstance(folder.inspect(FIRST), Complete)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "truncated or not JSON"),
        ("[]", "no schema version"),
        ('{"schema_version": 99}', "knows up to 2"),
        ('{"schema_version": 1}', "not whole"),
    ],
)
def test_a_run_json_that_is_not_to_be_trusted(tmp_path, content, match):
    folder = toy.create(tmp_path)
    (folder.path / "run.json").write_text(content)
    with pytest.raises(DamagedRun, match=match) as caught:
        folder.record()
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("path", ["../given.txt", "/etc/passwd", "link.txt"])
def test_a_run_json_that_leads_outside(tmp_path, path):
    folder = toy.create(tmp_path)
    (folder.path / "link.txt").symlink_to(tmp_path / "given.txt")
    edit(folder.path / "run.json", lambda record: record["inputs"]["picture"].update(path=path))
    with pytest.raises(DamagedRun, match="leads outside the run folder"):
        folder.record()


def test_not_a_run_folder(tmp_path):
    with pytest.raises(BadInput, match="no such run folder"):
        RunFolder(tmp_path / "nothing").record()
    with pytest.raises(BadInput, match=r"no run\.json"):
        RunFolder(tmp_path).record()


def _hold(path, ready, done):
    with locked(path):
        ready.set()
        done.wait(PATIENCE)


def test_two_processes_on_one_run_folder(tmp_path):
    folder = toy.create(tmp_path)
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(folder.path, ready, done))
    other.start()
    try:
        assert ready.wait(PATIENCE)
        with pytest.raises(RunInUse, match=f"process {other.pid}") as caught, locked(folder.path):
            pass
        assert caught.value.exit_code == 6
    finally:
        done.set()
        other.join()
    with locked(folder.path):
        assert json.loads((folder.path / "run.lock").read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_undeclared_settings_can_not_be_read(tmp_path, monkeypatch):
    folder = toy.create(tmp_path)
    monkeypatch.setattr(toy.Upper, "work", lambda _self, settings, *_: settings.steps)
    with pytest.raises(StageFailure, match="AttributeError"):
        toy.run(folder)
