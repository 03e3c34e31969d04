"""The random checkpoints have the published names and shapes."""

from __future__ import annotations

import json
import math
import pickletools
import re
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from checkpoints import florence2, isnet, prm, tensors, zero123plus
from make_checkpoints import MODELS, SEED


def names(path) -> set[str]:
    return set(load_file(path))


@pytest.mark.parametrize(
    "file",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "vision_encoder/model.safetensors",
    ],
)
def test_zero123plus_is_named_as_published(tiny_models, parity_dir, file):
    ours = names(tiny_models / zero123plus.REPOSITORY / file)
    assert ours == names(parity_dir / "zero123plus" / "model" / file)


def test_the_vae_is_named_as_published(tiny_models, parity_dir):
    """Ours has four levels as the real one, the fixture two: names agree but for the levels' numbers.

    Ours has the attention's names of the time of publishing too, which the fixture, saved later, has not.
    """
    file = "vae/diffusion_pytorch_model.safetensors"
    fixture = zero123plus.old_names(dict.fromkeys(names(parity_dir / "zero123plus" / "model" / file)))
    plain = [
        {re.sub(r"\d+", "#", name) for name in found}
        for found in (names(tiny_models / zero123plus.REPOSITORY / file), fixture)
    ]
    assert any("proj_attn" in name for name in plain[0])
    assert plain[0] - plain[1] == set()
    assert {name for name in plain[1] - plain[0] if "conv_shortcut" not in name} == set()


def test_the_folder_has_the_published_files(tiny_models, parity_dir):
    def files(folder):
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    ours = files(tiny_models / zero123plus.REPOSITORY)
    assert ours == files(parity_dir / "zero123plus" / "model")


def count(specs) -> int:
    return sum(math.prod(spec.shape) for spec in specs.values())


@pytest.mark.parametrize(
    ("specs", "millions"),
    [
        (lambda: tensors.specs_of(zero123plus.unet("full")), 865.911),  # Stable Diffusion 2.1
        (lambda: tensors.specs_of(zero123plus.vae("full")), 83.654),
        (lambda: zero123plus.text_specs("full", 49408), 340.388),  # OpenCLIP ViT-H/14, 23 of its layers
        (lambda: zero123plus.vision_specs("full"), 632.077),  # OpenCLIP ViT-H/14
        (lambda: prm.specs("full"), 378.7),
    ],
)
def test_the_full_size_is_the_published_one(specs, millions):
    assert count(specs()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_florence_at_full_size():
    """0.77 G parameters, as the paper says."""
    assert count(florence2.specs("full")) / 1e9 == pytest.approx(0.77, rel=0.08)


def test_prm_has_every_published_tensor(parity_dir):
    path = parity_dir / "lrm" / "state_dict_shapes.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    shapes = {name.removeprefix("lrm_generator."): tuple(shape) for name, shape in published.items()}
    ours = {name.removeprefix("lrm_generator."): spec.shape for name, spec in prm.specs("full").items()}
    assert ours == shapes


def test_what_is_written_is_what_was_drawn(tmp_path):
    specs = {
        "a.weight": tensors.Spec((3, 5), torch.float32),
        "b.bias": tensors.Spec((7,), torch.float16),
        "c.position_ids": tensors.Spec((1, 4), torch.int64),
    }
    tensors.write_safetensors(tmp_path / "x.safetensors", specs, 7)
    tensors.write_pickle(tmp_path / "x.ckpt", specs, 7, wrap=lambda state: {"state_dict": state})
    plain, pickled = load_file(tmp_path / "x.safetensors"), torch.load(tmp_path / "x.ckpt", weights_only=True)
    for name, spec in specs.items():
        drawn = tensors.random_tensor(name, spec, 7)
        assert (drawn.shape, drawn.dtype) == spec
        assert torch.equal(plain[name], drawn)
        assert torch.equal(pickled["state_dict"][name], drawn)
    assert plain["c.position_ids"].tolist() == [[0, 1, 2, 3]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.ckpt", "x.safetensors"]


def test_the_seed_decides(tiny_models, tmp_path):
    for seed, same in ((SEED, True), (SEED + 1, False)):
        MODELS["chat"](tmp_path / str(seed), "tiny", seed)
        path = "Qwen/Qwen2-7B-Instruct/model-00001-of-00004.safetensors"
        assert ((tmp_path / str(seed) / path).read_bytes() == (tiny_models / path).read_bytes()) is same


def test_flexgen_is_a_pickle_of_plain_tensors(tiny_models):
    path = tiny_models / zero123plus.FLEXGEN / "flexgen.ckpt"
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        called = {arg for code, arg, _ in pickletools.genops(archive.read(name)) if code.name == "GLOBAL"}
    assert called <= {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage"}
    assert set(torch.load(path, weights_only=True)) == set(tensors.specs_of(zero123plus.unet("tiny")))


def test_the_stand_in_for_isnet_is_valid_onnx():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(isnet.model((1.0, 2.0, 3.0), -1.0), providers=["CPUExecutionProvider"])
    assert [(entry.name, entry.shape) for entry in session.get_inputs()] == [("input_image", [1, 3, 1024, 1024])]
    assert [(entry.name, entry.shape) for entry in session.get_outputs()] == [("output_image", [1, 1, 1024, 1024])]
    ramp = torch.linspace(-0.5, 0.5, 3 * 1024 * 1024).reshape(1, 3, 1024, 1024)
    (found,) = session.run(None, {"input_image": ramp.numpy()})
    expected = torch.sigmoid(ramp[:, 0] + 2 * ramp[:, 1] + 3 * ramp[:, 2] - 1)
    torch.testing.assert_close(torch.from_numpy(found)[:, 0], expected)


def test_small_files_are_the_published_ones(tiny_models):
    """Their sizes in bytes are public; the numbers of CLIP's two ends have two digits less here."""
    folder = tiny_models / zero123plus.REPOSITORY
    for name, size in (
        ("feature_extractor_vae/preprocessor_config.json", 369),
        ("tokenizer/special_tokens_map.json", 460),
        ("tokenizer/tokenizer_config.json", 855 - 2 * (len("49406") - len("512"))),
    ):
        assert (folder / name).stat().st_size == size, name


def test_the_all_in_one_file_has_the_published_types(tiny_models, parity_dir):
    """And sizes: with its header, the published file has 17,246,524,772 bytes."""
    with safe_open(tiny_models / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors", "pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
    by_part = {"model.diffusion_model.": "F8_E4M3", "vae.": "F32", "text_encoders.t5xxl.transformer.": "F8_E4M3"}
    for prefix, kind in by_part.items():
        assert {found for name, found in kinds.items() if name.startswith(prefix)} == {kind}
    assert kinds["text_encoders.clip_l.transformer.text_projection.weight"] == "F16"
    assert "text_encoders.clip_l.logit_scale" in kinds
    shapes = json.loads((parity_dir / "flux" / "flux1_dev_fp8_names_shapes.json").read_text(encoding="utf-8"))
    width = {"vae.": 4, "text_encoders.clip_l.": 2}
    tensors = sum(
        math.prod(shape) * next((w for prefix, w in width.items() if name.startswith(prefix)), 1)
        for name, shape in shapes.items()
    )
    rest = 17_246_524_772 - tensors - 768 * 768 * 2  # CLIP's projection is not in the list
    assert 100_000 < rest < 300_000, "what is left is the header of 1,443 names"
