"""Every file that a method opens is looked at before any work, and every way to break one is told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from breaking import add_tensor, takes_no_extra, ways
from kiss3d_cli.models.store import preflight
from kiss3d_cli.models.store.locate import needed_files
from kiss3d_cli.models.store.preflight import Fault, Findings, check_whole
from kiss3d_cli.models.store.registry import lookup, models, network_of

CHAT = "Qwen/Qwen2-7B-Instruct"
NAMES = (*models(), CHAT)
VAE = "sudo-ai/zero123plus-v1.2/vae/diffusion_pytorch_model.safetensors"
LORA = "LTT/Kiss3DGen/rgb_normal.safetensors"
CONFIG, TOKENIZER = "florence-community/Florence-2-large/config.json", "openai/clip-vit-large-patch14/tokenizer.json"
ELSEWHERE = {
    ".safetensors": (VAE, LORA),
    ".ckpt": ("LTT/PRM/final_ckpt.ckpt", "LTT/Kiss3DGen/flexgen.ckpt"),
    ".json": (CONFIG, TOKENIZER),
    ".onnx": ("LTT/PRM/final_ckpt.ckpt",),
    ".txt": ("florence-community/Florence-2-large/merges.txt", "Qwen/Qwen2-7B-Instruct/merges.txt"),
}
"""Files of one kind; the first that lies in another folder is what is put in a file's place."""
HARMLESS = ("missing", "of another model", "an error message", "cut in the middle")
"""Of files that a folder may do without: what a library finds in them it takes or leaves."""


def files_of(root: Path) -> list[tuple[str, Path]]:
    """Every file that some model needs, with the model, each once."""
    found: dict[Path, str] = {}
    for name in NAMES:
        model = lookup(name)
        for file in needed_files(model, root / model.repository):
            found.setdefault(root / model.repository / file, name)
    return [(name, path) for path, name in found.items()]


@pytest.fixture(scope="module")
def root(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of which a test may break one file, if it mends it again."""
    return Path(shutil.copytree(tiny_models, tmp_path_factory.mktemp("preflight") / "models"))


def group_of(name: str) -> list[str]:
    """The models that a model is checked with."""
    group = [model.name for model in network_of(name).models]
    return list(dict.fromkeys(("flux-dev", name))) if "flux-dev" in group else group or [name]


def test_whole_models_have_no_fault(root: Path) -> None:
    assert preflight.check(NAMES, root) == []


def optional(name: str, path: Path, root: Path) -> bool:
    """Whether a file is only taken along if it is there."""
    model = lookup(name)
    return path.relative_to(root / model.repository).as_posix() not in model.files


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("turns", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_every_way_to_break_every_file_is_told(root: Path, tmp_path: Path, name: str, turns: int) -> None:
    """The suite breaks each file in a fourth of the ways, which take turns; `-m slow` in all."""
    files = [path for owner, path in files_of(root) if owner == name]
    assert files or name == "redux-lora"
    unseen = []
    for number, path in enumerate(files, NAMES.index(name)):
        kept = Path(shutil.copyfile(path, tmp_path / "kept"))
        others = [root / other for other in ELSEWHERE[path.suffix]]
        other = next(other for other in others if other.relative_to(root).parts[:2] != path.relative_to(root).parts[:2])
        more = [("a tensor more", add_tensor)] if takes_no_extra(path) else []
        for way, break_it in [*ways(path, other), *more][number % turns :: turns]:
            break_it(path)
            if not any(fault.path == path for fault in faults_of(name, root)) and not (
                optional(name, path, root) and way in HARMLESS
            ):
                unseen.append(f"{path.relative_to(root)}: {way}")
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            shutil.copyfile(kept, path)
    assert unseen == []


def faults_of(name: str, root: Path) -> list[Fault]:
    """What is told of a model: at once if a file of it is not whole, else after a look at what it holds."""
    findings = Findings()
    check_whole(lookup(name), root / lookup(name).repository, findings)
    found = findings.faults or preflight.check(group_of(name), root)
    assert all(fault.what for fault in found)
    return found


def test_a_file_that_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors"
    real = Path.open

    def refused(self: Path, *arguments: object, **named: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **named)  # type: ignore[arg-type]

    os.utime(path)  # known to be sound as it was
    monkeypatch.setattr(Path, "open", refused)
    (fault,) = preflight.check(["flux-dev"], root)
    assert fault.what == "it can't be read: Permission denied"
