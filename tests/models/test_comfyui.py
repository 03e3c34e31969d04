"""ComfyUI's folders, as its users have them: files told by their headers, and named where there are several."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfyui_folder import write_additions, write_parts
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.models.flux.comfyui import flux_files
from kiss3d_cli.models.flux.loading import load_clip, load_t5, load_transformer, load_vae
from kiss3d_cli.models.store.comfyui import models_folder
from kiss3d_cli.models.store.locate import file_of, find_all
from kiss3d_cli.models.store.preflight import check

NAMES = ("flux-dev", "flux-schnell", "flux-controlnet", "bundle-lora", "redux-lora")


@pytest.fixture
def comfyui(all_in_one: Path, tiny_flux: Path, tmp_path: Path) -> Path:
    """One file for each part, under names of the user's own, and files of other models beside them."""
    models = tmp_path / "ComfyUI" / "models"
    write_parts(all_in_one, models)
    other = {"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3), "encoder.conv_in.weight": torch.zeros(8, 3, 3, 3)}
    save_file(other, models / "vae" / "sd15.safetensors")
    save_file(
        {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(5120, 1280)}, models / "clip" / "clip_g.safetensors"
    )
    (models / "clip" / "broken.safetensors").write_bytes(b"\xff" * 40)
    (models / "clip" / "page.safetensors").write_text("<!doctype html>")
    write_additions(tiny_flux, models)
    return models


def test_files_are_found_by_their_headers(comfyui: Path, all_in_one: Path, tmp_path: Path) -> None:
    for given in (comfyui, comfyui.parent):
        found = find_all(NAMES, tmp_path / "nothing", given)
        assert set(found) == {"flux-dev", "flux-controlnet", "bundle-lora", "redux-lora"}
    assert found["flux-controlnet"].path == comfyui / "controlnet" / "flux" / "union.safetensors"
    assert file_of(found["bundle-lora"].path, "rgb_normal.safetensors") == comfyui / "loras" / "rgb_normal.safetensors"
    files = flux_files(found["flux-dev"].path)
    assert files.transformer.name == "flux_fp8.safetensors"
    expected = flux_files(all_in_one.parent)
    assert expected.t5 == expected.vae == expected.transformer == all_in_one
    pairs = [
        (load_t5(files.t5, torch.float32), load_t5(all_in_one, torch.float32)),
        (load_clip(files.clip, torch.float32), load_clip(all_in_one, torch.float32)),
        (load_vae(files.vae, torch.float32), load_vae(all_in_one, torch.float32)),
        tuple(
            load_transformer(p, None, 0, torch.float32, device=torch.device("cpu"))
            for p in (files.transformer, all_in_one)
        ),
    ]
    for mine, theirs in pairs:
        wanted = theirs.state_dict()
        assert mine.state_dict().keys() == wanted.keys()
        assert all(torch.equal(v.float(), wanted[n].float()) for n, v in mine.state_dict().items())


def test_an_all_in_one_file_serves_for_its_parts(comfyui: Path, all_in_one: Path) -> None:
    (comfyui / "checkpoints").mkdir()
    whole = Path(shutil.copyfile(all_in_one, comfyui / "checkpoints" / all_in_one.name))
    assert set(vars(flux_files(comfyui)).values()) == {whole}, "the published name wins over others"


def test_another_file_is_another_model(comfyui: Path) -> None:
    before = find_all(NAMES, None, comfyui)
    vae = comfyui / "vae" / "ae.safetensors"
    content = vae.read_bytes()
    vae.touch()
    assert find_all(NAMES, None, comfyui) == before
    vae.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    after = find_all(NAMES, None, comfyui)
    assert before["flux-dev"].identity != after["flux-dev"].identity
    assert before["bundle-lora"] == after["bundle-lora"]


def test_the_files_are_looked_at_before_any_work(comfyui: Path, tmp_path: Path) -> None:
    names = [name for name in NAMES if name != "flux-schnell"]
    assert check(names, tmp_path, comfyui) == []
    vae, lora = comfyui / "vae" / "ae.safetensors", comfyui / "loras" / "rgb_normal.safetensors"
    save_file({n: t for n, t in load_file(vae).items() if n != "decoder.conv_out.weight"}, vae)
    save_file({"lora_unet_img_in.hada_w1_a": torch.zeros(2, 2)}, lora)
    found = {fault.path: fault.what for fault in check(names, tmp_path, comfyui)}
    assert set(found) == {vae, lora}
    assert "conv_out" in found[vae]
    assert "LoHa" in found[lora]


def test_several_files_for_one_part_are_named(comfyui: Path, all_in_one: Path) -> None:
    unet = comfyui / "unet" / "mine" / "flux_fp8.safetensors"
    wide = {n: t.bfloat16() for n, t in load_file(unet).items()}
    (comfyui / "diffusion_models").mkdir()
    save_file(wide, comfyui / "diffusion_models" / "flux1-dev.safetensors")
    shutil.copyfile(unet, comfyui / "diffusion_models" / "flux-schnell-merge.safetensors")
    assert flux_files(comfyui).transformer == unet, "the one in fp8 that is not the merge"
    assert find_all(["flux-schnell"], None, comfyui)["flux-schnell"].path.name == "flux-schnell-merge.safetensors"
    shutil.copyfile(unet, comfyui / "diffusion_models" / "kontext.safetensors")
    with pytest.raises(
        BadInput, match=r"several files could be Flux's transformer: unet/mine/flux_fp8.*kontext"
    ) as caught:
        find_all(NAMES, None, comfyui)
    assert "move the others" in str(caught.value.hint)


def test_a_part_that_is_not_there_is_named(comfyui: Path, tmp_path: Path) -> None:
    (comfyui / "vae" / "ae.safetensors").unlink()
    assert "flux-dev" not in find_all(NAMES, tmp_path, comfyui), "it is looked up elsewhere"
    with pytest.raises(Missing, match="no file there is Flux's VAE") as caught:
        flux_files(comfyui)
    assert "kiss3d models pull" in str(caught.value.hint)
    with pytest.raises(BadInput, match="none of ComfyUI's folders"):
        models_folder(tmp_path / "elsewhere")
