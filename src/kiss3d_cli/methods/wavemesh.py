"""The wavelet diffusion model, applied to the bundle and its visual hull."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.surface.components import keep_large_components
from kiss3d_cli.geometry.truncated import Grid, hull_distances
from kiss3d_cli.methods.base import Context, Machine
from kiss3d_cli.methods.bundle.drawn import drawn
from kiss3d_cli.methods.bundle.elsewhere import cameras_of
from kiss3d_cli.methods.reconstruct.wavemesh import DINOV2, WaveMeshSettings
from kiss3d_cli.models.wavemesh.config import HULL_SIZE, MOST_VIEWS
from kiss3d_cli.models.wavemesh.inference import Sampling, draw, planes_of
from kiss3d_cli.models.wavemesh.views import PatchFeatures, PosedImages
from kiss3d_cli.models.wavemesh.weights import LoadedWaveMesh, load

Network = Callable[[], LoadedWaveMesh]
"""Loads the network when it is first called."""
PLACE = "bundle/bundle.png"


def loaded(settings: WaveMeshSettings) -> LoadedWaveMesh:
    assert settings.weights is not None
    return load(Path(settings.weights))


def describing(machine: Machine) -> PatchFeatures | None:
    """DINOv2, if the weights were trained with it."""
    if DINOV2 not in machine.models:
        return None
    from kiss3d_cli.models.dinov2.features import Features

    return machine.once(DINOV2, lambda: Features(machine.models[DINOV2], torch.device("cpu")))


@dataclass(frozen=True)
class Agreement:
    """How a mesh agrees with views of its object; each from 0 (not at all) or less to 1.

    Attributes:
        silhouettes: intersection over union of the masks, mean over the views.
        normals: cosine between the mesh's normals and the views', where both show something. What lies at another
            depth than the views say bends its surface elsewhere.
    """

    silhouettes: float
    normals: float

    @property
    def score(self) -> float:
        return self.silhouettes + self.normals


def agreement(
    mesh: Mesh, mask: Bool[Tensor, "V S S"], normals: Float[Tensor, "V S S 3"], cameras: Cameras
) -> Agreement:
    """
    Args:
        mesh: in the world.
        mask, normals: of the views; normals in each camera's axes.
        cameras: one for each view.
    """
    shown = render_normals(mesh, cameras, (mask.shape[1], mask.shape[2]), antialiased=False)
    there = shown.mask > 0.5
    both, either = there & mask, there | mask
    silhouettes = float((both.flatten(1).sum(1) / either.flatten(1).sum(1).clamp_min(1)).mean())
    cosine = (functional.normalize(normals, dim=-1) * shown.normals).sum(-1)
    return Agreement(silhouettes, float(cosine[both].mean()) if bool(both.any()) else 0.0)


def surfaces(volumes: Float[Tensor, "M R R R"]) -> list[Mesh]:
    """The closed surface of each volume's large parts, in the world; volumes with nothing inside have none."""
    first, last = Grid(volumes.shape[-1]).ends
    filled = [volume for volume in volumes if bool((volume < 0).any())]
    return [keep_large_components(isosurface(volume, (first,) * 3, (last,) * 3)) for volume in filled]


def reconstruct(settings: WaveMeshSettings, network: Network, context: Context, machine: Machine) -> None:
    """Writes the sample that agrees best with the bundle."""
    bundle = drawn(context)
    if len(bundle.mask) > MOST_VIEWS:
        raise BadInput(
            f"the bundle has {len(bundle.mask)} views, and the network takes {MOST_VIEWS}",
            place="reconstruct.method",
            hint="--set reconstruct.method=hull",
        )
    cameras = cameras_of(bundle, settings.radius)
    context.progress(0.02, "loading the network")
    found = network()
    config = found.network.config
    grid = Grid(config.resolution)
    side = min(HULL_SIZE, bundle.mask.shape[-1])
    soft = functional.interpolate(bundle.mask.float()[:, None], (side, side), mode="area")[:, 0]
    context.progress(0.05, "carving the visual hull")
    hull = hull_distances(soft, cameras, grid, config.truncation * grid.cell).amax(0)[None]
    images = PosedImages(
        planes_of(bundle.rgb, bundle.normals, bundle.mask.float(), config.image),
        cameras.world_to_camera[None],
        cameras.projection[None, :, 0, 0],
        torch.ones(1, len(cameras), dtype=torch.bool),
    ).described(describing(machine), config.patches)
    sampling = Sampling(
        settings.steps, settings.sampler, settings.guidance, settings.samples, settings.seed, settings.symmetries
    )
    volumes = draw(
        found.network,
        hull,
        images,
        sampling,
        progress=lambda share: context.progress(0.1 + 0.8 * share, "drawing samples"),
        place=PLACE,
    )
    meshes = surfaces(volumes)
    if not meshes:
        hint = "train the network further, or --set reconstruct.method=hull"
        raise BadInput("the samples hold no object: nothing in them is inside", place="reconstruct", hint=hint)
    context.progress(0.9, "comparing the samples with the views")
    small = functional.interpolate(bundle.normals.movedim(-1, 1), (side, side), mode="area").movedim(1, -1)
    scores = [agreement(mesh, soft > 0.5, small, cameras) for mesh in meshes]
    best = max(range(len(meshes)), key=lambda number: scores[number].score)
    mesh = meshes[best]
    write_mesh(context.output / "mesh.ply", mesh)
    context.facts.update(
        vertices=len(mesh.vertices),
        faces=len(mesh.faces),
        weights=found.sha256,
        samples=[{"silhouettes": round(s.silhouettes, 4), "normals": round(s.normals, 4)} for s in scores],
        kept=best,
    )
