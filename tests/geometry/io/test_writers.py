"""Random meshes through other programs' writers, and other programs' files, read back and compared."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.geometry.io.load import SUFFIXES, read_mesh

ONE_FOLDER = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def soup(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 9) corners of every triangle from its least corner on, sorted: what a mesh is, whatever its numbering."""
    corners = points[faces].astype(np.float32)
    first = np.lexsort(corners.transpose(2, 0, 1)[::-1], axis=-1)[:, :1]
    turned = np.take_along_axis(corners, ((first + np.arange(3)) % 3)[..., None], 1).reshape(-1, 9)
    return turned[np.lexsort(turned.T[::-1])]


def area_of(corners: np.ndarray) -> float:
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(sides, axis=1).sum() / 2)


def random_mesh(seed: int, faces: int) -> trimesh.Trimesh:
    rng = np.random.default_rng(seed)
    count = rng.integers(3, 2 * faces + 3)
    vertices = (rng.normal(size=(count, 3)) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    triangles = np.stack([rng.permutation(count)[:3] for _ in range(faces)])
    return trimesh.Trimesh(vertices, triangles, process=False)


@ONE_FOLDER
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from(["obj", "ply", "stl", "glb", "off"]))
def test_what_trimesh_writes(tmp_path: Path, seed: int, faces: int, kind: str) -> None:
    mesh = random_mesh(seed, faces)
    options = {"digits": 12} if kind in ("obj", "off") else {}
    mesh.export(tmp_path / f"a.{kind}", **options)
    read = read_mesh(tmp_path / f"a.{kind}", torch.float64)
    np.testing.assert_allclose(
        soup(read.vertices.numpy(), read.faces.numpy()), soup(mesh.vertices, mesh.faces), rtol=1e-6, atol=1e-7
    )


@ONE_FOLDER
@given(st.integers(0, 2**31), st.integers(1, 30))
def test_what_trimesh_writes_of_a_scene(tmp_path: Path, seed: int, faces: int) -> None:
    rng = np.random.default_rng(seed)
    scene, expected = trimesh.Scene(), []
    for number in range(3):
        part = random_mesh(seed + number, faces)
        matrix = trimesh.transformations.random_rotation_matrix(rng.random(3))
        matrix[:3, 3] = rng.normal(size=3)
        scene.add_geometry(part, transform=matrix)
        expected.append((trimesh.transform_points(part.vertices, matrix), part.faces))
    scene.export(tmp_path / "a.glb")
    read = read_mesh(tmp_path / "a.glb", torch.float64)
    area = sum(
        np.linalg.norm(np.cross(v[f][:, 1] - v[f][:, 0], v[f][:, 2] - v[f][:, 0]), axis=1).sum() for v, f in expected
    )
    corners = read.vertices[read.faces].numpy()
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(sides, axis=1).sum() == pytest.approx(area, rel=1e-4)
    every = np.concatenate([v[f].reshape(-1, 3) for v, f in expected])
    size = float(np.abs(every).max())
    np.testing.assert_allclose(corners.min((0, 1)), every.min(0), atol=1e-5 * size)
    np.testing.assert_allclose(corners.max((0, 1)), every.max(0), atol=1e-5 * size)


@ONE_FOLDER
@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans())
def test_what_pymeshlab_writes(tmp_path: Path, seed: int, faces: int, binary: bool) -> None:
    pymeshlab = pytest.importorskip("pymeshlab")
    mesh = random_mesh(seed, faces)
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(mesh.vertices.astype(np.float64), mesh.faces.astype(np.int32)))
    for kind in ("ply", "stl", "obj", "off", "3mf") if binary else ("ply", "stl"):
        options = {"binary": binary} if kind in ("ply", "stl") else {}
        try:
            meshes.save_current_mesh(str(tmp_path / f"a.{kind}"), **options)
        except pymeshlab.PyMeshLabException:
            continue  # a build without this format
        read = read_mesh(tmp_path / f"a.{kind}", torch.float64)
        points = read.vertices.numpy()
        if kind == "3mf":  # in millimetres, z up
            points = points[:, [0, 2, 1]] * [1000, -1000, 1000]
        size = float(np.abs(mesh.vertices).max())
        ours, theirs = (
            soup(p, f).astype(np.float64) for p, f in ((points, read.faces.numpy()), (mesh.vertices, mesh.faces))
        )
        assert ours.shape == theirs.shape
        # MeshLab writes six decimals into a 3MF
        np.testing.assert_allclose(
            np.sort(ours, 0), np.sort(theirs, 0), atol=1e-5 * size + (1e-6 if kind == "3mf" else 0)
        )


@ONE_FOLDER
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from(["obj", "ply", "stl", "glb", "gltf", "off"]))
def test_what_open3d_writes(tmp_path: Path, seed: int, faces: int, kind: str) -> None:
    """Vertex colours too, in the formats in which it writes them; Open3D is not among the packages for developers."""
    open3d = pytest.importorskip("open3d", exc_type=ImportError)
    mesh, rng = random_mesh(seed, faces), np.random.default_rng(seed)
    colors = rng.integers(0, 256, mesh.vertices.shape) / 255
    written = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces)
    )
    written.vertex_colors = open3d.utility.Vector3dVector(colors)
    if kind == "stl":
        written.compute_triangle_normals()
    assert open3d.io.write_triangle_mesh(str(tmp_path / f"a.{kind}"), written, write_ascii=False)
    read = read_mesh(tmp_path / f"a.{kind}", torch.float64)
    size = float(np.abs(mesh.vertices).max())
    ours, theirs = soup(read.vertices.numpy(), read.faces.numpy()), soup(mesh.vertices, mesh.faces)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.sort(ours, 0), np.sort(theirs, 0), rtol=1e-5, atol=1e-5 * size + 1e-6)
    if kind in ("ply", "obj"):
        assert read.colors is not None
        np.testing.assert_allclose(read.colors.numpy(), colors, atol=1 / 255)


@ONE_FOLDER
@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans(), st.sampled_from([5121, 5123, 5125]))
def test_what_pygltflib_writes(tmp_path: Path, seed: int, faces: int, binary: bool, indices: int) -> None:
    """A mesh under a node that turns and scales it, in one file or with its data in a URI."""
    gltf = pytest.importorskip("pygltflib")
    mesh, rng = random_mesh(seed, faces), np.random.default_rng(seed)
    scale = rng.uniform(0.5, 2, 3) * rng.choice([-1, 1], 3)
    turn = rng.normal(size=4)
    turn /= np.linalg.norm(turn)
    parts = [
        mesh.vertices.astype("<f4").tobytes(),
        mesh.faces.astype({5121: "u1", 5123: "<u2", 5125: "<u4"}[indices]).tobytes(),
    ]
    whole = gltf.GLTF2(
        scene=0,
        scenes=[gltf.Scene(nodes=[0])],
        nodes=[gltf.Node(mesh=0, scale=scale.tolist(), rotation=turn.tolist(), translation=[1, 2, 3])],
        meshes=[gltf.Mesh(primitives=[gltf.Primitive(attributes=gltf.Attributes(POSITION=0), indices=1)])],
        accessors=[
            gltf.Accessor(bufferView=0, componentType=5126, count=len(mesh.vertices), type="VEC3"),
            gltf.Accessor(bufferView=1, componentType=indices, count=mesh.faces.size, type="SCALAR"),
        ],
        bufferViews=[
            gltf.BufferView(buffer=0, byteOffset=0, byteLength=len(parts[0])),
            gltf.BufferView(buffer=0, byteOffset=len(parts[0]), byteLength=len(parts[1])),
        ],
        buffers=[gltf.Buffer(byteLength=len(b"".join(parts)))],
    )
    whole.set_binary_blob(b"".join(parts))
    path = tmp_path / ("a.glb" if binary else "a.gltf")
    if not binary:
        whole.convert_buffers(gltf.BufferFormat.DATAURI)
    whole.save(str(path))
    read = read_mesh(path, torch.float64)
    matrix = trimesh.transformations.quaternion_matrix(turn[[3, 0, 1, 2]])[:3, :3] * scale
    expected = mesh.vertices @ matrix.T + [1, 2, 3]
    rows = mesh.faces[:, ::-1] if np.prod(scale) < 0 else mesh.faces  # the outside stays outside
    size = float(np.abs(expected).max())
    ours, theirs = soup(read.vertices.numpy(), read.faces.numpy()), soup(expected, rows)
    np.testing.assert_allclose(np.sort(ours, 0), np.sort(theirs, 0), rtol=1e-5, atol=1e-5 * size)
    normals = [
        np.cross(p[f[:, 1]] - p[f[:, 0]], p[f[:, 2]] - p[f[:, 0]]).sum(0)
        for p, f in ((read.vertices.numpy(), read.faces.numpy()), (expected, rows))
    ]
    np.testing.assert_allclose(normals[0], normals[1], rtol=1e-4, atol=1e-4 * size**2)


def _public_files() -> Iterator[Path]:
    folders = os.environ.get("KISS3D_MESH_SETS", "")
    for folder in filter(None, folders.split(os.pathsep)):
        yield from sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)


PUBLIC = list(_public_files())
# files whose right reading is another than the independent reader's, or whose refusal is right, and why
KNOWN = {
    "concave_polygon.obj": "assimp loses a part of its polygons: their area vectors add up to our area",
    "ConcavePolygon.dae": "the same shape",
    "space_in_material_name.obj": "the same shape",
    "polygonfaces.obj": "a polygon that is not flat, which every triangulation makes another surface of",
    "MorphPrimitivesTest.gltf": "assimp does not apply morph weights",
    "SimpleMorph.gltf": "assimp does not apply morph weights",
    "simple_skin.gltf": "assimp does not pose skins",
    "featuretype.3MF": "its unit is the inch, which assimp does not apply",
}
# side length of a square of the same area and bounds, in a process of its own: assimp crashes on some damaged files
_READERS = {
    "assimp": """
import json, sys
import assimp_py as assimp
import numpy as np
scene = assimp.import_file(sys.argv[1], assimp.Process_Triangulate | assimp.Process_PreTransformVertices)
whole = [m for m in scene.meshes if m.indices is not None and len(m.indices) % 3 == 0]
c = np.concatenate([np.reshape(m.vertices, (-1, 3)).astype(float)[np.reshape(m.indices, (-1, 3))] for m in whole])
area = np.linalg.norm(np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]), axis=1).sum() / 2
print(json.dumps([float(area) ** 0.5, *c.min((0, 1)), *c.max((0, 1))]))
""",
    "trimesh": """
import json, sys
import trimesh
mesh = trimesh.load_scene(sys.argv[1], process=False).to_mesh()
print(json.dumps([float(mesh.area) ** 0.5, *mesh.triangles.min((0, 1)), *mesh.triangles.max((0, 1))]))
""",
}


def _independent(path: Path) -> tuple[str, np.ndarray] | None:
    """The first of the independent readers that reads a file, and what it read; None where none does."""
    for reader, script in _READERS.items():
        answer = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
        if answer.returncode == 0:
            return reader, np.array(json.loads(answer.stdout.splitlines()[-1]))
    return None


@pytest.mark.skipif(importlib.util.find_spec("assimp_py") is None, reason="assimp_py is not installed")
@pytest.mark.skipif(not PUBLIC, reason="KISS3D_MESH_SETS names folders of mesh files (those of trimesh, of assimp)")
@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.name)
def test_public_files_agree_with_an_independent_reader(path: Path) -> None:
    """Area and bounds as assimp has them, or trimesh where assimp gives up; a refusal is told as a skipped test."""
    theirs = _independent(path)
    try:
        mesh = read_mesh(path, torch.float64)
    except Kiss3dError as error:
        pytest.skip(f"refused ({'read by ' + theirs[0] if theirs else 'read by no one'}): {error.cause[:120]}")
    if theirs is None:
        pytest.skip("no independent reader reads it")
    reader, numbers = theirs
    corners = mesh.vertices[mesh.faces].numpy()
    if path.suffix.lower() == ".3mf":  # neither takes the unit or the axis: most are in millimetres
        corners = np.stack([corners[..., 0], -corners[..., 2], corners[..., 1]], -1) * 1000
    ours = np.array([area_of(corners) ** 0.5, *corners.min((0, 1)), *corners.max((0, 1))])
    agree = np.allclose(ours, numbers, rtol=1e-4, atol=1e-4 * float(np.abs(numbers[1:]).max()))
    assert agree or path.name in KNOWN, f"{ours} is not {numbers} of {reader}"
