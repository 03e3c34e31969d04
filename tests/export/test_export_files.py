"""Files of every target, read back by readers of others: size, axes, place, colours, validators."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.model import Model
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.source import read_model
from kiss3d_cli.export.targets import TARGETS, UNITS
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from shapes import ball, corner_model, painted

PAIRS = [(to, kind) for to, target in TARGETS.items() for kind in target.formats]
NEEDS = {"print": "manifold3d", "web": "meshopt", "ar": "pxr"}


def write(tmp_path, options: Options, model: Model | None = None):
    options.check()
    made = export(model or corner_model(), options, "corner")
    for name, data in made.files.items():
        (tmp_path / name).write_bytes(data)
    return made, tmp_path / next(iter(made.files))


@pytest.mark.parametrize(("to", "kind"), PAIRS)
def test_size_axes_and_place(tmp_path, to, kind):
    """The tetrahedron is 1 wide, 2 tall, and its far corner is 3 in front, at the floor."""
    pytest.importorskip(NEEDS.get(to, "numpy"))
    made, path = write(tmp_path, Options(to=to, kind=kind, height=0.08))
    target = TARGETS[to]
    unit = UNITS[target.unit_in(kind)]
    # x: right; y: up, or away from the front; metres
    up, away = (1, -2) if target.up_in(kind) == "y" else (2, 1)
    vertices = np.asarray(points_of(path, kind)) * unit
    assert np.ptp(vertices[:, up]) == pytest.approx(0.08, rel=1e-3)
    assert np.ptp(vertices[:, 0]) == pytest.approx(0.04, rel=1e-3)
    depth = vertices[:, 1] if away == 1 else -vertices[:, 2]
    assert np.ptp(depth) == pytest.approx(0.12, rel=1e-3)
    front = vertices[depth.argmin()]
    low = vertices.min(0)
    assert front[up] == pytest.approx(low[up], abs=1e-5)  # the corner in front lies low
    assert front[0] == pytest.approx(low[0], abs=1e-5)  # and on the left
    if target.origin == "floor":
        assert low[up] == pytest.approx(0, abs=1e-6)
    else:
        assert low[up] == pytest.approx(-0.04, abs=1e-5)
    assert made.facts["size"] == pytest.approx((np.ptp(vertices, axis=0) / unit).tolist(), rel=1e-3)


def points_of(path, kind) -> np.ndarray:
    """The vertices as the file has them, by a reader that is not ours where there is one."""
    if kind == "usdz":
        from pxr import Usd, UsdGeom

        stage = Usd.Stage.Open(str(path))
        assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("Y", 1.0)
        return np.asarray(UsdGeom.Mesh(stage.GetPrimAtPath("/model/mesh")).GetPointsAttr().Get())
    if kind == "3mf":
        x, y, z = read_mesh(path).vertices.double().unbind(1)  # in metres, y up
        return 1000 * torch.stack([x, -z, y], 1).numpy()
    if path.name.endswith("web.glb") or b"EXT_meshopt" in path.read_bytes():
        return read_mesh(path).vertices.numpy()
    return trimesh.load(path, force="mesh", process=False).vertices


@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_the_texture_comes_along(tmp_path, kind):
    model = corner_model()
    _, path = write(tmp_path, Options(to="blender", kind=kind), model)
    back, _ = read_model(path)
    assert back.texture is not None
    assert torch.equal(back.texture.image, model.texture.image)
    torch.testing.assert_close(
        back.texture.uv[back.texture.corners], model.texture.uv[model.texture.corners], atol=1e-6, rtol=0
    )
    assert len(back.mesh.vertices) == 4


def test_a_texture_of_another_size_becomes_a_power_of_two(tmp_path):
    model = corner_model()
    wide = torch.nn.functional.pad(model.texture.image, (0, 0, 0, 9, 0, 3))
    odd = Model(model.mesh, type(model.texture)(model.texture.uv, model.texture.corners, wide))
    made, _ = write(tmp_path, Options(to="unity", texture=32), odd)
    assert made.facts["texture"] == [32, 32]


def test_vertex_colours_stay_and_ply_takes_a_texture_to_the_vertices(tmp_path):
    sphere = ball()
    colored = Model(sphere.with_colors(painted(sphere.vertices)))
    _, path = write(tmp_path, Options(to="blender", kind="ply", up="y", origin="center"), colored)
    back = trimesh.load(path, process=False)
    np.testing.assert_allclose(back.visual.vertex_colors[:, :3] / 255, painted(sphere.vertices), atol=0.003)
    np.testing.assert_allclose(back.vertices, sphere.vertices, atol=1e-6)
    assert b"property float nx" in path.read_bytes()
    made, path = write(tmp_path, Options(to="blender", kind="ply"))
    assert any("taken over" in note for note in made.notes)
    assert read_mesh(path).colors is not None


@pytest.mark.parametrize("faces", [None, 600])
def test_a_web_page_gets_a_small_file_that_reads_the_same(tmp_path, faces):
    pytest.importorskip("meshopt")
    sphere = ball()
    colored = Model(sphere.with_colors(painted(sphere.vertices)))
    texture = None if faces is None else 256
    made, path = write(tmp_path, Options(to="web", faces=faces, texture=texture), colored)
    plain = export(colored, Options(to="blender", faces=faces, texture=texture), "plain")
    assert len(made.files[path.name]) < 0.55 * len(plain.files["plain.glb"])
    back, _ = read_model(path)
    assert len(back.mesh.faces) == made.facts["faces"]
    radius = back.mesh.vertices.norm(dim=1)
    assert 0.96 < float(radius.min()) <= float(radius.max()) < 1.03
    if faces is None:
        assert back.mesh.colors is not None
        torch.testing.assert_close(back.mesh.colors, painted(back.mesh.vertices).double().float(), atol=0.01, rtol=0)


VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.mark.parametrize("to", ["web", "godot"])
def test_the_khronos_validator_finds_nothing_in_what_is_baked(tmp_path, to):
    node = shutil.which("node")
    if (
        node is None
        or subprocess.run([node, "-e", "require.resolve('gltf-validator')"], capture_output=True).returncode
    ):
        pytest.skip("npm's gltf-validator is not on NODE_PATH")
    pytest.importorskip("meshopt")
    sphere = ball()
    model = Model(sphere.with_colors(painted(sphere.vertices)))
    _, path = write(tmp_path, Options(to=to, kind="glb", faces=500, texture=64), model)
    ran = subprocess.run([node, "-e", VALIDATE, str(path)], capture_output=True, text=True, check=True, env=os.environ)
    issues = json.loads(ran.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues


@pytest.mark.parametrize("model", ["textured", "colored", "plain", "baked"])
def test_usdchecker_finds_nothing(tmp_path, model):
    validation = pytest.importorskip("pxr.UsdValidation")
    from pxr import Usd

    sphere = ball()
    colored = Model(sphere.with_colors(painted(sphere.vertices)))
    models = {"textured": corner_model(), "plain": Model(sphere), "colored": colored, "baked": colored}
    faces = 500 if model == "baked" else None
    _, path = write(tmp_path, Options(to="ar", faces=faces, texture=64), models[model])
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 10
    found = validation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    assert not [error.GetMessage() for error in found]


@pytest.mark.parametrize("kind", ["glb", "obj", "ply", "stl", "usdz", "3mf"])
def test_the_same_model_gives_the_same_bytes(kind):
    to = {"usdz": "ar", "3mf": "print"}.get(kind, "blender")
    pytest.importorskip(NEEDS.get(to, "numpy"))
    first, second = (export(corner_model(), Options(to=to, kind=kind), "corner").files for _ in range(2))
    assert first == second


def test_a_phones_file_has_no_date(tmp_path):
    pytest.importorskip("pxr")
    _, path = write(tmp_path, Options(to="ar"))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        # the headers of the members themselves
        for entry in archive.infolist():
            assert path.read_bytes()[entry.header_offset + 10 : entry.header_offset + 14] == b"\0\0!\0"


def test_a_flat_mesh_has_no_height_to_be_scaled_to(tmp_path):
    flat = Model(Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]]), torch.tensor([[0, 2, 1]])))
    with pytest.raises(BadInput, match="lies flat"):
        write(tmp_path, Options(to="blender", height=0.1), flat)
    write(tmp_path, Options(to="blender"), flat)


def test_z_up_meshes_are_turned(tmp_path):
    body = trimesh.creation.box((1, 2, 3))
    body.export(tmp_path / "box.stl")
    model, _ = read_model(tmp_path / "box.stl", "z")
    assert np.ptp(model.mesh.vertices.numpy(), axis=0) == pytest.approx([1, 3, 2])


def test_an_obj_names_its_files_so_that_every_reader_finds_them(tmp_path):
    made, _ = write(tmp_path, Options(to="blender", kind="obj"))
    assert list(made.files) == ["corner.obj", "corner.mtl", "corner.png"]
    names = []
    for stem in ("red B\u00e4r", "red B\u00fcr", "\u65e5\u672c"):
        files = export(corner_model(), Options(to="blender", kind="obj"), stem).files
        library = next(name for name in files if name.endswith(".mtl"))
        names.append(library)
        assert library.isascii()
        assert " " not in library
        assert f"mtllib {library}\n" in files[f"{stem}.obj"].decode()
        picture = next(name for name in files if name.endswith(".png"))
        assert f"map_Kd {picture}\n" in files[library].decode()
        folder = tmp_path / stem
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        assert read_model(folder / f"{stem}.obj")[0].texture is not None
        scene = trimesh.load(folder / f"{stem}.obj", process=False)
        assert scene.visual.material.image is not None
    assert len(set(names)) == 3  # two that look alike without their letters do not take each other's


def test_pictures_outside_the_folder_are_not_read(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    files = export(corner_model(), Options(to="blender", kind="obj"), "corner").files
    (tmp_path / "corner.png").write_bytes(files["corner.png"])
    (inner / "corner.obj").write_bytes(files["corner.obj"])
    (inner / "corner.mtl").write_bytes(files["corner.mtl"].replace(b"map_Kd corner", b"map_Kd ../corner"))
    model, notes = read_model(inner / "corner.obj")
    assert model.texture is None
    assert any("outside its own folder" in note for note in notes)


def test_a_tinted_texture_is_not_taken_for_a_plain_one(tmp_path):
    files = export(corner_model(), Options(to="blender"), "corner").files
    scene = trimesh.load(io.BytesIO(files["corner.glb"]), file_type="glb", force="mesh", process=False)
    scene.visual.material.baseColorFactor = [128, 255, 255, 255]
    (tmp_path / "tinted.glb").write_bytes(scene.export(file_type="glb"))
    model, _ = read_model(tmp_path / "tinted.glb")
    assert model.texture is None
    assert model.mesh.colors is not None


def test_a_roughness_that_was_asked_for_is_in_the_material():
    glb = export(corner_model(), Options(to="blender", roughness=0.25), "corner").files["corner.glb"]
    material = trimesh.load(io.BytesIO(glb), file_type="glb", force="mesh", process=False).visual.material
    assert (material.roughnessFactor, material.metallicFactor) == (0.25, 0)
    mtl = export(corner_model(), Options(to="blender", kind="obj", roughness=0.25), "corner").files["corner.mtl"]
    assert b"\nPr 0.25\n" in mtl
