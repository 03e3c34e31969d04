from __future__ import annotations

import torch

from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.components import keep_large_components


def balls(*radii: float) -> Mesh:
    """Balls of these radii at x = -0.6, 0, 0.6."""
    x = torch.linspace(-1, 1, 41)
    points = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1)
    centres = torch.tensor([[-0.6, 0.0, 0.0], [0.0, 0.1, 0.0], [0.6, 0.0, 0.2]])
    fields = [(points - centre).norm(dim=-1) - radius for centre, radius in zip(centres, radii, strict=True)]
    mesh = isosurface(torch.stack(fields).amin(0))
    return mesh.with_colors(mesh.vertices / 2 + 0.5)


def test_crumbs_go_and_the_rest_is_renumbered():
    mesh = balls(0.25, 0.06, 0.2)
    kept = keep_large_components(mesh, 0.3)
    inside = (mesh.vertices[:, 0].abs() > 0.2)[mesh.faces].all(1)
    assert len(kept.faces) == int(inside.sum()) < len(mesh.faces)
    assert torch.equal(kept.vertices[kept.faces], mesh.vertices[mesh.faces[inside]])
    assert torch.equal(kept.colors, kept.vertices / 2 + 0.5)
    assert torch.equal(torch.unique(kept.faces), torch.arange(len(kept.vertices)))


def test_share_one_keeps_the_largest_and_zero_all():
    mesh = balls(0.25, 0.06, 0.2)
    assert keep_large_components(mesh, 1.0).vertices[:, 0].max() < 0
    assert len(keep_large_components(mesh, 0.0).faces) == len(mesh.faces)
