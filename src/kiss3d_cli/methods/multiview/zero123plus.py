"""Four views drawn by Zero123++ with the UNet of FlexGen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Method, Opened, once
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.multiview.views import SIDES_TAKEN, WRITES, Tiles
from kiss3d_cli.methods.shared import VIEW_FILES, Seeded, not_a_multiple

UNIT = 32
"""Pixels that a tile is a multiple of: two of them are a side of the grid, which the networks halve six times."""

SCALES = (0.5, 1.2)
"""Sizes of the drawn front, against the given one, that are believed; above, a given picture would be cut off."""


class Zero123PlusSettings(Tiles, Seeded):
    steps: int = Field(50, ge=1, le=1000)
    """Denoising steps of Zero123++."""
    guidance: float = Field(4.0, ge=0, le=50)
    """Classifier-free guidance of Zero123++."""

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        yield from not_a_multiple("tile", self.tile, UNIT, "zero123plus")


class Zero123Plus(Method[Zero123PlusSettings]):
    """Four views drawn by Zero123++ with the UNet of FlexGen.

    Pictures that were given of several sides take the place of what is drawn, at the scale of the drawn front; where
    all four are given, nothing is drawn.
    """

    stage, name, version = "multiview", "zero123plus", 2
    settings = Zero123PlusSettings
    reads = ("preprocess/image.png",)
    takes = SIDES_TAKEN
    writes = WRITES
    packages = ("diffusers", "transformers", "accelerate")
    help = "generates the views"
    default = True

    def models(self, settings: Zero123PlusSettings) -> tuple[str, ...]:
        return ("zero123plus", "flexgen")

    def cost(self, settings: Zero123PlusSettings, around: Surroundings) -> Cost:
        from kiss3d_cli.models.zero123plus import work

        return Cost(
            flops=settings.steps * work.step_flops(settings.tile, settings.guidance),
            traffic=settings.steps * work.STEP_BYTES,
            loaded=work.FILE_BYTES,
            host_seconds=1,
            prepared={"flexgen": work.UNET_BYTES},
            video=work.VIDEO_BYTES,
            least_video=work.VIDEO_BYTES,
        )

    @contextmanager
    def open(self, settings: Zero123PlusSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.image.views import write_views
        from kiss3d_cli.models.zero123plus.networks import Networks
        from kiss3d_cli.models.zero123plus.pipeline import prepare_unet
        from kiss3d_cli.models.zero123plus.published import UNET_FILE

        device, folder = machine.device, machine.models["zero123plus"]

        @once
        def networks() -> Networks:
            weights = prepare_unet(folder, machine.models["flexgen"] / UNET_FILE)
            return Networks(folder, weights, device=device.torch, dtype=device.float16, keep=machine.calls > 1)

        def work(context: Context) -> None:
            from kiss3d_cli.methods.multiview.given import given_views

            given = given_views(context)
            if given is not None and len(given.names) == len(VIEW_FILES):
                write_views(context.output, given.framed(settings.tile).on_white())
                context.facts["given"] = list(given.names)
                return
            context.progress(0.0, "reading the weights")
            _draw(settings, networks(), context)

        yield work


def _draw(settings: Zero123PlusSettings, networks: Any, context: Context) -> None:
    from kiss3d_cli.image.png import read_png
    from kiss3d_cli.image.views import split_grid, write_views
    from kiss3d_cli.methods.multiview.given import given_views, scale_of_front
    from kiss3d_cli.models.zero123plus.pipeline import draw_views
    from kiss3d_cli.models.zero123plus.sampler import Noise

    grid = draw_views(
        networks,
        read_png(context.inputs["preprocess/image.png"]),
        side=2 * settings.tile,
        steps=settings.steps,
        guidance=settings.guidance,
        noise=Noise.seeded(settings.seed),
        on_step=lambda step, count: context.progress(
            0.1 + 0.85 * step / count, f"step {min(step + 1, count)} of {count}"
        ),
    )
    views = split_grid(grid.pixels)
    given = given_views(context)
    if given is not None:
        scale = scale_of_front(given, views["front"])
        if not SCALES[0] <= scale <= SCALES[1]:
            context.warnings.append(
                f"The drawn front is {scale:.2f} times as large as the given one; the drawn views may be of another "
                "size than the given ones."
            )
            scale = 1.0
        views |= given.framed(settings.tile, scale).on_white()
        context.facts.update(given=list(given.names), scale_of_given=round(scale, 4))
    write_views(context.output, views)
    context.facts.update(seed=settings.seed, scheduler=grid.scheduler, dtype=str(grid.dtype).removeprefix("torch."))
    if grid.dtype != networks.dtype:
        context.warnings.append("Zero123++ left the range of float16; the views were drawn once more in float32.")
