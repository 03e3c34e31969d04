"""Families that no weights of ours were ever trained on. Chosen once: a change here makes old figures worthless."""

from __future__ import annotations

HELD_OUT: dict[str, tuple[str, ...]] = {
    "furniture": ("quaternius-showcase/house_interior_pack",),
    "fish": ("quaternius-showcase/cute_fish_pack",),
    "things": ("quaternius-showcase/rpg_items_pack",),
    "houses": ("quaternius-showcase/buildings_pack_3",),
    "halloween": ("KayKit-Halloween",),
    "blocks": tuple(f"bullet-random/{number:03}" for number in range(900, 1000)),
}
"""Name of the family -> `set` or `set/pack` of the object index."""

KNOWN_MESHES = ("bunny", "spot", "cow", "teapot", "rocker")
"""Words in the names of meshes that figures are measured on: objects so named are never trained on either."""


def family_of(source: str, pack: str) -> str | None:
    """The held-out family that an object belongs to; None if it may be trained on.

    Args:
        source: the object's `set` in the index.
        pack: its `pack`.
    """
    for family, members in HELD_OUT.items():
        if source in members or f"{source}/{pack}" in members:
            return family
    return None


def may_be_trained_on(source: str, pack: str, name: str) -> bool:
    """Whether an object is in no held-out family and is none of the meshes that figures are measured on."""
    words = f"{pack} {name}".lower()
    return family_of(source, pack) is None and not any(word in words for word in KNOWN_MESHES)
