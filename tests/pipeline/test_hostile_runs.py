"""Run folders from elsewhere: nothing outside them is touched, and each says what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import toy

from crafted import crafted
from kiss3d_cli.core.errors import BadInput, DamagedRun, Kiss3dError, from_exception
from kiss3d_cli.core.manifest import MANIFEST
from kiss3d_cli.pipeline.run_folder import Complete, Damaged, RunFolder, find_runs
from sealing import edit, unseal

FIRST, SECOND, THIRD = toy.STAGES
NAMES = ("run.json", "run.lock", "log.jsonl", ".run.json.partial", ".manifest.json.partial", "run.lock.holder")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["symbolic", "hard", "pipe"])
@pytest.mark.parametrize("name", NAMES)
def test_a_planted_link_destroys_nothing(tmp_path, name, kind):
    """Four files outside were overwritten by a resume that ended well."""
    folder = toy.create(tmp_path)
    toy.run(folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    path = folder.path / name
    (outside / "victim").write_bytes(path.read_bytes() if path.exists() else b"mine")
    path.unlink(missing_ok=True)
    if kind == "symbolic":
        path.symlink_to(outside / "victim")
    elif kind == "hard":
        path.hardlink_to(outside / "victim")
    else:
        os.mkfifo(path)
    before = snapshot(outside)
    fault: BaseException | None = None
    try:
        toy.configure(folder, refine={"steps": 3})
        toy.run(folder)
    except (Kiss3dError, OSError) as error:
        fault = error
    assert (fault is not None) == (name in ("run.json", "run.lock", "log.jsonl"))
    assert fault is None or from_exception(fault).exit_code == 5
    assert snapshot(outside) == before


@pytest.mark.parametrize("place", ["partial", "failed", "scratch", "_old", "folder"])
def test_a_stage_folder_that_is_a_link_is_not_written_through(tmp_path, place):
    folder = toy.create(tmp_path)
    toy.run(folder)
    outside = tmp_path / "outside"
    shutil.copytree(folder.folder(SECOND), outside)
    (outside / "key").write_text("the key of some attempt")
    for stage in (SECOND, THIRD):
        link = getattr(folder, place)(stage)
        if link.exists():
            shutil.rmtree(link)
        link.symlink_to(outside)
    before = snapshot(outside)
    toy.configure(folder, refine={"steps": 3})
    toy.run(folder)
    assert snapshot(outside) == before
    assert all(isinstance(folder.inspect(stage), Complete) for stage in toy.STAGES)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("name", [MANIFEST, "a.txt"])
def test_a_linked_record_or_artifact_is_damage(tmp_path, name, kind):
    folder = toy.create(tmp_path)
    toy.run(folder)
    path = folder.folder(FIRST) / name
    shutil.copyfile(path, tmp_path / "copy")
    path.unlink()
    path.symlink_to(tmp_path / "copy") if kind == "symbolic" else path.hardlink_to(tmp_path / "copy")
    assert isinstance(folder.inspect(FIRST), Damaged)
    assert toy.statuses(toy.run(folder)) == ["done", "skipped", "skipped"]
    assert isinstance(folder.inspect(FIRST), Complete)


def test_yesterdays_folder_is_read_and_becomes_todays(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    for path in (folder.path / "run.json", *(folder.folder(stage) / MANIFEST for stage in toy.STAGES)):
        unseal(path)
    assert toy.statuses(toy.run(folder)) == ["skipped"] * 3
    folder.rewrite(folder.record())
    assert json.loads((folder.path / "run.json").read_text(encoding="utf-8"))["checksum"]
    toy.configure(folder, refine={"steps": 3})
    assert toy.statuses(toy.run(folder)) == ["skipped", "done", "done"]


def test_a_flipped_setting_is_damage_and_not_a_wish(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    path = folder.path / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"steps": 2', '"steps": 3'))
    with pytest.raises(DamagedRun, match="checksum") as caught:
        folder.record()
    assert caught.value.exit_code == 5


def test_crafted_run_records(tmp_path):
    folder = toy.create(tmp_path)
    record = json.loads((folder.path / "run.json").read_text(encoding="utf-8"))
    count = longest = 0
    for name, data in crafted(record):
        (folder.path / "run.json").write_bytes(data)
        count += 1
        try:
            found = folder.record()
        except (DamagedRun, BadInput) as error:
            longest = max(longest, len(str(error)))
            continue
        assert isinstance(found.name, str), name
        folder.rewrite(found)
        assert RunFolder(folder.path).record() == found, name
        assert [run.path for run in find_runs(folder.path.parent)] == [folder.path]
    assert count > 200
    assert longest < 3000


def test_crafted_manifests(tmp_path):
    folder = toy.create(tmp_path)
    toy.run(folder)
    path = folder.folder(FIRST) / MANIFEST
    whole = path.read_bytes()
    count = 0
    for name, data in crafted(json.loads(whole)):
        path.write_bytes(data)
        count += 1
        state = folder.inspect(FIRST)
        assert isinstance(state, Damaged | Complete), name
        if isinstance(state, Damaged):
            assert len(state.what) < 3000, name
    assert count > 200
    assert toy.statuses(toy.run(folder)) == ["done", "skipped", "skipped"]


@pytest.mark.parametrize(
    "name",
    ["nul", "a/NUL.txt", "con ", "a.", "a ", "a:b", "c:", "a\x00b", "a\nb", "/a", "a//b", "./a", "x" * 500, "a\\b"],
)
def test_names_that_are_no_plain_paths_on_some_system(tmp_path, name):
    folder = toy.create(tmp_path)
    toy.run(folder)
    edit(folder.folder(FIRST) / MANIFEST, lambda r: r.update(artifacts=[{"path": name, "bytes": 1, "sha256": "0"}]))
    assert "leads outside" in folder.inspect(FIRST).what


def test_runs_of_one_name_made_at_once(tmp_path):
    """Two creations of one name ended in a traceback."""
    made, faults = [], []
    start = threading.Barrier(8)

    def make(number):
        place = tmp_path / str(number)
        place.mkdir()
        start.wait()
        try:
            made.extend(toy.create(place, runs=tmp_path / "runs").path for _ in range(4))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(set(made)) == len(made) == 32
    assert {run.path for run in find_runs(tmp_path / "runs")} == set(made)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(path.name for path in made)


@pytest.mark.parametrize("text", ["\udcff\udcfe", "ü" * 300, "日本" * 200, "..", "a/b", "con", "x" * 300, "\x1b[2J"])
def test_names_of_every_kind_become_folders(tmp_path, text):
    from kiss3d_cli.pipeline.run_folder import run_name

    name = run_name(text)
    (tmp_path / f".{name}-20250101-120000-01234567.partial").mkdir()
    assert len(name.encode()) <= 120


def test_a_picture_whose_name_is_not_utf8(tmp_path):
    source = os.fsdecode(b"p\xff.png")
    try:
        (tmp_path / source).write_text("panda")
    except OSError:
        pytest.skip("this file system has no such names")
    folder = toy.create(tmp_path, picture=tmp_path / source)
    assert folder.record().inputs["picture"].source.endswith("p\\udcff.png")
    assert toy.statuses(toy.run(folder)) == ["done"] * 3
