"""Names and shapes of the published files, and the order of fused rows against diffusers' own conversion."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.models.flux import keys, networks
from kiss3d_cli.models.flux.loading import load_clip, load_t5, load_vae
from kiss3d_cli.models.runtime.fp8 import Fp8Linear
from kiss3d_cli.models.runtime.weights import Layout, WeightFile, check_fits


@pytest.fixture(scope="module")
def published(parity_dir: Path) -> dict[str, tuple[int, ...]]:
    stored = json.loads((parity_dir / "flux" / "flux1_dev_fp8_names_shapes.json").read_text(encoding="utf-8"))
    return {name: tuple(shape) for name, shape in stored.items()}


def wanted(model: nn.Module) -> set[str]:
    return set(model.state_dict())


def rows_used(layout: Layout, name: str) -> int:
    """How many rows of a stored tensor have a place, 0 if it is used whole."""
    return sum((place.stop or 0) - place.start for place in layout.places.values() if place.name == name)


def test_every_tensor_of_the_transformer_has_its_place(published: dict[str, tuple[int, ...]]) -> None:
    layout = keys.transformer_layout(published, keys.TRANSFORMER)
    shapes = layout.shapes(published)
    model = networks.transformer(shapes)
    check_fits(model, shapes, "the published file")
    assert set(shapes) == wanted(model)
    ours = {name for name in published if name.startswith(keys.TRANSFORMER)}
    assert {place.name for place in layout.places.values()} == ours
    fused = {name for name in ours if re.search(r"qkv|linear1", name)}
    assert len(fused) == 2 * (2 * 19 + 38)
    assert all(rows_used(layout, name) == published[name][0] for name in fused)
    assert model.config.axes_dims_rope == (16, 56, 56)
    assert (model.config.num_layers, model.config.num_single_layers) == (19, 38)
    assert sum(p.numel() for p in model.parameters()) == 11_901_408_320


def test_every_tensor_of_the_encoders_and_the_vae_has_its_place(published: dict[str, tuple[int, ...]]) -> None:
    layouts = {
        "t5": (keys.t5_layout(published), networks.t5_encoder, keys.T5),
        "clip": (keys.clip_layout(published), networks.clip_encoder, keys.CLIP),
        "vae": (keys.vae_layout(published), networks.vae, keys.VAE),
    }
    for name, (layout, make, prefix) in layouts.items():
        shapes = layout.shapes(published)
        model = make(shapes)
        check_fits(model, shapes, name)
        assert set(shapes) == wanted(model), name
        assert {place.name for place in layout.places.values()} == {n for n in published if n.startswith(prefix)}


def test_every_tensor_of_the_controlnet_has_its_place(parity_dir: Path) -> None:
    stored = json.loads((parity_dir / "flux" / "controlnet_union_names_shapes.json").read_text(encoding="utf-8"))
    shapes = {name: tuple(shape) for name, shape in stored.items()}
    model = networks.controlnet(shapes)
    check_fits(model, shapes, "the published file")
    assert set(shapes) == wanted(model)
    assert model.config.num_mode == 10


def small(published: dict[str, tuple[int, ...]], prefix: str) -> dict[str, torch.Tensor]:
    """The published names of two blocks of each kind, at 1/24 of the width, each element with a value of its own."""
    random = torch.Generator().manual_seed(0)
    return {
        name.removeprefix(prefix): torch.randn(
            [max(size // 24, 1) if size != 64 else 64 for size in shape], generator=random
        )
        for name, shape in published.items()
        if name.startswith(prefix) and not re.search(r"blocks\.([2-9]|\d\d)\.", name)
    }


def test_fused_rows_are_split_as_diffusers_does(published: dict[str, tuple[int, ...]]) -> None:
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    state = small(published, keys.TRANSFORMER)
    layout = keys.transformer_layout({name: tuple(t.shape) for name, t in state.items()}, "")
    # diffusers' conversion takes the width for granted
    wide = {name: t.repeat_interleave(24, 0) if re.search(r"linear1", name) else t for name, t in state.items()}
    expected = convert_flux_transformer_checkpoint_to_diffusers(dict(wide))
    assert set(layout.places) == set(expected)
    for target, place in layout.places.items():
        got = state[place.name]
        if place.stop is not None:
            got = got[place.start : place.stop]
        if place.halves_swapped:
            got = torch.cat(tuple(reversed(got.chunk(2))))
        theirs = expected[target]
        assert torch.equal(got, theirs[::24] if "linear1" in place.name else theirs), target


def test_the_vae_is_renamed_as_diffusers_does(published: dict[str, tuple[int, ...]]) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    state = {name: torch.full((1, 1), float(i)) for i, name in enumerate(published) if name.startswith(keys.VAE)}
    expected = convert_ldm_vae_checkpoint(
        dict(state), {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    )
    layout = keys.vae_layout(published)
    assert {t: float(state[p.name].reshape(-1)[0]) for t, p in layout.places.items()} == {
        t: float(value.reshape(-1)[0]) for t, value in expected.items()
    }


def test_extra_entries_are_tolerated_only_where_they_may_be(published: dict[str, tuple[int, ...]]) -> None:
    scaled = {
        **published,
        f"{keys.TRANSFORMER}scaled_fp8": (0,),
        f"{keys.TRANSFORMER}double_blocks.0.img_attn.qkv.scale_weight": (),
        f"{keys.TRANSFORMER}double_blocks.0.img_attn.qkv.scale_input": (),
        f"{keys.TRANSFORMER}double_blocks.0.img_attn.qkv.comfy_quant": (25,),
        f"{keys.TRANSFORMER}double_blocks.0.img_attn.proj.input_scale": (),
        "text_encoders.t5xxl.logit_scale": (),
        "vae.decoder.something.else": (3,),
    }
    layout = keys.transformer_layout(scaled, keys.TRANSFORMER)
    qkv = f"{keys.TRANSFORMER}double_blocks.0.img_attn.qkv"
    assert layout.scales == {f"{qkv}.weight": f"{qkv}.scale_weight"}
    assert set(layout.places) == set(keys.transformer_layout(published, keys.TRANSFORMER).places)
    with pytest.raises(Missing, match=r"no place in Flux: model\.diffusion_model\.double_blocks\.0\.img_attn\.new"):
        keys.transformer_layout(
            {**published, f"{keys.TRANSFORMER}double_blocks.0.img_attn.new.weight": (1,)}, keys.TRANSFORMER
        )


def test_files_of_the_transformer_alone_are_recognised(published: dict[str, tuple[int, ...]]) -> None:
    bare = {n.removeprefix(keys.TRANSFORMER): s for n, s in published.items() if n.startswith(keys.TRANSFORMER)}
    assert keys.transformer_prefix(published) == keys.TRANSFORMER
    assert keys.transformer_prefix(bare) == ""
    assert keys.transformer_prefix(["unet.weight"]) is None
    assert set(keys.transformer_layout(bare, "").places) == set(
        keys.transformer_layout(published, keys.TRANSFORMER).places
    )


@pytest.fixture(scope="module")
def tiny(all_in_one: Path) -> dict[str, torch.Tensor]:
    return load_file(all_in_one)


def test_the_vae_is_that_of_diffusers_conversion(tiny: dict[str, torch.Tensor], all_in_one: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    stored = {name: value for name, value in tiny.items() if name.startswith(keys.VAE)}
    same(load_vae(all_in_one, torch.float32), convert_ldm_vae_checkpoint(stored, blocks))


def test_the_text_encoders_are_those_of_diffusers_conversion(tiny: dict[str, torch.Tensor], all_in_one: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint

    clip = {name: value for name, value in tiny.items() if name.startswith("text_encoders.clip_l.")}
    expected = convert_ldm_clip_checkpoint(dict(clip), "text_encoders.clip_l.transformer.")
    expected = {name.removeprefix("text_model."): value for name, value in expected.items()}
    same(load_clip(all_in_one, torch.float32), {n: t for n, t in expected.items() if "text_projection" not in n})
    prefix = "text_encoders.t5xxl.transformer."
    wide = {name.removeprefix(prefix): value.float() for name, value in tiny.items() if name.startswith(prefix)}
    model = load_t5(all_in_one, torch.float32)
    for name, module in model.named_modules():
        if isinstance(module, Fp8Linear):
            assert torch.equal(module.codes.float(), wide.pop(f"{name}.weight")), name
    same(model, {**wide, "encoder.embed_tokens.weight": wide["shared.weight"]}, but=".codes")


def same(model: nn.Module, expected: dict[str, torch.Tensor], but: str = "?") -> None:
    found = {name: value for name, value in model.state_dict().items() if not name.endswith(but)}
    assert found.keys() == {name for name in expected if "position_ids" not in name}
    for name, value in found.items():
        theirs = expected[name].float()
        assert torch.equal(value.float(), theirs.reshape(value.shape)), name


def renamed(tiny: dict[str, torch.Tensor], path: Path, prefixes: dict[str, str | None]) -> Path:
    """The all-in-one file with other prefixes; those that have none are left out."""
    state = {}
    for name, value in tiny.items():
        for old, new in prefixes.items():
            if name.startswith(old) and new is not None:
                state[new + name.removeprefix(old)] = value
    save_file(state, path)
    return path


def test_files_of_comfyui_forge_and_single_files_are_read(
    tiny: dict[str, torch.Tensor], all_in_one: Path, tmp_path: Path
) -> None:
    """Their encoders and VAE are those of the all-in-one file, whatever stands before the names."""
    encoders = {"vae": load_vae, "clip": load_clip, "t5": load_t5}
    expected = {name: load(all_in_one, torch.float32).state_dict() for name, load in encoders.items()}

    def check(name: str, path: Path) -> None:
        found = encoders[name](path, torch.float32).state_dict()
        assert found.keys() == expected[name].keys()
        assert all(torch.equal(found[n].float(), value.float()) for n, value in expected[name].items())

    forge = renamed(tiny, tmp_path / "forge.safetensors", {"vae.": "first_stage_model.", keys.TRANSFORMER: ""})
    check("vae", forge)
    assert keys.transformer_prefix(WeightFile(forge).shapes) == ""
    assert len(keys.transformer_layout(WeightFile(forge).shapes, "").places) > 50, "the VAE beside it is no fault"
    check("vae", renamed(tiny, tmp_path / "ae.safetensors", {"vae.": ""}))
    check("t5", renamed(tiny, tmp_path / "t5xxl.safetensors", {keys.T5: ""}))
    clip = "text_encoders.clip_l.transformer."
    check("clip", renamed(tiny, tmp_path / "clip_l.safetensors", {clip: ""}))
    prefixed = renamed(tiny, tmp_path / "prefixed.safetensors", {keys.TRANSFORMER: "diffusion_model."})
    assert keys.transformer_prefix(WeightFile(prefixed).shapes) == "diffusion_model."
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in expected["vae"].items():
        new = name
        for later, earlier in old.items():
            new = re.sub(rf"(attentions\.0)\.{later}\.", rf"\1.{earlier}.", new)
        state[new] = value.contiguous()
    assert any(".proj_attn." in name for name in state)
    save_file(state, tmp_path / "diffusers.safetensors")
    check("vae", tmp_path / "diffusers.safetensors")


def test_what_quantisers_leave_beside_a_matrix_is_read_or_refused(
    tiny: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """ComfyUI's `.comfy_quant`, `.weight_scale` and `.input_scale`; T5's position bias left wide; scales of rows."""
    layer = f"{keys.T5}encoder.block.1.layer.0.SelfAttention.q"
    bias = f"{keys.T5}encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    extra = {
        f"{layer}.weight_scale": torch.tensor(0.25),
        f"{layer}.input_scale": torch.tensor(3.0),
        f"{layer}.comfy_quant": torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8),
        f"{keys.T5}scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
        bias: tiny[bias].half(),
    }
    path = tmp_path / "scaled.safetensors"
    save_file({**tiny, **extra}, path)
    module = load_t5(path, torch.float32).get_submodule("encoder.block.1.layer.0.SelfAttention.q")
    assert module.scale == 0.25
    assert torch.equal(module.codes.view(torch.uint8), tiny[f"{layer}.weight"].view(torch.uint8))
    save_file({**tiny, f"{layer}.weight_scale": torch.ones(len(tiny[f"{layer}.weight"]), 1)}, path)
    with pytest.raises(BadInput, match=r"a scale for each row or block \(.*q\.weight_scale\)"):
        load_t5(path, torch.float32)
    save_file({**tiny, f"{layer}.weight": tiny[f"{layer}.weight"].half()}, path)
    with pytest.raises(BadInput, match=r"T5 is stored in float16; only fp8 \(e4m3\) checkpoints are accepted"):
        load_t5(path, torch.float32)
