from __future__ import annotations

import dataclasses

import pytest

from kiss3d_cli.evaluation.front_check import FrontCheck
from kiss3d_cli.evaluation.judgement import judge

FINE = FrontCheck(
    mask_iou=0.99,
    color_psnr=31.0,
    thin_kept=None,
    pieces=2,
    mask_pieces=2,
    watertight=True,
    self_intersections=0,
    ragged_edges=0.2,
    faces=30_000,
    scale=1.0,
)


def test_a_mesh_within_its_limits_goes_without_a_word() -> None:
    assert judge(FINE) is None
    assert judge(dataclasses.replace(FINE, color_psnr=None, thin_kept=0.95, pieces=3)) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask_iou": 0.9}, "covers the picture's object to 90%"),
        ({"thin_kept": 0.2}, "80% of the thin parts"),
        ({"pieces": 1}, "1 of 2 pieces"),
        ({"color_psnr": 12.0}, "12.0 dB"),
        ({"watertight": False}, "holes"),
        ({"ragged_edges": 40.0}, "40.0 of 1,000 edges"),
    ],
)
def test_each_limit_is_said_in_one_sentence_with_what_to_try(change: dict[str, float], said: str) -> None:
    found = judge(dataclasses.replace(FINE, **change))
    assert found is not None
    assert said in found
    assert "; try " in found
    assert found.count(".\n") == 0
    assert found.endswith(".")
