"""Both passes of the large reconstruction model: where its field and FlexiCubes meet."""

from __future__ import annotations

import torch

from kiss3d_cli.geometry.flexicubes import CubeWeights, dual_grid, flexicubes_at
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.models.lrm.config import LrmConfig
from kiss3d_cli.models.lrm.field import ReconstructedField, grid_axis

WEIGHT_SCALE = 0.5


@torch.inference_mode()
def extract(field: ReconstructedField, config: LrmConfig, resolution: int) -> Mesh:
    """The field's surface in the LRM frame, without colours.

    Only the signed distance is asked for everywhere; deformation and weights are asked for at the surface alone.

    Args:
        resolution: cells of the grid along a side.

    Raises:
        BadInput: the field has no surface, or values that are not finite.
    """
    axis = grid_axis(config, resolution).to(field.planes.device)
    on_grid = field.on_grid(axis)
    sdf = on_grid.sdf()
    grid = dual_grid(sdf)
    is_corner = torch.zeros(sdf.numel(), dtype=torch.bool, device=sdf.device)
    is_corner[grid.corners] = True
    points = is_corner.nonzero()[:, 0]
    deformed = axis.new_empty(sdf.numel(), 3)
    deformed[points] = axis[torch.stack(torch.unravel_index(points, sdf.shape), -1)] + on_grid.deformation(points)
    weights = on_grid.cell_weights(grid.cells)
    return flexicubes_at(
        grid,
        deformed[grid.corners],
        sdf.flatten()[grid.corners],
        CubeWeights(alpha=weights.alpha, beta=weights.beta, gamma=weights.gamma),
        weight_scale=WEIGHT_SCALE,
    )
