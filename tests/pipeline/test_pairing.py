"""Results and ground truths find each other by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline.pairing import Result, find_results, find_truths, pair


def result(name: str, item: str | None = None) -> Result:
    return Result(name, item or name, Path(name))


def test_a_drawn_case() -> None:
    truths = {"Cow": [Path("Cow.obj")], "cup_2": [Path("cup_2.obj")], "cup": [Path("c")], "lone": [Path("l")]}
    truths["twice"] = [Path("twice.obj"), Path("twice.ply")]
    results = [result("cow"), result("cup_2"), result("cup_3"), result("cup-4"), result("what"), result("twice")]
    results.append(Result("run-1", "lone", None, "this run has no mesh yet"))
    found = pair(results, truths)
    assert [(entry.result.name, entry.truth.name) for entry in found.pairs] == [
        ("cow", "Cow.obj"),
        ("cup_2", "cup_2.obj"),  # there is one of that very name
        ("cup_3", "c"),  # view 3 of cup
        ("cup-4", "c"),
    ]
    assert found.unpaired == (
        "what: there is no ground truth called what",
        "twice: two ground truths are called twice (twice.obj and twice.ply)",
        "run-1: this run has no mesh yet",
    )
    lonely = pair([], {"lone": [Path("l")]})
    assert lonely.unpaired == ("lone: there is no result for this ground truth",)


def test_finding_ground_truths_of_both_layouts(tmp_path: Path) -> None:
    for name in ("a.obj", "b.PLY", "notes.txt", "models/shoe/meshes/model.obj", "models/empty/readme"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert {name: [path.name for path in paths] for name, paths in find_truths(tmp_path).items()} == {
        "a": ["a.obj"],
        "b": ["b.PLY"],
    }
    (tmp_path / "a.obj").unlink()
    (tmp_path / "b.PLY").unlink()
    assert list(find_truths(tmp_path)) == ["shoe"]
    with pytest.raises(BadInput, match="no ground truth in this folder"):
        find_truths(tmp_path / "models" / "empty")


def test_ground_truths_as_data_sets_ship_them(tmp_path: Path) -> None:
    layouts = {
        "apple_001": "apple_001/Scan/Scan.obj",  # OmniObject3D
        "1a04e3": "02691156/1a04e3/models/model_normalized.obj",  # ShapeNet, by category
        "shoe": "shoe/meshes/model.obj",
        "0ab1": "0ab1/0ab1.glb",  # Objaverse
        "part": "part/part.off",
    }
    for number, (name, file) in enumerate(layouts.items()):
        folder = tmp_path / str(number)
        for path in (file, str(Path(file).parent / "notes.txt"), str(Path(file).parent / "spare.mtl")):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text("")
        assert find_truths(folder) == {name: [folder / file]}
    clash = tmp_path / "clash"
    for category in ("a", "b"):
        (clash / category / "one" / "models").mkdir(parents=True)
        (clash / category / "one" / "models" / "model_normalized.obj").write_text("")
    assert len(find_truths(clash)["one"]) == 2  # which pairing refuses by its name
    assert pair([result("one")], find_truths(clash)).pairs == ()


def test_results_one_folder_down(tmp_path: Path) -> None:
    for name in ("a/save/it3.obj", "b/0/mesh.glb", "b/0/other.obj", "c/0/mesh.obj", "c/1/mesh.obj", "d/x/y/mesh.obj"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = {entry.name: entry for entry in find_results(tmp_path)}
    assert list(found) == ["a", "b", "c"]
    assert found["a"].mesh == tmp_path / "a" / "save" / "it3.obj"
    assert found["b"].mesh == tmp_path / "b" / "0" / "mesh.glb"
    assert found["c"].missing == "several of its folders have a mesh"


def test_finding_results(tmp_path: Path) -> None:
    for name in ("a.obj", "b/mesh.glb", "b/other.obj", "c/x.ply", "d/x.ply", "d/y.ply", "e/readme", ".f/mesh.obj"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "run.json").write_text("{")
    found = {entry.name: entry for entry in find_results(tmp_path)}
    assert list(found) == ["a.obj", "b", "c", "d", "g"]
    assert found["b"].mesh == tmp_path / "b" / "mesh.glb"
    assert found["c"].mesh == tmp_path / "c" / "x.ply"
    assert found["d"].missing == "it has several meshes and none is called mesh"
    assert found["g"].mesh is None
    with pytest.raises(BadInput, match="no result in this folder"):
        find_results(tmp_path / "e")
