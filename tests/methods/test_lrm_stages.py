"""Both passes as the pipeline runs them, with the tiny model in the published file layout."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.image.bundle import Bundle, join_bundle, load_bundle
from kiss3d_cli.image.png import read_png, write_png
from kiss3d_cli.image.views import VIEW_NAMES, read_views, to_bytes, write_views
from kiss3d_cli.methods import lrm as stage
from kiss3d_cli.models.lrm.checkpoint import read_config
from kiss3d_cli.models.lrm.config import PRM, LrmConfig
from support.methods import Call, context, method


@pytest.fixture(scope="module")
def folder(parity_dir, tmp_path_factory):
    """A model folder as the hub has it, but tiny."""
    folder = tmp_path_factory.mktemp("prm")
    path = parity_dir / "lrm" / "tiny.safetensors"
    with safe_open(path, framework="pt") as file:
        sizes = json.loads(file.metadata()["config"])
    vit = sizes["vit"]
    config = LrmConfig(
        image_size=64,
        patch_size=vit["patch_size"],
        position_size=vit["image_size"],
        encoder_width=vit["hidden_size"],
        encoder_layers=vit["num_hidden_layers"],
        encoder_heads=vit["num_attention_heads"],
        encoder_hidden=vit["intermediate_size"],
        width=sizes["transformer_dim"],
        layers=sizes["transformer_layers"],
        heads=sizes["transformer_heads"],
        plane_tokens=sizes["triplane_low_res"],
        plane_channels=sizes["triplane_dim"],
    )
    (folder / "lrm_config.json").write_text(json.dumps(dataclasses.asdict(config)))
    state = {f"lrm_generator.{n[7:]}": v for n, v in load_file(path).items() if n.startswith("weight.")}
    torch.save({"state_dict": state}, folder / "final_ckpt.ckpt")
    return folder


@pytest.fixture(scope="module")
def pictures():
    """Colours, normals and masks of an asymmetric ellipsoid, 96 pixels a tile."""
    x = torch.linspace(-1, 1, 33)
    points = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1)
    scaled = (points - torch.tensor([0.1, 0.0, 0.1])) / torch.tensor([0.8, 0.9, 0.7])
    rendered = render_normals(isosurface(scaled.norm(dim=-1) - 1), bundle_cameras(), (96, 96))
    rgb = torch.where(rendered.mask[..., None] > 0.5, rendered.normals.abs() * 0.8, torch.ones(3))
    return Bundle(rgb, rendered.normals, rendered.mask > 0.5)


@pytest.fixture
def call(folder, pictures, tmp_path):
    def make(name: str, resolution: int = 32) -> Call:
        source = tmp_path / "in"
        source.mkdir(exist_ok=True)
        write_views(source, dict(zip(VIEW_NAMES, to_bytes(pictures.rgb), strict=True)))
        write_png(source / "bundle.png", join_bundle(pictures))
        lrm = method(name, "lrm")
        inputs = {reference: source / reference.split("/")[1] for reference in lrm.reads}
        return Call(lrm, context(name, tmp_path, inputs), {"reconstruct": {"resolution": resolution}}, {"prm": folder})

    return make


def test_reference_keeps_the_views_over_the_normals_of_its_mesh(call, pictures):
    work = call("reference")()
    picture = read_png(work.output / "reference_bundle.png")
    assert np.array_equal(picture[:96], np.concatenate(list(to_bytes(pictures.rgb)), 1))
    mesh = read_mesh(work.output / "mesh.ply")
    rendered = render_normals(mesh, bundle_cameras(), (96, 96))
    expected = join_bundle(Bundle(pictures.rgb, rendered.normals, rendered.mask > 0.5))
    assert (np.abs(picture[96:].astype(int) - expected[96:]) <= 1).mean() > 0.999
    assert mesh.colors is not None
    assert work.facts["mesh"]["watertight"]
    assert work.facts["mesh"]["faces"] == len(mesh.faces)


def test_reconstruct_puts_a_mesh_with_colours_and_a_report_on_disk(call):
    work = call("reconstruct")()
    mesh = read_mesh(work.output / "mesh.ply")
    assert work.facts["mesh"]["faces"] == len(mesh.faces) > 1000
    assert mesh.colors is not None
    assert mesh.colors.std() > 0.01
    assert 0.75 < work.facts["scale"] < 1.35


@pytest.mark.parametrize("name", ["reference", "reconstruct"])
def test_the_network_runs_in_float32_where_others_run_in_half_precision(call, monkeypatch, name):
    """As published: bfloat16 moves the signed distances by 2 %."""
    kept, found = stage.build, []

    def built(*arguments, **options):
        found.append(kept(*arguments, **options))
        return found[0]

    monkeypatch.setattr(stage, "build", built)
    monkeypatch.setattr(DeviceInfo, "half", torch.bfloat16)
    call(name)()
    assert {value.dtype for value in found[0].state_dict().values()} == {torch.float32}


def test_the_mesh_is_turned_scaled_and_coloured(call, monkeypatch):
    """On a field whose answer is known: an ellipsoid in the LRM frame, half the size of the one in the views."""
    work = call("reconstruct", resolution=48)
    x = torch.linspace(-1.05, 1.05, 49)
    points = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1)
    centre, radii = torch.tensor([0.1, 0.1, 0.0]), torch.tensor([0.7, 0.8, 0.9])  # x -> z, y -> x, z -> y
    field = ((points / 0.8 - centre) / radii).norm(dim=-1) - 1
    crumb = (points - 1).norm(dim=-1) - 0.08
    known = isosurface(torch.minimum(field, crumb), (-1.05,) * 3, (1.05,) * 3)
    monkeypatch.setattr(stage, "extract", lambda *_: known)
    work = work()
    mesh = read_mesh(work.output / "mesh.ply")
    assert work.facts["scale"] == pytest.approx(1.25, rel=0.02)
    assert work.facts["mesh"]["components"] == 1
    distance = ((mesh.vertices - torch.tensor([0.1, 0.0, 0.1])) / torch.tensor([0.8, 0.9, 0.7])).norm(dim=-1)
    assert (distance - 1).abs().max() < 0.03


def test_pass_one_turns_the_mesh_by_a_quarter(call, monkeypatch):
    """What the network has at azimuth 270 is the front."""
    work = call("reference", resolution=48)
    x = torch.linspace(-1.05, 1.05, 49)
    points = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1)
    centre, radii = torch.tensor([0.1, -0.1, 0.0]), torch.tensor([0.8, 0.7, 0.9])
    field = ((points - centre) / radii).norm(dim=-1) - 1
    monkeypatch.setattr(stage, "extract", lambda *_: isosurface(field, (-1.05,) * 3, (1.05,) * 3))
    work = work()
    bundle = load_bundle(work.output / "reference_bundle.png")
    views = read_views({name: work.inputs[f"multiview/{name}.png"] for name in VIEW_NAMES})
    seen = (views < 0.94).any(-1)
    assert ((bundle.mask & seen).sum() / (bundle.mask | seen).sum()) > 0.97


def test_a_mesh_of_another_size_is_left_and_told(call, monkeypatch):
    work = call("reconstruct")
    x = torch.linspace(-1, 1, 17)
    points = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1)
    monkeypatch.setattr(stage, "extract", lambda *_: isosurface(points.norm(dim=-1) - 0.2))
    work = work()
    assert work.facts["scale"] == 1
    assert "times as large as the object in the views" in work.warnings[0]


def test_the_pickle_is_converted_beside_itself(call, folder):
    call("reconstruct")()
    assert (folder / "final_ckpt.safetensors").is_file()


def test_weights_that_are_gone_say_how_to_get_them(call, tmp_path):
    work = dataclasses.replace(call("reconstruct"), models={"prm": tmp_path / "nowhere"})
    with pytest.raises(Missing, match="no such file"):
        work()


@pytest.mark.parametrize("text", ["[1]", "{", '{"views": "four"}', '{"depth": 3}'])
def test_sizes_that_are_none_are_refused(tmp_path, text):
    assert read_config(tmp_path) == PRM
    (tmp_path / "lrm_config.json").write_text(text)
    with pytest.raises(BadInput, match="not sizes of the network"):
        read_config(tmp_path)
