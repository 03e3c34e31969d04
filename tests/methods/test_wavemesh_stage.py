"""The wavelet diffusion model as a method of the reconstruct stage, with weights that were never trained."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from kiss3d_cli.core.device import resolve
from kiss3d_cli.core.errors import BadInput, DamagedRun, Missing
from kiss3d_cli.core.progress import Progress
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.render import render_colors, render_normals
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.image.bundle import Bundle, write_bundle
from kiss3d_cli.methods.base import Context, Machine, Prospect
from kiss3d_cli.methods.reconstruct.wavemesh import WaveMesh, WaveMeshSettings
from kiss3d_cli.models.wavemesh.inference import Sampling, check_request
from kiss3d_cli.models.wavemesh.network import WaveMesh as Network
from kiss3d_cli.models.wavemesh.weights import export
from wavemesh_objects import TINY, awake, lamp, random_views


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle of an object, and weights that say a little about everything."""
    folder = tmp_path_factory.mktemp("wavemesh")
    cameras, size = bundle_cameras(), (96, 96)
    seen = render_normals(lamp(), cameras, size, antialiased=False)
    colors = render_colors(lamp(), cameras, size, antialiased=False).colors
    write_bundle(folder / "bundle.png", Bundle(colors, seen.normals, seen.mask > 0.5))
    torch.manual_seed(0)
    network = awake(Network(TINY))
    network.scale.fill_(0.1)
    export(folder / "weights.safetensors", TINY, network.state_dict())
    return folder


def run(made, tmp_path, weights="weights", models=None, **changes):
    settings = WaveMeshSettings(weights=str(made / f"{weights}.safetensors"), radius=4.15, seed=0, steps=2, **changes)
    tmp_path.mkdir(parents=True, exist_ok=True)
    context = Context({"bundle/bundle.png": made / "bundle.png"}, tmp_path, Progress("reconstruct"), tmp_path)
    method = WaveMesh()
    device = resolve("cpu")
    method.require(settings, Prospect(device, lambda _name: 0.0))
    assert set(method.models(settings)) == set(models or {})
    with method.open(settings, Machine(device, models or {})) as opened:
        opened(context)
    return context


def test_a_closed_mesh_near_the_hull_and_the_best_of_the_samples_is_kept(made, tmp_path):
    context = run(made, tmp_path / "first", samples=2)
    mesh = read_mesh(tmp_path / "first" / "mesh.ply")
    assert report(mesh.vertices.double().numpy(), mesh.faces.numpy()).watertight
    facts = context.facts
    assert len(facts["samples"]) == 2
    scores = [sample["silhouettes"] + sample["normals"] for sample in facts["samples"]]
    assert scores[facts["kept"]] == max(scores)
    assert facts["samples"][facts["kept"]]["silhouettes"] > 0.6
    run(made, tmp_path / "second", samples=2)
    assert (tmp_path / "first" / "mesh.ply").read_bytes() == (tmp_path / "second" / "mesh.ply").read_bytes()


def test_weights_that_were_trained_with_dinov2_ask_for_it_and_see_by_it(made, tmp_path, tiny_models):
    config = dataclasses.replace(TINY, frozen=32)
    torch.manual_seed(0)
    network = awake(Network(config))
    network.scale.fill_(0.1)
    export(made / "described.safetensors", config, network.state_dict())
    with torch.no_grad():
        network.encoder.frozen.weight.mul_(-1)
    export(made / "otherwise.safetensors", config, network.state_dict())
    models = {"dinov2": tiny_models / "facebook" / "dinov2-base"}
    for name in ("described", "otherwise"):
        run(made, tmp_path / name, name, models)
    meshes = [(tmp_path / name / "mesh.ply").read_bytes() for name in ("described", "otherwise")]
    assert meshes[0] != meshes[1]
    with pytest.raises(BadInput, match="0 channels of features, for a network that was trained with 32"):
        check_request(network, torch.full((1, 16, 16, 16), -1.0), random_views(1), Sampling(1), "views")


def test_without_weights_the_training_is_named():
    prospect = Prospect(resolve("cpu"), lambda _name: 0.0)
    with pytest.raises(Missing, match="no weights") as caught:
        WaveMesh().require(WaveMeshSettings(radius=4.15, seed=0), prospect)
    assert "kiss3d train wavemesh" in str(caught.value.hint)
    with pytest.raises(Missing, match="no weights"):
        WaveMesh().require(WaveMeshSettings(radius=4.15, seed=0, weights="nowhere.safetensors"), prospect)


def test_weights_of_something_else_and_too_many_steps_are_refused_before_any_work(made, tmp_path):
    prospect = Prospect(resolve("cpu"), lambda _name: 0.0)
    with pytest.raises(DamagedRun, match="can't be read"):
        WaveMesh().require(WaveMeshSettings(radius=4.15, seed=0, weights=str(made / "bundle.png")), prospect)
    with pytest.raises(BadInput, match="200 sampling steps"):
        WaveMesh().require(
            WaveMeshSettings(radius=4.15, seed=0, steps=200, weights=str(made / "weights.safetensors")), prospect
        )
