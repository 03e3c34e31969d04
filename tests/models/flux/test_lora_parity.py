"""Every published form of a LoRA against `load_lora_weights` of diffusers with peft, or, where diffusers can't read it,
against W + scale * alpha / rank * B A."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.flux import keys, networks
from kiss3d_cli.models.flux.loading import check_lora, load_clip, load_t5
from kiss3d_cli.models.flux.lora import read_lora
from kiss3d_cli.models.runtime.weights import WeightFile, fill

State = dict[str, torch.Tensor]
SCALE = 0.7
CPU = torch.device("cpu")
NAMINGS = {
    "kohya": ("lora_down.weight", "lora_up.weight"),
    "peft": ("lora_A.weight", "lora_B.weight"),
    "x-flux": ("down.weight", "up.weight"),
}


# PEFT matches the ends of names, finds proj_out in the blocks as well, and says that it did not change those
pytestmark = pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning")


class Base:
    """The networks that are changed, in float32, and what is to be known of their layers."""

    def __init__(self, path: Path) -> None:
        file = WeightFile(path)
        self.file, self.path = file, path
        self.layout = keys.transformer_layout(file.shapes, keys.TRANSFORMER)
        self.shapes = self.layout.shapes(file.shapes)
        self.clip_shapes = keys.clip_layout(file.shapes).shapes(file.shapes)

    def transformer(self) -> Any:
        model = networks.transformer(self.shapes)
        fill(model, self.file, self.layout, torch.float32, widen_linears=True)
        return model

    def clip(self) -> Any:
        return load_clip(self.path, torch.float32)

    def size(self, layer: str) -> tuple[int, int]:
        """Rows and columns of a layer, in the original names, diffusers' or CLIP's."""
        if f"{layer}.weight" in self.clip_shapes:
            rows, columns = self.clip_shapes[f"{layer}.weight"]
            return rows, columns
        split = keys.split_layer(layer)
        layers = [layer] if split is None else split.layers
        return sum(self.shapes[f"{name}.weight"][0] for name in layers), self.shapes[f"{layers[0]}.weight"][1]


@pytest.fixture(scope="module")
def base(all_in_one: Path) -> Base:
    return Base(all_in_one)


class Writer:
    """A LoRA in the making."""

    def __init__(self, base: Base, rank: int = 4, seed: int = 0) -> None:
        self.base, self.rank, self.state, self.changes = base, rank, State(), State()
        self.random = torch.Generator().manual_seed(seed)

    def add(self, layer: str, written: str, naming: str, alpha: float | None, size: tuple[int, int] = (0, 0)) -> None:
        """Draw a pair of matrices for a layer; `changes` has what it is to change."""
        rows, columns = size if size[0] else self.base.size(layer)
        down = torch.randn(self.rank, columns, generator=self.random) / columns**0.5
        up = torch.randn(rows, self.rank, generator=self.random) / self.rank**0.5
        for suffix, tensor in zip(NAMINGS[naming], (down, up), strict=True):
            self.state[f"{written}.{suffix}"] = tensor
        if alpha is not None:
            self.state[f"{written}.alpha"] = torch.tensor(alpha)
        self.changes[layer] = (1.0 if alpha is None else alpha / self.rank) * up @ down


DOUBLE = [
    f"double_blocks.{n}.{s}_{p}" for n in (0, 1) for s in ("img", "txt") for p in ("attn.qkv", "attn.proj", "mlp.0")
]
SINGLE = [f"single_blocks.{n}.{p}" for n in (0, 1) for p in ("linear2", "modulation.lin")]
DIFFUSERS = [
    *(f"transformer_blocks.{n}.attn.{p}" for n in (0, 1) for p in ("to_q", "to_out.0", "add_k_proj", "to_add_out")),
    *(f"single_transformer_blocks.{n}.attn.{p}" for n in (0, 1) for p in ("to_k", "to_v")),
]
FEED_FORWARD = [
    "transformer_blocks.0.ff.net.0.proj",
    "transformer_blocks.1.ff_context.net.2",
    "single_transformer_blocks.1.proj_mlp",
]
TOP = ["x_embedder", "context_embedder", "proj_out", "norm_out.linear", "time_text_embed.guidance_embedder.linear_1"]
CLIP = [f"encoder.layers.{n}.{p}" for n in (0, 1) for p in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")]


def flat(layer: str) -> str:
    return layer.replace(".", "_")


def kohya(writer: Writer) -> None:
    """sd-scripts and FluxGym, with the text encoder trained too."""
    for layer in (*DOUBLE, *SINGLE):
        writer.add(layer, f"lora_unet_{flat(layer)}", "kohya", 2.0)
    for layer in CLIP:
        writer.add(layer, f"lora_te1_text_model_{flat(layer)}", "kohya", 8.0)


def comfyui(writer: Writer) -> None:
    for layer in (*DOUBLE, *SINGLE):
        writer.add(layer, f"diffusion_model.{layer}", "kohya", 2.0)
    for layer in CLIP:
        writer.add(layer, f"text_encoders.clip_l.transformer.text_model.{layer}", "kohya", 8.0)


def one_trainer(writer: Writer) -> None:
    for layer in (*DIFFUSERS, *TOP):
        writer.add(layer, f"lora_transformer_{flat(layer)}", "kohya", 3.0)
    for layer in CLIP:
        writer.add(layer, f"lora_te1_text_model_{flat(layer)}", "kohya", 1.0)


def x_flux(writer: Writer) -> None:
    for block in (0, 1):
        for number, stream in (("1", "img"), ("2", "txt")):
            for part in ("qkv", "proj"):
                written = f"double_blocks.{block}.processor.{part}_lora{number}"
                writer.add(f"double_blocks.{block}.{stream}_attn.{part}", written, "x-flux", None)
        # query, key and value alone, and not the rows of the MLP that the fused layer has too
        size = (3 * 128, 128)
        writer.add(f"single_blocks.{block}.linear1", f"single_blocks.{block}.processor.qkv_lora", "x-flux", None, size)
        writer.add(f"single_blocks.{block}.linear2", f"single_blocks.{block}.processor.proj_lora", "x-flux", None)


def x_flux_in_comfyui(writer: Writer) -> None:
    x_flux(writer)
    writer.state = {f"diffusion_model.{name}": tensor for name, tensor in writer.state.items()}


def peft(writer: Writer) -> None:
    for layer in (*DIFFUSERS, *FEED_FORWARD, *TOP):
        writer.add(layer, f"transformer.{layer}", "peft", None)
    for layer in CLIP:
        writer.add(layer, f"text_encoder.text_model.{layer}", "peft", None)


def peft_with_alpha(writer: Writer) -> None:
    for layer in (*DIFFUSERS, *FEED_FORWARD):
        writer.add(layer, f"transformer.{layer}", "peft", 2.0 if "attn" in layer else 8.0)


def peft_as_kohya(writer: Writer) -> None:
    for layer in (*DIFFUSERS, *FEED_FORWARD):
        writer.add(layer, f"transformer.{layer}", "kohya", None)


READ_BY_DIFFUSERS = [kohya, comfyui, one_trainer, x_flux, x_flux_in_comfyui, peft, peft_with_alpha, peft_as_kohya]


def fused_by_diffusers(base: Base, path: Path) -> tuple[Any, Any]:
    """The transformer and CLIP after `load_lora_weights` and `fuse_lora`."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    nothing: dict[str, Any] = dict.fromkeys(("vae", "tokenizer", "text_encoder_2", "tokenizer_2"))
    parts = {"transformer": base.transformer(), "text_encoder": base.clip()}
    pipeline = FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), **parts, **nothing)
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    pipeline.fuse_lora(components=["transformer", "text_encoder"], lora_scale=SCALE)
    pipeline.unload_lora_weights()
    return pipeline.transformer, pipeline.text_encoder


def check_against_diffusers(base: Base, path: Path) -> tuple[int, int]:
    """Compare every weight; returns how many weights of the transformer and of CLIP the LoRA changes."""
    fused, clip = fused_by_diffusers(base, path)
    changes, before = read_lora(WeightFile(path), "transformer", base.shapes), base.transformer().state_dict()
    for name, expected in fused.state_dict().items():
        mine = sum(
            (c.times(SCALE).change(CPU) for c in changes.get(name.removesuffix(".weight"), [])), start=before[name]
        )
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    mine, plain = load_clip(base.path, torch.float32, lora=path, scale=SCALE).state_dict(), base.clip().state_dict()
    for name, expected in clip.state_dict().items():
        torch.testing.assert_close(
            mine[name], expected, atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    moved = [
        sum(not torch.equal(was[name], now[name]) for name in was)
        for was, now in ((before, fused.state_dict()), (plain, clip.state_dict()))
    ]
    return moved[0], moved[1]


@pytest.mark.parametrize("form", READ_BY_DIFFUSERS, ids=lambda form: form.__name__)
def test_a_lora_is_folded_as_diffusers_and_peft_fuse_it(
    form: Callable[[Writer], None], base: Base, tmp_path: Path
) -> None:
    writer = Writer(base)
    form(writer)
    path = tmp_path / "lora.safetensors"
    save_file(writer.state, path)
    moved, moved_clip = check_against_diffusers(base, path)
    layers = check_lora(path, *3 * (base.path,))
    assert moved == sum(len(layer.target.layers) for layer in layers if layer.target.network == "transformer") > 10
    assert moved_clip == sum(layer.target.network == "clip" for layer in layers)


def test_the_alphas_of_peft_are_read_from_the_metadata(base: Base, tmp_path: Path) -> None:
    """diffusers keeps PEFT's settings there and writes no tensor of them."""
    writer = Writer(base)
    peft(writer)
    settings = {
        "transformer.r": 4,
        "transformer.lora_alpha": 2,
        "transformer.alpha_pattern": {"ff.net.0.proj": 12, "attn.to_q": 1},
        "transformer.target_modules": [*DIFFUSERS, *FEED_FORWARD, *TOP],
        "text_encoder.r": 4,
        "text_encoder.lora_alpha": 16,
        "text_encoder.use_rslora": True,
        "text_encoder.target_modules": ["q_proj", "out_proj", "fc1"],
    }
    path = tmp_path / "lora.safetensors"
    save_file(writer.state, path, metadata={"lora_adapter_metadata": json.dumps(settings)})
    assert check_against_diffusers(base, path) == (len(DIFFUSERS) + len(FEED_FORWARD) + len(TOP), len(CLIP))


def kohya_of_every_layer(writer: Writer) -> None:
    """diffusers takes the widths of the published model for granted, and drops what lies outside the blocks."""
    for layer in keys.original_layers(2, 2):
        writer.add(layer, f"lora_unet_{flat(layer)}", "kohya", 3.0)


def peft_of_original_names(writer: Writer) -> None:
    for layer in keys.original_layers(2, 2):
        writer.add(layer, f"base_model.model.{layer}", "peft", None)


def comfyui_with_peft_suffixes(writer: Writer) -> None:
    for layer in keys.original_layers(2, 2):
        writer.add(layer, f"diffusion_model.{layer}", "peft", 5.0)


@pytest.mark.parametrize(
    "form", [kohya_of_every_layer, peft_of_original_names, comfyui_with_peft_suffixes], ids=lambda form: form.__name__
)
def test_a_lora_of_every_original_layer_changes_the_rows_of_the_original_weights(
    form: Callable[[Writer], None], base: Base, tmp_path: Path
) -> None:
    writer = Writer(base)
    form(writer)
    path = tmp_path / "lora.safetensors"
    save_file(writer.state, path)
    changes = read_lora(WeightFile(path), "transformer", base.shapes)
    # the expectation: change the stored weights in the original names, and let the layout find their places
    prefix, stored = keys.TRANSFORMER, tmp_path / "changed.safetensors"
    changed = {name: base.file.tensor(name).float() for name in base.file.shapes if name.startswith(prefix)}
    for layer, change in writer.changes.items():
        changed[f"{prefix}{layer}.weight"] += change
    save_file(changed, stored)
    expected = networks.transformer(base.shapes)
    fill(expected, WeightFile(stored), base.layout, torch.float32, widen_linears=True)
    before, matrices = base.transformer().state_dict(), 0
    for name, value in expected.state_dict().items():
        mine = sum((c.change(CPU) for c in changes.get(name.removesuffix(".weight"), [])), start=before[name])
        torch.testing.assert_close(mine, value, atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
        matrices += not torch.equal(before[name], value)
    assert matrices == sum(name.endswith(".weight") and len(shape) == 2 for name, shape in base.shapes.items())


def test_the_part_of_t5_is_folded_into_its_fp8(base: Base, tmp_path: Path) -> None:
    writer = Writer(base)
    layer = "encoder.block.1.layer.0.SelfAttention.q"
    t5 = load_t5(base.path, torch.float32)
    before = t5.get_submodule(layer)
    writer.add(layer, f"lora_te3_{flat(layer)}", "kohya", 4.0, (before.out_features, before.in_features))
    path = tmp_path / "lora.safetensors"
    save_file(writer.state, path)
    after = load_t5(base.path, torch.float32, lora=path, scale=SCALE).get_submodule(layer)
    wide = before.codes.float() * (before.scale or 1)
    moved, wanted = after.codes.float() * (after.scale or 1) - wide, SCALE * writer.changes[layer]
    assert float((moved * wanted).sum() / wanted.square().sum()) == pytest.approx(1, abs=0.1)
    assert {entry.target.network for entry in check_lora(path, *3 * (base.path,))} == {"t5"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"lora_unet_double_blocks_0_img_attn_qkv.dora_scale": (3, 1)}, "holds DoRA, which is not read here"),
        ({"transformer.x_embedder.lora_magnitude_vector": (3,)}, "holds DoRA"),
        ({"lora_unet_img_in.hada_w1_a": (4, 4)}, "holds LoHa"),
        ({"lora_unet_img_in.lokr_w1": (4, 4)}, "holds LoKr"),
        ({"lora_unet_img_in.oft_blocks": (4, 4)}, "holds OFT"),
        ({"lora_unet_img_in.diff_b": (4,)}, "holds whole differences"),
        ({"transformer.x_embedder.lora_B.bias": (4,)}, "holds LoRA with biases"),
        (
            {"lora_te1_text_model_encoder_layers_7_mlp_fc1.alpha": ()},
            "lora_te1_text_model_encoder_layers_7_mlp_fc1.alpha",
        ),
        ({f"lora_unet_double_blocks_{n}_x.alpha": () for n in range(5)}, "and 2 more of the LoRA belong to no layer"),
        ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha": (7,)}, "is no single number"),
        (
            {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (5, 4)},
            "changes 5 x 64 weights; CLIP has 128",
        ),
        ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (128, 3)}, "do not fit each other"),
    ],
)
def test_what_is_no_lora_of_these_networks_is_refused_by_its_header(
    extra: dict[str, tuple[int, ...]], message: str, base: Base, tmp_path: Path
) -> None:
    writer = Writer(base)
    kohya(writer)
    path = tmp_path / "lora.safetensors"
    save_file({**writer.state, **{name: torch.zeros(shape) for name, shape in extra.items()}}, path)
    with pytest.raises(BadInput, match=message) as caught:
        check_lora(path, *3 * (base.path,))
    assert caught.value.place == str(path)
    assert "bundle.lora_scale=0" in str(caught.value.hint)


@pytest.mark.parametrize(
    "settings", ["[1", "[]", '{"transformer.use_dora": true}', '{"text_encoder.lora_bias": true}'], ids=str
)
def test_settings_of_peft_that_can_not_be_followed_are_refused(settings: str, base: Base, tmp_path: Path) -> None:
    writer = Writer(base)
    peft(writer)
    path = tmp_path / "lora.safetensors"
    save_file(writer.state, path, metadata={"lora_adapter_metadata": settings})
    with pytest.raises(BadInput, match=r"damaged|DoRA|biases"):
        check_lora(path, *3 * (base.path,))


def test_the_projection_of_clip_has_no_part_in_flux(base: Base, tmp_path: Path) -> None:
    """ComfyUI's LoRAs have it; diffusers leaves it out."""
    writer = Writer(base)
    kohya(writer)
    count = len(writer.changes)
    writer.add("text_projection", "lora_te1_text_projection", "kohya", 4.0, (64, 64))
    path = tmp_path / "lora.safetensors"
    save_file(writer.state, path)
    assert len(check_lora(path, *3 * (base.path,))) == count
