"""Sorting by whole numbers against numpy's."""

import numpy as np
import pytest

from kiss3d_cli.geometry.surface.sorting import distinct, stable_order


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("limit", [1, 7, 2**40, 2**62])  # the last leaves no room for the places
def test_agrees_with_numpy(count: int, limit: int) -> None:
    keys = np.random.default_rng(0).integers(0, min(limit, 300), count)
    keys[:1] = limit - 1
    np.testing.assert_array_equal(stable_order(keys, limit), np.argsort(keys, kind="stable"))
    for found, wanted in zip(
        distinct(keys, limit), np.unique(keys, return_index=True, return_inverse=True), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_takes_keys_of_any_integer_type() -> None:
    keys = np.array([5, 2, 5, 0], np.int32)
    assert stable_order(keys, 2**31).tolist() == [3, 1, 0, 2]
