"""Grids of views made elsewhere: which layout a picture has, and what its tiles show.

| layout | proportions | views |
|---|---|---|
| bundle | 2 rows x 4 columns | colours over normals at azimuth 0, 90, 180, 270, elevation 5 (kiss3d, Kiss3DGen) |
| strip | 1 x 4 | the same colours without normals |
| row of six | 1 x 6 | the colours of `six` without normals |
| zero123plus | 3 x 2 | colours at azimuth 30, 90, ... 330, elevation 20 and -10 in turn (Zero123++ v1.2) |
| six | 2 x 6 | colours and normals at azimuth 0, 45, 90, 180, 270, 315, elevation 0, orthographic (Wonder3D, Era3D) |
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.records import parse_json

Pixels = UInt8[np.ndarray, "H W 3"]
FAR_AWAY = 100.0
"""A camera so far away, with so narrow a field of view, is orthographic to within 1 %."""
LARGEST_HALF = 0.95
"""What the longest half extent of an object seen without perspective is taken for, in world units."""
_FIELD = 30.0
_ZERO123PLUS_RADIUS = 4.0
_BACKGROUND = 24
"""Levels from the border's colour within which a pixel may be background."""
_PLAIN = 0.9
"""Share of the border that must have one colour."""


@dataclass(frozen=True)
class ViewSet:
    """Where the cameras of a bundle's columns stand, where it is not the bundle's usual four.

    Attributes:
        azimuths: degrees about +y, one for each column.
        elevations: degrees, likewise.
        radius: distance of the cameras to the origin, in world units.
        fov: field of view in degrees, in both directions.
    """

    azimuths: tuple[float, ...]
    elevations: tuple[float, ...]
    radius: float
    fov: float

    def to_json(self) -> str:
        return json.dumps(
            {"azimuths": self.azimuths, "elevations": self.elevations, "radius": self.radius, "fov": self.fov}
        )

    @staticmethod
    def from_json(text: str, place: str) -> ViewSet:
        """Raises BadInput if it is not what `to_json` writes."""
        try:
            found = parse_json(text)
            azimuths, elevations = (tuple(float(angle) for angle in found[name]) for name in ("azimuths", "elevations"))
            views = ViewSet(azimuths, elevations, float(found["radius"]), float(found["fov"]))
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput("the cameras in the bundle's file can't be read", place=place, hint=_REMADE) from error
        numbers = (*azimuths, *elevations, views.radius, views.fov)
        fine = all(math.isfinite(number) for number in numbers) and len(azimuths) == len(elevations)
        if not (fine and 2 <= len(azimuths) <= 16 and all(abs(angle) < 90 for angle in elevations)):
            raise BadInput("the cameras in the bundle's file make no sense", place=place, hint=_REMADE)
        if not (1.5 <= views.radius <= 1000 and 0.05 <= views.fov <= 120):
            raise BadInput("the cameras in the bundle's file make no sense", place=place, hint=_REMADE)
        return views


_REMADE = "save the picture without its metadata, or make it again"


@dataclass(frozen=True)
class Layout:
    """A way to put views into one picture.

    Attributes:
        name: for messages.
        rows, columns: of square tiles.
        azimuths, elevations: degrees, one for each view.
        orthographic: seen without perspective.
        normals: one row holds normals.
    """

    name: str
    rows: int
    columns: int
    azimuths: tuple[float, ...]
    elevations: tuple[float, ...]
    orthographic: bool = False
    normals: bool = False

    def tiles(self, picture: UInt8[np.ndarray, "H W *C"]) -> list[UInt8[np.ndarray, "S S *C"]]:
        """The tiles of a picture, or of its alpha channel, row by row."""
        side = picture.shape[0] // self.rows
        return [
            picture[row * side : (row + 1) * side, column * side : (column + 1) * side]
            for row in range(self.rows)
            for column in range(self.columns)
        ]


BUNDLE = Layout("bundle", 2, 4, (0, 90, 180, 270), (5, 5, 5, 5), normals=True)
STRIP = Layout("strip", 1, 4, (0, 90, 180, 270), (5, 5, 5, 5))
ZERO123PLUS = Layout("Zero123++ v1.2 grid", 3, 2, (30, 90, 150, 210, 270, 330), (20, -10, 20, -10, 20, -10))
SIX = Layout("Wonder3D/Era3D grid", 2, 6, (0, 45, 90, 180, 270, 315), (0,) * 6, orthographic=True, normals=True)
ROW = Layout("row of six views", 1, 6, SIX.azimuths, SIX.elevations, orthographic=True)
LAYOUTS = (BUNDLE, STRIP, ZERO123PLUS, SIX, ROW)


def layout_of(picture: Pixels, place: str) -> Layout:
    """The layout that a picture's proportions say.

    Raises:
        BadInput: none has these proportions.
    """
    height, width = picture.shape[:2]
    for layout in LAYOUTS:
        if width * layout.rows == height * layout.columns and height % layout.rows == 0:
            return layout
    known = ", ".join(f"{layout.rows} x {layout.columns}" for layout in LAYOUTS)
    raise BadInput(
        f"the bundle is {width} x {height} pixels, which is no grid of square views",
        place=place,
        hint=f"give a grid of {known} (rows x columns) square tiles: a bundle is 2048 x 1024 or 1280 x 640 pixels, for "
        "example",
    )


def tile_mask(
    tile: UInt8[np.ndarray, "S S 3"], alpha: UInt8[np.ndarray, "S S"] | None
) -> Bool[np.ndarray, "S S"] | None:
    """The object of a tile: what its alpha channel shows, or `plain_mask` where that cuts nothing out."""
    return plain_mask(tile) if alpha is None or alpha.min() == 255 else alpha > 127


def plain_mask(tile: UInt8[np.ndarray, "S S 3"]) -> Bool[np.ndarray, "S S"] | None:
    """The object of a tile on a plain background: all that is not reached from the border over its colour.

    Returns:
        None if the border has no one colour.
    """
    border = np.concatenate([tile[0], tile[-1], tile[:, 0], tile[:, -1]]).astype(np.int16)
    color = np.median(border, axis=0)
    if (np.abs(border - color).max(-1) <= _BACKGROUND).mean() < _PLAIN:
        return None
    near = np.abs(tile.astype(np.int16) - color).max(-1) <= _BACKGROUND
    pieces, _ = ndimage.label(np.pad(near, 1, constant_values=True))
    mask = (pieces != pieces[0, 0])[1:-1, 1:-1]
    return ndimage.binary_opening(mask, iterations=1) if mask.any() else mask


def view_set(layout: Layout, masks: list[Bool[np.ndarray, "S S"]]) -> ViewSet:
    """The cameras of a layout; without perspective they stand far away, and the masks say how large the object is."""
    if not layout.orthographic:
        return ViewSet(layout.azimuths, layout.elevations, _ZERO123PLUS_RADIUS, _FIELD)
    reach = 0.0
    for mask in masks:
        place = np.argwhere(mask) + 0.5
        if len(place):
            reach = max(reach, float(np.abs(place / len(mask) * 2 - 1).max()))
    half = LARGEST_HALF / max(reach, 0.05)
    return ViewSet(layout.azimuths, layout.elevations, FAR_AWAY, math.degrees(2 * math.atan(half / FAR_AWAY)))
