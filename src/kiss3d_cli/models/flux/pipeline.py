"""A picture as Flux draws it: from noise, or from a picture and under the control of others (SDEdit, Meng et al. 2022).

Latents are saved on the way, so that a resumed run goes on from there with the same bytes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.core.out_of_memory import explained
from kiss3d_cli.models.flux import latents as latent
from kiss3d_cli.models.flux.denoise import Control, Prompt, calls, denoise
from kiss3d_cli.models.flux.resident import Files, Load, Networks, Told
from kiss3d_cli.models.flux.resume import LatentFile
from kiss3d_cli.models.flux.schedule import Schedule, Solver, acts, make_schedule

Picture = UInt8[np.ndarray, "H W 3"]

SAVE_EVERY = 2
"""Steps between two savings of the latents."""


@dataclasses.dataclass(frozen=True)
class Sketch:
    """What stays the same from picture to picture.

    Attributes:
        height, width: of the picture, in pixels: multiples of 16.
        solver: which steps are taken.
        steps: of the full schedule.
        strength: share of it that is run; 1 starts from noise.
        guidance: Distilled guidance scale of Flux.
        seed: of the noise.
        hint: what to change where memory runs out.
        otherwise: how to go on where Flux draws no numbers.
    """

    height: int
    width: int
    solver: Solver
    steps: int
    strength: float
    guidance: float
    seed: int
    hint: str
    otherwise: str


@dataclasses.dataclass(frozen=True)
class Guide:
    """A control that is asked for: its mode, its picture, its scale, and the share of the schedule in which it acts.

    The mode `tile` takes the picture that drawing starts from, already encoded.
    """

    mode: str
    picture: Picture
    scale: float
    start: float
    end: float


class Studio:
    """Flux at work on pictures of one size."""

    def __init__(self, sketch: Sketch, files: Callable[[], Files], device: DeviceInfo, *, alone: bool) -> None:
        """
        Args:
            files: looks the weights up when they are first needed.
            alone: there will be one picture: its networks come and go.
        """
        self._sketch, self._device = sketch, device
        self._networks = Networks(files, device, alone=alone)
        self._rows, self._columns = sketch.height // latent.PIXELS, sketch.width // latent.PIXELS

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_error: object) -> None:
        self._networks.close()

    def draw(
        self, told: Told, prompt: Callable[[], Prompt], start: Picture | None = None, guides: Sequence[Guide] = ()
    ) -> Float[Tensor, "H W 3"]:
        """A picture in [0, 1], in host memory.

        Args:
            prompt: reads what the picture shall show; it is asked for only where a step is left to run.
            start: what noise is added to; None for noise alone.
            guides: the controls.

        Raises:
            OutOfMemory: with what was being done and what to change; a resumed run goes on from the last saved step.
            Kiss3dError: Flux drew values that are not numbers.
        """
        sketch, device = self._sketch, self._device
        image_tokens = self._rows * self._columns // latent.PATCH**2
        schedule = make_schedule(sketch.solver, sketch.steps, sketch.strength, image_tokens)
        keep = LatentFile(told.scratch / "latents.safetensors", SAVE_EVERY)
        started = time.perf_counter()
        doing = "while encoding the reference bundle"
        with explained(device, lambda: doing, sketch.hint):
            tokens, controls = self._encoded(told, start, guides)
            idle = [c.mode for c in controls if not any(_acting(c, schedule))]
            if idle and schedule.steps:
                told.warnings.append(f"The control {', '.join(idle)} acts in no step: there are too few of them.")
            if schedule.steps:
                channels = tokens.shape[-1] // latent.PATCH**2
                noise = latent.noise(self._rows, self._columns, channels, sketch.seed)
                level = schedule.levels[0]
                tokens = (1 - level) * tokens + level * noise
            saved = keep.read(schedule.steps, tokens.shape)
            first = 0 if saved is None else saved.done
            if saved is not None:
                tokens = saved.latents
                told.facts["resumed_at_step"] = first
            if first < schedule.steps:
                doing = "while loading Flux"
                if device.is_cuda:
                    keep.reserve(tokens.shape)

                def after_step(index: int, latents: Tensor) -> None:
                    nonlocal doing
                    done = index + 1
                    doing = f"in step {min(done + 1, schedule.steps)} of {schedule.steps}"
                    keep.after_step(done, latents, last=done == schedule.steps)
                    told.facts.setdefault("seconds_to_first_step", round(time.perf_counter() - started, 3))
                    told.progress(0.2 + 0.7 * done / schedule.steps, f"step {done} of {schedule.steps}")

                tokens = self._denoised(told, prompt(), schedule, tokens, controls, first, after_step)
            self._networks.release()
            doing = "while decoding the bundle"
            told.progress(0.9, doing.removeprefix("while "))
            with self._networks.vae(told, sketch.height * sketch.width) as vae:
                picture = latent.decode(vae, tokens.to(device.torch), sketch.height, sketch.width).cpu()
        told.facts.update(
            steps=schedule.steps, transformer_calls=schedule.calls, width=sketch.width, height=sketch.height
        )
        return picture

    def _encoded(
        self, told: Told, start: Picture | None, guides: Sequence[Guide]
    ) -> tuple[Float[Tensor, "1 N D"], list[Control]]:
        """The start's latents, or zeros, and the controls; in host memory."""
        if start is None:
            return torch.zeros(1, self._rows * self._columns // latent.PATCH**2, 64), []
        told.progress(0.02, "encoding the reference bundle")
        with self._networks.vae(told, start.shape[0] * start.shape[1]) as vae:
            tokens = latent.encode(vae, _floats(start)).cpu()
            controls = []
            for guide in guides:
                own = tokens if guide.mode == "tile" else latent.encode(vae, _floats(guide.picture)).cpu()
                controls.append(Control(guide.mode, own, guide.scale, guide.start, guide.end))
        self._networks.release()
        return tokens, controls

    def _denoised(
        self,
        told: Told,
        prompt: Prompt,
        schedule: Schedule,
        start: Tensor,
        controls: list[Control],
        first: int,
        after_step: Callable[[int, Tensor], None],
    ) -> Tensor:
        """Run the schedule; the latents come back in host memory."""
        device, dtype = self._device, self._device.half
        clock = time.perf_counter()
        acting = [c for c in controls if any(_acting(c, schedule)[first:])]
        ever = [c for c in controls if any(_acting(c, schedule))]
        image_tokens = start.shape[1]
        tokens = prompt.states.shape[1] + 1 + image_tokens
        loads = (Load(tokens, image_tokens, len(some)) for some in (acting, ever))
        with self._networks.flux(told, *loads) as (networks, residence):
            told.facts.update(
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
                latent.token_places(self._rows, self._columns, device.torch),
                self._sketch.guidance,
                dtype,
                first=first,
                after_step=after_step,
            ).cpu()
            told.facts["seconds_of_steps"] = round(time.perf_counter() - clock, 3)
        if not bool(result.isfinite().all()):
            raise Kiss3dError(
                f"Flux drew values that are not numbers, in {str(dtype).removeprefix('torch.')}",
                hint=self._sketch.otherwise,
            )
        return result


def _acting(control: Control, schedule: Schedule) -> list[bool]:
    """In which steps a control acts."""
    return [acts(control.start, control.end, index, schedule.steps) for index in range(schedule.steps)]


def _floats(picture: Picture) -> Float[Tensor, "H W 3"]:
    return torch.from_numpy(picture.copy()).float() / 255
