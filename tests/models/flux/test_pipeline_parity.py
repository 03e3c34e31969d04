"""The bundle's loop live against diffusers' own FluxControlNetImg2ImgPipeline, on the same tiny weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FluxControlNetImg2ImgPipeline,
    FluxControlNetModel,
    FluxTransformer2DModel,
)
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_ldm_vae_checkpoint,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from PIL import Image
from safetensors.torch import load_file
from transformers import SiglipVisionConfig, SiglipVisionModel

from kiss3d_cli.models.flux import latents as latent
from kiss3d_cli.models.flux.denoise import MODES, Control, Prompt, denoise
from kiss3d_cli.models.flux.loading import load_controlnet, load_transformer, load_vae
from kiss3d_cli.models.flux.redux import load_redux
from kiss3d_cli.models.flux.schedule import make_schedule

pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.*:FutureWarning")  # diffusers warns of its own import
CPU, WIDE = torch.device("cpu"), torch.float32
HEIGHT, WIDTH, SEED = 64, 128, 7
STEPS, STRENGTH, GUIDANCE = 20, 0.95, 3.5
SCALE, START, END = 0.6, 0.1, 0.65


class Heun(FlowMatchHeunDiscreteScheduler):  # type: ignore[misc]
    """The published scheduler where diffusers' pipeline wants one that takes levels: it takes their number."""

    def set_timesteps(
        self, num_inference_steps: Any = None, device: Any = None, sigmas: Any = None, mu: Any = None
    ) -> None:
        super().set_timesteps(len(sigmas) if num_inference_steps is None else num_inference_steps, device)


class Recorded:
    """Calls of a network: what it was told besides the sample, in order."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.calls: list[dict[str, Any]] = []
        network.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _network: Any, _positional: Any, named: dict[str, Any]) -> None:
        self.calls.append(dict(named))

    def all(self, name: str) -> list[float]:
        return [float(call[name]) for call in self.calls]


@pytest.fixture(scope="module")
def published(tiny_flux: Path, all_in_one: Path) -> dict[str, Any]:
    """diffusers' classes with weights converted by diffusers' own converters, none of ours in between."""
    stored = {name: tensor.float() for name, tensor in load_file(all_in_one).items()}
    prefix = "model.diffusion_model."
    own = load_transformer(all_in_one, None, 0.0, WIDE, device=CPU)
    transformer = FluxTransformer2DModel(**own.config)
    original = {n: t for n, t in stored.items() if n.startswith(prefix)}
    split, width = torch.split, original[f"{prefix}img_in.bias"].shape[0]
    with pytest.MonkeyPatch.context() as patch:  # the converter knows one width of the network, 3072
        patch.setattr(torch, "split", lambda t, sizes, dim=0: split(t, [s * width // 3072 for s in sizes], dim))
        transformer.load_state_dict(convert_flux_transformer_checkpoint_to_diffusers(original))
    vae = AutoencoderKL(**load_vae(all_in_one, WIDE).config)
    original = {f"first_stage_model.{n.removeprefix('vae.')}": t for n, t in stored.items() if n.startswith("vae.")}
    vae.load_state_dict(convert_ldm_vae_checkpoint(original, vae.config))
    control = load_controlnet(controlnet_file(tiny_flux), WIDE)
    controlnet = FluxControlNetModel(**control.config)
    # the matrices that we narrow to fp8, as they come out
    widened = load_file(controlnet_file(tiny_flux))
    for name, module in control.named_modules():
        if type(module).__name__ == "Fp8Linear":
            widened[f"{name}.weight"] = module.codes.float() * (1.0 if module.scale is None else module.scale)
    controlnet.load_state_dict({n: t.float() for n, t in widened.items()})
    return {"transformer": transformer.eval(), "vae": vae.eval(), "controlnet": controlnet.eval()}


@pytest.fixture(scope="module")
def ours(tiny_flux: Path, all_in_one: Path) -> dict[str, Any]:
    return {
        "transformer": load_transformer(all_in_one, None, 0.0, WIDE, device=CPU),
        "controlnet": load_controlnet(controlnet_file(tiny_flux), WIDE),
        "vae": load_vae(all_in_one, WIDE),
    }


@pytest.fixture(autouse=True)
def _mean_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one difference that is meant: there the VAE's latents are drawn, here they are the mean."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, _generator=None: self.mode())


def controlnet_file(root: Path) -> Path:
    return root / "InstantX" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors"


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def redux_tokens(root: Path, seen: np.ndarray) -> torch.Tensor:
    """Redux's tokens by the classes of the published pipeline, with Pillow in the processor's place."""
    folder = root / "black-forest-labs" / "FLUX.1-Redux-dev"
    vision = SiglipVisionModel(SiglipVisionConfig.from_pretrained(folder / "image_encoder")).eval()
    names = set(vision.state_dict())
    state = load_file(folder / "image_encoder" / "model.safetensors")
    vision.load_state_dict({n if n in names else n.removeprefix("vision_model."): t.float() for n, t in state.items()})
    state = load_file(folder / "image_embedder" / "diffusion_pytorch_model.safetensors")
    embedder = ReduxImageEncoder(state["redux_up.weight"].shape[1], state["redux_down.weight"].shape[0]).eval()
    embedder.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    side = vision.config.image_size
    small = np.asarray(Image.fromarray(seen).resize((side, side), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        return embedder(vision(pixel_values=pixels).last_hidden_state).image_embeds


@pytest.mark.parametrize("redux", [True, False], ids=["redux", "plain"])
@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_every_step_is_that_of_the_published_pipeline(
    solver: Any, redux: bool, published: dict[str, Any], ours: dict[str, Any], tiny_flux: Path
) -> None:
    random = torch.Generator().manual_seed(1)
    words, summary = torch.randn(1, 16, 48, generator=random), torch.randn(1, 64, generator=random)
    if redux:
        seen = picture(96, 96, 2)
        theirs = redux_tokens(tiny_flux, seen)
        mine = load_redux(tiny_flux / "black-forest-labs" / "FLUX.1-Redux-dev", WIDE)(seen)
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
        words = torch.cat([words, 0.5 * theirs], 1)
    start = picture(HEIGHT, WIDTH, 3)
    scheduler = Heun(shift=3.0) if solver == "heun" else FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipeline = FluxControlNetImg2ImgPipeline(
        scheduler=scheduler, text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, **published
    )
    pipeline.set_progress_bar_config(disable=True)
    told = {name: Recorded(published[name]) for name in ("transformer", "controlnet")}
    steps: list[torch.Tensor] = []

    def after(_pipeline: Any, _index: int, _time: Any, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        steps.append(found["latents"].clone())
        return {}

    image = Image.fromarray(start)  # a tensor would be taken for one in [-1, 1]
    options: dict[str, Any] = {
        "prompt_embeds": words,
        "pooled_prompt_embeds": summary,
        "image": image,
        "control_image": image,
        "control_mode": MODES["tile"],
        "controlnet_conditioning_scale": SCALE,
        "control_guidance_start": START,
        "control_guidance_end": END,
        "height": HEIGHT,
        "width": WIDTH,
        "strength": STRENGTH,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "generator": torch.Generator().manual_seed(SEED),
        "callback_on_step_end": after,
    }
    with torch.inference_mode():
        drawn = pipeline(**options, output_type="pt").images[0].permute(1, 2, 0)

    rows, columns = HEIGHT // latent.PIXELS, WIDTH // latent.PIXELS
    places = latent.token_places(rows, columns, CPU)
    schedule = make_schedule(solver, STEPS, STRENGTH, len(places))
    reference = latent.encode(ours["vae"], torch.from_numpy(start.copy()).float() / 255)
    level = schedule.levels[0]
    mine_told = {name: Recorded(ours[name]) for name in told}
    found: list[torch.Tensor] = []
    result = denoise(
        ours["transformer"],
        ours["controlnet"],
        schedule,
        (1 - level) * reference + level * latent.noise(rows, columns, 16, SEED),
        Prompt(words, summary),
        [Control("tile", reference, SCALE, START, END)],
        places,
        GUIDANCE,
        WIDE,
        after_step=lambda _index, latents: found.append(latents.clone()),
    )

    flux, control = told["transformer"], told["controlnet"]
    assert mine_told["transformer"].all("timestep") == pytest.approx(flux.all("timestep"), abs=1e-6)
    for name in ("img_ids", "txt_ids"):
        assert torch.equal(mine_told["transformer"].calls[0][name], flux.calls[0][name])
    assert mine_told["transformer"].all("guidance") == flux.all("guidance")
    # a control of scale 0 is called there, and not here
    acting = [call for call in control.calls if call["conditioning_scale"]]
    assert mine_told["controlnet"].all("timestep") == pytest.approx([float(c["timestep"]) for c in acting], abs=1e-6)
    assert 0 < len(acting) < len(control.calls)
    assert {call["conditioning_scale"] for call in acting} == set(mine_told["controlnet"].all("conditioning_scale"))
    ends = [sum(schedule.calls_of(i) for i in range(step + 1)) - 1 for step in range(schedule.steps)]
    assert len(ends) == len(found) == schedule.steps
    for step, end in enumerate(ends):
        torch.testing.assert_close(
            found[step], steps[end], atol=2e-4, rtol=0, msg=lambda text, step=step: f"{step}: {text}"
        )
    picture_here = latent.decode(ours["vae"], result, HEIGHT, WIDTH)
    torch.testing.assert_close(picture_here, drawn, atol=1e-4, rtol=0)
