"""Reading meshes as people have them, and refusing what is none."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.load import check_mesh, read_mesh
from kiss3d_cli.geometry.mesh import Mesh

# an asymmetric tetrahedron, faces counter-clockwise from outside
VERTICES = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]], dtype=np.float64)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int64)
OBJ = "".join(f"v {x} {y} {z}\n" for x, y, z in VERTICES) + "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in FACES)


def corners(mesh: Mesh) -> np.ndarray:
    """Triangles as sorted rows of corner coordinates, each rotated to start at its smallest corner (keeps winding)."""
    triangles = mesh.vertices.numpy()[mesh.faces.numpy()].round(6)
    rows = []
    for triangle in triangles:
        start = min(range(3), key=lambda i: tuple(triangle[i]))
        rows.append(np.roll(triangle, -start, 0).reshape(-1))
    return np.array(sorted(rows, key=tuple))


def tetrahedron() -> Mesh:
    return Mesh(torch.from_numpy(VERTICES), torch.from_numpy(FACES))


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c, dim=-1)).sum() / 6)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".glb", ".gltf", ".OBJ"])
def test_every_format_gives_the_same_triangles(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part{suffix}"
    if suffix == ".gltf":
        files = trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.Trimesh(VERTICES, FACES, process=False)))
        for name, data in files.items():
            (tmp_path / ("part.gltf" if name == "model.gltf" else name)).write_bytes(data)
    else:
        trimesh.Trimesh(VERTICES, FACES, process=False).export(path, file_type=suffix[1:].lower())
    mesh = read_mesh(path, torch.float64)
    np.testing.assert_allclose(corners(mesh), corners(tetrahedron()), atol=1e-6)
    assert mesh.faces.dtype == torch.int64
    assert mesh.vertices.dtype == torch.float64
    assert read_mesh(path).vertices.dtype == torch.float32


def test_obj_with_quads_texture_seams_materials_and_groups_keeps_its_own_vertices(tmp_path: Path) -> None:
    cube = trimesh.creation.box((2, 3, 4))
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    lines = ["# made / by hand", "mtllib ../../etc/passwd.mtl", "o cube"]
    lines += [f"v {x} {y} {z}" for x, y, z in cube.vertices]
    lines += [f"vt 0.{i} 0.5" for i in range(9)] + ["vn 0 0 1"]
    for i, quad in enumerate(quads):
        lines += [f"g side{i}", f"usemtl m{i % 2}", "s off", "s"]
        lines.append("f " + " ".join(f"{v + 1}/{(v + i) % 9 + 1}/1" for v in quad))
    (tmp_path / "cube.obj").write_text("\n".join(lines), encoding="utf-8")
    mesh = read_mesh(tmp_path / "cube.obj", torch.float64)
    assert mesh.vertices.shape == (8, 3)
    assert mesh.faces.shape == (12, 3)
    assert abs(volume(mesh)) == pytest.approx(24)


def test_obj_mixing_triangles_and_quads_and_negative_indices(tmp_path: Path) -> None:
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 2 0 0\nf 1 2 3 4\nf 2 5 3\n"
    (tmp_path / "a.obj").write_text(text, encoding="utf-8")
    (tmp_path / "b.obj").write_text(text.replace("f 2 5 3", "f -4 -1 -3"), encoding="utf-8")
    first, second = read_mesh(tmp_path / "a.obj"), read_mesh(tmp_path / "b.obj")
    assert first.faces.shape == (3, 3)
    np.testing.assert_array_equal(corners(first), corners(second))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_numbers_of_an_obj_are_read_to_the_last_bit(tmp_path: Path, ending: str) -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(50, 3)) * 10.0 ** generator.integers(-9, 9, (50, 1))
    triangles = generator.integers(1, 51, size=(90, 3))
    lines = [
        "mtllib a.mtl",
        *(f"v {x:.17g}  {y:.17e}\t{z!r}" for x, y, z in points.tolist()),
        "vt 0 0",
        "vn 0 0 1",
        "g a",
    ]
    lines += [f"f {a}/1/1 {b}/1/1 {c}/1/1" + " " * (a % 2) for a, b, c in triangles.tolist()]
    lines.insert(80, "usemtl b")
    (tmp_path / "a.obj").write_text(ending.join(lines), encoding="utf-8", newline="")
    mesh = read_mesh(tmp_path / "a.obj", torch.float64)
    np.testing.assert_array_equal(mesh.vertices.numpy(), points)
    np.testing.assert_array_equal(mesh.faces.numpy(), triangles - 1)


def test_scene_transforms_and_mirrors_are_applied(tmp_path: Path) -> None:
    part = trimesh.Trimesh(VERTICES, FACES, process=False)
    scene = trimesh.Scene()
    turned = trimesh.transformations.rotation_matrix(np.radians(30), [1, 2, 3], [0.5, 0, 0])
    mirror = np.diag([1.0, -2.0, 1.0, 1.0])
    mirror[:3, 3] = [10, 0, 0]
    scene.add_geometry(part, geom_name="part", node_name="turned", transform=turned)
    scene.graph.update(frame_from="turned", frame_to="mirrored", geometry="part", matrix=mirror)
    scene.export(tmp_path / "scene.glb")
    mesh = read_mesh(tmp_path / "scene.glb", torch.float64)
    moved = trimesh.transform_points(VERTICES, turned)
    mirrored = trimesh.transform_points(VERTICES, turned @ mirror)
    expected = Mesh(
        torch.from_numpy(np.concatenate([moved, mirrored])),
        torch.from_numpy(np.concatenate([FACES, FACES[:, ::-1] + 4])),
    )
    np.testing.assert_allclose(corners(mesh), corners(expected), atol=1e-5)
    assert volume(mesh) == pytest.approx(1 + 2, rel=1e-5)  # the mirror did not turn the second part inside out


def test_colours_are_srgb_in_memory(tmp_path: Path) -> None:
    stored = np.array([[0, 64, 255, 255], [255, 128, 0, 255], [10, 20, 30, 255], [200, 100, 50, 255]], dtype=np.uint8)
    part = trimesh.Trimesh(VERTICES, FACES, vertex_colors=stored, process=False)
    part.export(tmp_path / "a.ply")
    part.export(tmp_path / "a.glb")
    ply, glb = read_mesh(tmp_path / "a.ply"), read_mesh(tmp_path / "a.glb")
    assert ply.colors is not None
    assert glb.colors is not None
    np.testing.assert_allclose(ply.colors.numpy(), stored[:, :3] / 255, atol=1e-6)
    encoded = glb.colors.numpy().astype(np.float64)
    decoded = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(decoded, stored[:, :3] / 255, atol=1e-6)  # glTF stores linear light
    assert encoded[1, 1] == pytest.approx(0.7367, abs=1e-4)


def gltf_with_buffer(path: Path, uri: str) -> None:
    data = VERTICES.astype("<f4").tobytes() + FACES.astype("<u4").tobytes()
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [0, 0, 0], "max": [3, 2, 1]},
        {"bufferView": 1, "componentType": 5125, "count": 12, "type": "SCALAR"},
    ]
    views = [{"buffer": 0, "byteOffset": 0, "byteLength": 48}, {"buffer": 0, "byteOffset": 48, "byteLength": 48}]
    if uri == "data":
        uri = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"uri": uri, "byteLength": len(data)}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    (path.parent.parent / "secret.bin").write_bytes(data)


def test_gltf_reads_inside_its_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    path = folder / "part.gltf"
    gltf_with_buffer(path, "data")
    np.testing.assert_allclose(corners(read_mesh(path, torch.float64)), corners(tetrahedron()), atol=1e-6)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for uri in ("../secret.bin", str(tmp_path / "secret.bin"), "http://localhost:9/secret.bin", "link.bin"):
        gltf_with_buffer(path, uri)
        with pytest.raises(BadInput, match="outside its own folder"):
            read_mesh(path)
    (folder / "own.bin").write_bytes((tmp_path / "secret.bin").read_bytes())
    gltf_with_buffer(path, "own.bin")
    assert read_mesh(path).faces.shape == (4, 3)
    with pytest.raises(BadInput, match=r"needs 'own\.bin' beside it"):
        read_mesh(path, alone=True)
    gltf_with_buffer(path, "gone.bin")
    with pytest.raises(BadInput, match=r"gone\.bin.*not there"):
        read_mesh(path)


def test_a_texture_that_is_missing_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "part.gltf"
    gltf_with_buffer(path, "data")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["images"] = [{"uri": "gone.png"}]
    document["textures"] = [{"source": 0}]
    document["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    document["meshes"][0]["primitives"][0]["material"] = 0
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_mesh(path).faces.shape == (4, 3)


def textured_square(folder: Path, texture: str = "picture.png") -> Path:
    """Red left half, green right half, the corners well inside; two triangles with texture seams at nothing."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4], picture[:, 4:] = (200, 10, 20), (30, 220, 40)
    picture[:2, :4] = (5, 6, 250)  # the top left is blue: the picture's row 0 is v = 1
    Image.fromarray(picture).save(folder / "picture.png")
    (folder / "a.mtl").write_text(f"newmtl m\nmap_Kd {texture}\n", encoding="utf-8")
    corners = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0.1 0.1\nvt 0.9 0.1\nvt 0.9 0.9\nvt 0.1 0.85\n"
    text = f"mtllib a.mtl\nusemtl m\n{corners}f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    (folder / "a.obj").write_text(text, encoding="utf-8")
    return folder / "a.obj"


def test_textures_are_read_at_the_vertices_only_when_asked_for(tmp_path: Path) -> None:
    path = textured_square(tmp_path)
    assert read_mesh(path).colors is None
    mesh = read_mesh(path, textures=True)
    assert mesh.colors is not None
    rows = zip(mesh.vertices.tolist(), (mesh.colors * 255).round().tolist(), strict=True)
    expected = {(0, 0, 0): (200, 10, 20), (1, 0, 0): (30, 220, 40), (1, 1, 0): (30, 220, 40), (0, 1, 0): (5, 6, 250)}
    assert {tuple(v): tuple(c) for v, c in rows} == expected
    scene = trimesh.load_scene(path)
    (part,) = scene.geometry.values()
    picture = Image.open(tmp_path / "picture.png")
    part.visual.material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)  # without OBJ's grey factor
    scene.export(tmp_path / "a.glb")
    glb = read_mesh(tmp_path / "a.glb", textures=True)
    assert glb.colors is not None  # a texture is sRGB in glTF too, not linear as its vertex colours are
    rows = zip(glb.vertices.tolist(), (glb.colors * 255).round().tolist(), strict=True)
    assert {tuple(v): tuple(c) for v, c in rows} == expected


@pytest.mark.parametrize("texture", ["gone.png", "../picture.png", "a.obj"])
def test_a_texture_that_is_missing_or_outside_leaves_the_mesh_without_colours(tmp_path: Path, texture: str) -> None:
    (tmp_path / "in").mkdir()
    path = textured_square(tmp_path / "in", texture)
    (tmp_path / "in" / "picture.png").rename(tmp_path / "picture.png")
    mesh = read_mesh(path, textures=True)
    assert mesh.colors is None
    assert mesh.vertices.shape == (4, 3)


BAD_FILES = {
    "gone.obj": (None, "no such mesh"),
    "mesh.txt": (b"hello", "not a mesh"),
    "mesh.pkl": (b"\x80\x04N.", "not a mesh"),
    "empty.obj": (b"", "no geometry|no faces|cannot be read"),
    "empty.ply": (b"", "cannot be read|no geometry"),
    "empty.stl": (b"", "cannot be read|no faces|no geometry"),
    "empty.glb": (b"", "cannot be read"),
    "words.obj": (b"this is no mesh\n", "no geometry|no faces|cannot be read"),
    "points.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "point cloud"),
    "range.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "cannot be read|names vertex"),
    "nan.obj": (b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN or infinite"),
    "inf.obj": (b"v inf 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN or infinite"),
    "line.obj": (b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no area"),
    "point.obj": (b"v 5 5 5\nv 5 5 5\nv 5 5 5\nf 1 2 3\n", "no area"),
    "words_face.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf one two three\n", "cannot be read"),
    "short.glb": (b"glTF\x02\x00\x00\x00", "cannot be read"),
    "claims.ply": (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\nproperty float x\nproperty float y\n"
        b"property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n",
        "cannot be read",
    ),
    "claims.stl": (b"\0" * 80 + struct.pack("<I", 4_000_000_000), "no geometry|cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named_with_a_reason_and_a_hint(tmp_path: Path, name: str) -> None:
    data, cause = BAD_FILES[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=cause) as caught:
        read_mesh(tmp_path / name)
    assert name in str(caught.value)
    assert caught.value.hint
    assert "\n" not in caught.value.cause


def test_a_folder_is_not_a_mesh(tmp_path: Path) -> None:
    (tmp_path / "a.obj").mkdir()
    with pytest.raises(BadInput, match="folder"):
        read_mesh(tmp_path / "a.obj")


def test_a_point_cloud_in_ply_and_glb(tmp_path: Path) -> None:
    for suffix in ("ply", "glb"):
        trimesh.PointCloud(VERTICES).export(tmp_path / f"cloud.{suffix}")
        with pytest.raises(BadInput, match="point cloud"):
            read_mesh(tmp_path / f"cloud.{suffix}")


def test_unused_bad_vertices_do_no_harm_but_used_ones_do() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [torch.nan, 0, 0]])
    check_mesh(Mesh(vertices, torch.tensor([[0, 1, 2]])), "mesh")
    with pytest.raises(BadInput, match="1 of 2 faces"):
        check_mesh(Mesh(vertices, torch.tensor([[0, 1, 2], [0, 1, 3]])), "mesh")
    with pytest.raises(BadInput, match="names vertex 4"):
        check_mesh(Mesh(vertices, torch.tensor([[0, 1, 4]])), "mesh")
    with pytest.raises(BadInput, match="too large"):
        check_mesh(Mesh(vertices.double() * 1e200, torch.tensor([[0, 1, 2]])), "mesh")
    with pytest.raises(BadInput, match="empty"):
        check_mesh(Mesh(vertices, torch.zeros(0, 3, dtype=torch.int64)), "mesh")
