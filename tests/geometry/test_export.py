"""Mesh files: drawn bytes, round trips through independent readers, colour spaces, the Khronos validator."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from kiss3d_cli.core.color_space import linear_to_srgb, srgb_to_linear
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.export import SUFFIXES, write_mesh
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.texture import Texture

TETRAHEDRON = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]),
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
    torch.tensor([[0.0, 0.5, 1.0], [1, 0, 0], [0.2, 0.4, 0.6], [1, 1, 1]]),
)


def atlas() -> Texture:
    """One small triangle of the picture for every face: every edge of the tetrahedron is a seam."""
    uv = torch.tensor([[0.1, 0.1], [0.4, 0.1], [0.1, 0.4]])
    offsets = torch.tensor([[0.0, 0], [0.5, 0], [0, 0.5], [0.5, 0.5]])
    picture = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(8, 8, 3)
    return Texture((uv + offsets[:, None]).reshape(-1, 2), torch.arange(12).reshape(4, 3), picture)


def parse_glb(data: bytes) -> tuple[dict, bytes]:
    magic, version, total = struct.unpack("<4sII", data[:12])
    assert (magic, version, total) == (b"glTF", 2, len(data))
    length, kind = struct.unpack("<II", data[12:20])
    assert kind == 0x4E4F534A
    document = json.loads(data[20 : 20 + length])
    binary_length, kind = struct.unpack("<II", data[20 + length : 28 + length])
    assert kind == 0x004E4942
    assert 28 + length + binary_length == len(data)
    return document, data[28 + length :]


def accessor(document: dict, binary: bytes, number: int) -> np.ndarray:
    entry = document["accessors"][number]
    view = document["bufferViews"][entry["bufferView"]]
    raw = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    values = np.frombuffer(raw, {5126: "<f4", 5125: "<u4"}[entry["componentType"]])
    return values if entry["type"] == "SCALAR" else values.reshape(-1, int(entry["type"][3:]))


def test_drawn_obj(tmp_path: Path) -> None:
    triangle = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0.5, -2]]), torch.tensor([[0, 1, 2]]))
    normals = 3 * "vn 0 0.97014 0.24254\n" + "s 1\n"  # (0, 2, 0.5) / sqrt(4.25), worked by hand
    write_mesh(tmp_path / "a.obj", triangle)
    assert (tmp_path / "a.obj").read_text(
        encoding="utf-8"
    ) == "v 0 0 0\nv 1 0 0\nv 0 0.5 -2\n" + normals + "f 1//1 2//2 3//3\n"
    write_mesh(tmp_path / "b.obj", triangle.with_colors(torch.tensor([[0.0, 0.5, 1], [1, 1, 1], [0.25, 0, 0]])))
    assert (tmp_path / "b.obj").read_text(
        encoding="utf-8"
    ) == "v 0 0 0 0 0.5 1\nv 1 0 0 1 1 1\nv 0 0.5 -2 0.25 0 0\n" + normals + "f 1//1 2//2 3//3\n"
    picture = torch.full((2, 2, 3), 7, dtype=torch.uint8)
    texture = Texture(torch.tensor([[0.0, 0.0], [1.0, 0.25]]), torch.tensor([[0, 1, 1]]), picture)
    files = write_mesh(tmp_path / "c.obj", triangle, texture)
    assert [file.name for file in files] == ["c.obj", "c.mtl", "c.png"]
    expected = "mtllib c.mtl\nv 0 0 0\nv 1 0 0\nv 0 0.5 -2\nvt 0 1\nvt 1 0.75\n" + normals
    assert files[0].read_text(encoding="utf-8") == expected + "usemtl surface\nf 1/1/1 2/2/2 3/2/3\n"
    assert "map_Kd c.png" in files[1].read_text(encoding="utf-8")
    assert np.array_equal(np.asarray(Image.open(files[2])), picture.numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_keeps_place_winding_and_colour(tmp_path: Path, suffix: str) -> None:
    [file] = write_mesh(tmp_path / f"mesh{suffix}", TETRAHEDRON)
    back = trimesh.load(file, force="mesh")
    assert back.is_watertight
    assert back.volume == pytest.approx(1.0)  # inside out would be -1
    np.testing.assert_allclose(back.bounds, [[0, 0, 0], [1, 2, 3]])
    ours = read_mesh(file)
    if suffix == ".stl":
        assert ours.colors is None
        return
    assert torch.equal(ours.vertices, TETRAHEDRON.vertices)
    assert torch.equal(ours.faces, TETRAHEDRON.faces)
    assert ours.colors is not None
    # Readers keep colours in 8 bits; linear ones lose more of the dark: half a step in 255 is 0.02 once encoded.
    torch.testing.assert_close(ours.colors, TETRAHEDRON.colors, atol=0.02 if suffix == ".glb" else 0.003, rtol=0)


def test_glb_vertex_colours_are_linear(tmp_path: Path) -> None:
    [file] = write_mesh(tmp_path / "mesh.glb", TETRAHEDRON)
    document, binary = parse_glb(file.read_bytes())
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    colors = accessor(document, binary, attributes["COLOR_0"])
    # 0.2, 0.4, 0.5, 0.6 in sRGB, from the standard's formula worked by hand
    np.testing.assert_allclose(colors[0], [0, 0.21404114, 1], atol=1e-6)
    np.testing.assert_allclose(colors[2], [0.03310477, 0.13286832, 0.31854678], atol=1e-6)
    normals = accessor(document, binary, attributes["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert normals[3, 2] > 0.5
    assert document["nodes"] == [{"mesh": 0, "name": "mesh"}]  # no turn: y up, front +z


def test_a_textured_glb_splits_seams_and_keeps_the_picture(tmp_path: Path) -> None:
    texture = atlas()
    [file] = write_mesh(tmp_path / "mesh.glb", TETRAHEDRON, texture)
    document, binary = parse_glb(file.read_bytes())
    primitive = document["meshes"][0]["primitives"][0]
    assert "COLOR_0" not in primitive["attributes"]  # it would multiply the texture
    index = accessor(document, binary, primitive["indices"]).reshape(-1, 3)
    position = accessor(document, binary, primitive["attributes"]["POSITION"])
    uv = accessor(document, binary, primitive["attributes"]["TEXCOORD_0"])
    np.testing.assert_array_equal(position[index], TETRAHEDRON.vertices[TETRAHEDRON.faces].numpy())
    np.testing.assert_array_equal(uv[index], texture.uv[texture.corners].numpy())
    material = trimesh.load(file, force="mesh").visual.material
    assert np.array_equal(np.asarray(material.baseColorTexture.convert("RGB")), texture.image.numpy())
    assert material.metallicFactor == 0


def test_a_textured_obj_stays_closed_and_reads_the_same_picture_corner(tmp_path: Path) -> None:
    texture = atlas()
    files = write_mesh(tmp_path / "mesh.obj", TETRAHEDRON, texture)
    assert read_mesh(files[0]).vertices.shape[0] == 4
    back = trimesh.load(files[0], force="mesh", process=False)
    # trimesh has v upwards, as OBJ does
    np.testing.assert_allclose(back.visual.uv[back.faces].reshape(-1, 2) * [1, -1] + [0, 1], texture.uv, atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_mesh_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    texture = atlas() if suffix in (".glb", ".obj") else None
    first = [file.read_bytes() for file in write_mesh(tmp_path / f"a{suffix}", TETRAHEDRON, texture)]
    again = Mesh(TETRAHEDRON.vertices * 1, TETRAHEDRON.faces * 1, TETRAHEDRON.colors)
    second = [file.read_bytes() for file in write_mesh(tmp_path / f"a{suffix}", again, texture)]
    assert first == second


def test_srgb_is_its_own_inverse_and_meets_the_standard() -> None:
    values = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-7)
    np.testing.assert_allclose(srgb_to_linear(np.array([0.04045, 0.5, 1])), [0.0031308, 0.21404114, 1], atol=1e-7)


@pytest.mark.parametrize(
    ("name", "mesh", "cause"),
    [
        ("a.fbx", TETRAHEDRON, "cannot be written"),
        ("a.glb", Mesh(TETRAHEDRON.vertices, torch.zeros(0, 3, dtype=torch.int64)), "no faces"),
        ("a.ply", TETRAHEDRON.with_vertices(TETRAHEDRON.vertices * float("nan")), "not finite"),
        ("a.stl", Mesh(TETRAHEDRON.vertices[:3], TETRAHEDRON.faces), "not there"),
    ],
)
def test_bad_meshes_are_refused_and_leave_no_file(tmp_path: Path, name: str, mesh: Mesh, cause: str) -> None:
    with pytest.raises(BadInput, match=cause):
        write_mesh(tmp_path / name, mesh)
    assert not list(tmp_path.iterdir())


def test_a_texture_of_another_mesh_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="other faces"):
        write_mesh(tmp_path / "a.glb", Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[:2]), atlas())


VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.mark.parametrize("textured", [False, True])
def test_the_khronos_validator_finds_nothing(tmp_path: Path, textured: bool) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if subprocess.run([node, "-e", "require.resolve('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("npm's gltf-validator is not on NODE_PATH")
    loose = Mesh(torch.cat([TETRAHEDRON.vertices, torch.ones(1, 3)]), TETRAHEDRON.faces)  # one vertex without a face
    [file] = write_mesh(tmp_path / "mesh.glb", loose, atlas()) if textured else write_mesh(tmp_path / "mesh.glb", loose)
    ran = subprocess.run([node, "-e", VALIDATE, str(file)], capture_output=True, text=True, check=True, env=os.environ)
    issues = json.loads(ran.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues
