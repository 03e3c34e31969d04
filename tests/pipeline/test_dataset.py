"""Items and plans of a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline.dataset import PlanEntry, find_item, find_jobs, read_plan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = ["images/shoe_0.png", "images/shoe_10.jpg", "images/shoe_2.WEBP", "images/shoe_2.txt", "images/shoe_0.jpg"]
    names += ["images/shoe_red_1.png", "images/shoe.png", "images/cup_0.png", "models/shoe/meshes/model.obj"]
    names += ["models/shoe_red/meshes/model.obj"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def test_an_item_has_its_own_pictures_only(root: Path) -> None:
    shoe = find_item(root, "shoe")
    assert {view: path.name for view, path in shoe.pictures.items()} == {
        0: "shoe_0.png",
        2: "shoe_2.WEBP",
        10: "shoe_10.jpg",
    }
    assert list(shoe.pictures) == [0, 2, 10]
    assert shoe.ground_truth == root / "models" / "shoe" / "meshes" / "model.obj"
    assert list(find_item(root, "shoe_red").pictures) == [1]


def test_views(root: Path) -> None:
    assert [job.name for job in find_jobs(root, "shoe", "all", "n")] == ["shoe_0", "shoe_2", "shoe_10"]
    assert [job.view for job in find_jobs(root, "shoe", None)] == [0]
    assert [job.view for job in find_jobs(root, "shoe", "010")] == [10]
    for wrong in ("3", "-1", "front", ""):
        with pytest.raises(BadInput, match="has no view") as caught:
            find_jobs(root, "shoe", wrong)
        assert "0, 2, 10" in str(caught.value.hint)


def test_what_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(BadInput, match=r"did you mean 'shoe'"):
        find_item(root, "sheo")
    with pytest.raises(BadInput, match="no ground truth"):
        find_item(root, "cup")
    with pytest.raises(BadInput, match="not a data set"):
        find_item(root / "images", "shoe")
    with pytest.raises(BadInput, match="no picture of an item"):
        find_item(root, "../models/shoe")


def test_a_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "objects:\n- {name: shoe, view: 2, notes: left}\n- name: cup\n  view: all\n- name: 7\n", encoding="utf-8"
    )
    assert read_plan(plan) == [PlanEntry("shoe", "2", "left"), PlanEntry("cup", "all", ""), PlanEntry("7", None, "")]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("objects: [", "not a YAML file"),
        ("", "no list called 'objects'"),
        ("- shoe", "no list called 'objects'"),
        ("objects: []", "no list called 'objects'"),
        ("objects: [shoe, {view: 1}]", "object 1: it is not a mapping\n  - object 2: it has no name"),
        ("objects: [{name: a, view: front}]", "its view 'front' is neither"),
        ("objects: [{name: a, view: true}]", "its view 'True' is neither"),
        ("objects: [{name: a, view: -1}]", "its view '-1' is neither"),
        ("objects: [{name: a, veiw: 1}]", "unknown key veiw"),
    ],
)
def test_a_wrong_plan_is_refused_with_every_fault(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "plan.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        read_plan(tmp_path / "plan.yaml")
    assert cause in caught.value.cause
    with pytest.raises(BadInput, match="no such plan"):
        read_plan(tmp_path / "gone.yaml")
