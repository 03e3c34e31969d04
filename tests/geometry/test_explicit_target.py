"""Explicit targets against normals known in closed form, and against a vertex worked out by hand."""

from __future__ import annotations

import torch
import trimesh

from ellipsoids import Ellipsoid, cast
from kiss3d_cli.geometry.cameras import View, bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.refine.explicit_target import ExplicitTarget, TargetViews

SIZE = 128


def ball(solid: Ellipsoid, fineness: int = 4) -> Mesh:
    source = trimesh.creation.icosphere(fineness)
    points = torch.tensor(source.vertices.copy(), dtype=torch.float32) * torch.tensor(solid.radii)
    return Mesh(points + torch.tensor(solid.center), torch.tensor(source.faces.copy(), dtype=torch.int64))


def gathered(solids: list[Ellipsoid], mesh: Mesh, weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> ExplicitTarget:
    seen = cast(solids, SIZE)
    return TargetViews.of(seen.normals, seen.mask, bundle_cameras(), torch.tensor(weights)).gather(mesh)


def test_normals_come_from_the_views_and_not_from_the_mesh():
    body = Ellipsoid((0.1, 0.0, -0.05), (0.5, 0.7, 0.4))
    mesh = ball(body)
    true = vertex_normals(mesh.vertices, mesh.faces)
    generator = torch.Generator().manual_seed(0)
    rough = mesh.with_vertices(mesh.vertices + 0.004 * torch.randn(mesh.vertices.shape, generator=generator))
    own = vertex_normals(rough.vertices, rough.faces)
    target = gathered([body], rough)
    well = target.support > 0.5
    assert well.float().mean() > 0.8

    def angle(normals: torch.Tensor) -> torch.Tensor:
        return torch.rad2deg(torch.acos((normals * true).sum(-1).clamp(-1, 1)))[well].median()

    assert angle(own) > 3
    assert angle(target.normals) < 1
    torch.testing.assert_close(target.normals.norm(dim=-1), torch.ones(len(true)))


def test_support_is_the_weighted_sum_of_cosines():
    body = Ellipsoid((0.0, 0.0, 0.0), (0.6, 0.6, 0.6))
    mesh = ball(body)
    target = gathered([body], mesh, (1.0, 0.9, 0.8, 0.7))
    front = int((mesh.vertices @ torch.tensor([0.0, 0.0, 1.0])).argmax())
    corner = int((mesh.vertices @ torch.tensor([1.0, 0.0, 1.0])).argmax())  # between front and right
    bottom = int(mesh.vertices[:, 1].argmin())
    cameras = bundle_cameras().centers

    def cosine(view: View, vertex: int) -> float:
        to_camera = torch.nn.functional.normalize(cameras[view] - mesh.vertices[vertex], dim=0)
        return float(to_camera @ torch.nn.functional.normalize(mesh.vertices[vertex], dim=0))

    torch.testing.assert_close(float(target.support[front]), cosine(View.FRONT, front), atol=1e-3, rtol=0)
    both = cosine(View.FRONT, corner) + 0.9 * cosine(View.RIGHT, corner)
    torch.testing.assert_close(float(target.support[corner]), both, atol=1e-3, rtol=0)
    assert float(target.support[bottom]) == 0


def test_what_no_view_shows_keeps_its_own_normal():
    near, far = Ellipsoid((0.0, 0.0, 0.5), (0.45, 0.45, 0.1)), Ellipsoid((0.0, 0.0, 0.0), (0.3, 0.3, 0.3))
    mesh = ball(far)
    both = Mesh(
        torch.cat([ball(near).vertices, mesh.vertices]), torch.cat([mesh.faces, mesh.faces + len(mesh.vertices)])
    )
    target = gathered([near, far], both)
    middle = len(mesh.vertices) + int(mesh.vertices[:, 2].argmax())  # behind the plate, as the front view sees it
    own = vertex_normals(both.vertices, both.faces)
    assert float(target.support[middle]) <= 0.1
    assert torch.equal(target.normals[middle], own[middle])
