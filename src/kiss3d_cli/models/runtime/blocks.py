"""The tensors of a deep network, from those of the same network with two blocks: to make all takes a second of Python.

The blocks of a stack are equal but for the first, which may hold more: the relative bias of all, for example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
SHOWN = 2


def shallow(tensors: Mapping[str, T], stacks: Mapping[str, int]) -> dict[str, T]:
    """Without all blocks from the third on.

    Args:
        tensors: anything by the names of a network's tensors.
        stacks: how many blocks there are in each stack, by what stands before the block's number: `encoder.layers.`.
    """
    return {name: value for name, value in tensors.items() if (_block(name, stacks) or ("", 0))[1] < SHOWN}


def deep(tensors: Mapping[str, T], stacks: Mapping[str, int]) -> dict[str, T]:
    """What `shallow` left away, as it is in the second block. For its arguments see there."""
    whole = {}
    for name, value in tensors.items():
        found = _block(name, stacks)
        if found is None:
            whole[name] = value
            continue
        stack, number = found
        rest = name[len(stack) + len(str(number)) :]
        last = stacks[stack] if number == SHOWN - 1 else number + 1
        whole.update({f"{stack}{index}{rest}": value for index in range(number, last)})
    return whole


def _block(name: str, stacks: Mapping[str, int]) -> tuple[str, int] | None:
    """The stack and the block that a tensor is in."""
    for stack in stacks:
        if name.startswith(stack):
            number = name[len(stack) :].partition(".")[0]
            if number.isdecimal():
                return stack, int(number)
    return None
