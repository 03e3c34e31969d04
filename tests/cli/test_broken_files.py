"""Every file of a full set of weights, broken in every way: each command says which file and what to type, and starts
nothing.

The suite breaks each file once, in ways that take turns; `-m slow` breaks each in all ways.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from breaking import Way, ways
from conftest import Answer, call
from kiss3d_cli.models.store.locate import needed_files
from kiss3d_cli.models.store.registry import lookup
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.requirements import needed_models
from pictures import draw_figure

LEAST = 10
"""Ways to break a file, of those that a network's loader may not do without."""
OTHERS = {
    ".safetensors": (
        "LTT/Kiss3DGen/rgb_normal.safetensors",
        "sudo-ai/zero123plus-v1.2/vae/diffusion_pytorch_model.safetensors",
    ),
    ".ckpt": ("LTT/PRM/final_ckpt.ckpt", "LTT/Kiss3DGen/flexgen.ckpt"),
    ".json": ("florence-community/Florence-2-large/config.json", "openai/clip-vit-large-patch14/tokenizer.json"),
    ".onnx": ("LTT/PRM/final_ckpt.ckpt",),
    ".txt": ("florence-community/Florence-2-large/merges.txt", "sudo-ai/zero123plus-v1.2/tokenizer/merges.txt"),
}
"""Files of one kind; the first that lies in another folder is put in a file's place."""


@pytest.fixture(scope="module")
def root(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tiny_models, tmp_path_factory.mktemp("broken") / "models"))


@pytest.fixture(scope="module")
def opaque(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that has to be cut out, so that IS-Net is needed too."""
    return draw_figure(tmp_path_factory.mktemp("opaque") / "opaque.png", "RGB")


def files(root: Path, preset: str) -> list[tuple[str, Path]]:
    """Every file that a preset can't do without, each once, with its model."""
    found: dict[Path, str] = {}
    for name in needed_models(configuration.load(configuration.preset_layer(preset))):
        model = lookup(name)
        for file in needed_files(model, root / model.repository):
            if file in model.files or name == "flux-schnell":
                found.setdefault(root / model.repository / file, name)
    return [(name, path) for path, name in found.items()]


def ways_of(path: Path, root: Path) -> list[tuple[str, Way]]:
    folder = path.relative_to(root).parts[:2]
    other = next(name for name in OTHERS[path.suffix] if Path(name).parts[:2] != folder)
    return list(ways(path, root / other))


@contextlib.contextmanager
def broken(path: Path, break_it: Way) -> Iterator[None]:
    content = path.read_bytes()
    break_it(path)
    try:
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def run(picture: Path, root: Path, out: Path, preset: str = "12gb") -> Answer:
    settings = ("--set", f"models.root={root}", "--set", "device.name=cpu")
    return call("run", picture, "--preset", preset, "--out", out, *settings)


def complaints(answer: Answer, model: str, path: Path, root: Path, out: Path) -> list[str]:
    """What is wrong with an answer to a broken file."""
    said = " ".join(answer.err.split())
    gone = "are not on this machine" in said  # the only file of a model: there is no folder to name it in
    names = [path.name, *lookup(model).files]  # a file that may have any name is named by its pattern
    named = any(f"{name} of {lookup(model).repository}" in said for name in names) if gone else str(path) in said
    expected = {
        f"exit code {answer.code}": answer.code == 3,
        "no file is named": named,
        "it says not what it is": gone or re.search(rf"{re.escape(str(path))} \([^)]*{model}[^)]*\): \S+ \w+", said),
        "no command": model in said.partition("kiss3d models pull ")[2].partition("--root")[0],
        "another folder of weights": f"--root {root}" in said,
        "more than one message": said.count("kiss3d: ") == 1,
        "something was started": not out.exists(),
        "a traceback": "Traceback" not in answer.err,
    }
    return [what for what, right in expected.items() if not right]


def test_a_broken_file_starts_no_run(root: Path, opaque: Path, tmp_path: Path) -> None:
    out, wrong, used = tmp_path / "runs", [], set()
    for number, (model, path) in enumerate(files(root, "12gb")):
        every = ways_of(path, root)
        assert len(every) >= LEAST or path.suffix in (".txt", ".onnx")
        way, break_it = every[number % len(every)]
        used.add(way.split()[0])
        with broken(path, break_it):
            found = complaints(run(opaque, root, out), model, path, root, out)
        wrong += [f"{path.relative_to(root)}, {way}: {what}" for what in found]
    assert wrong == []
    assert len(used) >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["12gb", "fast"])
def test_a_file_broken_in_any_way_starts_no_run(root: Path, opaque: Path, tmp_path: Path, preset: str) -> None:
    out, wrong = tmp_path / "runs", []
    for model, path in files(root, preset):
        for way, break_it in ways_of(path, root):
            with broken(path, break_it):
                found = complaints(run(opaque, root, out, preset), model, path, root, out)
            wrong += [f"{path.relative_to(root)}, {way}: {what}" for what in found]
    assert wrong == []


def test_every_command_says_the_same_of_the_same_files(root: Path, opaque: Path, tmp_path: Path) -> None:
    settings = ("--set", f"models.root={root}", "--set", "device.name=cpu")
    begun = call("run", opaque, "--preset", "12gb", "--out", tmp_path, "--until", "preprocess", "--json", *settings)
    folder = Path(begun.json["run_dir"])
    stages = sorted(path.name for path in folder.iterdir() if path.is_dir())
    chosen = {
        "flux-controlnet": (
            root / "InstantX/FLUX.1-dev-Controlnet-Union/diffusion_pytorch_model.safetensors",
            "Git LFS",
        ),
        "zero123plus": (root / "sudo-ai/zero123plus-v1.2/unet/config.json", "HTML"),
        "prm": (root / "LTT/PRM/final_ckpt.ckpt", "of another dtype"),
        "t5-tokenizer": (root / "google-t5/t5-small/tokenizer.json", "of another model"),
    }
    with contextlib.ExitStack() as stack:
        for path, start in chosen.values():
            stack.enter_context(broken(path, next(do for way, do in ways_of(path, root) if way.startswith(start))))
        resumed = call("resume", folder)
        verified = call("models", "verify", *chosen, "--root", root)
        rows = json.loads(call("doctor", "--quick", "--json", "--root", root).out)["models"]
    told = {row["name"]: row["faults"] for row in rows if row["faults"]}
    assert (resumed.code, verified.code) == (3, 3)
    assert sorted(told) == sorted(chosen)
    for model, (path, _way) in chosen.items():
        (fault,) = told[model]
        assert fault["file"] == str(path)
        for answer in (resumed, verified):
            assert f"{path}" in answer.err
            assert fault["what"] in answer.err
    command = f"kiss3d models pull {' '.join(sorted(chosen))}"
    assert f"{command} --root {root}" in verified.err
    assert all(model in resumed.err.partition("kiss3d models pull ")[2] for model in chosen)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == stages, "nothing was started"
