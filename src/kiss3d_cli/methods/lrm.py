"""Both passes of the large reconstruction model, with FlexiCubes for the extraction of its field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.flexicubes import CubeWeights, dual_grid, flexicubes_at, grid_places
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.silhouette import silhouette_scale
from kiss3d_cli.geometry.surface.components import keep_large_components
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.image.bundle import Bundle, join_bundle
from kiss3d_cli.image.png import write_png
from kiss3d_cli.image.views import VIEW_NAMES, read_views, to_bytes
from kiss3d_cli.methods.base import Context, Machine
from kiss3d_cli.methods.bundle.drawn import drawn
from kiss3d_cli.methods.reconstruct.lrm import LrmSettings
from kiss3d_cli.models.lrm.cameras import BUNDLE_AZIMUTHS, MULTIVIEW_AZIMUTHS, camera_vectors, to_world
from kiss3d_cli.models.lrm.checkpoint import build, prepare, read, read_config
from kiss3d_cli.models.lrm.config import LrmConfig
from kiss3d_cli.models.lrm.field import ReconstructedField, grid_axis
from kiss3d_cli.models.lrm.network import LargeReconstructionModel
from kiss3d_cli.models.lrm.published import CHECKPOINT_FILE

WEIGHT_SCALE = 0.5
MULTIVIEW_TURN = 90.0
"""Degrees: see `MULTIVIEW_AZIMUTHS`."""
SCALES = (0.75, 1.35)
"""Factors between the network's units and the world's that are believed."""
WHITE = 0.94
"""A pixel of a generated view is background if each channel is brighter."""
NO_SURFACE = "look at the four views: each must show the same object, whole, on white"


Network = Callable[[], tuple[LargeReconstructionModel, LrmConfig]]
"""Loads the network when it is first called."""


def loaded(machine: Machine) -> tuple[LargeReconstructionModel, LrmConfig]:
    """The network and its sizes. Both passes are of the same weights; what comes between them needs the whole GPU."""
    folder = machine.models["prm"]
    config = read_config(folder)
    weights = machine.once("prm", lambda: read(prepare(folder / CHECKPOINT_FILE, config), config))
    return build(weights, config, device=machine.device.torch), config


def reference(settings: LrmSettings, network: Network, context: Context) -> None:
    """Pass 1: the four views over the normals of the mesh that the network makes of them."""
    rgb = read_views({name: context.inputs[f"multiview/{name}.png"] for name in VIEW_NAMES})
    masks = (rgb < WHITE).any(-1)
    mesh = _reconstruct(settings, network, context, rgb, masks, MULTIVIEW_AZIMUTHS, MULTIVIEW_TURN)
    context.progress(0.9, "rendering normals")
    rendered = render_normals(mesh, bundle_cameras(settings.radius), (rgb.shape[1], rgb.shape[2]))
    picture = join_bundle(Bundle(rgb, rendered.normals, rendered.mask > 0.5))
    picture[: len(picture) // 2] = np.concatenate(list(to_bytes(rgb)), 1)  # whole, also outside the mesh
    write_png(context.output / "reference_bundle.png", picture)
    write_mesh(context.output / "mesh.ply", mesh)


def reconstruct(settings: LrmSettings, network: Network, context: Context) -> None:
    """Pass 2: the mesh that the network makes of the bundle's colours."""
    bundle = drawn(context)
    if bundle.views is not None:
        raise BadInput(
            "the reconstruction model reads the four views of a bundle, and these stand elsewhere",
            place="reconstruct.method",
            hint="--set reconstruct.method=hull",
        )
    mesh = _reconstruct(settings, network, context, bundle.rgb, bundle.mask, BUNDLE_AZIMUTHS, 0.0)
    write_mesh(context.output / "mesh.ply", mesh)


def _reconstruct(
    settings: LrmSettings,
    network: Network,
    context: Context,
    rgb: Float[Tensor, "V S S 3"],
    masks: Bool[Tensor, "V S S"],
    azimuths: Sequence[float],
    turn: float,
) -> Mesh:
    """A coloured mesh in the world, on the CPU, with a report of it among the stage's facts."""
    context.progress(0.02, "loading the network")
    model, config = network()
    context.progress(0.1, "reconstructing")
    field = model(_resized(rgb, config.image_size), camera_vectors(azimuths))
    context.progress(0.6, "extracting the surface")
    mesh = keep_large_components(extract(field, config, settings.resolution))
    mesh = mesh.with_colors(field.color(mesh.vertices)).to("cpu")
    mesh = _in_world(settings, context, mesh, masks, turn)
    context.facts["mesh"] = dataclasses.asdict(report(mesh.vertices.double().numpy(), mesh.faces.numpy()))
    return mesh


def _resized(rgb: Float[Tensor, "V S S 3"], size: int) -> Float[Tensor, "V 3 T T"]:
    images = rgb.movedim(-1, 1)
    if images.shape[-1] == size:
        return images.contiguous()
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def _in_world(settings: LrmSettings, context: Context, mesh: Mesh, masks: Bool[Tensor, "V S S"], turn: float) -> Mesh:
    """Turned upright, and scaled to the views.

    The network is told that its cameras stand 3.5 from the origin, those of the views stand at `camera.radius`; a
    picture shows the ratio of size and distance only. As published, its units are taken for those of the world, and
    corrected by what the silhouettes say.
    """
    vertices = to_world(mesh.vertices, turn)
    scale = silhouette_scale(vertices, masks, bundle_cameras(settings.radius))
    if not SCALES[0] <= scale <= SCALES[1]:
        context.warnings.append(
            f"The network's mesh is {1 / scale:.2f} times as large as the object in the views; it was not scaled."
        )
        scale = 1.0
    context.facts["scale"] = round(scale, 4)
    return mesh.with_vertices(scale * vertices)


@torch.inference_mode()
def extract(field: ReconstructedField, config: LrmConfig, resolution: int, *, close: bool = True) -> Mesh:
    """The field's surface in the LRM frame, without colours.

    Only the signed distance is asked for everywhere; deformation and weights are asked for at the surface alone.

    Args:
        resolution: cells of the grid along a side.
        close: cut the object off at the border of the grid, so that the mesh is closed; as published it is open there.

    Raises:
        BadInput: the field has no surface, or values that are not finite.
    """
    axis = grid_axis(config, resolution).to(field.planes.device)
    on_grid = field.on_grid(axis)
    sdf = on_grid.sdf()
    try:
        grid = dual_grid(sdf)
        if close:
            border = torch.ones_like(sdf, dtype=torch.bool)
            border[1:-1, 1:-1, 1:-1] = False
            if (sdf[border] < 0).any():
                sdf = torch.where(border, sdf.abs(), sdf)
                grid = dual_grid(sdf)
    except BadInput as error:
        raise BadInput(f"the network found no object: {error.cause}", place="LRM", hint=NO_SURFACE) from error
    is_corner = torch.zeros(sdf.numel(), dtype=torch.bool, device=sdf.device)
    is_corner[grid.corners] = True
    points = is_corner.nonzero()[:, 0]
    deformed = axis.new_empty(sdf.numel(), 3)
    deformed[points] = axis[grid_places(points, sdf.shape)] + on_grid.deformation(points)
    weights = on_grid.cell_weights(grid.cells)
    return flexicubes_at(
        grid,
        deformed[grid.corners],
        sdf.flatten()[grid.corners],
        CubeWeights(alpha=weights.alpha, beta=weights.beta, gamma=weights.gamma),
        weight_scale=WEIGHT_SCALE,
    )
