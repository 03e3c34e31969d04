"""The bundle picture: 2 rows x 4 columns of square tiles, colours above, camera-space normals below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.grids import ViewSet
from kiss3d_cli.image.picture import Picture, load_picture
from kiss3d_cli.image.png import read_text, write_png

VIEWS = 4
MIN_TILE = 64
VIEWS_KEY = "kiss3d.views"
"""Name of the PNG text that holds a bundle's cameras."""
BACKGROUND_DISTANCE = 24 / 255
"""A pixel of the normal row belongs to the background if each channel is this close to white. The closest a unit
normal comes to white, (-1, 1, 1)/sqrt(3), is 0.21 away in each channel."""
UNIT_TOLERANCE = 0.05
"""Mean deviation of a normal's length from 1 up to which the repair goes without a word."""
MAX_DEVIATION = 0.35
"""Mean deviation above which the row can't be normals."""
MAX_AWAY = 0.1
"""Share of normals that may point away from their camera."""
_NORMALS = "the lower row must be camera-space normals, ((-nx, ny, nz) + 1) / 2, on white"
_EXPECTED = "a bundle is 2 rows x 4 columns of square tiles: 2048 x 1024 or 1280 x 640 pixels, for example"


@dataclass(frozen=True)
class Bundle:
    """Four views of an object: front, right, back, left.

    Attributes:
        rgb: (V, S, S, 3) sRGB-encoded, in [0, 1], on white.
        normals: (V, S, S, 3) unit normals in each camera's space (x right, y up, z to the viewer); 0 in the background.
        mask: (V, S, S), True on the object.
        notes: sentences for the user on what was repaired.
        views: where the cameras stand, where it is not the usual four; None if it is.
    """

    rgb: Float[Tensor, "V S S 3"]
    normals: Float[Tensor, "V S S 3"]
    mask: Bool[Tensor, "V S S"]
    notes: tuple[str, ...] = ()
    views: ViewSet | None = None

    def noted(self, *notes: str) -> Bundle:
        """The same with further notes before its own."""
        return replace(self, notes=(*notes, *self.notes))

    def with_normals(self, normals: Float[Tensor, "V S S 3"]) -> Bundle:
        return replace(self, normals=normals)

    def reordered(self, columns: Sequence[int]) -> Bundle:
        """The same with its columns in another order."""
        order = list(columns)
        return replace(self, rgb=self.rgb[order], normals=self.normals[order], mask=self.mask[order])


def encode_normals(normals: Float[Tensor, "*B 3"], mask: Bool[Tensor, "*B"]) -> Float[Tensor, "*B 3"]:
    """Camera-space unit normals as colours in [0, 1], `((-nx, ny, nz) + 1) / 2`, white where the mask is False."""
    mirror = normals.new_tensor([-1.0, 1.0, 1.0])
    colors = ((normals * mirror + 1) / 2).clamp(0, 1)
    return torch.where(mask[..., None], colors, torch.ones_like(colors))


def decode_normals(colors: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """The inverse of `encode_normals` on the object; vectors are returned as they are, of any length."""
    return (2 * colors - 1) * colors.new_tensor([-1.0, 1.0, 1.0])


def join_bundle(bundle: Bundle) -> UInt8[np.ndarray, "H W 3"]:
    """The bundle as one picture (2 S, 4 S, 3)."""
    white = torch.ones_like(bundle.rgb)
    rgb = torch.where(bundle.mask[..., None], bundle.rgb, white)
    rows = [torch.cat(list(tiles), 1) for tiles in (rgb, encode_normals(bundle.normals, bundle.mask))]
    picture = torch.cat(rows, 0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(picture.cpu().numpy())


def split_bundle(picture: UInt8[np.ndarray, "H W 3"], *, place: str = "bundle", views: ViewSet | None = None) -> Bundle:
    """A bundle picture (2 S, V S, 3) as views. The mask is what is not white in the normal row.

    Args:
        picture: 8-bit.
        place: what to name in errors.
        views: the cameras of the columns, where it is not the usual four.

    Raises:
        BadInput: wrong proportions, or a normal row that holds no normals.
    """
    height, width = picture.shape[:2]
    count = VIEWS if views is None else len(views.azimuths)
    if 2 * width != count * height or height % 2 or height // 2 < MIN_TILE:
        raise BadInput(
            f"the bundle is {width} x {height} pixels, not {count} x 2 square tiles of {MIN_TILE} pixels or more",
            place=place,
            hint=_EXPECTED,
        )
    side = height // 2
    tiles = torch.from_numpy(picture.copy()).float().div(255)
    tiles = tiles.reshape(2, side, count, side, 3).permute(0, 2, 1, 3, 4)
    rgb, encoded = tiles[0].contiguous(), tiles[1].contiguous()
    mask = (1 - encoded).amax(-1) > BACKGROUND_DISTANCE
    _check_views(mask, encoded, place)
    vectors = decode_normals(encoded)
    length = vectors.norm(dim=-1)
    deviation = float((length[mask] - 1).abs().mean())
    if deviation > MAX_DEVIATION:
        cause = f"the lower row holds no normals: its vectors differ from unit length by {deviation:.2f} on average"
        raise BadInput(cause, place=place, hint=_NORMALS)
    away = float((vectors[mask][:, 2] < -0.25).float().mean())
    if away > MAX_AWAY:
        cause = f"the lower row holds no normals: {away:.0%} of its vectors point away from the camera"
        raise BadInput(cause, place=place, hint=_NORMALS)
    notes: tuple[str, ...] = ()
    if deviation > UNIT_TOLERANCE:
        notes = (f"The normals differ from unit length by {deviation:.2f} on average; they were scaled to it.",)
    # a vector of nearly no length (grey) has no direction: it faces the viewer
    facing = torch.tensor([0.0, 0.0, 1.0]).expand_as(vectors)
    unit = torch.where(length[..., None] > 0.1, vectors / length.clamp_min(1e-6)[..., None], facing)
    # a decoder's white is not quite white, and what is drawn beside the object belongs to no surface
    rgb = torch.where(mask[..., None], rgb, torch.ones_like(rgb))
    return Bundle(rgb, torch.where(mask[..., None], unit, torch.zeros_like(unit)), mask, notes, views)


def _check_views(mask: Bool[Tensor, "V S S"], encoded: Float[Tensor, "V S S 3"], place: str) -> None:
    names = ("front", "right", "back", "left") if len(mask) == VIEWS else [f"{i + 1}." for i in range(len(mask))]
    if bool((encoded < BACKGROUND_DISTANCE).all()):
        raise BadInput("the bundle's lower row is black: it holds no normals", place=place, hint=_NORMALS)
    for name, view in zip(names, mask, strict=True):
        share = float(view.float().mean())
        if share == 0:
            raise BadInput(f"the {name} view shows no object: its normal tile is white", place=place, hint=_NORMALS)
        if share > 0.98:
            raise BadInput(
                f"the {name} view has no background: its normals are not on white", place=place, hint=_NORMALS
            )


def on_white(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """A picture's colours, on white where it has an alpha channel."""
    if picture.alpha is None:
        return picture.rgb
    cover = picture.alpha[..., None].astype(np.float32) / 255
    return (picture.rgb * cover + 255 * (1 - cover)).round().astype(np.uint8)


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle picture; cameras at other places than the usual four go with it, as text of the PNG."""
    texts = {} if bundle.views is None else {VIEWS_KEY: bundle.views.to_json()}
    write_png(path, join_bundle(bundle), texts)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle picture made by kiss3d or elsewhere.

    Raises:
        BadInput: the file is no picture, or the picture no bundle.
    """
    picture = load_picture(path)
    text = read_text(path, VIEWS_KEY)
    views = None if text is None else ViewSet.from_json(text, str(path))
    return split_bundle(on_white(picture), place=str(path), views=views).noted(*picture.notes)
