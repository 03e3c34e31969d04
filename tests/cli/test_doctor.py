"""`kiss3d doctor`, and the counts behind its times."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import call
from kiss3d_cli.cli import doctor
from kiss3d_cli.core import machine
from kiss3d_cli.core.device import GIB, DeviceInfo
from kiss3d_cli.methods.bundle.flux_settings import drawing_calls
from kiss3d_cli.methods.registry import methods
from kiss3d_cli.models.flux import keys, networks
from kiss3d_cli.models.flux.denoise import Control, calls
from kiss3d_cli.models.flux.schedule import make_schedule
from kiss3d_cli.models.flux.work import CONTROLNET, FLUX, transformer_flops
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.estimate import RTX_3060, estimate, whole_costs


def test_doctor_says_what_is_there_and_what_is_missing(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "measure", lambda _device: machine.Measured(1e11, 1e10, 1e10))
    answer = call("doctor", "--root", tiny_models, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["torch"] == torch.__version__
    assert found["device"]["name"] == "cpu"
    assert found["free_ram_bytes"] > 0
    assert found["free_disk_bytes"] > 0
    assert {row["name"] for row in found["packages"]} >= {"diffusers", "onnxruntime", "nvdiffrast", "pytorch3d"}
    absent = next(row for row in found["packages"] if row["name"] == "nvdiffrast")
    assert absent["version"] is None
    assert absent["hint"]
    assert all(row["here"] for row in found["models"])
    presets = {row["name"]: row for row in found["presets"]}
    assert presets["draft"]["ready"]
    assert presets["draft"]["seconds"] > 0
    assert not presets["12gb"]["ready"]
    assert "there is no GPU" in presets["12gb"]["verdict"]
    assert presets["12gb"]["seconds"] is None
    assert presets["12gb"]["stages"] == {}
    assert presets["draft"]["stages"]["refine"] > 0
    text = call("doctor", "--root", tiny_models, "--quick").out
    assert "not ready: there is no GPU" in text
    assert "TFLOP/s" not in text


def test_without_weights_doctor_says_how_to_get_them(tmp_path: Path) -> None:
    text = call("doctor", "--root", tmp_path, "--quick").out
    assert "kiss3d models pull 12gb" in text
    assert "gated: accept its terms at https://huggingface.co/black-forest-labs/FLUX.1-Redux-dev" in text
    assert "--set bundle.redux=false" in text


def test_a_full_disk_and_a_gpu_that_torch_does_not_use_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "_driver", lambda: "560.1")
    monkeypatch.setattr(machine, "free_disk", lambda _folder: 40 * 10**9)
    text = call("doctor", "--root", tmp_path, "--quick").out
    assert "560.1: there is a GPU that this torch can't use; install a torch with CUDA" in text
    assert "they take 54 GB with what is prepared of them, and 40 GB of disk are free" in text


def test_a_12_gb_card_is_told_what_it_can_do(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine.inspect_machine(Path())
    card = DeviceInfo("cuda:0", "RTX 3060", "auto", memory_bytes=12 * GIB, limit_bytes=11 * GIB)
    fake = dataclasses.replace(here, device=card, driver="560.1", capability="8.6", free_video_bytes=11 * GIB)
    rates = machine.Measured(RTX_3060.matrix, RTX_3060.memory, RTX_3060.host)
    row: dict[str, Any] = doctor._preset("12gb", fake, rates, tiny_models)
    assert row["ready"]
    assert row["seconds"] < 240
    small = dataclasses.replace(fake, free_video_bytes=4 * GIB)
    assert "GiB of free video memory" in doctor._preset("12gb", small, rates, tiny_models)["verdict"]


def test_the_formulas_count_what_the_classes_do(parity_dir: Path) -> None:
    stored = json.loads((parity_dir / "flux" / "flux1_dev_fp8_names_shapes.json").read_text(encoding="utf-8"))
    shapes = {name: tuple(shape) for name, shape in stored.items()}
    transformer = networks.transformer(keys.transformer_layout(shapes, keys.TRANSFORMER).shapes(shapes))
    stored = json.loads((parity_dir / "flux" / "controlnet_union_names_shapes.json").read_text(encoding="utf-8"))
    controlnet = networks.controlnet({name: tuple(shape) for name, shape in stored.items()})
    with torch.device("meta"), torch.inference_mode():
        shared = {
            "hidden_states": torch.empty(1, 3200, 64),
            "encoder_hidden_states": torch.empty(1, 1241, 4096),
            "pooled_projections": torch.empty(1, 768),
            "timestep": torch.empty(1),
            "guidance": torch.empty(1),
            "txt_ids": torch.empty(1241, 3),
            "img_ids": torch.empty(3200, 3),
            "return_dict": False,
        }
        with FlopCounterMode(display=False) as counter:
            transformer(**shared)
        assert counter.get_total_flops() == pytest.approx(transformer_flops(FLUX, 4441), rel=0.01)
        with FlopCounterMode(display=False) as counter:
            controlnet(
                **shared, controlnet_cond=shared["hidden_states"], controlnet_mode=torch.empty(1, 1, dtype=torch.long)
            )
        assert counter.get_total_flops() == pytest.approx(transformer_flops(CONTROLNET, 4442), rel=0.06)


@pytest.mark.parametrize("preset", ["fast", "12gb", "quality"])
def test_calls_are_counted_as_the_run_makes_them(preset: str) -> None:
    config = configuration.load(configuration.preset_layer(preset))
    bundle = config.of(methods()["bundle"]["flux"])
    schedule = make_schedule(bundle.scheduler, bundle.steps, bundle.strength, 8 * bundle.tile**2 // 256)
    controls = [
        Control(mode, torch.zeros(1, 1, 1), *rest)
        for mode, *rest in zip(
            bundle.controls, bundle.control_scales, bundle.control_starts, bundle.control_ends, strict=True
        )
    ]
    made = [name for step in calls(schedule, controls) for name in step]
    assert drawing_calls(bundle, bundle.strength, bundle.asked) == (made.count("transformer"), made.count("controlnet"))


def test_an_rtx_3060_is_modelled_within_the_times_wanted() -> None:
    wanted = {"fast": 90, "12gb": 240}
    for preset, most in wanted.items():
        found = estimate(configuration.load(configuration.preset_layer(preset)), RTX_3060)
        assert found.seconds < most
        assert found.video_bytes <= 12 * GIB


def test_less_memory_means_more_streaming_and_never_less_time() -> None:
    config = configuration.load(configuration.preset_layer("12gb"))
    streamed = [whole_costs(config, limit)["bundle"].streamed for limit in (None, 12.0 * GIB, 8.0 * GIB, 4.0 * GIB)]
    assert streamed[0] == 0
    assert streamed == sorted(streamed)
    slow = dataclasses.replace(RTX_3060, host=1e8)
    assert estimate(config, slow).seconds > estimate(config, RTX_3060).seconds
