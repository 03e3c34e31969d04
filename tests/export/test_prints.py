"""Prints: standing, thickened, hollow, based, and sliced by a slicer; measured against volumes known by hand."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.model import Model
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.walls import within
from kiss3d_cli.geometry.mesh import Mesh
from shapes import ball, box, together

pytest.importorskip("manifold3d")


def printed(mesh: Mesh, height: float, **asked: object) -> tuple[trimesh.Trimesh, dict, list[str]]:
    """A print that is so many millimetres tall, as its STL says, which holds positions alone."""
    options = Options(to="print", kind="stl", height=height / 1000, **asked)
    options.check()
    made = export(Model(mesh), options, "print")
    body = trimesh.load(trimesh.util.wrap_as_stream(made.files["print.stl"]), file_type="stl")
    assert body.is_watertight
    assert body.is_winding_consistent
    assert body.volume == pytest.approx(made.facts["volume_mm3"], rel=1e-3)
    assert body.bounds[0, 2] == pytest.approx(0, abs=1e-5)
    return body, made.facts, made.notes


def test_a_base_is_flat_and_takes_no_more_than_a_twentieth():
    body, _, _ = printed(ball(), 40, base=True)
    down = (body.face_normals[:, 2] < -0.999) & (body.triangles[..., 2].max(1) < 1e-4)
    lies = body.area_faces[down].sum()
    # a slice of a ball of radius 20 at height h is pi (40 h - h^2); a tenth of its shadow is wanted
    assert 0.095 * np.pi * 20**2 < lies < 0.16 * np.pi * 20**2
    assert 38 <= body.extents[2] < 40


def test_a_point_that_stands_on_the_bed_is_cut_off_so_that_it_can_be_sliced():
    cone = trimesh.creation.cone(1, 4, sections=32)  # its tip is at z = 4
    x, y, z = torch.tensor(cone.vertices, dtype=torch.float32).unbind(1)
    tip_down = Mesh(torch.stack([x, -z, y], 1), torch.tensor(cone.faces))  # a turn by 90 degrees about x
    body, facts, notes = printed(tip_down, 80)
    assert any("stood on a point" in note for note in notes)
    assert facts["closed"]
    assert 0.1 < 80 - body.extents[2] < 3


def test_a_point_at_the_top_keeps_its_height_and_has_layers_that_are_printed():
    cone = trimesh.creation.cone(20, 40, sections=32)
    x, y, z = torch.tensor(cone.vertices, dtype=torch.float32).unbind(1)
    tip_up = Mesh(torch.stack([x, z, -y], 1), torch.tensor(cone.faces))
    body, facts, notes = printed(tip_up, 40)
    assert any("ended in a point" in note for note in notes)
    assert facts["pieces"] == 1
    assert body.extents[2] == pytest.approx(40, abs=1e-3)
    # 0.1 mm below its tip the cone is 0.1 mm wide
    for height in (39.9, 39.5):
        section = body.section(plane_origin=[0, 0, height], plane_normal=[0, 0, 1])
        assert np.ptp(section.vertices[:, :2], axis=0).min() > 0.4
    _, _, notes = printed(box((0, 0, 0), (20, 20, 20)), 20)
    assert not any("ended in a point" in note for note in notes)


def test_walls_become_as_thick_as_asked_and_thick_parts_stay():
    """A plate of 0.3 mm on a cube of 20 mm: the plate grows to 1.5 mm, the cube keeps its corners."""
    body, _, notes = printed(
        together(box((0, 0, 0), (20, 20, 20)), box((19, 3, 9.85), (40, 17, 10.15))), 20, wall=1.5e-3
    )
    assert "Thin walls were thickened." in notes
    plate = body.vertices[body.vertices[:, 0] > 5, 1]  # what was z is y on the bed
    assert 1.4 < np.ptp(plate) < 2.0
    assert body.bounds[0, 0] == pytest.approx(-20, abs=0.2)
    assert body.extents[2] == pytest.approx(20, abs=1e-3)


def test_where_no_wall_is_thin_nothing_changes():
    plain, _, _ = printed(box((0, 0, 0), (20, 20, 20)), 20)
    same, _, notes = printed(box((0, 0, 0), (20, 20, 20)), 20, wall=1.5e-3)
    assert "No wall was thinner." in notes
    assert same.volume == pytest.approx(plain.volume)


def test_a_sheet_without_thickness_can_be_printed():
    """A card of 20 x 30 mm and a hundredth of a millimetre: no layer of it would be drawn."""
    body, facts, notes = printed(box((0, 0, 0), (20, 30, 0.01)), 30)
    assert any("made 0.8 mm thick" in note for note in notes)
    assert 0.7 * 0.8 * 600 < body.volume < 1.6 * 0.8 * 600
    assert facts["pieces"] == 1


def test_a_hollow_ball_has_walls_holes_and_air():
    radius, wall = 20.0, 2.0
    solid, _, _ = printed(ball(), 2 * radius)
    body, _, _ = printed(ball(), 2 * radius, hollow=True, wall=wall / 1000)
    shell = 4 / 3 * np.pi * (radius**3 - (radius - wall) ** 3)
    assert body.volume == pytest.approx(shell, rel=0.1)
    assert body.volume < 0.4 * solid.volume
    assert body.body_count == 1  # the inside is joined with the outside through the holes
    assert body.euler_number < 2
    far = np.linalg.norm(body.vertices - [0, 0, radius], axis=1)
    inside = far[(far < radius - wall / 2) & (body.vertices[:, 2] > 6)]
    assert wall - 0.2 < radius - inside.max()
    assert radius - inside.min() < wall + 0.6


def test_no_room_inside_is_said():
    with pytest.raises(BadInput, match="leave no room inside") as caught:
        printed(box((0, 0, 0), (4, 20, 4)), 20, hollow=True)
    assert caught.value.place == "--hollow"


def test_the_firmest_side_comes_down():
    """A board that stands on its edge falls over; 80 mm is its height as it lies then."""
    body, _, _ = printed(box((0, 0, 0), (1, 30, 20)), 8, stable=True)
    assert body.extents[2] == pytest.approx(8, rel=1e-4)
    assert sorted(body.extents) == pytest.approx([8, 160, 240], rel=1e-4)


def test_distances_within_a_reach_are_exact():
    mask = np.random.default_rng(3).random((23, 31, 19)) > 0.01
    exact = ndimage.distance_transform_edt(mask)
    found = within(mask, 5)
    near = exact <= 5
    np.testing.assert_allclose(found[near], exact[near], rtol=1e-6)
    assert (found[~near] > 5).all()


def test_a_slicer_takes_it_without_repair(tmp_path):
    slicer = shutil.which("prusa-slicer")
    if slicer is None:
        pytest.skip("PrusaSlicer (prusa-slicer) is not installed")
    figure = together(box((0, 0, 0), (10, 6, 4)), box((2, 5, 1), (8, 14, 3)), box((4, 13, -2), (6, 15, 9)))
    (tmp_path / "print.3mf").write_bytes(
        export(Model(figure), Options(to="print", height=0.02), "print").files["print.3mf"]
    )
    told = subprocess.run([slicer, "--info", tmp_path / "print.3mf"], capture_output=True, text=True, check=True)
    facts = dict(re.findall(r"^(\w+) *= *(\S+)", told.stdout, re.MULTILINE))
    assert facts["manifold"] == "yes"
    assert float(facts["size_z"]) == pytest.approx(20, abs=1e-3)
    assert not {"open_edges", "edges_fixed", "facets_removed", "facets_reversed", "degenerate_facets"} & facts.keys()
    code = tmp_path / "print.gcode"
    ran = subprocess.run(
        [slicer, "--export-gcode", "--output", code, "--layer-height", "0.3", tmp_path / "print.3mf"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "repair" not in (ran.stdout + ran.stderr).lower()
    assert max(map(float, re.findall(r"^;Z:([\d.]+)", code.read_text(), re.MULTILINE))) > 19.5
