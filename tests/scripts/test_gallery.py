"""The contact sheet of meshes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import make_gallery
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh


def flag():
    """A square in the xz plane's corner x > 0 with a red front (+z) and a green back, thin along z."""
    x, y, z = (0.0, 1.0), (-1.0, 1.0), (-0.1, 0.1)
    corners = torch.tensor([[a, b, c] for a in x for b in y for c in z])
    quads = torch.tensor([[1, 5, 7, 3], [4, 0, 2, 6], [5, 4, 6, 7], [0, 1, 3, 2], [3, 7, 6, 2], [0, 4, 5, 1]])
    faces = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    red, green = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.8, 0.1])
    return Mesh(corners, faces, torch.where(corners[:, 2:] > 0, red, green))


def test_tiles_show_the_front_first_and_fill_the_frame():
    front, right, back, _ = make_gallery.mesh_tiles(flag(), [0, 90, 180, 270], 0, 64)
    middle = front[32, 32], back[32, 32], right[32, 32]
    assert middle[0][0] > 2 * middle[0][1]
    assert middle[1][1] > 2 * middle[1][0]
    covered = (front < 1).any(-1)
    rows, columns = covered.any(1).nonzero().flatten(), covered.any(0).nonzero().flatten()
    assert 3 <= int(rows[0]) <= 6
    assert 57 <= int(rows[-1]) <= 60
    assert int(columns[0]) == 63 - int(columns[-1])  # centred, though the flag lies at x > 0
    assert bool((front[0, 0] == 1).all())


def test_a_mesh_without_colours_and_clay_are_grey():
    mesh = flag()
    for tiles in (
        make_gallery.mesh_tiles(mesh.with_colors(None), [0], 10, 32),
        make_gallery.mesh_tiles(mesh, [0], 10, 32, clay=True),
    ):
        assert torch.allclose(tiles[..., 0], tiles[..., 1])
        assert float(tiles.min()) < 0.9


def test_a_sheet_has_a_row_a_mesh_and_the_picture_first(tmp_path, monkeypatch, capsys):
    write_mesh(tmp_path / "flag.glb", flag())
    Image.new("RGBA", (40, 20), (0, 0, 255, 255)).save(tmp_path / "blue.png")
    sheet = tmp_path / "sheet.png"
    mesh, picture = str(tmp_path / "flag.glb"), str(tmp_path / "blue.png")
    arguments = [mesh, mesh, "--pictures", picture, picture, "--size", "32", "--azimuths", "0", "180"]
    monkeypatch.setattr("sys.argv", ["make_gallery.py", *arguments, "--out", str(sheet)])
    make_gallery.main()
    image = np.asarray(Image.open(sheet))
    assert image.shape == (64, 96, 3)
    assert image[16, 16].tolist() == [0, 0, 255]
    assert image[2, 16].tolist() == [255, 255, 255]
    assert (image[:32] == image[32:]).all()
    assert image[16, 48, 0] > image[16, 48, 1]
    assert image[16, 80, 1] > image[16, 80, 0]
    assert "96 x 64" in capsys.readouterr().out


def test_pictures_must_match_the_meshes(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make_gallery.py", "a.ply", "b.ply", "--pictures", "a.png"])
    with pytest.raises(SystemExit) as stop:
        make_gallery.main()
    assert stop.value.code == 2
    assert "2 meshes need as many pictures, not 1" in capsys.readouterr().err
