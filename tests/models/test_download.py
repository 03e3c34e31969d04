"""Getting models from a hub on this machine, with the real client and the real command."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_hub import serving

import forks
from cli.conftest import call
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.models.store.download import Download, fetch, plan_downloads
from kiss3d_cli.models.store.locate import find
from kiss3d_cli.models.store.registry import lookup
from kiss3d_cli.models.store.verify import verify

FLORENCE = "florence-community/Florence-2-large"
CODE = "from kiss3d_cli.cli.app import main; main()"
WEIGHTS = os.urandom(300_000)


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def hub():
    with serving() as server:
        server.files[FLORENCE] = {
            "config.json": b"{}",
            "model.safetensors": WEIGHTS,
            "tokenizer.json": b'{"a": 1}',
            "README.md": b"not needed",
            "pytorch_model.bin": b"a pickle, not wanted",
        }
        yield server


@pytest.fixture
def here(hub, monkeypatch):
    """The hub, for the client in this process."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    return hub


@pytest.fixture
def kiss3d(hub, tmp_path):
    """The command in a process of its own: the client reads the environment when it is imported."""

    def run(*arguments: object, **environment: str) -> Said:
        settings = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "NO_COLOR": "1"}
        command = [sys.executable, "-c", CODE, "models", *(str(argument) for argument in arguments)]
        done = forks.run(
            command,
            env={**settings, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run


def test_pull_into_hf_home_then_list_and_verify(kiss3d, here, tmp_path, monkeypatch):
    from huggingface_hub import constants

    pulled = kiss3d("pull", "florence2")
    assert pulled.code == 0, pulled.err
    shown = pulled.err.index("MIT (commercial use allowed)")
    assert shown < pulled.err.index("GB in all") < pulled.err.index("florence2: done")
    (folder,) = (tmp_path / "home" / "hub").glob("models--florence-community*/snapshots/*")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    offline = kiss3d("list", HF_HUB_OFFLINE="1")
    assert "florence2        here" in offline.out
    assert "zero123plus      not here" in offline.out
    (folder / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1] + b"?")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    template = here.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # in this process, in which other tests have imported transformers: four seconds
    broken = call("models", "verify")
    assert broken.code == 3
    assert "its content is not the published one" in broken.err
    assert "kiss3d models pull --contents florence2" in broken.err
    blob = (folder / "model.safetensors").resolve()
    repaired = call("models", "verify", "florence2", "--repair")
    assert "its content is not the published one; it is replaced" in repaired.err
    assert "florence2: repaired" in repaired.err
    assert "not the published one" not in repaired.out
    assert blob.read_bytes() == (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_breaks_off_goes_on_where_it_stopped(kiss3d, hub, tmp_path):
    whole = WEIGHTS * 40  # the client writes 10 MB at a time
    hub.files[FLORENCE]["model.safetensors"] = whole
    hub.cut = len(whole) - 1000
    pulled = kiss3d("pull", "florence2", "--root", tmp_path / "root")
    if pulled.code != 0:  # a client that does not try again itself
        assert "goes on where it stopped" in pulled.err
        pulled = kiss3d("pull", "florence2", "--root", tmp_path / "root")
    assert pulled.code == 0, pulled.err
    assert hub.cut is None, "the connection was never cut"
    assert any(int(span.removeprefix("bytes=").partition("-")[0]) > 0 for span in hub.ranges)
    assert (tmp_path / "root" / FLORENCE / "model.safetensors").read_bytes() == whole
    located = find(lookup("florence2"), tmp_path / "root")
    assert located is not None
    assert located.path == tmp_path / "root" / FLORENCE
    told = {checked.path.name for checked in verify(lookup("florence2"), tmp_path / "root")}
    assert told >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_nothing_is_downloaded_twice(here, tiny_models, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(tiny_models / FLORENCE, root / FLORENCE)
    answer = call("models", "pull", "florence2", "--root", root)
    assert answer.code == 0
    assert "nothing to download" in answer.err


def test_every_fault_is_told_before_the_first_byte(here, tmp_path):
    here.files["LTT/PRM"] = {"other.ckpt": b"1"}
    here.files["black-forest-labs/FLUX.1-Redux-dev"] = {"config.json": b"{}"}
    here.gated.add("black-forest-labs/FLUX.1-Redux-dev")
    answer = call("models", "pull", "florence2", "prm", "flux-redux", "qwen/misspelt", "--root", tmp_path / "root")
    assert answer.code == 3
    for part in (
        "LTT/PRM: it has no file final_ckpt.ckpt",
        "black-forest-labs/FLUX.1-Redux-dev: its terms are not accepted",
        "https://huggingface.co/black-forest-labs/FLUX.1-Redux-dev",
        "hf auth login",
        f"qwen/misspelt: there is no such repository at {here.url}",
        "check its spelling",
    ):
        assert part in answer.err
    assert FLORENCE not in answer.err
    assert not (tmp_path / "root").exists()


def test_an_accepted_gate_is_open(here):
    here.files["black-forest-labs/FLUX.1-Redux-dev"] = dict.fromkeys(lookup("flux-redux").files, b"12")
    (download,) = plan_downloads([lookup("flux-redux")])
    assert set(download.files) == set(lookup("flux-redux").files)
    assert download.bytes == 6


def test_no_network(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    answer = call("models", "pull", "florence2", "--root", tmp_path)
    assert answer.code == 3
    assert "http://127.0.0.1:9 can't be reached" in answer.err
    assert "HF_ENDPOINT" in answer.err
    assert "Traceback" not in answer.err


def test_offline_mode(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2net"))
    answer = call("models", "pull", "florence2", "isnet")
    assert answer.code == 3
    assert answer.err.count("offline mode is on") == 2
    assert "HF_HUB_OFFLINE" in answer.err
    assert str(tmp_path / "u2net") in answer.err


@pytest.mark.parametrize("free", [2**30, 2**30 + 299_999])
def test_no_space(here, monkeypatch, tmp_path, free):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=free))
    answer = call("models", "pull", "florence2", "--root", tmp_path / "a" / "b")
    assert answer.code == 3
    assert str(tmp_path) in answer.err
    assert "1.1 GB are free" in answer.err
    assert "HF_HOME" in answer.err
    assert not (tmp_path / "a").exists()


def test_space_that_is_enough(here, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2**30 + 300_020))
    assert plan_downloads([lookup("florence2")], tmp_path)[0].bytes == len(WEIGHTS) + 10


def test_two_folders_of_one_disk_share_what_is_free(here, monkeypatch, tmp_path):
    """Each was compared with all that is free."""
    here.files["LTT/PRM"] = {"final_ckpt.ckpt": WEIGHTS}
    models = [lookup("florence2"), lookup("prm")]
    for model in models:
        (tmp_path / model.repository).mkdir(parents=True)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2**30 + 2 * len(WEIGHTS) + 10))
    with pytest.raises(Missing, match="are free"):
        plan_downloads(models, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2**30 + 3 * len(WEIGHTS) + 10))
    assert len(plan_downloads(models, tmp_path)) == 2


def test_space_for_a_pickle_and_for_what_it_is_converted_to(here, monkeypatch, tmp_path):
    here.files["LTT/PRM"] = {"final_ckpt.ckpt": WEIGHTS}
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2**30 + 2 * len(WEIGHTS) - 1))
    with pytest.raises(Missing, match="are free"):
        plan_downloads([lookup("prm")], tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2**30 + 2 * len(WEIGHTS)))
    assert plan_downloads([lookup("prm")], tmp_path)[0].bytes == len(WEIGHTS)


def test_the_disk_fills_up(monkeypatch, tmp_path):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(Missing, match="No space left on device") as caught:
        fetch(Download(lookup("florence2"), {"config.json": 2}, tmp_path))
    assert "goes on where it stopped" in caught.value.hint


@pytest.mark.parametrize("name", ["qwen", "a/b/c", "/x", "x/", ""])
def test_a_name_that_is_no_model(name):
    with pytest.raises(BadInput, match="there is no model") as caught:
        lookup(name)
    assert "florence2" in caught.value.hint


@pytest.fixture
def isnet(hub):
    """IS-Net's entry, but on this machine."""
    data = os.urandom(250_000)
    hub.files["releases/v0"] = {"isnet-general-use.onnx": data}
    digest = hashlib.sha256(data).hexdigest()
    return data, dataclasses.replace(
        lookup("isnet"), url=f"{hub.url}/releases/v0/", sha256={"isnet-general-use.onnx": digest}
    )


def test_a_file_that_is_not_on_the_hub(hub, isnet, tmp_path, monkeypatch):
    data, model = isnet
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2net"))
    assert find(model) is None
    (download,) = plan_downloads([model])
    assert download.folder == tmp_path / "u2net"
    hub.cut = 60_000
    with pytest.raises(Missing, match="broke off") as caught:
        fetch(download)
    assert "goes on where it stopped" in caught.value.hint
    begun = tmp_path / "u2net" / "isnet-general-use.onnx.partial"
    assert 0 < begun.stat().st_size <= 60_000
    assert find(model) is None
    seen = []
    fetch(download, lambda name, done, size: seen.append((name, done, size)))
    assert hub.ranges == [f"bytes={60_000}-"]
    assert seen[-1] == ("isnet-general-use.onnx", 250_000, 250_000)
    located = find(model)
    assert located is not None
    assert (located.path / "isnet-general-use.onnx").read_bytes() == data
    assert not begun.exists()
    assert [(checked.how, checked.fault) for checked in verify(model)] == [("hash", None)]
    hub.files.clear()
    fetch(download)


def test_a_file_with_another_hash_is_refused(isnet, tmp_path):
    _, model = isnet
    wrong = dataclasses.replace(model, sha256={"isnet-general-use.onnx": "0" * 64})
    (download,) = plan_downloads([wrong], tmp_path)
    with pytest.raises(Missing, match="not the published one"):
        fetch(download)
    assert list((tmp_path / model.repository).iterdir()) == []


def test_a_file_that_is_gone(isnet, hub, tmp_path):
    _, model = isnet
    hub.files.clear()
    with pytest.raises(Missing, match="answered 404") as caught:
        plan_downloads([model], tmp_path)
    assert f"{hub.url}/releases/v0/isnet-general-use.onnx" in caught.value.cause


def test_what_a_preset_needs_can_be_pulled_by_its_name(tiny_models):
    answer = call("models", "pull", "draft", "--root", tiny_models)
    assert "nothing to download" in answer.err


def test_the_tiny_models_verify_and_their_damage_is_found(tiny_models, tmp_path):
    root = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    assert call("models", "verify", "florence2", "zero123plus", "flexgen", "prm", "--root", root).code == 0
    safetensors = root / FLORENCE / "model.safetensors"
    safetensors.write_bytes(safetensors.read_bytes()[:-10])
    checkpoint = root / "LTT" / "Kiss3DGen" / "flexgen.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    (root / "sudo-ai" / "zero123plus-v1.2" / "model_index.json").write_text("{")
    answer = call("models", "verify", "florence2", "zero123plus", "flexgen", "prm", "--root", root, "--json")
    assert answer.code == 3
    faults = {Path(row["file"]).name: row["fault"] for row in answer.json["files"] if row["fault"]}
    assert set(faults) == {"model.safetensors", "flexgen.ckpt", "model_index.json"}
    assert "cut short: it has" in faults["model.safetensors"]
    assert "cut short" in faults["flexgen.ckpt"]
    assert f"kiss3d models pull flexgen florence2 zero123plus --root {root}" in answer.err


@pytest.mark.parametrize(
    "data", [b"", b"1234567", b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"{]", b"\x02" + b"\0" * 7 + b"[]"]
)
def test_no_safetensors_at_all(tmp_path, data):
    folder = tmp_path / FLORENCE
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(data)
    faults = {checked.path.name: checked.fault for checked in verify(lookup("florence2"), tmp_path)}
    assert faults.pop("model.safetensors") is not None
    assert set(faults.values()) == {"there is no such file"}


def test_a_sharded_model_is_whole_only_with_all_its_parts(tmp_path):
    model = lookup("owner/chat")
    folder = tmp_path / "owner" / "chat"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    (folder / "1.safetensors").write_bytes(b"1")
    assert find(model, tmp_path) is None
    (folder / "2.safetensors").write_bytes(b"1")
    located = find(model, tmp_path)
    assert located is not None
    (folder / "2.safetensors").write_bytes(b"22")
    changed = find(model, tmp_path)
    assert changed is not None
    assert changed.identity != located.identity
