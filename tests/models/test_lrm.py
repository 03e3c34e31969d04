from __future__ import annotations

import json
import math
import pickle
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.spatial import cKDTree
from torch.testing import assert_close

from kiss3d_cli.core.errors import BadInput, Missing, OutOfMemory
from kiss3d_cli.geometry.surface.manifold import find_defects
from kiss3d_cli.methods.lrm import extract
from kiss3d_cli.models.lrm import checkpoint, network
from kiss3d_cli.models.lrm.cameras import BUNDLE_AZIMUTHS, MULTIVIEW_AZIMUTHS, camera_vectors, to_world
from kiss3d_cli.models.lrm.config import PRM, LrmConfig
from kiss3d_cli.models.lrm.field import grid_axis


class Tiny:
    """The fixture of a small model: its sizes, weights, inputs and expected outputs."""

    def __init__(self, path):
        with safe_open(path, framework="pt") as file:
            sizes = json.loads(file.metadata()["config"])
        values = load_file(path)
        vit = sizes["vit"]
        self.weights = {name[7:]: value for name, value in values.items() if name.startswith("weight.")}
        self.images, self.cameras = values["in.images"][0], values["in.cameras"][0]
        self.out = {name[4:]: value for name, value in values.items() if name.startswith("out.")}
        self.points, self.cells = values["grid.vertices"], values["grid.cubes"]
        self.config = LrmConfig(
            views=len(self.images),
            image_size=self.images.shape[-1],
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
            grid_resolution=sizes["grid_res"],
            grid_side=sizes["grid_scale"],
        )
        self.axis = grid_axis(self.config, self.config.grid_resolution)


def load(path, config=PRM, **options):
    return checkpoint.build(checkpoint.read(path, config), config, **options)


@pytest.fixture(scope="module")
def tiny(parity_dir):
    return Tiny(parity_dir / "lrm" / "tiny.safetensors")


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(tiny.weights, path)
    return path


@pytest.fixture(scope="module")
def model(tiny, weights):
    return load(weights, tiny.config)


@pytest.fixture(scope="module")
def field(tiny, model):
    return model(tiny.images, tiny.cameras)


@pytest.fixture(scope="module")
def on_grid(tiny, field):
    return field.on_grid(tiny.axis)


def assert_agrees(actual: torch.Tensor, published: torch.Tensor) -> None:
    """To 1e-4 of the largest value."""
    assert actual.shape == published.shape
    assert (actual - published).abs().max() <= 1e-4 * published.abs().max()


# The published model


def test_names_and_shapes_are_those_of_the_published_checkpoint(parity_dir):
    published = json.loads((parity_dir / "lrm" / "state_dict_shapes.json").read_text(encoding="utf-8"))
    assert checkpoint.expected_shapes() == {name: tuple(shape) for name, shape in published.items()}
    assert sum(math.prod(shape) for shape in published.values()) == pytest.approx(378.7e6, rel=1e-3)


def test_image_features(tiny, model):
    with torch.inference_mode():
        assert_agrees(model.encoder(tiny.images, tiny.cameras), tiny.out["image_features"])


def test_planes(tiny, field):
    assert_agrees(field.planes[None], tiny.out["planes"])


def test_sdf_deformation_and_weights(tiny, on_grid):
    assert_close(tiny.axis, tiny.points[: len(tiny.axis), 2], atol=1e-6, rtol=0)
    assert_agrees(on_grid.sdf().reshape(1, -1, 1), tiny.out["sdf"])
    assert_agrees(on_grid.deformation(torch.arange(len(tiny.points)))[None], tiny.out["deformation"])
    weights = on_grid.cell_weights(torch.arange(len(tiny.cells)))
    raw = torch.cat([weights.beta, weights.alpha, weights.gamma[:, None]], 1)
    assert_agrees(raw[None], tiny.out["flexicubes_weight"])


def test_a_few_points_and_cells_are_those_of_all(tiny, on_grid):
    some = torch.tensor([4, 4000, 17, 0])
    assert_close(on_grid.deformation(some), tiny.out["deformation"][0, some], atol=1e-6, rtol=0)
    assert_close(on_grid.cell_weights(some).beta, tiny.out["flexicubes_weight"][0, some, :12], atol=1e-5, rtol=0)


def test_colours_and_materials(tiny, field):
    vertices = tiny.out["mesh_vertices"]
    assert_agrees(field.color(vertices)[None], tiny.out["vertex_rgb"].clamp(0, 1))
    material = field.material(vertices)
    assert_agrees(material.metallic[None], tiny.out["vertex_metallic"])
    assert_agrees(material.roughness[None], tiny.out["vertex_roughness"])


def oriented(faces: torch.Tensor) -> set[tuple[int, ...]]:
    first = faces.argmin(1, keepdim=True)
    return {tuple(face) for face in faces.gather(1, (first + torch.arange(3)) % 3).tolist()}


def test_mesh(tiny, field):
    """As published, but for this: round a grid edge that starts at a value of exactly 0, the published quads face
    inwards. The fixture has one such value; ours keep the orientation of their neighbours."""
    mesh = extract(field, tiny.config, tiny.config.grid_resolution, close=False)
    published = tiny.out["mesh_vertices"]
    distance, match = cKDTree(published.numpy()).query(mesh.vertices.numpy())
    assert sorted(match.tolist()) == list(range(len(published)))
    assert distance.max() < 1e-5
    ours = oriented(torch.from_numpy(match)[mesh.faces])
    theirs = oriented(tiny.out["mesh_faces"].long())
    assert len(mesh.faces) == len(theirs)
    assert {frozenset(face) for face in ours} == {frozenset(face) for face in theirs}
    zeros = tiny.points[tiny.out["sdf"].flatten() == 0]
    cell = tiny.config.grid_side / tiny.config.grid_resolution
    for face in theirs - ours:
        centre = published[list(face)].mean(0)
        assert (centre - zeros).norm(dim=-1).min() < 1.5 * cell


def test_the_mesh_is_closed_at_the_border_of_the_grid(tiny, field):
    assert find_defects(extract(field, tiny.config, 16, close=False).faces).boundary_edges > 0
    assert find_defects(extract(field, tiny.config, 16).faces).is_closed_manifold


def test_the_deformation_is_bounded_by_a_share_of_the_cell(on_grid):
    deformation = on_grid.deformation(torch.arange(100))
    assert 0 < deformation.abs().max() < 0.25 / 16


def test_queries_do_not_depend_on_the_chunk(tiny, field, monkeypatch):
    whole = extract(field, tiny.config, 16)
    color = field.color(whole.vertices)
    monkeypatch.setattr("kiss3d_cli.models.lrm.field.CHUNK", 257)
    parts = extract(field, tiny.config, 16)
    assert_close(parts.vertices, whole.vertices, atol=1e-6, rtol=0)
    assert torch.equal(parts.faces, whole.faces)
    assert_close(field.color(whole.vertices), color)


def test_the_same_views_give_the_same_bytes(tiny, model):
    threads = torch.get_num_threads()
    planes = []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            planes.append(model(tiny.images, tiny.cameras).planes)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(planes[1], planes[2])
    assert torch.equal(planes[0], planes[1])


# Cameras


def test_input_cameras_are_the_published_ones(parity_dir):
    published = load_file(parity_dir / "cameras.safetensors")["lrm.input_cameras"][0]
    assert_close(camera_vectors((0.0, 90.0, 180.0, 270.0)), published, atol=2e-4, rtol=0)
    assert BUNDLE_AZIMUTHS == (0.0, 90.0, 180.0, 270.0)


def test_row_vectors_go_to_the_world_as_published(parity_dir):
    rotation = load_file(parity_dir / "cameras.safetensors")["lrm.to_isomer_rotation_rowvec"]
    points = torch.tensor([[1.0, 2.0, 3.0], [-0.5, 0.25, 0.75]])
    assert_close(to_world(points), points @ rotation)


def test_both_passes_put_the_front_view_in_front():
    for azimuths, turn in ((BUNDLE_AZIMUTHS, 0.0), (MULTIVIEW_AZIMUTHS, 90.0)):
        centers = camera_vectors(azimuths)[:, [3, 7, 11]]
        angle = torch.deg2rad(torch.tensor([0.0, 90.0, 180.0, 270.0]))
        cosine, sine = math.cos(math.radians(5)), math.sin(math.radians(5))
        world = 3.5 * torch.stack([cosine * angle.sin(), torch.full((4,), sine), cosine * angle.cos()], 1)
        assert_close(to_world(centers, turn), world, atol=1e-5, rtol=0)


# Bad input


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda images: images[:3], "3 views with 4 cameras were given, the network takes 4"),
        (lambda images: images[..., :32], "views of 32 x 64 pixels were given, the network takes 64 x 64"),
        (lambda images: images * 255, "outside"),
        (lambda images: images - 1, "outside"),
        (lambda images: images * math.nan, "outside"),
    ],
)
def test_wrong_views_are_refused(tiny, model, change, says):
    with pytest.raises(BadInput, match=says) as caught:
        model(change(tiny.images), tiny.cameras)
    assert caught.value.hint


def test_wrong_number_of_cameras_is_refused(tiny, model):
    with pytest.raises(BadInput, match="4 views with 5 cameras"):
        model(tiny.images, torch.cat([tiny.cameras, tiny.cameras[:1]]))


def save(state, path):
    save_file(state, path)
    return path


def test_a_checkpoint_of_another_model_is_named_as_such(tiny, tmp_path):
    path = save({"unet.conv_in.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(Missing, match="weights of another model"):
        load(path, tiny.config)


def test_missing_extra_and_misshapen_tensors_are_named_together(tiny, tmp_path):
    state = dict(tiny.weights)
    state["transformer.norm.bias"] = torch.zeros(3)
    del state["encoder.model.layernorm.weight"]
    state["encoder.model.pooler.weight"] = torch.zeros(1)
    with pytest.raises(Missing) as caught:
        load(save(state, tmp_path / "a.safetensors"), tiny.config)
    for part in (
        "1 missing (encoder.model.layernorm.weight)",
        "1 extra (encoder.model.pooler.weight)",
        "1 misshapen (transformer.norm.bias [3] instead of [64])",
    ):
        assert part in str(caught.value)
    assert caught.value.hint


def test_the_tiny_model_is_not_the_full_one(weights):
    with pytest.raises(Missing, match="not those of the LRM"):
        load(weights)


@pytest.mark.parametrize("size", [0, 4, 1000, -8])
def test_a_truncated_file_is_refused(tiny, weights, tmp_path, size):
    path = tmp_path / "short.safetensors"
    path.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(Missing, match="can't be read") as caught:
        load(path, tiny.config)
    assert "fetch it again" in caught.value.hint


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(tiny, tmp_path, value):
    state = dict(tiny.weights)
    state["transformer.layers.1.mlp.3.bias"] = torch.full((64,), value)
    with pytest.raises(Missing, match=r"not finite, the first is transformer\.layers\.1\.mlp\.3\.bias"):
        load(save(state, tmp_path / "a.safetensors"), tiny.config)


def test_an_empty_surface_says_so(tiny, tmp_path):
    for bias, where in ((1e4, "outside"), (-1e4, "inside")):
        state = dict(tiny.weights)
        state["synthesizer.decoder.net_sdf.6.bias"] = torch.full((1,), bias)
        model = load(save(state, tmp_path / f"{where}.safetensors"), tiny.config)
        with pytest.raises(BadInput, match=f"no object: there is no surface: the whole grid is {where}"):
            extract(model(tiny.images, tiny.cameras), tiny.config, 16)


def test_half_precision_on_the_cpu_is_refused(tiny, weights):
    with pytest.raises(BadInput, match="float32 on the CPU"):
        load(weights, tiny.config, dtype=torch.float16)


def test_too_little_memory_is_said_before_the_work(monkeypatch):
    monkeypatch.setattr(network.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**30}))
    with pytest.raises(OutOfMemory, match=r"3\.0 GiB of memory are needed on cpu, 1\.0 GiB are free") as caught:
        network.require_memory(torch.device("cpu"), 3 * 2**30)
    assert "reconstruct.resolution" in caught.value.hint
    network.require_memory(torch.device("cpu"), 2**30)


# The published pickle


def pickled(tiny, path, **change):
    state = {f"lrm_generator.{name}": value for name, value in tiny.weights.items()}
    state["lpips.net.weight"] = torch.zeros(5)
    torch.save({"epoch": 3, "state_dict": state, **change}, path)
    return path


def test_a_pickle_is_converted_once_and_equal(tiny, weights, tmp_path):
    source = pickled(tiny, tmp_path / "final_ckpt.ckpt")
    target = checkpoint.prepare(source, tiny.config)
    assert target == tmp_path / "final_ckpt.safetensors"
    converted = load_file(target)
    assert converted.keys() == tiny.weights.keys()
    assert all(torch.equal(converted[name], value) for name, value in tiny.weights.items())
    written = target.stat().st_mtime_ns
    assert checkpoint.prepare(source, tiny.config) == target
    assert target.stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final_ckpt.ckpt", "final_ckpt.safetensors"]
    assert checkpoint.prepare(target, tiny.config) == target
    load(target, tiny.config)


def test_the_old_pickle_format_is_read_too(tiny, tmp_path):
    state = {f"lrm_generator.{name}": value for name, value in tiny.weights.items()}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=False)
    assert checkpoint.prepare(tmp_path / "a.ckpt", tiny.config).is_file()


class Attack:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_a_pickle_with_code_is_not_run(tiny, tmp_path, capsys):
    source = pickled(tiny, tmp_path / "a.ckpt", extra=Attack())
    assert checkpoint.prepare(source, tiny.config).is_file(), "what is no tensor is left out"
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(Missing):
        checkpoint.prepare(tmp_path / "b.ckpt", tiny.config)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_a_truncated_pickle_leaves_nothing_behind(tiny, tmp_path, size):
    source = pickled(tiny, tmp_path / "a.ckpt")
    source.write_bytes(source.read_bytes()[:size])
    with pytest.raises(Missing, match="damaged"):
        checkpoint.prepare(source, tiny.config)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_pickle_of_another_model_is_refused_before_anything_is_written(tiny, tmp_path):
    torch.save({"state_dict": {"unet.weight": torch.zeros(1)}}, tmp_path / "a.ckpt")
    torch.save([1, 2], tmp_path / "b.ckpt")
    for name, says in (("a.ckpt", "another model"), ("b.ckpt", "no tensors under 'state_dict'")):
        with pytest.raises(Missing, match=says):
            checkpoint.prepare(tmp_path / name, tiny.config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "b.ckpt"]


def test_a_file_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(Missing, match="no such file") as caught:
        checkpoint.prepare(tmp_path / "final_ckpt.ckpt")
    assert caught.value.hint == "kiss3d models pull prm"


def test_weights_that_cannot_be_written_say_why(tiny, tmp_path):
    source = pickled(tiny, tmp_path / "a.ckpt")
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(Missing, match="can't be written") as caught:
        checkpoint.prepare(source, tiny.config)
    assert "writable" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "a.safetensors"]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_agrees_with_the_cpu(tiny, weights, field, dtype):
    planes = load(weights, tiny.config, device="cuda", dtype=dtype)(tiny.images, tiny.cameras).planes
    tolerance = 1e-3 if dtype == torch.float32 else 0.05  # TF32 is off by default; bfloat16 has 8 bits
    assert (planes.cpu() - field.planes).abs().max() < tolerance * field.planes.abs().max()


@pytest.mark.gpu
def test_full_size_on_a_gpu_is_fast_and_small(tmp_path):
    torch.manual_seed(0)
    full = network.LargeReconstructionModel(LrmConfig())
    for name, value in full.named_parameters():
        if name.endswith(("_proj_weight", "pos_embed", "position_embeddings")):
            torch.nn.init.normal_(value, std=0.02)
    save_file(full.state_dict(), tmp_path / "full.safetensors")
    torch.cuda.init()  # before it there are no figures to reset
    torch.cuda.reset_peak_memory_stats()
    model = load(tmp_path / "full.safetensors", device="cuda")
    images = torch.rand(4, 3, 512, 512)
    bias = model.synthesizer.decoder.net_sdf[6].bias
    axis = grid_axis(model.config, 128).cuda()
    bias -= model(images, camera_vectors(BUNDLE_AZIMUTHS)).on_grid(axis).sdf().median()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for azimuths in (MULTIVIEW_AZIMUTHS, BUNDLE_AZIMUTHS):
        field = model(images, camera_vectors(azimuths))
        field.color(extract(field, model.config, 128).vertices)
    torch.cuda.synchronize()
    assert time.perf_counter() - start < 4
    assert torch.cuda.max_memory_allocated() < 5 * 2**30
