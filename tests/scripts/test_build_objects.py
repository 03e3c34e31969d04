"""The object set built from a folder of meshes is one that training reads."""

from __future__ import annotations

import numpy as np
import trimesh

from kiss3d_cli.training.objects import find_objects, read_object
from objects.build import build


def test_a_built_set_is_read_again_with_its_shapes_and_colours(tmp_path):
    pack = tmp_path / "sources" / "mine" / "pack"
    pack.mkdir(parents=True)
    ball = trimesh.creation.icosphere(2)
    ball.apply_scale([1, 2, 0.5])
    ball.visual.vertex_colors = np.tile(np.array([200, 40, 90, 255], np.uint8), (len(ball.vertices), 1))
    ball.export(pack / "ball.ply")
    ball.export(pack / "copy.ply")
    trimesh.creation.box([1, 0.01, 0.4]).export(pack / "sheet.obj")
    (pack / "broken.obj").write_text("v 0 0 nothing\n")
    index = build(tmp_path / "sources", tmp_path / "out")
    assert [(row["name"], row["pack"], row["flat"]) for row in index["objects"]] == [
        ("ball.ply", "pack", False),
        ("sheet.obj", "pack", True),
    ]
    found = find_objects(tmp_path / "out").entries
    assert [entry.name for entry in found] == ["ball.ply"]
    mesh = read_object(found[0])
    sides = (mesh.vertices.amax(0) - mesh.vertices.amin(0)).numpy()
    assert np.allclose(sides, [1, 2, 0.5], atol=2e-3)
    assert mesh.colors is not None
    assert np.allclose(mesh.colors.numpy() * 255, [200, 40, 90], atol=0.6)
