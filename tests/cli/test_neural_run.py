"""The whole neural pipeline, from a picture to a mesh, on tiny weights in the published layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from conftest import Answer, call
from kiss3d_cli.core.stage import Context, Method
from kiss3d_cli.imaging.png import read_png
from pictures import draw_figure

SMALL = (
    "device.name=cpu",
    "preprocess.size=128",
    "caption.max_tokens=16",
    "multiview.tile=128",
    "multiview.steps=2",
    "bundle.tile=128",
    "reconstruct.resolution=48",
    "refine.size=128",
    "refine.steps=3",
    "refine.target_faces=500",
    "refine.texture=false",
)
"""The 12gb preset, small; its 14 Heun steps stay."""
STAGES = ["preprocess", "caption", "multiview", "reference", "prompt", "bundle", "reconstruct", "refine"]
MISHAPS: dict[str, tuple[BaseException, int]] = {
    "preprocess": (RuntimeError("a fault of ours"), 1),
    "caption": (MemoryError(), 4),
    "multiview": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 4),
    "reference": (OSError(28, "No space left on device"), 3),
    "prompt": (KeyboardInterrupt(), 130),
    "bundle": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 4),
    "reconstruct": (ValueError("a fault of ours"), 1),
    "refine": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 4),
}


def options(root: Path, *more: str) -> list[str]:
    return [part for setting in (*SMALL, f"models.root={root}", *more) for part in ("--set", setting)]


def statuses(answer: Answer) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in answer.json["stages"]}


@pytest.fixture(scope="module")
def mended_run(tmp_path_factory: pytest.TempPathFactory, picture: Path, tiny_models: Path) -> Path:
    """A run in which every stage failed once; the bundle when all its steps were done."""
    out = tmp_path_factory.mktemp("neural")
    root = Path(shutil.copytree(tiny_models, out / "weights"))
    due = dict(MISHAPS)
    load = Method.load

    def failing(self: Method) -> Any:
        function = load(self)

        def once(context: Context) -> None:
            stage = context.progress._stage
            late = stage in ("bundle", "preprocess")
            if stage not in due or late:
                function(context)
            if stage in due:
                raise due.pop(stage)[0]

        return once

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KISS3D_CACHE", str(out / "cache"))
        patch.setattr(Method, "load", failing)
        answer = call("run", picture, "--preset", "12gb", "--out", out, *options(root), "--json")
        (folder,) = (path.parent for path in out.glob("*/run.json"))
        for name in STAGES:
            assert answer.code == MISHAPS[name][1], (name, answer.err)
            assert "kiss3d resume" in answer.err
            answer = call("resume", folder, "--json")
        assert answer.code == 0, answer.err
        assert not due
        assert statuses(answer)["refine"] == "done"
    return Path(folder)


def test_every_stage_fails_once_and_the_run_ends_in_a_mesh(mended_run: Path) -> None:
    mesh = trimesh.load(mended_run / "07-refine" / "mesh.glb", force="mesh")
    assert len(mesh.faces) > 50
    assert np.isfinite(mesh.vertices).all()
    manifest = json.loads((mended_run / "05-bundle" / "manifest.json").read_text())
    assert manifest["method"] == "flux"
    assert manifest["facts"]["transformer_calls"] == 27
    assert manifest["facts"]["resumed_at_step"] == 14, "the second attempt had all steps behind it"
    assert set(manifest["models"]) == {"flux-dev", "flux-controlnet", "bundle-lora"}
    prompt = json.loads((mended_run / "04-prompt" / "manifest.json").read_text())
    assert set(prompt["models"]) == {"flux-dev", "flux-redux", "t5-tokenizer", "clip-tokenizer"}


def test_the_bundle_keeps_to_the_reference(mended_run: Path) -> None:
    """The tiny weights are wired to follow the tile control: noise, schedule, control and VAE must all be right."""
    reference = read_png(mended_run / "04-reference" / "reference_bundle.png").astype(float)
    drawn = read_png(mended_run / "05-bundle" / "bundle.png").astype(float)
    means = [image.reshape(32, 8, 64, 8, 3).mean((1, 3)) for image in (reference, drawn)]
    assert np.abs(means[0] - means[1]).mean() < 4


def test_another_seed_loads_no_encoder(mended_run: Path, tmp_path: Path) -> None:
    from kiss3d_cli.pipeline.launch import plan_resume
    from kiss3d_cli.pipeline.run_folder import RunFolder

    folder = RunFolder(Path(shutil.copytree(mended_run, tmp_path / "run")))
    record = json.loads((folder.path / "run.json").read_text())
    record["config"]["bundle"]["steps"] = 3
    record["config"]["seed"] = 7
    (folder.path / "run.json").write_text(json.dumps(record))
    plan, _models, _absent = plan_resume(folder, folder.record())
    actions = {step.stage.name: step.action.value for step in plan}
    assert actions["bundle"] == "run"
    assert actions["prompt"] in ("skip", "check")
    manifest = json.loads((mended_run / "04-prompt" / "manifest.json").read_text())
    assert "seed" not in manifest["settings"]


def test_the_multiview_route_needs_no_flux(mended_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(mended_run, tmp_path / "run")
    answer = call("resume", copy, "--set", "bundle.method=reference", "--json")
    assert answer.code == 0, answer.err
    assert statuses(answer) == {
        **dict.fromkeys(["preprocess", "caption", "multiview", "reference"], "skipped"),
        "prompt": "off",
        **dict.fromkeys(["bundle", "reconstruct", "refine"], "done"),
        "eval": "off",
    }


def test_the_redux_route_needs_no_views(picture: Path, tiny_models: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_models, tmp_path / "weights"))
    route = ("multiview.method=none", "reference.method=none", "bundle.method=redux", "bundle.steps=1")
    answer = call(
        "run", picture, "--preset", "12gb", "--out", tmp_path, "--until", "bundle", *options(root, *route), "--json"
    )
    assert answer.code == 0, answer.err
    found = statuses(answer)
    assert found["multiview"] == found["reference"] == "off"
    assert found["prompt"] == found["bundle"] == "done"
    manifest = json.loads((Path(answer.json["run_dir"]) / "05-bundle" / "manifest.json").read_text())
    assert set(manifest["models"]) == {"flux-dev", "redux-lora"}


def test_without_redux_weights_the_way_without_them_is_offered(
    picture: Path, tiny_models: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tiny_models, tmp_path / "weights"))
    shutil.rmtree(root / "black-forest-labs")
    answer = call("run", picture, "--preset", "12gb", "--out", tmp_path / "runs", *options(root))
    assert answer.code == 3
    assert "flux-redux" in answer.err
    assert "accept its terms at https://huggingface.co/black-forest-labs/FLUX.1-Redux-dev" in answer.err
    assert "bundle.redux=false" in answer.err
    assert not (tmp_path / "runs").exists(), "said before any work started"


def test_a_picture_that_is_cut_out_already_needs_no_matting_weights(
    tmp_path: Path, picture: Path, tiny_models: Path
) -> None:
    dry = ("--preset", "12gb", "--dry-run", "--json", "--set", f"models.root={tmp_path}")
    opaque, cut_out = (
        {entry["model"] for entry in call("run", path, *dry).json["missing"]}
        for path in (draw_figure(tmp_path / "opaque.png", "RGB"), picture)
    )
    assert opaque - cut_out == {"isnet"}
    run = ("run", picture, "--preset", "12gb", "--out", tmp_path, "--until", "preprocess", "--json")
    root = Path(shutil.copytree(tiny_models, tmp_path / "weights"))
    shutil.rmtree(root / "danielgatis")
    answer = call(*run, *options(root))
    assert answer.code == 0, answer.err
    manifest = json.loads(next(Path(answer.json["run_dir"]).glob("01-*/manifest.json")).read_text())
    assert manifest["facts"]["background_removal"] == "alpha channel"
