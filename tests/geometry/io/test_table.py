"""One solid in every form of every format: area, volume, bounds and colour come out right, or the refusal says why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_files import odd_files
from packed_files import EXT, glb, packed, packed_files
from scene_files import Case, collada_files, colors, print_files, refusals, shapes
from solids import AREA, VERTICES, VOLUME, Gltf
from text_files import obj_files, off_files, ply_files, stl_files

from kiss3d_cli.core.errors import Kiss3dError, Missing
from kiss3d_cli.geometry.io.load import Geometry, read_geometry


def _case(suffix: str, content: Any, expected: Any) -> Case:
    files = (
        content
        if isinstance(content, dict)
        else {f"a.{suffix}": content.encode() if isinstance(content, str) else content}
    )
    return Case(files, refused=expected) if isinstance(expected, str) else Case(files, expected)


def _table() -> dict[str, Callable[[], Case]]:
    table: dict[str, Callable[[], Case]] = {}
    for suffix, files in (("obj", obj_files()), ("ply", ply_files()), ("stl", stl_files()), ("off", off_files())):
        for name, (content, expected) in files.items():
            table[f"{suffix}: {name}"] = lambda s=suffix, c=content, e=expected: _case(s, c, e)
    groups = (
        ("glb", shapes()),
        ("glb colour", colors()),
        ("glb refused", refusals()),
        ("glb packed", packed_files()),
        ("3mf", print_files()),
        ("odd", odd_files()),
    )
    for group, cases in (*groups, ("dae", collada_files())):
        table |= {f"{group}: {name}": make for name, make in cases.items()}
    return table


TABLE = _table()


def _write(folder: Path, case: Case) -> Path:
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder / next(iter(case.files))


def _measures(geometry: Geometry) -> tuple[float, float, np.ndarray, np.ndarray, np.ndarray | None]:
    mesh = geometry.mesh
    assert mesh is not None
    corners = mesh.vertices[mesh.faces].numpy()
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    volume = float((a * np.cross(b, c)).sum() / 6)
    color = None
    if mesh.colors is not None:
        color = (mesh.colors[mesh.faces].numpy().mean(1) * areas[:, None]).sum(0) / areas.sum()
    return float(areas.sum()), volume, corners.min((0, 1)), corners.max((0, 1)), color


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize("name", TABLE)
def test_a_file_is_read_exactly_or_refused(tmp_path: Path, name: str) -> None:
    case = TABLE[name]()
    path = _write(tmp_path, case)
    if case.refused is not None:
        with pytest.raises(Kiss3dError, match=case.refused) as caught:
            read_geometry(path, torch.float64, textures=True)
        assert caught.value.hint
        assert caught.value.place == str(path)
        with pytest.raises(Kiss3dError, match=case.refused):
            read_geometry(path, torch.float64)
        return
    corners = np.concatenate([VERTICES @ m[:3, :3].T + m[:3, 3] for m in case.matrices])
    for textures in (False, True):
        area, volume, lower, upper, color = _measures(read_geometry(path, torch.float64, textures=textures))
        size = float(np.ptp(corners, 0).max()) / 3
        np.testing.assert_allclose(lower, corners.min(0), rtol=0, atol=1e-6 * size)
        np.testing.assert_allclose(upper, corners.max(0), rtol=0, atol=1e-6 * size)
        expected = sum(abs(float(np.linalg.det(m[:3, :3]))) for m in case.matrices) * VOLUME
        assert volume == pytest.approx(expected, rel=1e-6)
        if all(
            np.allclose(m[:3, :3] @ m[:3, :3].T, np.eye(3) * (m[:3, :3] @ m[:3, :3].T)[0, 0]) for m in case.matrices
        ):
            scales = sum(float((m[:3, :3] @ m[:3, :3].T)[0, 0]) for m in case.matrices)
            assert area == pytest.approx(scales * AREA, rel=1e-6)
        if textures:
            assert (color is None) == (case.color is None)
            if color is not None:
                np.testing.assert_allclose(color, case.color, rtol=0, atol=1e-6)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    words = {
        "obj: two-vertex faces": "1 face with fewer than three corners is left out",
        "obj: colours on some": "only some of its vertices have colours",
        "obj: texture missing": r"sub\\my picture.png', which is not there",
        "obj: library missing": "my things.mtl', which is not there",
        "glb colour: missing": "'gone.png', which is not there",
        "3mf: inches": "read in metres with y up",
    }
    for number, (name, word) in enumerate(words.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        notes = read_geometry(_write(folder, TABLE[name]()), textures=True).notes
        assert any(re.search(word, note) for note in notes), notes


def test_what_is_compressed_names_its_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiss3d_cli.geometry.io.gltf.codecs.find_spec", lambda _name: None)
    (tmp_path / "a.glb").write_bytes(glb(packed(EXT)[0]))
    with pytest.raises(Missing, match="the decoder meshopt is not installed") as caught:
        read_geometry(tmp_path / "a.glb")
    assert "kiss3d[meshopt]" in str(caught.value.hint)


def test_data_that_are_there_without_compression_need_no_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiss3d_cli.geometry.io.gltf.codecs.find_spec", lambda _name: None)
    gltf = Gltf()
    gltf.prism()
    for view in gltf.root["bufferViews"]:
        view["extensions"] = {EXT: {"buffer": 0, "byteLength": 5, "byteStride": 12, "count": 12, "mode": "ATTRIBUTES"}}
    (tmp_path / "a.glb").write_bytes(gltf.glb())
    mesh = read_geometry(tmp_path / "a.glb", torch.float64).mesh
    assert mesh is not None
    np.testing.assert_array_equal(mesh.vertices.numpy(), VERTICES)


@pytest.mark.parametrize("name", ["a" * 300 + ".mtl", "/".join(["b" * 200] * 40) + "/a.mtl"], ids=["name", "path"])
def test_a_library_whose_name_is_too_long_for_any_file_is_as_one_that_is_not_there(tmp_path: Path, name: str) -> None:
    outcomes = []
    for library in ("gone.mtl", name):
        path = tmp_path / "a.obj"
        face = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl x\nf 1/1 2/1 3/1\n"
        path.write_text(f"mtllib {library}\n{face}", encoding="utf-8")
        try:
            outcomes.append(" ".join(read_geometry(path, textures=True).notes).replace(library, ""))
        except Kiss3dError as error:
            outcomes.append(error.cause.replace(library, ""))
    assert outcomes[0] == outcomes[1]
