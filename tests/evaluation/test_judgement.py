from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kiss3d_cli.evaluation.front_check import FrontCheck
from kiss3d_cli.evaluation.judgement import Route, judge

FINE = FrontCheck(
    mask_iou=0.99,
    color_psnr=31.0,
    thin_kept=None,
    lost_parts=(),
    pieces=2,
    mask_pieces=2,
    watertight=True,
    self_intersections=0,
    ragged_edges=0.2,
    faces=30_000,
    scale=1.0,
)

DRAFT = Route(drawn=False, resolution=None, integrate=True, steps=0, texture=1024)
NEURAL = Route(drawn=True, resolution=128, integrate=True, steps=50, texture=2048)


def test_a_mesh_within_its_limits_goes_without_a_word() -> None:
    assert judge(FINE, DRAFT) is None
    assert judge(dataclasses.replace(FINE, color_psnr=None, thin_kept=0.95, pieces=3), NEURAL) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask_iou": 0.9}, "covers the picture's object to 90%"),
        ({"lost_parts": ("upper left",)}, "a part is missing (upper left)"),
        ({"lost_parts": ("left", "lower right")}, "2 parts are missing (left, lower right)"),
        ({"thin_kept": 0.2}, "80% of the thin parts"),
        ({"pieces": 1}, "1 of 2 pieces"),
        ({"color_psnr": 12.0}, "12.0 dB"),
        ({"watertight": False}, "holes"),
        ({"ragged_edges": 40.0}, "40.0 of 1,000 edges"),
    ],
)
@pytest.mark.parametrize("route", [DRAFT, NEURAL])
def test_each_limit_is_said_in_one_sentence_with_what_to_try(change: dict[str, Any], said: str, route: Route) -> None:
    found = judge(dataclasses.replace(FINE, **change), route)
    assert found is not None
    assert said in found
    assert "; try " in found
    assert found.count(".\n") == 0
    assert found.endswith(".")


WORST = dataclasses.replace(
    FINE,
    mask_iou=1.0,
    color_psnr=5.0,
    thin_kept=0.1,
    lost_parts=("left",),
    pieces=1,
    watertight=False,
    ragged_edges=50.0,
)


def advice(route: Route) -> set[str]:
    """All that is ever advised: each fault alone."""
    found = set()
    for name in ("color_psnr", "thin_kept", "lost_parts", "pieces", "watertight", "ragged_edges"):
        said = judge(dataclasses.replace(FINE, **{name: getattr(WORST, name)}), route)
        assert said is not None
        found.add(said.partition("; try ")[2])
    return found


def test_advice_names_no_setting_that_did_nothing() -> None:
    draft = " ".join(advice(DRAFT))
    for idle in ("seed", "reconstruct.resolution", "refine.integrate", "bending_weight", "--preset draft"):
        assert idle not in draft, idle
    assert "refine.texture_size=2048" in draft
    neural = " ".join(advice(NEURAL))
    assert "--preset draft" in neural
    assert "reconstruct.resolution=256 --set refine.integrate=false" in neural
    assert "texture_size" not in neural
    assert "seed" not in neural  # of a bundle that was given it changes nothing
    finest = " ".join(advice(dataclasses.replace(NEURAL, resolution=256, integrate=False)))
    assert "resolution" not in finest
    assert "integrate" not in finest
    assert "refine.texture=true" in " ".join(advice(dataclasses.replace(DRAFT, texture=None)))


def test_the_same_advice_is_given_once() -> None:
    said = judge(dataclasses.replace(FINE, thin_kept=0.1, lost_parts=("left",)), NEURAL)
    assert said is not None
    assert said.count("--preset draft") == 1
