"""Views and normal maps in files of their own, joined into the grid that they are the tiles of.

The grid is a picture like those that other programs write, so that everything that is checked and mended there is here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.grids import LAYOUTS, Layout, plain_mask
from kiss3d_cli.image.picture import Picture, load_picture

AZIMUTHS = {"front": 0.0, "front_right": 45.0, "right": 90.0, "back": 180.0, "left": 270.0, "front_left": 315.0}
"""Names of views, in degrees about +y; a view may also be called by its degrees."""
_WHITE = 231  # from which on every channel is taken for white, as in the normal row of a bundle


def azimuth_of(name: str) -> float | None:
    """The direction that a view's name says, in [0, 360) degrees; None if it is no name of a view."""
    known = AZIMUTHS.get(name.strip().lower().replace("-", "_"))
    if known is not None:
        return known
    try:
        degrees = float(name)
    except ValueError:
        return None
    return degrees % 360 if math.isfinite(degrees) else None


def join_views(views: Mapping[float, Path], normals: Mapping[float, Path]) -> UInt8[np.ndarray, "H W 4"]:
    """The grid of single views, with the normals in its lower row.

    Args:
        views: files by azimuth in degrees: those of one of `LAYOUTS`.
        normals: likewise; of every view, or none at all. Their background is what their own alpha channel, that of
            their view or their own plain colour says.

    Returns:
        RGBA; where the background was told, it is transparent.

    Raises:
        BadInput: a file is no picture or not square, they differ in size, or no layout has these views.
    """
    layout = _layout(list(views), list(normals))
    pictures = [_square(views[azimuth]) for azimuth in layout.azimuths]
    maps = [_square(normals[azimuth]) for azimuth in layout.azimuths] if normals else []
    _same_size(
        [*pictures, *maps], [files[azimuth] for files in (views, normals) if files for azimuth in layout.azimuths]
    )
    tiles = [np.dstack([view.rgb, _opaque(view) if view.alpha is None else view.alpha]) for view in pictures]
    tiles += [np.dstack([found.rgb, _cover(found, view)]) for found, view in zip(maps, pictures, strict=False)]
    rows = [tiles[start : start + layout.columns] for start in range(0, len(tiles), layout.columns)]
    return np.concatenate([np.concatenate(row, 1) for row in rows], 0)


def _layout(views: Sequence[float], normals: Sequence[float]) -> Layout:
    if normals and set(views) != set(normals):
        odd = sorted(set(views) ^ set(normals))
        have, lack = ("view", "normal map") if odd[0] in views else ("normal map", "view")
        raise BadInput(
            f"{_words(odd)}: a {have} without a {lack}",
            place="--normals",
            hint="give a normal map for every view, or none at all",
        )
    for layout in LAYOUTS:
        if set(layout.azimuths) == set(views) and layout.normals == bool(normals):
            return layout
    sets = sorted({layout.azimuths for layout in LAYOUTS if layout.normals == bool(normals)}, key=len)
    known = "; or ".join(_words(azimuths) for azimuths in sets)
    raise BadInput(
        f"{_words(sorted(views)) or 'no views'} {'with' if normals else 'without'} normals are no set of views that "
        "kiss3d knows",
        place="--views",
        hint=f"give {known} (names or degrees)",
    )


def _words(azimuths: Sequence[float]) -> str:
    """Azimuths by their names, where each has one."""
    names = {azimuth: name for name, azimuth in AZIMUTHS.items()}
    known = all(azimuth in names for azimuth in azimuths)
    return ", ".join(names[azimuth] if known else f"{azimuth:g}" for azimuth in azimuths)


def _square(path: Path) -> Picture:
    picture = load_picture(path)
    height, width = picture.rgb.shape[:2]
    if height != width:
        raise BadInput(
            f"the view is {width} x {height} pixels, not square",
            place=str(path),
            hint="give square views, all of one size",
        )
    return picture


def _same_size(pictures: Sequence[Picture], files: Sequence[Path]) -> None:
    side = len(pictures[0].rgb)
    for picture, file in zip(pictures, files, strict=True):
        if len(picture.rgb) != side:
            raise BadInput(
                f"it is {len(picture.rgb)} pixels wide, and {files[0].name} is {side}",
                place=str(file),
                hint="bring all views and normal maps to one size",
            )


def _opaque(picture: Picture) -> UInt8[np.ndarray, "S S"]:
    return np.full(picture.rgb.shape[:2], 255, np.uint8)


def _cover(normals: Picture, view: Picture) -> UInt8[np.ndarray, "S S"]:
    """The alpha channel of a normal map: opaque where its background is white or can't be told."""
    if normals.alpha is not None:
        return np.where(normals.alpha > 127, 255, 0).astype(np.uint8)  # half a normal is none
    tile = normals.rgb
    border = np.concatenate([tile[0], tile[-1], tile[:, 0], tile[:, -1]])
    if (np.median(border, axis=0) >= _WHITE).all():
        return _opaque(normals)
    shown = [mask for mask in (plain_mask(tile), None if view.alpha is None else view.alpha > 127) if mask is not None]
    return np.all(shown, axis=0).astype(np.uint8) * 255 if shown else _opaque(normals)
