"""Zero123++ against the published implementation, and its reference attention against a plain formulation."""

from __future__ import annotations

import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kiss3d_cli.core.errors import BadInput, Kiss3dError, Missing
from kiss3d_cli.models.zero123plus.attention import Pass, ReferenceUnet
from kiss3d_cli.models.zero123plus.networks import Networks
from kiss3d_cli.models.zero123plus.pipeline import draw_views, prepare_unet
from kiss3d_cli.models.zero123plus.preprocess import FeatureExtractor
from kiss3d_cli.models.zero123plus.sampler import Noise

CPU = torch.device("cpu")
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def published(parity_dir):
    folder = parity_dir / "zero123plus"
    picture = np.asarray(Image.open(folder / "input.png").convert("RGB"))
    return folder / "model", picture, load_file(folder / "expected.safetensors")["images"]


@pytest.fixture
def model(published, tmp_path):
    """A copy of the model folder to be damaged."""
    return shutil.copytree(published[0], tmp_path / "model", copy_function=shutil.copyfile)


def draw(folder, picture, weights=None, **changes):
    options = {"side": 32, "steps": 4, "guidance": 4.0, "noise": Noise.seeded(0), "device": CPU, "dtype": torch.float32}
    options |= changes
    networks = Networks(folder, weights or folder / UNET, device=options.pop("device"), dtype=options.pop("dtype"))
    return draw_views(networks, picture, **options)


def test_the_grid_is_the_published_one(published):
    folder, picture, expected = published
    noise = Noise(views=torch.Generator().manual_seed(0), condition=torch.Generator().manual_seed(0))
    steps = []
    grid = draw(folder, picture, noise=noise, on_step=lambda step, count: steps.append((step, count)))
    assert expected.std() > 0.05, "a flat picture would prove nothing"
    np.testing.assert_allclose(grid.image, expected[0].permute(1, 2, 0).numpy(), atol=1e-4)
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert grid.scheduler["name"] == "EulerAncestralDiscreteScheduler"
    assert grid.scheduler["prediction_type"] == "v_prediction"
    np.testing.assert_array_equal(grid.pixels, (grid.image * 255).round())


@pytest.mark.parametrize("change", [{"guidance": 3.0}, {"guidance": 1.0}, {"noise": Noise.seeded(1)}, {"steps": 5}])
def test_every_setting_has_its_effect(published, change):
    folder, picture, _ = published
    assert abs(draw(folder, picture, **change).image - draw(folder, picture).image).max() > 1e-3


def test_the_picture_matters(published):
    folder, picture, _ = published
    other = np.ascontiguousarray(picture[:, ::-1])
    assert abs(draw(folder, other).image - draw(folder, picture).image).max() > 1e-3


def test_the_vae_of_older_attention_names_is_the_same(published, model):
    """`query`, `key`, `value`, `proj_attn`, as sudo-ai/zero123plus-v1.2 has them."""
    folder, picture, _ = published
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in load_file(path).items():
        for new, old in older.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[name] = value
    assert any(".proj_attn." in name for name in state)
    save_file(state, path)
    np.testing.assert_array_equal(draw(model, picture, steps=1).image, draw(folder, picture, steps=1).image)


def test_without_guidance_the_zero_picture_has_no_part(published, monkeypatch):
    folder, picture, _ = published
    batches = []
    original = ReferenceUnet.__call__

    def spy(self, sample, reference, timestep, embeddings):
        batches.append((len(sample), len(reference), len(embeddings)))
        return original(self, sample, reference, timestep, embeddings)

    monkeypatch.setattr(ReferenceUnet, "__call__", spy)
    draw(folder, picture, guidance=1.0, steps=1)
    draw(folder, picture, guidance=1.5, steps=1)
    assert batches == [(1, 1, 1), (2, 2, 2)]


def test_the_same_seed_gives_the_same_bytes_on_one_thread_and_on_two(published):
    folder, picture, _ = published
    threads = torch.get_num_threads()
    try:
        grids = []
        for count in (1, 2):
            torch.set_num_threads(count)
            grids.append(draw(folder, picture, steps=2).pixels.tobytes())
    finally:
        torch.set_num_threads(threads)
    assert grids[0] == grids[1]


def test_reference_attention_layer_by_layer(published):
    """Against two passes of plain attention, written out: softmax over own and recorded tokens, projected together."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(3)
    unet = UNet2DConditionModel.from_pretrained(str(published[0]), subfolder="unet").eval()
    inputs, outputs = {}, {}

    def keep(name):
        def hook(_module, args, output):
            inputs.setdefault(name, []).append(args[0])
            outputs.setdefault(name, []).append(output)

        return hook

    layers = {name: module for name, module in unet.named_modules() if name.endswith("attn1")}
    for name, module in layers.items():
        module.register_forward_hook(keep(name))
    referring = ReferenceUnet(unet)
    sample, reference = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        referring(sample, reference, torch.tensor(500.0), torch.randn(2, 77, 24))
    assert len(layers) == len(referring.layers) == 4
    for name, attention in layers.items():
        (recorded, own), (first, second) = inputs[name], outputs[name]
        assert own.shape[1] == 4 * recorded.shape[1]
        with torch.no_grad():
            assert (first - plain_attention(attention, recorded, recorded)).abs().max() < 1e-5
            together = plain_attention(attention, own, torch.cat([own, recorded], 1))
            alone = plain_attention(attention, own, own)
        assert (second - together).abs().max() < 1e-5
        assert (second - alone).abs().max() > 1e-3
    assert all(layer.mode is Pass.PLAIN and layer._kept is None for layer in referring.layers.values())


def plain_attention(attention, tokens, context):
    """Vaswani et al. 2017, equation 1, head by head."""
    queries, keys, values = attention.to_q(tokens), attention.to_k(context), attention.to_v(context)
    width = queries.shape[-1] // attention.heads
    mixed = []
    for head in range(attention.heads):
        part = slice(head * width, (head + 1) * width)
        scores = queries[..., part] @ keys[..., part].mT / width**0.5
        mixed.append(scores.softmax(-1) @ values[..., part])
    return attention.to_out[0](torch.cat(mixed, -1))


@pytest.mark.parametrize("shape", [(48, 48), (61, 40), (40, 77), (16, 20)])
@pytest.mark.parametrize("name", ["feature_extractor_vae", "feature_extractor_clip"])
def test_the_feature_extractors_agree_with_the_library(published, name, shape):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    folder = published[0] / name
    expected = CLIPImageProcessorPil.from_pretrained(str(folder))(images=Image.fromarray(rgb), return_tensors="pt")
    found = FeatureExtractor.read(folder, "")(rgb)
    torch.testing.assert_close(found, expected.pixel_values, atol=1e-5, rtol=0)


PUBLISHED_VAE = {
    "crop_size": {"height": 512, "width": 512},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": 0.5,
    "image_processor_type": "CLIPImageProcessor",
    "image_std": 0.8,
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 512},
}
"""`feature_extractor_vae` of sudo-ai/zero123plus-v1.2."""


def but(*absent, **changes):
    return {key: value for key, value in {**PUBLISHED_VAE, **changes}.items() if key not in absent}


@pytest.mark.parametrize(
    "config",
    [
        PUBLISHED_VAE,
        but(image_mean=[0.5, 0.4, 0.3], size={"height": 50, "width": 60}, do_center_crop=False),
        but("crop_size", do_center_crop=False, size=40),
        but("image_mean", "image_std", do_normalize=False, size={"shortest_edge": 40}, crop_size=32),
        but("size", do_resize=False, crop_size={"height": 20, "width": 33}),
        but("rescale_factor", do_rescale=False, image_mean=127, size=24, crop_size={"height": 35, "width": 20}),
        but("do_resize", "do_rescale", "do_normalize", "resample", "rescale_factor", size=36, crop_size=32),
    ],
)
@pytest.mark.parametrize("shape", [(48, 48), (40, 77), (61, 40)])
def test_every_form_of_a_preprocessor_config_is_read_as_the_library_reads_it(config, shape):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    rgb = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    whole = {"image_mean": [0.5] * 3, "image_std": [0.8] * 3, **config}
    whole |= {key: [whole[key]] * 3 for key in ("image_mean", "image_std") if not isinstance(whole[key], list)}
    expected = CLIPImageProcessorPil.from_dict(whole)(images=Image.fromarray(rgb), return_tensors="pt").pixel_values
    torch.testing.assert_close(FeatureExtractor.from_config(config)(rgb), expected, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"image_mean": None}, "image_mean is None"),
        ({"image_mean": [0.5, 0.5]}, "image_mean is"),
        ({"image_mean": "0.5"}, "image_mean is '0.5'"),
        ({"image_mean": True}, "image_mean is True"),
        ({"image_std": [0.5, float("nan"), 0.5]}, "image_std is nan"),
        ({"image_std": 0}, "image_std is 0"),
        ({"size": {"longest_edge": 512}}, "size is"),
        ({"size": -5}, "size is -5"),
        ({"size": None}, "size is None"),
        ({"crop_size": {"height": 512}}, "crop_size is"),
        ({"resample": 9}, "resample is 9"),
        ({"resample": [1]}, "resample is"),
        ({"rescale_factor": "x"}, "rescale_factor is 'x'"),
    ],
)
def test_a_preprocessor_config_that_makes_no_sense_is_refused_by_the_setting(changes, cause):
    with pytest.raises(ValueError, match=re.escape(cause)):
        FeatureExtractor.from_config({**PUBLISHED_VAE, **changes})


def test_a_pickle_is_converted_once(published, model):
    folder, picture, _ = published
    checkpoint = model.parent / "flexgen.ckpt"
    torch.save(load_file(folder / UNET), checkpoint)
    weights = prepare_unet(model, checkpoint)
    assert weights == checkpoint.with_suffix(".safetensors")
    written = weights.stat().st_mtime_ns
    assert prepare_unet(model, checkpoint).stat().st_mtime_ns == written
    assert prepare_unet(model, weights) == weights
    np.testing.assert_array_equal(draw(model, picture, weights).image, draw(folder, picture).image)


class Code:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


def pickled_code(path):
    path.write_bytes(pickle.dumps({"conv_in.weight": Code()}))


def saved_code(path):
    torch.save({"conv_in.weight": Code()}, path)


def truncated(path):
    torch.save({"conv_in.weight": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:5_000])


def of_another_model(path):
    torch.save({"layers.0.weight": torch.zeros(3)}, path)


def not_a_mapping(path):
    torch.save(torch.zeros(3), path)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (pickled_code, "does not begin as a checkpoint of torch does"),
        (saved_code, "missing"),
        (truncated, "damaged or cut short"),
        (of_another_model, "1 extra (the first is layers.0.weight)"),
        (not_a_mapping, "holds no tensors at its top level"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: None, "no such file"),
    ],
)
def test_a_bad_checkpoint_is_refused(model, damage, cause, capsys):
    path = model.parent / "flexgen.ckpt"
    damage(path)
    with pytest.raises(Missing) as caught:
        prepare_unet(model, path)
    assert cause in caught.value.cause
    assert str(path) in caught.value.place
    assert "kiss3d models pull" in caught.value.hint
    assert not path.with_suffix(".safetensors").exists()
    assert "ran" not in capsys.readouterr().out


def half_of(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without(name):
    def change(path):
        state = load_file(path)
        del state[name]
        save_file(state, path)

    return change


def not_finite(path):
    state = load_file(path)
    state["conv_in.bias"][1] = torch.nan
    save_file(state, path)


@pytest.mark.parametrize(
    ("name", "damage", "cause"),
    [
        (UNET, half_of, "can't be read"),
        (UNET, without("conv_in.bias"), "1 missing (the first is conv_in.bias)"),
        (UNET, not_finite, "conv_in.bias holds values that are not finite"),
        ("vae/diffusion_pytorch_model.safetensors", half_of, "can't be read"),
        ("vae/diffusion_pytorch_model.safetensors", without("encoder.conv_in.bias"), "encoder.conv_in.bias"),
        ("vision_encoder/model.safetensors", half_of, "can't be read"),
        ("vision_encoder/model.safetensors", without("visual_projection.weight"), "visual_projection.weight"),
        ("text_encoder/model.safetensors", lambda path: path.unlink(), "can't be read"),
        ("unet/config.json", lambda path: path.unlink(), "no such file"),
        ("unet/config.json", lambda path: path.write_text("{"), "damaged"),
        ("model_index.json", lambda path: path.write_text("{}"), "ramping coefficient"),
        ("scheduler/scheduler_config.json", lambda path: path.write_text("[]"), "no JSON object"),
        ("feature_extractor_vae/preprocessor_config.json", lambda path: path.write_text("{}"), "size is None"),
        ("tokenizer/vocab.json", lambda path: path.write_text("nonsense"), "tokenizer can't be read"),
    ],
)
def test_a_damaged_folder_is_named(model, published, name, damage, cause):
    damage(model / name)
    with pytest.raises(Missing) as caught:
        draw(model, published[1])
    assert cause in caught.value.cause
    assert str(model) in caught.value.place
    assert "kiss3d models pull" in caught.value.hint


def test_half_precision_never_runs_on_the_cpu(published):
    folder, picture, _ = published
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(BadInput, match="float32 on the CPU"):
            draw(folder, picture, dtype=dtype)


def test_a_side_that_does_not_fit_the_network(published):
    folder, picture, _ = published
    with pytest.raises(BadInput, match="multiple of 4") as caught:
        draw(folder, picture, side=34)
    assert caught.value.hint == "use 32 pixels"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_views_that_are_not_numbers_are_an_error(published, monkeypatch, value):
    folder, picture, _ = published
    monkeypatch.setattr(
        "kiss3d_cli.models.zero123plus.pipeline._decode", lambda vae, latents: torch.full((3, 8, 8), value)
    )
    with pytest.raises(Kiss3dError, match="not numbers"):
        draw(folder, picture, steps=1)


def test_views_that_leave_the_range_of_float16_are_drawn_again_in_float32(published, monkeypatch):
    """With the same noise; the networks themselves run in float32 here, as float16 never runs on the CPU."""
    from kiss3d_cli.models.zero123plus import pipeline

    folder, picture, expected = published
    kept, asked = pipeline._draw, []

    def overflowing(networks, *arguments, **options):
        asked.append(networks.dtype)
        grid = kept(networks.in_float32(), *arguments, **options)
        if networks.dtype == torch.float16:
            grid.image[0, 0, 0] = np.nan
        return grid

    monkeypatch.setattr(pipeline, "_draw", overflowing)
    noise = Noise(views=torch.Generator().manual_seed(0), condition=torch.Generator().manual_seed(0))
    grid = draw(folder, picture, noise=noise, dtype=torch.float16)
    assert asked == [torch.float16, torch.float32]
    assert grid.dtype == torch.float32
    np.testing.assert_allclose(grid.image, expected[0].permute(1, 2, 0).numpy(), atol=1e-4)


def test_nothing_is_written_to_the_terminal(published, capfd):
    draw(*published[:2], steps=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_load_takes_little_more_host_memory_than_the_file(tmp_path, monkeypatch):
    """In a process of its own, against what it held after the imports; 160 MB, of which 30 are the process's growth."""
    from bench.views import load_memory
    from checkpoints import zero123plus
    from kiss3d_cli.core.device import resolve

    wide = {"block_out_channels": (192, 448), "attention_head_dim": (4, 7), "norm_num_groups": 32}
    monkeypatch.setitem(zero123plus.UNET, "tiny", {**zero123plus.UNET["tiny"], **wide})
    zero123plus.write(tmp_path, "tiny", 0)
    prepare_unet(tmp_path / zero123plus.REPOSITORY, tmp_path / zero123plus.FLEXGEN / "flexgen.ckpt")
    assert load_memory(tmp_path, "UNet", resolve("cpu")) < 1.3
