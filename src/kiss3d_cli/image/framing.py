"""Cropping a picture to its foreground and setting it on a square canvas."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from kiss3d_cli.core.errors import BadInput

SIZE = 512
FILL = 0.85
"""Share of the side that the foreground's longer extent takes."""
WHITE = (255, 255, 255)
SHARP_EXTENT = 128
"""Foregrounds with a longer extent below this many pixels are noted as too coarse for detail."""


@dataclass(frozen=True)
class Framed:
    """A foreground centred on a square canvas.

    Attributes:
        rgb: (S, S, 3), over the background colour.
        rgba: (S, S, 4), colour not multiplied by alpha; the background colour where alpha is 0.
        mask: (S, S), alpha at least one half.
        window: left and top edge and side of what is framed, in pixels of the picture; it may reach outside.
        notes: sentences for the user: the object is cut off by the border, or tiny.
    """

    rgb: UInt8[np.ndarray, "S S 3"]
    rgba: UInt8[np.ndarray, "S S 4"]
    mask: Bool[np.ndarray, "S S"]
    window: tuple[float, float, float]
    notes: tuple[str, ...] = ()


def frame_foreground(
    rgb: UInt8[np.ndarray, "H W 3"],
    alpha: UInt8[np.ndarray, "H W"],
    *,
    size: int = SIZE,
    fill: float = FILL,
    crop: bool = True,
    background: tuple[int, int, int] = WHITE,
) -> Framed:
    """Crop to the foreground, scale it to `fill` of the side, centre it.

    Colours are resampled multiplied by alpha, so that nothing of the old background gets in.

    Args:
        rgb: the picture, not multiplied by alpha.
        alpha: 255 opaque.
        size: side of the result in pixels.
        fill: longer extent of the foreground (alpha at least one half), as a share of the side; in (0, 1].
        crop: False scales and centres the whole picture instead, as the published pipeline does.
        background: 8-bit sRGB.

    Raises:
        BadInput: no pixel is at least half opaque.
    """
    if not 0 < fill <= 1:
        raise BadInput(
            f"{fill:g} can't be the foreground's share of the side", hint="give a share above 0 and at most 1"
        )
    mask = alpha >= 128
    if not mask.any():
        raise BadInput(
            "the foreground is empty: no pixel of the picture belongs to an object",
            hint="give a picture whose background is transparent",
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    extent = max(bottom - top, right - left)
    if not crop:
        top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    side = max(bottom - top, right - left) / fill
    window = ((left + right - side) / 2, (top + bottom - side) / 2, side)
    return replace(frame_window(rgb, alpha, window, size=size, background=background), notes=_notes(mask, extent))


def frame_window(
    rgb: UInt8[np.ndarray, "H W 3"],
    alpha: UInt8[np.ndarray, "H W"],
    window: tuple[float, float, float],
    *,
    size: int = SIZE,
    background: tuple[int, int, int] = WHITE,
) -> Framed:
    """A square window of a picture, scaled to `size` and antialiased.

    Args:
        window: its left and top edge and its side, in pixels of the picture; it may reach outside.
    """
    cover = _resample(alpha.astype(np.float32) / 255, window, size).clip(0, 1)
    premultiplied = np.stack(
        [_resample(rgb[..., i] * (alpha.astype(np.float32) / 255), window, size) for i in range(3)], -1
    )
    ground = np.asarray(background, np.float32)
    over = premultiplied + (1 - cover[..., None]) * ground
    solid = cover[..., None] > 1 / 512
    straight = np.where(solid, premultiplied / np.where(solid, cover[..., None], 1), ground)
    rgba = np.concatenate([straight, 255 * np.where(solid, cover[..., None], 0)], -1)
    return Framed(_to_bytes(over), _to_bytes(rgba), _to_bytes(rgba)[..., 3] >= 128, window)


def _resample(
    channel: Float32[np.ndarray, "H W"], window: tuple[float, float, float], size: int
) -> Float32[np.ndarray, "S S"]:
    """A square window (left, top, side; may reach outside, where it is 0) as size x size pixels, antialiased."""
    left, top, side = window
    # as many source pixels around the window as the filter reaches
    margin = int(np.ceil(max(1.0, side / size))) + 1
    x0, y0 = int(np.floor(left)) - margin, int(np.floor(top)) - margin
    x1, y1 = int(np.ceil(left + side)) + margin, int(np.ceil(top + side)) + margin
    height, width = channel.shape
    canvas = np.zeros((y1 - y0, x1 - x0), np.float32)
    ys, xs = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
    canvas[ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0] = channel[ys, xs]
    box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    # the sharpest of the filters without negative weights: colours never leave the range of their neighbours
    return np.asarray(Image.fromarray(canvas).resize((size, size), Image.Resampling.HAMMING, box=box))


def _to_bytes(values: Float32[np.ndarray, "*S"]) -> UInt8[np.ndarray, "*S"]:
    return values.clip(0, 255).round().astype(np.uint8)


def _notes(mask: Bool[np.ndarray, "H W"], extent: int) -> tuple[str, ...]:
    notes: list[str] = []
    edges = {"top": mask[0], "bottom": mask[-1], "left": mask[:, 0], "right": mask[:, -1]}
    if touched := [name for name, line in edges.items() if line.any()]:
        notes.append(f"The object touches the picture's border ({', '.join(touched)}); what lies outside is missing.")
    if extent < SHARP_EXTENT:
        notes.append(f"The object is only {extent} pixels long; the result will be coarse.")
    return tuple(notes)
