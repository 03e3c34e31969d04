"""Folding LoRAs into fp8 weights, against plain float32 arithmetic on the original names."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kiss3d_cli.core.errors import BadInput, Missing, OutOfMemory
from kiss3d_cli.models.flux import keys, networks
from kiss3d_cli.models.flux.loading import load_controlnet, load_transformer, load_vae
from kiss3d_cli.models.flux.lora import read_lora
from kiss3d_cli.models.flux.prepare import SUFFIX, fold_transformer, prepared_path
from kiss3d_cli.models.flux.redux import load_redux
from kiss3d_cli.models.runtime import weights
from kiss3d_cli.models.runtime.weights import Layout, WeightFile, check_fp8, fill

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(all_in_one: Path) -> WeightFile:
    return WeightFile(all_in_one)


@pytest.fixture(scope="module")
def layout(source: WeightFile) -> Layout:
    return keys.transformer_layout(source.shapes, keys.TRANSFORMER)


def original(path: Path) -> dict[str, torch.Tensor]:
    prefix = keys.TRANSFORMER
    return {n.removeprefix(prefix): t.float() for n, t in load_file(path).items() if n.startswith(prefix)}


def with_adapter(all_in_one: Path, lora: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """W + scale * alpha / rank * B A in float32, in the original names."""
    state = original(all_in_one)
    for name in [n for n in state if n.endswith(".weight") and state[n].ndim == 2]:
        layer = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if f"{layer}.alpha" in lora:
            up, down = lora[f"{layer}.lora_up.weight"].float(), lora[f"{layer}.lora_down.weight"].float()
            state[name] = state[name] + scale * float(lora[f"{layer}.alpha"]) / down.shape[0] * up @ down
    return state


def model_of(state: dict[str, torch.Tensor], folder: Path) -> Any:
    """The transformer in float32 from tensors in the original names."""
    path = folder / "float32.safetensors"
    save_file({name: t.contiguous() for name, t in state.items()}, path)
    file = WeightFile(path)
    plan = keys.transformer_layout(file.shapes, "")
    model = networks.transformer(plan.shapes(file.shapes))
    fill(model, file, plan, torch.float32, widen_linears=True)
    return model


def prepared_model(path: Path) -> Any:
    file = WeightFile(path)
    plan = keys.plain_layout(file.shapes)
    model = networks.transformer(plan.shapes(file.shapes))
    fill(model, file, plan, torch.float32)
    return model


def call(model: Any) -> torch.Tensor:
    random = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        return model(
            hidden_states=torch.randn(1, 32, 64, generator=random),
            encoder_hidden_states=torch.randn(1, 9, 48, generator=random),
            pooled_projections=torch.randn(1, 64, generator=random),
            timestep=torch.tensor([0.7]),
            guidance=torch.tensor([3.5]),
            txt_ids=torch.zeros(9, 3),
            img_ids=torch.randint(0, 8, (32, 3), generator=random).float(),
            return_dict=False,
        )[0]


def test_loading_keeps_the_codes_and_equals_the_widened_model(
    all_in_one: Path, source: WeightFile, layout: Layout, tmp_path: Path
) -> None:
    check_fp8(source, layout, "it", "")
    model = networks.transformer(layout.shapes(source.shapes))
    fill(model, source, layout, torch.float32)
    block = model.transformer_blocks[1].attn
    fused = source.tensor(f"{keys.TRANSFORMER}double_blocks.1.img_attn.qkv.weight")
    assert torch.equal(block.to_k.codes.view(torch.uint8), fused[128:256].view(torch.uint8))
    again = source.at(layout.places["transformer_blocks.1.attn.to_k.weight"])
    assert again.untyped_storage().nbytes() > again.nbytes  # a view of the fused tensor, which is a view of the file
    assert torch.equal(call(model), call(model_of(original(all_in_one), tmp_path)))


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_a_folded_lora_acts_as_an_adapter_does(
    scale: float, all_in_one: Path, source: WeightFile, layout: Layout, kohya_file: Path, tmp_path: Path
) -> None:
    changes = read_lora(WeightFile(kohya_file), "transformer", layout.shapes(source.shapes))
    target = tmp_path / "tiny.0.prepared"
    fold_transformer(source, layout, changes, scale, target, CPU, lambda _f: None)
    folded = call(prepared_model(target))
    base = call(model_of(original(all_in_one), tmp_path))
    exact = call(model_of(with_adapter(all_in_one, load_file(kohya_file), scale), tmp_path))
    effect, got = exact - base, folded - base
    gain = float((got * effect).sum() / effect.square().sum())
    assert abs(gain - 1) < 0.15, "the LoRA's effect is kept"
    error = float((folded - exact).norm() / exact.norm())
    assert error < 0.05
    assert error < float(effect.norm() / exact.norm())
    # every weight of a fused matrix lands near its place
    state = with_adapter(all_in_one, load_file(kohya_file), scale)
    qkv = state["double_blocks.0.img_attn.qkv.weight"]
    model = prepared_model(target)
    for row, name in enumerate(("to_q", "to_k", "to_v")):
        layer = getattr(model.transformer_blocks[0].attn, name)
        wanted = qkv[128 * row : 128 * row + 128]
        off = (layer.codes.float() * layer.scale - wanted).abs()
        assert (off <= wanted.abs() / 8 + 0.01).all()
        assert abs(float((layer.codes.float() * layer.scale - wanted).mean())) < 2e-4


def test_scale_zero_changes_nothing(source: WeightFile, layout: Layout, kohya_file: Path, tmp_path: Path) -> None:
    changes = read_lora(WeightFile(kohya_file), "transformer", layout.shapes(source.shapes))
    fold_transformer(source, layout, changes, 0.0, tmp_path / "t.1.prepared", CPU, lambda _f: None)
    model = networks.transformer(layout.shapes(source.shapes))
    fill(model, source, layout, torch.float32)
    assert torch.equal(call(prepared_model(tmp_path / "t.1.prepared")), call(model))


def test_peft_names_with_diffusers_layers_and_with_original_ones_say_the_same(
    source: WeightFile, layout: Layout, kohya_file: Path, tmp_path: Path
) -> None:
    weights = layout.shapes(source.shapes)
    kohya = read_lora(WeightFile(kohya_file), "transformer", weights)
    diffusers, originals = {}, {}
    for target, (change,) in kohya.items():
        diffusers[f"transformer.{target}.lora_A.weight"] = change.down.contiguous().clone()
        diffusers[f"transformer.{target}.lora_B.weight"] = change.up.contiguous().clone()
    for name, tensor in load_file(kohya_file).items():
        layer, _, kind = name.removeprefix("lora_unet_").partition(".")
        plain = next(n for n in keys.original_layers(2, 2) if n.replace(".", "_") == layer)
        kind = {"lora_up.weight": "lora_B.weight", "lora_down.weight": "lora_A.weight"}.get(kind, kind)
        originals[f"diffusion_model.{plain}.{kind}"] = tensor
    for state in (diffusers, originals):
        save_file(state, tmp_path / "peft.safetensors")
        read = read_lora(WeightFile(tmp_path / "peft.safetensors"), "transformer", weights)
        assert set(read) == set(kohya)
        for target, (change,) in read.items():
            assert torch.equal(change.change(CPU), kohya[target][0].change(CPU)), target


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda s: s.update({"lora_te1_text_model_x.lora_up.weight": torch.zeros(2, 2)}),
            "lora_te1_text_model_x has no down part",
        ),
        (
            lambda s: s.update({"lora_unet_double_blocks_7_img_attn_qkv.alpha": torch.ones(())}),
            "of the LoRA belongs to no layer",
        ),
        (
            lambda s: s.update({"something.else": torch.ones(1)}),
            "the tensor something.else of the LoRA belongs to no layer",
        ),
        (lambda s: s.pop("lora_unet_single_blocks_0_linear1.lora_up.weight"), "has no up part"),
        (
            lambda s: s.update({"lora_unet_single_blocks_0_linear1.lora_up.weight": torch.zeros(21504, 4)}),
            "changes 21504 x 128 weights; Flux's transformer has 896 x 128",
        ),
        (
            lambda s: s.update({"lora_unet_single_blocks_0_linear1.lora_up.weight": torch.zeros(896, 3)}),
            "do not fit each other",
        ),
        (lambda s: s.clear(), "holds no LoRA"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(
    edit: Any, message: str, source: WeightFile, layout: Layout, kohya_file: Path, tmp_path: Path
) -> None:
    state = load_file(kohya_file)
    edit(state)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(BadInput, match=message) as caught:
        read_lora(WeightFile(tmp_path / "bad.safetensors"), "transformer", layout.shapes(source.shapes))
    assert "bad.safetensors" in str(caught.value)
    assert "bundle.lora_scale=0" in str(caught.value.hint), "what helps also if this is the published file"


def test_damaged_and_missing_files_say_so(all_in_one: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(all_in_one.read_bytes()[:-100])
    (tmp_path / "text.safetensors").write_text("not weights")
    for name, message in (("cut", "cut short"), ("text", "damaged"), ("none", "no such file")):
        with pytest.raises(Missing, match=message):
            WeightFile(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError("The paging file is too small for this operation to complete. (os error 1455)"), OutOfMemory, "room"),
        (RuntimeError("Couldn't open file mapping: <a>, error code: <1455>"), OutOfMemory, "no room to map the file"),
        (RuntimeError("unable to mmap 9 bytes from file <a>: Cannot allocate memory (12)"), OutOfMemory, "no room"),
        (MemoryError("Cannot allocate memory (os error 12)"), OutOfMemory, "no room to map the file of 0.0 GB"),
        (PermissionError("Permission denied (os error 13)"), Missing, "can't be read: Permission denied"),
    ],
)
def test_what_the_system_refuses_is_not_called_damaged(
    error: Exception, kind: type[Exception], message: str, all_in_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows `delete the file and download it again` gets the same 17 GB and the same error."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(weights, "safe_open", refuse)
    with pytest.raises(kind, match=message) as caught:
        WeightFile(all_in_one)
    assert "delete" not in str(caught.value.hint)  # type: ignore[attr-defined]


def test_a_lacking_tensor_is_said_of_the_published_file(tiny_flux: Path, all_in_one: Path, tmp_path: Path) -> None:
    """Not of the LoRA that would change it, nor of the file that would be prepared from it."""
    lora = shutil.copy(tiny_flux / "LTT" / "Kiss3DGen" / "rgb_normal.safetensors", tmp_path)
    flux, union = tmp_path / all_in_one.name, tmp_path / "union.safetensors"
    state = load_file(all_in_one)
    del state["model.diffusion_model.double_blocks.0.img_mlp.0.weight"]
    save_file({n: t for n, t in state.items() if not n.startswith("vae.")}, flux)
    published = tiny_flux / "InstantX" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors"
    state = load_file(published)
    del state["transformer_blocks.0.ff.net.2.weight"]
    save_file(state, union)
    with pytest.raises(Missing, match=r"ff\.net\.0\.proj\.weight is missing") as caught:
        load_transformer(flux, Path(lora), 1.0, torch.float32, device=CPU)
    assert caught.value.place == str(flux)
    with pytest.raises(Missing, match=r"ff\.net\.2\.weight is missing") as caught:
        load_controlnet(union, torch.float32)
    assert caught.value.place == str(union)
    assert not list(tmp_path.glob(f"*{SUFFIX}*"))
    with pytest.raises(Missing, match=r"lacks tensors that a vae has \(for example '.*conv"):
        load_vae(flux, torch.float32)


@pytest.mark.parametrize("damage", ["cut short", "lacks a tensor"])
def test_a_prepared_file_that_is_damaged_is_made_again(tiny_flux: Path, tmp_path: Path, damage: str) -> None:
    folder = tiny_flux / "InstantX" / "FLUX.1-dev-Controlnet-Union"
    source = Path(shutil.copy(folder / "diffusion_pytorch_model.safetensors", tmp_path))
    load_controlnet(source, torch.float32)
    (prepared,) = tmp_path.glob(f"*{SUFFIX}")
    whole = prepared.read_bytes()
    if damage == "cut short":
        prepared.write_bytes(whole[:-1])
    else:
        save_file({n: t for n, t in load_file(prepared).items() if n != "x_embedder.weight"}, prepared)
    load_controlnet(source, torch.float32)
    assert prepared.read_bytes() == whole


@pytest.mark.parametrize("content", ["{", "[]", '{"hidden_size": "wide"}', '{"hidden_size": 7}'])
def test_a_redux_that_is_configured_wrongly_is_refused(tiny_flux: Path, tmp_path: Path, content: str) -> None:
    folder = shutil.copytree(tiny_flux / "black-forest-labs" / "FLUX.1-Redux-dev", tmp_path / "redux")
    (folder / "image_encoder" / "config.json").write_text(content)
    with pytest.raises(Missing) as caught:
        load_redux(folder, torch.float32)
    assert "image_encoder" in str(caught.value.place)


def test_16_bit_weights_are_refused(all_in_one: Path, tmp_path: Path) -> None:
    save_file({n: t.bfloat16() for n, t in original(all_in_one).items()}, tmp_path / "wide.safetensors")
    file = WeightFile(tmp_path / "wide.safetensors")
    with pytest.raises(BadInput, match=r"stored in bfloat16; only fp8 \(e4m3\) checkpoints are accepted"):
        check_fp8(file, keys.transformer_layout(file.shapes, ""), "it", "")


def test_a_model_of_another_shape_is_refused(source: WeightFile, layout: Layout, all_in_one: Path) -> None:
    shapes = layout.shapes(source.shapes)
    model = networks.transformer({**shapes, "context_embedder.weight": (128, 50)})
    with pytest.raises(Missing, match=r"context_embedder.weight has the shape \(128, 48\) instead of \(128, 50\)"):
        fill(model, source, layout, torch.float32)


def test_scaled_fp8_files_are_read_with_their_scale(all_in_one: Path, tmp_path: Path) -> None:
    state = {
        n.removeprefix(keys.TRANSFORMER): t for n, t in load_file(all_in_one).items() if n.startswith(keys.TRANSFORMER)
    }
    expected = {n: t.float() for n, t in state.items()}
    for name in [n for n in state if re.search(r"blocks.*(qkv|linear1|linear2)\.weight", n)]:
        layer = name.removesuffix(".weight")
        state[f"{layer}.scale_weight"] = torch.tensor(0.3)
        expected[name] = expected[name] * 0.3
    state["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    save_file(state, tmp_path / "scaled.safetensors")
    file = WeightFile(tmp_path / "scaled.safetensors")
    plan = keys.transformer_layout(file.shapes, "")
    model = networks.transformer(plan.shapes(file.shapes))
    fill(model, file, plan, torch.float32)
    assert torch.equal(call(model), call(model_of(expected, tmp_path)))


def test_older_prepared_files_and_those_of_a_killed_run_are_removed(
    source: WeightFile, layout: Layout, kohya_file: Path, tmp_path: Path
) -> None:
    changes = read_lora(WeightFile(kohya_file), "transformer", layout.shapes(source.shapes))
    beside = tmp_path / "flux1-dev-fp8.safetensors"
    first, second = (prepared_path(beside, {"scale": scale}) for scale in (1.0, 0.5))
    assert first != second
    dead, alive = (first.with_name(f".{first.name}.{pid}.partial") for pid in (2**22 + 1, os.getppid()))
    for left in (dead, alive):
        left.write_bytes(b"half")
    for target, scale in ((first, 1.0), (second, 0.5)):
        fold_transformer(source, layout, changes, scale, target, CPU, lambda _f: None)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, second.name])
