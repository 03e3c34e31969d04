"""The rasteriser against ray casting and finite differences, and what it costs.

    python scripts/bench/rasterizer.py --shared ../shared [--only agreement silhouettes gradients cost] [--threads 1]

Prints Markdown tables. The meshes and the ray caster are read from the shared folder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
import trimesh
from ground_truth import MESHES, add_shared, load_caster, load_source, to_mesh
from scipy.ndimage import binary_erosion
from torch import Tensor

from kiss3d_cli.geometry.cameras import View, bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import antialias, interpolate, mesh_edges, rasterize
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.surface.decimate import decimate

SIDE = 512


def with_faces(mesh: trimesh.Trimesh, count: int) -> Mesh:
    """Subdivided, then decimated to about `count` faces."""
    while len(mesh.faces) < count:
        mesh = mesh.subdivide()
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces.astype(np.int64))
    return decimate(Mesh(vertices, faces), count)


def agreement(meshes: dict[str, trimesh.Trimesh], caster: ModuleType) -> None:
    print("\n| mesh | faces | mask IoU | normals: median | 99 % | over 2 degrees |\n|---|---|---|---|---|---|")
    for name, source in meshes.items():
        normals = torch.tensor(source.vertex_normals.copy(), dtype=torch.float32)
        drawn = render_normals(to_mesh(source), bundle_cameras(), (SIDE, SIDE), normals, antialiased=False)
        both = either = 0
        errors = []
        for view in View:
            _, cast, mask = caster.render(source, view.azimuth, res=SIDE)
            ours = drawn.mask[view].bool().numpy()
            both, either = both + int((ours & mask).sum()), either + int((ours | mask).sum())
            inner = binary_erosion(ours & mask, iterations=2)
            apart = np.linalg.norm((cast * 2 - 1) * [-1, 1, 1] - drawn.normals[view].numpy(), axis=-1)[inner]
            errors.append(np.rad2deg(2 * np.arcsin(np.clip(apart / 2, 0, 1))))
        every = np.concatenate(errors)
        middle, high = np.percentile(every, [50, 99])
        figures = f"{both / either:.6f} | {middle:.5f} | {high:.5f} | {(every > 2).mean():.5f}"
        print(f"| {name} | {len(source.faces)} | {figures} |")


def area(mesh: Mesh, scale: float, side: int) -> float:
    """The area of the four masks in pixels of a 512 px view, by counting pixel centres at a higher resolution."""
    covered = 0
    for view in View:
        clip = bundle_cameras()[[view]].clip(mesh.vertices * scale)
        covered += int(rasterize(clip, mesh.faces, (side, side)).mask.sum())
    return covered * (SIDE / side) ** 2


def silhouettes(meshes: dict[str, trimesh.Trimesh]) -> None:
    print("\n| mesh | faces | derivative of the area under scaling, ours : exact | area, ours : exact |")
    print("|---|---|---|---|")
    for name, source in meshes.items():
        for count in (10_000, 100_000):
            mesh = with_faces(source, count)
            exact = (area(mesh, 1.01, 4 * SIDE) - area(mesh, 0.99, 4 * SIDE)) / 0.02
            scale = torch.ones((), requires_grad=True)
            clip = bundle_cameras().clip(mesh.vertices * scale)
            fragments = rasterize(clip, mesh.faces, (SIDE, SIDE))
            total = antialias(fragments.mask[..., None].float(), clip, mesh.faces, fragments).double().sum()
            total.backward()
            ratio = total.item() / area(mesh, 1, 4 * SIDE)
            print(f"| {name} | {len(mesh.faces)} | {float(scale.grad) / exact:.4f} | {ratio:.5f} |", flush=True)


def gradients(meshes: dict[str, trimesh.Trimesh]) -> None:
    print(
        "\n| mesh | loss | way | derivative | difference quotient | mean derivative over half a pixel | its quotient |"
    )
    print("|---|---|---|---|---|---|---|")
    cameras = bundle_cameras()
    matrix = (cameras.projection @ cameras.world_to_camera).double()
    for name in ("spot", "stanford-bunny"):
        source = with_faces(meshes[name], 10_000)
        points, faces = source.vertices.double(), source.faces
        edges, normals = mesh_edges(faces), vertex_normals(points, faces)

        def losses(moved: Tensor, kind: str) -> Tensor:
            clip = torch.einsum("vij,nj->vni", matrix[:, :, :3], moved) + matrix[:, None, :, 3]
            fragments = rasterize(clip, faces, (SIDE, SIDE))  # noqa: B023
            if kind == "silhouette":
                image = fragments.mask[..., None].double()
                return antialias(image, clip, faces, fragments, edges)[:, :, : SIDE // 2].square().sum()  # noqa: B023
            image = antialias(interpolate(normals, faces, fragments), clip, faces, fragments, edges)  # noqa: B023
            return (image - torch.tensor([0.0, 0.6, 0.8])).square().sum()

        ways = {"scaling": points, "bending": torch.sin(3 * points[:, [1, 2, 0]])}
        for kind in ("silhouette", "normal"):
            for way, direction in ways.items():

                def slope(shift: float) -> float:
                    leaf = (points + shift * direction).requires_grad_()  # noqa: B023
                    (found,) = torch.autograd.grad(losses(leaf, kind), leaf)  # noqa: B023
                    return float((found * direction).sum())  # noqa: B023

                def difference(step: float) -> float:
                    ends = [losses(points + sign * step * direction, kind) for sign in (1, -1)]  # noqa: B023
                    return float(ends[0] - ends[1]) / (2 * step)

                mean = sum(slope((i - 7.5) / 8 * 0.002) for i in range(16)) / 16
                print(
                    f"| {name} | {kind} | {way} | {slope(0):.1f} | {difference(1e-7):.1f} | {mean:.1f} "
                    f"| {difference(0.002):.1f} |",
                    flush=True,
                )


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def cost(meshes: dict[str, trimesh.Trimesh]) -> None:
    print(f"\n{torch.get_num_threads()} thread(s), 4 views of the bunny, milliseconds, best of 3")
    print("\n| faces | pixels a side | rasterise | interpolate | antialias | finding edges | backward | all |")
    print("|---|---|---|---|---|---|---|---|")
    cases = [(count, SIDE) for count in (10_000, 30_000, 100_000, 300_000)] + [(100_000, 256), (100_000, 1024)]
    for count, side in cases:
        mesh = with_faces(meshes["stanford-bunny"], count)
        leaf = mesh.vertices.requires_grad_()
        faces, normals = mesh.faces, vertex_normals(mesh.vertices, mesh.faces).detach()
        clip, edges = bundle_cameras().clip(leaf), mesh_edges(faces)
        fragments = rasterize(clip, faces, (side, side))
        image = interpolate(normals, faces, fragments)
        target = antialias(image, clip, faces, fragments, edges).square().sum()
        times = [
            seconds(lambda: rasterize(clip, faces, (side, side))),  # noqa: B023
            seconds(lambda: interpolate(normals, faces, fragments)),  # noqa: B023
            seconds(lambda: antialias(image, clip, faces, fragments, edges)),  # noqa: B023
            seconds(lambda: mesh_edges(faces)),  # noqa: B023
            seconds(lambda: torch.autograd.grad(target, leaf, retain_graph=True)),  # noqa: B023
        ]
        row = " | ".join(f"{1000 * value:.0f}" for value in [*times, sum(times)])
        print(f"| {len(faces)} | {side} | {row} |", flush=True)


def main() -> None:
    sections = ("agreement", "silhouettes", "gradients", "cost")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shared(parser)
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    caster = load_caster(options.shared)
    meshes = {name: load_source(options.shared, name, caster) for name in MESHES}
    if "agreement" in options.only:
        agreement(meshes, caster)
    if "silhouettes" in options.only:
        silhouettes(meshes)
    if "gradients" in options.only:
        gradients(meshes)
    if "cost" in options.only:
        cost(meshes)


if __name__ == "__main__":
    main()
