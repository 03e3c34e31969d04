from __future__ import annotations

import pytest
import torch

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.silhouette import silhouette_scale


@pytest.fixture(scope="module")
def mesh():
    x = torch.linspace(-1, 1, 49)
    points = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1)
    scaled = (points - torch.tensor([0.1, -0.05, 0.15])) / torch.tensor([0.4, 0.7, 0.55])
    return isosurface(scaled.norm(dim=-1) - 1)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
def test_a_known_scale_is_found_again(mesh, scale):
    cameras = bundle_cameras()
    masks = render_normals(mesh.with_vertices(scale * mesh.vertices), cameras, (256, 256)).mask > 0.5
    assert silhouette_scale(mesh.vertices, masks, cameras) == pytest.approx(scale, rel=0.01)


def test_one_ragged_view_does_little(mesh):
    cameras = bundle_cameras()
    masks = render_normals(mesh, cameras, (256, 256)).mask > 0.5
    masks[1, 3, 5] = True
    assert silhouette_scale(mesh.vertices, masks, cameras) == pytest.approx(1, rel=0.02)


def test_an_empty_view_is_refused(mesh):
    masks = torch.ones(4, 8, 8, dtype=torch.bool)
    masks[2] = False
    with pytest.raises(BadInput, match="shows no object"):
        silhouette_scale(mesh.vertices, masks, bundle_cameras())
