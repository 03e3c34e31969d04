"""From words to a mesh, on tiny weights in the published layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import trimesh

from conftest import call
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_normals
from kiss3d_cli.image.bundle import Bundle, write_bundle
from kiss3d_cli.image.png import read_png
from kiss3d_cli.methods.bundle.drawing import Studio

WORDS = "a red fox with a scarf"
SMALL = (
    "device.name=cpu",
    "bundle.tile=64",
    "bundle.steps=2",
    "reconstruct.resolution=48",
    "refine.size=128",
    "refine.steps=1",
    "refine.integrate=false",
    "refine.target_faces=300",
    "refine.texture=false",
)


def started(words: str, *more: object, settings: tuple[str, ...] = ()):
    chosen = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return call("run", "--text", words, "--preset", "12gb", *chosen, *more, "--json")


def test_words_become_a_bundle_from_noise_and_a_mesh(tiny_models, tmp_path, monkeypatch):
    """Every network runs. Random weights draw no object, though: a ball takes the place of what Flux drew."""
    draw = Studio.draw

    def drawn(studio, context, start):
        assert start is None, "it starts from noise alone"
        draw(studio, context, start)
        assert read_png(context.output / "bundle.png").shape == (128, 256, 3)
        ball = trimesh.creation.icosphere(subdivisions=3, radius=0.8)
        points = torch.tensor(ball.vertices, dtype=torch.float32)
        mesh = Mesh(points, torch.tensor(ball.faces), points * 0.4 + 0.5)
        colors = render_colors(mesh, bundle_cameras(), (64, 64), antialiased=False).colors
        normals = render_normals(mesh, bundle_cameras(), (64, 64), antialiased=False)
        write_bundle(context.output / "bundle.png", Bundle(colors, normals.normals, normals.mask > 0.5))

    monkeypatch.setattr(Studio, "draw", drawn)
    root = ("models.root=" + str(tiny_models),)
    answer = started(WORDS, "--out", tmp_path, settings=root)
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"])
    assert folder.name.startswith("a-red-fox")
    assert (folder / "text.txt").read_text(encoding="utf-8") == WORDS
    caption = json.loads((folder / "caption" / "caption.json").read_text(encoding="utf-8"))
    assert caption == {"caption": WORDS, "source": "given"}
    status = {stage["name"]: stage["status"] for stage in answer.json["stages"]}
    made = {"caption", "prompt", "bundle", "reconstruct", "refine"}
    assert {name for name, how in status.items() if how == "done"} == made
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert "flux-controlnet" not in manifest["models"]
    assert "bundle-lora" in manifest["models"]
    assert manifest["facts"]["steps"] == 2  # all of them, whatever bundle.strength says: it starts from noise
    mesh = trimesh.load(answer.json["mesh"], force="mesh")
    assert Path(answer.json["mesh"]).suffix == ".glb"
    assert mesh.is_watertight

    other = started("a green frog", "--out", tmp_path, "--until", "prompt", settings=root)
    prompts = [Path(run) / "prompt" / "prompt.safetensors" for run in (folder, other.json["run_dir"])]
    assert prompts[0].read_bytes() != prompts[1].read_bytes()


def test_without_weights_it_is_refused_with_the_command_that_gets_them(tmp_path):
    answer = call(
        "run",
        "--text",
        WORDS,
        "--out",
        tmp_path,
        "--set",
        "device.name=cpu",
        "--set",
        f"models.root={tmp_path / 'none'}",
    )
    assert answer.code == 3
    assert "kiss3d models pull" in answer.err
    assert "flux-dev" in answer.err
    assert "start from a picture" in answer.err
    assert "preset 12gb" in answer.err


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--text", "  "), "no words"),
        (("figure.png", "--text", WORDS), "both"),
        (("--text", WORDS, "--back", "figure.png"), "--back"),
    ],
)
def test_what_can_t_be_meant_is_refused(arguments, cause, picture, tmp_path):
    given = [str(picture) if part == "figure.png" else part for part in arguments]
    answer = call("run", *given, "--out", tmp_path)
    assert answer.code == 2
    assert cause in answer.err
