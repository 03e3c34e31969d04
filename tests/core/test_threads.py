"""Work side by side: order, errors, and what every thread must find as the caller has it."""

import threading
from collections.abc import Iterator

import pytest
import torch

from kiss3d_cli.core.threads import both, side_by_side


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_keeps_the_order_and_uses_two_threads() -> None:
    meet = threading.Barrier(2, timeout=60)  # nobody passes alone

    def work(number: int) -> int:
        if number < 2:
            meet.wait()
        return number * number

    assert side_by_side(work, range(5)) == [0, 1, 4, 9, 16]


def test_torch_has_one_thread_inside_and_all_of_them_after() -> None:
    assert side_by_side(lambda _: torch.get_num_threads(), range(2)) == [1, 1]
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError):
        side_by_side(lambda key: {}[key], range(2))
    assert torch.get_num_threads() == 2


def test_gradients_are_recorded_inside_as_outside() -> None:
    with torch.no_grad():
        assert side_by_side(lambda _: torch.is_grad_enabled(), range(2)) == [False, False]
    assert side_by_side(lambda _: torch.is_grad_enabled(), range(2)) == [True, True]


def test_inside_itself_it_goes_one_after_the_other() -> None:
    def inner(_: int) -> set[int]:
        return set(side_by_side(lambda _: threading.get_ident(), range(3)))

    assert all(len(threads) == 1 for threads in side_by_side(inner, range(2)))


def test_both() -> None:
    assert both(lambda: "one", lambda: 2) == ("one", 2)
