"""Whole runs of the published bundle pipeline's own code, reproduced: `flux_loop/*.safetensors` in KISS3D_PARITY_DIR.

A run's inputs are `in.*`, its results `out.*`, its settings the metadata. Its weights are in `flux_loop/ckpt`, or else
those that `scripts/make_checkpoints.py` writes for seed 0 without wires: the project's copy has no others.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kiss3d_cli.methods.prompt.reading import BUNDLE_PROMPT
from kiss3d_cli.models.flux import latents as latent
from kiss3d_cli.models.flux.denoise import Control, Prompt, denoise
from kiss3d_cli.models.flux.loading import load_clip, load_controlnet, load_t5, load_transformer, load_vae
from kiss3d_cli.models.flux.redux import load_redux
from kiss3d_cli.models.flux.schedule import Schedule, acts, make_schedule
from kiss3d_cli.models.flux.text import (
    CLIP_LENGTH,
    CLIP_PADDING,
    T5_LENGTH,
    T5_PADDING,
    Tokenizer,
    clip_summary,
    t5_states,
)

CPU, WIDE = torch.device("cpu"), torch.float32
COPY = Path(__file__).parents[2] / "fixtures" / "parity"
FOLDERS = list(dict.fromkeys([Path(os.environ.get("KISS3D_PARITY_DIR", COPY)), COPY]))
RUNS = [path for folder in FOLDERS for path in sorted((folder / "flux_loop").glob("*.safetensors"))]


class Run:
    """A recorded run and the weights that it was made with."""

    def __init__(self, path: Path, weights: Path) -> None:
        with safe_open(path, framework="pt") as file:
            self.settings: dict[str, str] = file.metadata()
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        self.weights = weights
        self.source = weights / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors"

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def schedule(self) -> Schedule:
        solver: Any = self.settings["scheduler"]
        tokens = self["in.noise_tokens"].shape[1]
        return make_schedule(solver, int(self.settings["steps"]), float(self.settings["strength"]), tokens)

    def control(self, picture: Tensor) -> Control:
        mode, scale, start, end = self.settings["control"].split()
        return Control(mode, picture, float(scale), float(start), float(end))


@pytest.fixture(scope="module", params=RUNS, ids=lambda path: path.stem)
def run(request: pytest.FixtureRequest, tiny_flux: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recorded = request.param.with_name("ckpt")
    # a copy: what is prepared of weights is kept beside them
    source = recorded if recorded.is_dir() else tiny_flux
    copied = shutil.copytree(source, tmp_path_factory.mktemp("run") / "weights", copy_function=shutil.copyfile)
    return Run(request.param, Path(copied))


def test_there_is_a_run_to_reproduce() -> None:
    assert RUNS


def test_the_schedule_and_the_window_of_the_control(run: Run) -> None:
    schedule = run.schedule()
    looks = [level for i in range(schedule.steps) for level in schedule.levels[i : i + schedule.calls_of(i)]]
    np.testing.assert_allclose(looks, run["out.timesteps"], atol=1e-6)
    control = run.control(run["in.noise_tokens"])
    scales = [
        control.scale * acts(control.start, control.end, index, schedule.steps)
        for index in range(schedule.steps)
        for _look in range(schedule.calls_of(index))
    ]
    np.testing.assert_allclose(scales, run["out.control_scales"], atol=1e-6)


def read_prompt(run: Run) -> Prompt:
    words = Tokenizer(run.weights / "google-t5" / "t5-small" / "tokenizer.json", T5_LENGTH, T5_PADDING)
    short = Tokenizer(run.weights / "openai" / "clip-vit-large-patch14" / "tokenizer.json", CLIP_LENGTH, CLIP_PADDING)
    states = t5_states(load_t5(run.source, WIDE), words(f"{BUNDLE_PROMPT} {run.settings['caption']}").ids)
    scale = float(run.settings["redux_scale"])
    if scale:
        redux = load_redux(run.weights / "black-forest-labs" / "FLUX.1-Redux-dev", WIDE)
        states = torch.cat([states, scale * redux(run["in.picture"].numpy())], 1)
    return Prompt(states, clip_summary(load_clip(run.source, WIDE), short(BUNDLE_PROMPT).ids))


def test_the_run_comes_to_the_published_picture(run: Run) -> None:
    prompt = read_prompt(run)
    torch.testing.assert_close(prompt.states, run["out.prompt_states"], atol=1e-4, rtol=0)
    torch.testing.assert_close(prompt.summary, run["out.prompt_pooled"], atol=1e-5, rtol=0)
    vae, schedule = load_vae(run.source, WIDE), run.schedule()
    reference = latent.encode(vae, run["in.reference_bundle"].float() / 255)
    level, (height, width, _channels) = schedule.levels[0], run["in.reference_bundle"].shape
    controlnet = run.weights / "InstantX" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors"
    found = denoise(
        load_transformer(run.source, None, 0.0, WIDE, device=CPU),
        load_controlnet(controlnet, WIDE),
        schedule,
        (1 - level) * reference + level * run["in.noise_tokens"],
        prompt,
        [run.control(reference)],
        latent.token_places(height // latent.PIXELS, width // latent.PIXELS, CPU),
        float(run.settings["guidance"]),
        WIDE,
    )
    torch.testing.assert_close(found, run["out.latent_tokens"], atol=1e-4, rtol=0)
    torch.testing.assert_close(latent.decode(vae, found, height, width), run["out.picture"], atol=1e-4, rtol=0)
