"""The bundle as Flux draws it: from the reference bundle and under its control, or by Redux from a template."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from kiss3d_cli.core.device import release
from kiss3d_cli.core.errors import DamagedRun, Kiss3dError, OutOfMemory
from kiss3d_cli.image.conditions import condition
from kiss3d_cli.image.png import write_png
from kiss3d_cli.image.views import to_bytes
from kiss3d_cli.methods.base import Context, Machine
from kiss3d_cli.methods.bundle.flux_settings import Drawing, bundle_lora
from kiss3d_cli.methods.memory import explained
from kiss3d_cli.models.flux import latents as latent
from kiss3d_cli.models.flux.denoise import Control, Prompt, calls, denoise, working_bytes
from kiss3d_cli.models.flux.loading import load_controlnet, load_transformer, load_vae, transformer_file
from kiss3d_cli.models.flux.resume import LatentFile
from kiss3d_cli.models.flux.schedule import Schedule, acts, make_schedule
from kiss3d_cli.models.runtime.offload import Residence, module_bytes
from kiss3d_cli.models.store.comfyui import flux_files
from kiss3d_cli.models.store.locate import file_of

Picture = UInt8[np.ndarray, "H W 3"]
Asked = tuple[str, float, float, float]
"""A control: its mode, its scale, and where it sets in and ends."""

SAVE_EVERY = 2
"""Steps between two savings of the latents."""
BLOCKS = ("transformer_blocks", "single_transformer_blocks")
HINT = "kiss3d resume with --set device.memory_limit=... (a smaller one streams more), or a smaller bundle.tile"


class Studio:
    """Flux's networks at work.

    For one run the VAE is let go before Flux and loaded again after it. For many, all of them stay on the device under
    one plan, in which the VAE works in the room of Flux's activations.
    """

    def __init__(self, settings: Drawing, machine: Machine) -> None:
        self._settings, self._machine = settings, machine
        self._stack = ExitStack()
        self._residence: Residence | None = None
        self._networks: dict[str, nn.Module] = {}
        self._vae_working = 0
        self._alone = machine.calls == 1

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def draw(
        self,
        context: Context,
        reference: Picture | None = None,
        asked: Sequence[Asked] = (),
        strength: float = 1.0,
    ) -> None:
        """Write bundle.png.

        Args:
            reference: what noise is added to; None for noise alone.
            asked: controls taken from the reference.
            strength: share of the schedule that is run.
        """
        settings, machine = self._settings, self._machine
        height, width = 2 * settings.tile, 4 * settings.tile
        rows, columns = height // latent.PIXELS, width // latent.PIXELS
        image_tokens = rows * columns // latent.PATCH**2
        schedule = make_schedule(settings.scheduler, settings.steps, strength, image_tokens)
        keep = LatentFile(context.scratch / "latents.safetensors", SAVE_EVERY)
        started = time.perf_counter()
        doing = "while encoding the reference bundle"
        with explained(machine.device, lambda: doing, HINT):
            start, controls = self._encoded(context, reference, asked, schedule, rows, columns)
            idle = [c.mode for c in controls if not any(_acting(c, schedule))]
            if idle and schedule.steps:
                context.warnings.append(f"The control {', '.join(idle)} acts in no step: there are too few of them.")
            if schedule.steps:
                noise = latent.noise(rows, columns, start.shape[-1] // latent.PATCH**2, settings.seed)
                level = schedule.levels[0]
                start = (1 - level) * start + level * noise
            saved = keep.read(schedule.steps, start.shape)
            first = 0 if saved is None else saved.done
            if saved is not None:
                start = saved.latents
                context.facts["resumed_at_step"] = first
            if first < schedule.steps:
                doing = "while loading Flux"
                if machine.device.is_cuda:
                    keep.reserve(start.shape)

                def after_step(index: int, latents: Tensor) -> None:
                    nonlocal doing
                    done = index + 1
                    doing = f"in step {min(done + 1, schedule.steps)} of {schedule.steps}"
                    keep.after_step(done, latents, last=done == schedule.steps)
                    context.facts.setdefault("seconds_to_first_step", round(time.perf_counter() - started, 3))
                    context.progress(0.2 + 0.7 * done / schedule.steps, f"step {done} of {schedule.steps}")

                start = self._denoised(context, schedule, start, controls, first, rows, columns, after_step)
            self._release()
            doing = "while decoding the bundle"
            context.progress(0.9, doing.removeprefix("while "))
            with self._vae(context, height * width) as vae:
                picture = latent.decode(vae, start.to(machine.device.torch), height, width).cpu()
        context.facts.update(steps=schedule.steps, transformer_calls=schedule.calls, width=width, height=height)
        write_png(context.output / "bundle.png", to_bytes(picture))

    def _encoded(
        self,
        context: Context,
        reference: Picture | None,
        asked: Sequence[Asked],
        schedule: Schedule,
        rows: int,
        columns: int,
    ) -> tuple[Tensor, list[Control]]:
        """The reference's latents, or zeros, and the controls; in host memory."""
        if reference is None:
            return torch.zeros(1, rows * columns // latent.PATCH**2, 64), []
        context.progress(0.02, "encoding the reference bundle")
        with self._vae(context, reference.shape[0] * reference.shape[1]) as vae:
            start = latent.encode(vae, _floats(reference)).cpu()
            controls = []
            for mode, scale, first, last in asked:
                picture = condition(mode, reference)
                write_png(context.output / f"control_{mode}.png", picture)
                tokens = start if mode == "tile" else latent.encode(vae, _floats(picture)).cpu()
                controls.append(Control(mode, tokens, float(scale), float(first), float(last)))
        self._release()
        return start, controls

    def _denoised(
        self,
        context: Context,
        schedule: Schedule,
        start: Tensor,
        controls: list[Control],
        first: int,
        rows: int,
        columns: int,
        after_step: Callable[[int, Tensor], None],
    ) -> Tensor:
        """Run the schedule; the latents come back in host memory."""
        device, dtype = self._machine.device, self._machine.device.half
        clock = time.perf_counter()
        prompt = _prompt(self._settings, context)
        acting = [c for c in controls if any(_acting(c, schedule)[first:])]
        ever = [c for c in controls if any(_acting(c, schedule))]
        with self._flux(context, prompt, start.shape[1], acting, ever) as (networks, residence):
            context.facts.update(
                resident_bytes=residence.plan.resident_bytes + residence.plan.fixed_bytes,
                streamed_bytes=residence.plan.streamed_bytes,
                working_bytes=residence.plan.working_bytes,
                smallest_memory_limit_bytes=residence.plan.least_bytes,
                seconds_to_load=round(time.perf_counter() - clock, 3),
            )
            for names in calls(schedule, acting, first):
                residence.expect(names)
            clock = time.perf_counter()
            result = denoise(
                networks["transformer"],
                networks.get("controlnet"),
                schedule,
                start.to(device.torch),
                prompt,
                acting,
                latent.token_places(rows, columns, device.torch),
                float(self._settings.guidance),
                dtype,
                first=first,
                after_step=after_step,
            ).cpu()
            context.facts["seconds_of_steps"] = round(time.perf_counter() - clock, 3)
        if not bool(result.isfinite().all()):
            raise Kiss3dError(
                f"Flux drew values that are not numbers, in {str(dtype).removeprefix('torch.')}",
                hint="kiss3d models verify, or --set bundle.method=reference, and report it with the name of your GPU",
            )
        return result

    @contextmanager
    def _flux(
        self, context: Context, prompt: Prompt, image_tokens: int, acting: list[Control], ever: list[Control]
    ) -> Iterator[tuple[dict[str, nn.Module], Residence]]:
        """Flux within the memory limit, with its ControlNet where a control acts: here, or in `ever` a run."""
        if not self._alone and self._residence is None:
            self._settle(context, prompt, image_tokens, ever)
        if self._residence is None:
            networks = self._load(context, bool(acting))
            working = _working(networks, prompt, image_tokens, len(acting), self._machine.device.half)
            with self._resident(networks, working, "Flux") as residence:
                yield networks, residence
            return
        yield self._networks, self._residence

    def _settle(self, context: Context, prompt: Prompt, image_tokens: int, ever: list[Control]) -> None:
        """Bring all networks to the device to stay; where they have no room together, each run is as one alone."""
        networks = self._load(context, bool(ever))
        working = _working(networks, prompt, image_tokens, len(ever), self._machine.device.half)
        room = max(working, self._vae_working)
        try:
            residence = self._resident({**self._networks, **networks}, room, "Flux")
        except OutOfMemory:
            self._alone = True
            self._networks.clear()
            return
        self._networks |= networks
        self._residence = self._stack.enter_context(residence)

    def _load(self, context: Context, controlled: bool) -> dict[str, nn.Module]:
        settings, machine = self._settings, self._machine

        def preparing(low: float, high: float, what: str) -> Callable[[float], None]:
            return lambda share: context.progress(low + (high - low) * share, what)

        kind = "flux-dev" if settings.model == "dev" else "flux-schnell"
        folder = machine.models[kind]
        source = flux_files(folder).transformer if kind == "flux-dev" else transformer_file(folder)
        networks: dict[str, nn.Module] = {}
        if controlled:
            union = file_of(machine.models["flux-controlnet"], "diffusion_pytorch_model.safetensors")
            progress = preparing(0.05, 0.08, "preparing the ControlNet (once)")
            networks["controlnet"] = load_controlnet(union, machine.device.half, progress=progress)
        networks["transformer"] = load_transformer(
            source,
            bundle_lora(machine),
            float(settings.lora_scale),
            machine.device.half,
            device=machine.device.torch,
            progress=preparing(0.08, 0.2, "folding the LoRA into Flux (once)"),
        )
        return networks

    @contextmanager
    def _vae(self, context: Context, pixels: int) -> Iterator[nn.Module]:
        """The VAE on the device, in tiles if the whole picture does not fit."""
        machine = self._machine
        vae = self._networks.get("VAE")
        if vae is None:
            vae = load_vae(flux_files(machine.models["flux-dev"]).vae, machine.device.half)
        working = latent.decode_bytes(pixels, machine.device.half)
        limit = machine.device.limit_bytes
        if limit is not None and working + module_bytes(vae) > limit:
            latent.use_tiles(vae)
            working = latent.decode_bytes(latent.TILE**2, machine.device.half)
            context.facts["vae_tile"] = latent.TILE
        if not self._alone:
            self._networks["VAE"], self._vae_working = vae.to(machine.device.torch), working
            yield vae
            return
        with self._resident({"VAE": vae}, working, "the VAE"):
            yield vae

    def _resident(self, networks: dict[str, nn.Module], working: int, what: str) -> Residence:
        device = self._machine.device
        return Residence(networks, BLOCKS, device.torch, limit=device.limit_bytes, working=working, what=what)

    def _release(self) -> None:
        """What one run let go of."""
        if self._alone:
            release(self._machine.device)


def _acting(control: Control, schedule: Schedule) -> list[bool]:
    """In which steps a control acts."""
    return [acts(control.start, control.end, index, schedule.steps) for index in range(schedule.steps)]


def _working(
    networks: dict[str, nn.Module], prompt: Prompt, image_tokens: int, controls: int, dtype: torch.dtype
) -> int:
    config: Any = networks["transformer"].config
    width = config.num_attention_heads * config.attention_head_dim
    control = networks.get("controlnet")
    blocks = 0 if control is None else sum(len(list(control.get_submodule(path).children())) for path in BLOCKS)
    tokens = prompt.states.shape[1] + 1 + image_tokens
    return working_bytes(tokens, image_tokens, int(width), blocks, controls, dtype)


def _prompt(settings: Drawing, context: Context) -> Prompt:
    """T5's words followed by Redux's; as the prompt stage wrote them."""
    try:
        words = load_file(context.inputs["prompt/prompt.safetensors"])
        redux = load_file(context.inputs["prompt/redux.safetensors"])["redux"]
        states = torch.cat([words["t5"], float(settings.redux_factor) * redux], 1)
        return Prompt(states, words["clip"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise DamagedRun(f"the prompt's artifacts can't be used: {error}", hint="resume with --from prompt") from error


def _floats(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.copy()).float() / 255
