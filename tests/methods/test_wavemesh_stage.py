"""The wavelet diffusion model as a method of the reconstruct stage, with weights that were never trained."""

from __future__ import annotations

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
from kiss3d_cli.models.wavemesh.network import WaveMesh as Network
from kiss3d_cli.models.wavemesh.weights import export
from wavemesh_objects import TINY, awake, lamp


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


def run(made, tmp_path, **changes):
    settings = WaveMeshSettings(weights=str(made / "weights.safetensors"), radius=4.15, seed=0, steps=2, **changes)
    tmp_path.mkdir(parents=True, exist_ok=True)
    context = Context({"bundle/bundle.png": made / "bundle.png"}, tmp_path, Progress("reconstruct"), tmp_path)
    method = WaveMesh()
    device = resolve("cpu")
    method.require(settings, Prospect(device, lambda _name: 0.0))
    with method.open(settings, Machine(device, {})) as opened:
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
