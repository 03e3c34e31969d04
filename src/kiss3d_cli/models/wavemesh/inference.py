"""Sampling of volumes from views and their visual hull; each sample completes the unseen parts differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.threads import one_thread
from kiss3d_cli.models.wavemesh.network import Condition, WaveMesh
from kiss3d_cli.models.wavemesh.symmetry import SYMMETRIES
from kiss3d_cli.models.wavemesh.views import PosedImages, check_views

LIMIT = 6.0
"""Standard deviations at which a difference to the hull's coefficients is cut off while sampling."""


@dataclass(frozen=True)
class Sampling:
    """How to draw.

    Attributes:
        steps: of the sampler. sampler: "ddim" or "ddpm".
        guidance: 1 is the network's own answer; more leans on the pictures, 0 hides them (Ho and Salimans 2022).
        samples: how many.
        seed: of the first; the others follow.
        symmetries: how many turned and mirrored worlds each sample is the mean of, 1 to 8; of one world it is a sample
            of the diffusion, with all that is its own. As the mean of several it is closer to the truth.
    """

    steps: int = 4
    sampler: str = "ddim"
    guidance: float = 1.0
    samples: int = 1
    seed: int = 0
    symmetries: int = 1


def check_request(network: WaveMesh, hull: Tensor, images: PosedImages, sampling: Sampling, place: str) -> None:
    """
    Raises:
        BadInput: views or sizes that the network can't take, an empty hull, or sampling that can't be.
    """
    check_views(images, network.config.image, place)
    wanted, found = network.config.frozen, 0 if images.features is None else images.features.shape[-1]
    if wanted != found:
        cause = f"views with {found} channels of features, for a network that was trained with {wanted}"
        raise BadInput(cause, place=place, hint="describe them by the DINOv2 of the training, kiss3d models list")
    size = network.config.resolution
    if hull.shape[1:] != (size,) * 3 or len(hull) != len(images.planes):
        raise BadInput(f"a hull of {tuple(hull.shape)}, not of {size}^3 cells", place=place)
    if not bool(hull.isfinite().all()) or not bool((hull < 0).flatten(1).any(1).all()):
        raise BadInput("the views have no common volume: no cell is inside all of their masks", place=place)
    network.config.diffusion.times(sampling.steps)
    if not 1 <= sampling.samples <= 64:
        raise BadInput(f"{sampling.samples} samples", place=place, hint="draw 1 to 64")
    if not 1 <= sampling.symmetries <= len(SYMMETRIES):
        raise BadInput(f"{sampling.symmetries} symmetries", place=place, hint=f"give 1 to {len(SYMMETRIES)}")


@torch.inference_mode()
def draw(
    network: WaveMesh,
    hull: Float[Tensor, "1 R R R"],
    images: PosedImages,
    sampling: Sampling,
    *,
    progress: Callable[[float], None] = lambda _share: None,
    place: str = "views",
) -> Float[Tensor, "M R R R"]:
    """Truncated signed distances of M samples, the same bytes on any number of threads.

    The network's are moved by `WaveMeshConfig.surface`, so that the surface is where they are 0.

    Args:
        network: in evaluation mode.
        hull: truncated signed distances to the visual hull of the views, on the network's grid.
        images: the views of one object.
        sampling: how to draw.
        progress: told of the share that is done.
        place: for errors.

    Raises:
        BadInput: as `check_request`.
    """
    check_request(network, hull, images, sampling, place)
    device = network.scale.device
    worlds = SYMMETRIES[: sampling.symmetries]
    with one_thread():
        found = []
        for number, world in enumerate(worlds):
            drawn = _drawn(
                network,
                world.volume(hull).to(device),
                world.images(images).to(device),
                # there are fewer samples than that: no two worlds have the same noise
                replace(sampling, seed=sampling.seed + 1000 * number),
                lambda share, number=number: progress((number + share) / len(worlds)),  # type: ignore[misc]
            )
            found.append(world.back(drawn))
        return (torch.stack(found).mean(0) - network.config.surface).clamp(-1, 1)


def _drawn(
    network: WaveMesh,
    hull: Float[Tensor, "1 R R R"],
    images: PosedImages,
    sampling: Sampling,
    progress: Callable[[float], None],
) -> Float[Tensor, "M R R R"]:
    """The samples of one world."""
    config, device = network.config, network.scale.device
    shown, hidden = _conditions(network, hull, images, sampling.guidance)
    given = shown or hidden
    assert given is not None
    sites = given.levels[0]
    found = []
    for number in range(sampling.samples):
        generator = torch.Generator().manual_seed(sampling.seed + number)
        shape = (sites.side**3, config.transform.channels)

        def noise(generator: torch.Generator = generator, shape: tuple[int, int] = shape) -> Tensor:
            """Drawn for every cell, so that it does not depend on which of them are occupied."""
            return torch.randn(shape, generator=generator).to(device).index_select(0, sites.index)

        done = 0

        def say(x: Float[Tensor, "N K"], time: int, number: int = number) -> Float[Tensor, "N K"]:
            nonlocal done
            times = torch.full((1,), time, dtype=torch.int64, device=device)
            answers = [network.denoise(x, times, one) for one in (shown, hidden) if one is not None]
            done += 1
            progress((number + done / sampling.steps) / sampling.samples)
            if len(answers) == 1:
                return answers[0]
            return answers[1] + sampling.guidance * (answers[0] - answers[1])

        difference = config.diffusion.sample(noise(), say, sampling.steps, noise, sampler=sampling.sampler, limit=LIMIT)
        found.append(network.volume(given.hull + difference, sites).float().cpu())
    return torch.cat(found).clamp(-1, 1)


def _conditions(
    network: WaveMesh, hull: Tensor, images: PosedImages, guidance: float
) -> tuple[Condition | None, Condition | None]:
    """With the pictures, and without them: only what the guidance asks for."""
    all_hidden = torch.ones(len(hull), dtype=torch.bool, device=hull.device)
    shown = network.condition(hull, images) if guidance != 0 else None
    hidden = network.condition(hull, images, all_hidden) if guidance != 1 else None
    return shown, hidden


def planes_of(
    rgb: Float[Tensor, "V H H 3"], normals: Float[Tensor, "V H H 3"] | None, mask: Float[Tensor, "V H H"], size: int
) -> Float[Tensor, "1 V 7 S S"]:
    """Pictures of any size as the network takes them: averaged over the pixels of each of its own.

    Args:
        rgb: on white, sRGB-encoded, in [0, 1].
        normals: in each camera's axes, 0 in the background; None where they are not known.
        mask: in [0, 1].
        size: pixels a side that the network takes.
    """
    known = torch.zeros_like(rgb) if normals is None else normals
    stack = torch.cat([rgb, known, mask[..., None]], -1).movedim(-1, 1)
    return functional.interpolate(stack, (size, size), mode="area")[None]
