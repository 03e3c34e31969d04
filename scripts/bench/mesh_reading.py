"""How long it takes to read a mesh of a million faces, in every format that kiss3d writes.

Prints processor seconds (the median of the repetitions), which a busy machine changes little, the wall time beside, and
by how much the process grows at most while it reads (on Linux).

    python scripts/bench/mesh_reading.py [--faces 1000000] [--repeat 3]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh


def rippled_torus(faces: int) -> Mesh:
    """A closed surface of about so many triangles, with colours."""
    columns = max(int((faces / 4) ** 0.5), 3)
    rows = 2 * columns
    u, v = np.meshgrid(np.arange(rows) / rows * 2 * np.pi, np.arange(columns) / columns * 2 * np.pi, indexing="ij")
    tube = 0.3 + 0.05 * np.sin(7 * u + 3 * v)
    points = np.stack([(1 + tube * np.cos(v)) * np.cos(u), tube * np.sin(v), (1 + tube * np.cos(v)) * np.sin(u)], -1)
    grid = np.arange(rows * columns).reshape(rows, columns)
    a, b = grid, np.roll(grid, -1, 0)
    c, d = np.roll(b, -1, 1), np.roll(grid, -1, 1)
    triangles = np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)], -1).reshape(-1, 3)
    vertices = torch.tensor(points.reshape(-1, 3), dtype=torch.float32)
    return Mesh(vertices, torch.tensor(triangles), (vertices * 0.4 + 0.5).clamp(0, 1))


def seam_obj(mesh: Mesh) -> bytes:
    """The mesh as programs export it: with texture coordinates and normals at every corner."""
    count = len(mesh.vertices)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"vt {i / count:.6f} 0.5" for i in range(count)] + [f"vn {x:.4f} 0 1" for x in np.linspace(-1, 1, count)]
    lines += [f"f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}" for a, b, c in (mesh.faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def growth(path: Path) -> str:
    """Megabytes that a process grows by at most while it reads; a fork of this one would wait for torch's threads."""
    if not Path("/proc/self/status").exists():
        return ""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return f"{pool.apply(_growth, (path, path.with_stem('small')))} MB"


def _growth(path: Path, small: Path) -> int:
    status = Path("/proc/self/status")
    read_mesh(small, torch.float64)  # what reading imports is no memory of the mesh
    before = _kilobytes(status, "VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    read_mesh(path, torch.float64)
    return (_kilobytes(status, "VmHWM") - before) // 1024


def _kilobytes(status: Path, name: str) -> int:
    return next(
        int(line.split()[1]) for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(name)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    mesh = rippled_torus(options.faces)
    with tempfile.TemporaryDirectory() as folder:
        plain = Mesh(mesh.vertices, mesh.faces)
        files = {f"mesh.{kind}": mesh for kind in ("obj", "glb", "ply", "stl")} | {"plain.obj": plain}
        for name, shape in files.items():
            write_mesh(Path(folder) / name, shape)
            write_mesh((Path(folder) / name).with_stem("small"), rippled_torus(100))
        (Path(folder) / "seams.obj").write_bytes(seam_obj(mesh))
        grown = {name: growth(Path(folder) / name) for name in [*files, "seams.obj"]}  # before this process reads any
        print(f"{len(mesh.faces)} faces; processor seconds (wall), median of {options.repeat}")
        for name in [*files, "seams.obj"]:
            path = Path(folder) / name
            used, waited = [], []
            for _ in range(options.repeat):
                before, started = time.process_time(), time.perf_counter()
                read = read_mesh(path, torch.float64)
                used.append(time.process_time() - before)
                waited.append(time.perf_counter() - started)
                assert len(read.faces) == len(mesh.faces)
            size = path.stat().st_size / 1e6
            seconds = f"{statistics.median(used):6.2f} ({statistics.median(waited):.2f})"
            print(f"{name:<10} {size:6.1f} MB  {seconds:<16} {grown[name]}", flush=True)


if __name__ == "__main__":
    main()
