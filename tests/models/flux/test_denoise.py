"""The schedule, the loop and its parts, against diffusers' schedulers and pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kiss3d_cli.models.flux import latents as latent
from kiss3d_cli.models.flux.denoise import MODES, Control, Prompt, calls, denoise
from kiss3d_cli.models.flux.loading import load_controlnet, load_transformer
from kiss3d_cli.models.flux.schedule import Schedule, acts, make_schedule
from kiss3d_cli.models.runtime.offload import Residence, module_bytes

CPU = torch.device("cpu")
H, W = 8, 12
LISTS = ("transformer_blocks", "single_transformer_blocks")


@pytest.fixture(scope="module")
def networks(tiny_flux: Path, all_in_one: Path, kohya_file: Path) -> dict[str, Any]:
    controlnet = tiny_flux / "InstantX" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors"
    return {
        "controlnet": load_controlnet(controlnet, torch.float32),
        "transformer": load_transformer(all_in_one, kohya_file, 1.0, torch.float32, device=CPU),
    }


def prompt() -> Prompt:
    random = torch.Generator().manual_seed(1)
    return Prompt(torch.randn(1, 16, 48, generator=random), torch.randn(1, 64, generator=random))


def start() -> torch.Tensor:
    return latent.noise(H, W, 16, seed=3)


def controls() -> list[Control]:
    random = torch.Generator().manual_seed(2)
    pictures = [torch.randn(1, H * W // 4, 64, generator=random) for _ in range(2)]
    return [Control("tile", pictures[0], 0.6, 0.0, 0.65), Control("canny", pictures[1], 0.3, 0.2, 1.0)]


def ours(networks: dict[str, Any], schedule: Schedule, chosen: list[Control], **more: Any) -> torch.Tensor:
    return denoise(
        networks["transformer"],
        networks["controlnet"],
        schedule,
        more.pop("latents", start()),
        prompt(),
        chosen,
        latent.token_places(H, W, CPU),
        3.5,
        torch.float32,
        **more,
    )


@pytest.mark.parametrize(("steps", "strength"), [(20, 1.0), (20, 0.95), (14, 1.0), (10, 0.5), (1, 1.0)])
def test_heun_levels_are_those_of_the_published_scheduler(steps: int, strength: float) -> None:
    from diffusers import FlowMatchHeunDiscreteScheduler

    scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    times = (scheduler.timesteps / 1000).tolist()
    published = [times[0], *times[1::2], 0.0][int(steps - steps * strength) :]
    schedule = make_schedule("heun", steps, strength, 3200)
    np.testing.assert_allclose(schedule.levels, published, atol=2e-6)
    assert schedule.calls == 2 * schedule.steps - 1


@pytest.mark.parametrize(("steps", "tokens"), [(8, 3200), (20, 8192), (4, 256)])
def test_euler_levels_are_those_of_the_published_scheduler(steps: int, tokens: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    sigmas = np.linspace(1.0, 1 / steps, steps)
    scheduler.set_timesteps(sigmas=sigmas, mu=calculate_shift(tokens, 256, 4096, 0.5, 1.15))
    schedule = make_schedule("euler", steps, 1.0, tokens)
    np.testing.assert_allclose(schedule.levels, scheduler.sigmas.tolist(), atol=1e-6)
    assert schedule.calls == steps


def test_a_strength_between_two_levels_shortens_the_first_step() -> None:
    full = make_schedule("heun", 14, 1.0, 3200)
    part = make_schedule("heun", 14, 0.95, 3200)
    assert part.levels[1:] == full.levels[1:]
    assert full.levels[1] < part.levels[0] < full.levels[0]
    assert make_schedule("euler", 8, 0.0, 3200) == Schedule("euler", (0.0,))
    assert make_schedule("euler", 8, 0.0, 3200).steps == 0


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_the_loop_equals_one_around_diffusers_scheduler(solver: Any, networks: dict[str, Any]) -> None:
    import diffusers

    steps, tokens = 4, H * W // 4
    if solver == "heun":
        scheduler: Any = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
        scheduler.set_timesteps(steps)
    else:
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        mu = calculate_shift(tokens, 256, 4096, 0.5, 1.15)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    x, words = start(), prompt()
    shared = {
        "pooled_projections": words.summary,
        "encoder_hidden_states": words.states,
        "txt_ids": torch.zeros(16, 3),
        "img_ids": latent.token_places(H, W, CPU),
        "guidance": torch.tensor([3.5]),
        "return_dict": False,
    }
    (tile, canny) = controls()
    with torch.inference_mode():
        for t in scheduler.timesteps:
            blocks, singles = [], []
            for control in (tile, canny):
                b, s = networks["controlnet"](
                    hidden_states=x,
                    controlnet_cond=control.tokens,
                    controlnet_mode=torch.tensor([[MODES[control.mode]]]),
                    conditioning_scale=control.scale,
                    timestep=t.expand(1) / 1000,
                    **shared,
                )
                blocks.append(b)
                singles.append(s)
            (v,) = networks["transformer"](
                hidden_states=x,
                timestep=t.expand(1) / 1000,
                controlnet_block_samples=[a + b for a, b in zip(*blocks, strict=True)],
                controlnet_single_block_samples=[a + b for a, b in zip(*singles, strict=True)],
                **shared,
            )
            x = scheduler.step(v, t, x, return_dict=False)[0]
    always = [Control(c.mode, c.tokens, c.scale, 0.0, 1.0) for c in controls()]
    got = ours(networks, make_schedule(solver, steps, 1.0, tokens), always)
    torch.testing.assert_close(got, x, rtol=2e-4, atol=2e-4)
    without = ours(networks, make_schedule(solver, steps, 1.0, tokens), [])
    assert (without - got).norm() / got.norm() > 0.01, "the controls matter"


def test_controls_act_in_their_range() -> None:
    schedule = make_schedule("heun", 20, 0.95, 3200)
    planned = calls(schedule, controls())
    tile = [step.count("controlnet") // step.count("transformer") for step in calls(schedule, controls()[:1])]
    assert tile == [1] * 12 + [0] * 7  # 12 / 19 <= 0.65 < 13 / 19
    assert planned[0] == ["controlnet", "transformer"] * 2
    assert planned[5] == ["controlnet", "controlnet", "transformer"] * 2
    assert planned[-1] == ["controlnet", "transformer"]  # the last step of Heun looks once
    assert calls(schedule, controls(), first=18) == planned[18:]
    assert not acts(0.5, 0.5, 5, 10)


def test_going_on_from_a_saved_step_gives_the_same_bits(networks: dict[str, Any]) -> None:
    schedule = make_schedule("heun", 5, 0.9, 24)
    saved: dict[int, torch.Tensor] = {}
    whole = ours(networks, schedule, controls(), after_step=lambda i, x: saved.update({i: x.clone()}))
    assert sorted(saved) == list(range(schedule.steps))
    assert torch.equal(saved[schedule.steps - 1], whole)
    again = ours(networks, schedule, controls(), latents=saved[1], first=2)
    assert torch.equal(again, whole)


def test_streamed_flux_equals_resident_flux_bit_for_bit(networks: dict[str, Any]) -> None:
    schedule = make_schedule("heun", 3, 1.0, 24)
    expected = ours(networks, schedule, controls())
    total = sum(module_bytes(model) for model in networks.values())
    blocks = [module_bytes(b) for m in networks.values() for path in LISTS for b in m.get_submodule(path)]
    limit = total - sum(blocks) + 2 * max(blocks) + 10_000
    with Residence(networks, LISTS, CPU, limit=limit, working=10_000, what="Flux", poison=True) as residence:
        assert residence.plan.streamed
        for names in calls(schedule, controls()):
            residence.expect(names)
        assert torch.equal(ours(networks, schedule, controls()), expected)


def test_one_thread_and_two_give_the_same_bits(networks: dict[str, Any]) -> None:
    schedule = make_schedule("euler", 2, 1.0, 24)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(ours(networks, schedule, controls()))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_tokens_are_packed_as_the_published_pipeline_packs_them() -> None:
    from diffusers import FluxPipeline

    x = torch.arange(16 * H * W, dtype=torch.float32).reshape(1, 16, H, W)
    packed = latent.pack(x)
    assert torch.equal(packed, FluxPipeline._pack_latents(x, 1, 16, H, W))
    assert torch.equal(latent.unpack(packed, H, W), x)
    ids = FluxPipeline._prepare_latent_image_ids(1, H // 2, W // 2, CPU, torch.float32)
    assert torch.equal(latent.token_places(H, W, CPU), ids)


def test_seed_zero_is_a_seed_and_noise_is_standard() -> None:
    zero, one = latent.noise(64, 64, 16, 0), latent.noise(64, 64, 16, 1)
    assert torch.equal(zero, latent.noise(64, 64, 16, 0))
    assert not torch.equal(zero, one)
    assert abs(float(zero.std()) - 1) < 0.01
