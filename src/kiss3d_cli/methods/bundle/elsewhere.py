"""Bundles and grids of views made elsewhere, brought into kiss3d's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.extract.hull import visual_hull
from kiss3d_cli.geometry.extract.view_order import SWAPPED, order_agreement
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.image.bundle import MAX_DEVIATION, VIEWS_KEY, Bundle, load_bundle, on_white
from kiss3d_cli.image.conventions import SIGNS, outline_agreement, with_convention
from kiss3d_cli.image.grids import BUNDLE, STRIP, Layout, layout_of, plain_mask, tile_mask, view_set
from kiss3d_cli.image.picture import load_picture
from kiss3d_cli.image.png import read_text

_CONVENTION_WORDS = {
    "opengl": "x of the normals is not mirrored (red grows to the right)",
    "kiss3d-y-down": "y of the normals points down (DirectX)",
    "opengl-y-down": "x of the normals is not mirrored and y points down",
}


def read_elsewhere(path: Path, convention: str, swap_sides: bool, radius: float) -> Bundle:
    """A bundle or grid of views, checked, repaired and brought into kiss3d's conventions.

    Args:
        path: a picture in one of `image.grids.LAYOUTS`.
        convention: of the normals, one of `image.conventions.SIGNS`, or `auto` to ask the outlines.
        swap_sides: exchange the right and the left column.
        radius: of a bundle's cameras.

    Raises:
        BadInput: no picture, no such layout, or views that show no object.
    """
    picture = load_picture(path)
    rgb = on_white(picture)
    # cameras in the file win over its proportions: a bundle of our own with other views than the usual four
    layout = BUNDLE if read_text(path, VIEWS_KEY) is not None else layout_of(rgb, str(path))
    if layout is not BUNDLE:
        return _from_grid(rgb, picture.alpha, layout, str(path), radius, swap_sides).noted(*picture.notes)
    bundle = load_bundle(path)
    if bundle.views is not None:  # one of our own, with its cameras
        return bundle
    return _in_order(_in_our_convention(bundle, convention), swap_sides, radius)


def check_elsewhere(path: Path, radius: float) -> None:
    """Raise BadInput for what `read_elsewhere` would refuse, without asking which sides are which."""
    picture = load_picture(path)
    rgb = on_white(picture)
    if read_text(path, VIEWS_KEY) is None and (layout := layout_of(rgb, str(path))) is not BUNDLE:
        _from_grid(rgb, picture.alpha, layout, str(path), radius, swap_sides=False)
    else:
        load_bundle(path)


def cameras_of(bundle: Bundle, radius: float) -> Cameras:
    """The cameras of a bundle's columns: its own, or the usual four at a radius."""
    views = bundle.views
    if views is None:
        return bundle_cameras(radius)
    return orbit_cameras(views.azimuths, views.elevations, views.radius, views.fov)


def weights_of(bundle: Bundle, weights: tuple[float, ...]) -> tuple[float, ...]:
    """The weights of the four views as they are; views at other places all count alike."""
    return weights if bundle.views is None else (1.0,) * len(bundle.rgb)


def _in_our_convention(bundle: Bundle, convention: str) -> Bundle:
    notes: list[str] = []
    if convention == "auto":
        convention = outline_agreement(bundle.normals, bundle.mask).convention or "kiss3d"
        if convention != "kiss3d":
            notes.append(
                f"The outlines say that {_CONVENTION_WORDS[convention]}: the normals were turned. If that is wrong, "
                "resume with --set bundle.normals=kiss3d."
            )
    if convention == "kiss3d":
        return bundle
    return bundle.with_normals(with_convention(bundle.normals, convention)).noted(*notes)


def _in_order(bundle: Bundle, swap_sides: bool, radius: float) -> Bundle:
    if swap_sides:
        return bundle.reordered(SWAPPED)
    if order_agreement(bundle.normals, bundle.mask, bundle_cameras(radius)).is_swapped:
        note = (
            "The right and the left view seem to be exchanged: they agree better with the others that way. Look at the "
            "bundle; if so, resume with --set bundle.swap_sides=true."
        )
        return bundle.noted(note)
    return bundle


def _from_grid(
    rgb: np.ndarray, alpha: np.ndarray | None, layout: Layout, place: str, radius: float, swap_sides: bool
) -> Bundle:
    tiles = layout.tiles(rgb)
    alphas: list[Any] = [None] * len(tiles) if alpha is None else layout.tiles(alpha)
    if layout is STRIP and swap_sides:
        tiles, alphas = [tiles[column] for column in SWAPPED], [alphas[column] for column in SWAPPED]
    count = len(layout.azimuths)
    rows = [tiles[start : start + count] for start in range(0, len(tiles), count)]
    covers = [alphas[start : start + count] for start in range(0, len(tiles), count)]
    if layout.normals and _deviation(rows[0]) < _deviation(rows[1]):
        rows.reverse()  # colours first
        covers.reverse()
    masks = []
    for index, (tile, cover) in enumerate(zip(rows[-1], covers[-1], strict=True)):
        mask = tile_mask(tile, cover)
        if mask is None or not mask.any():
            cause = "has no plain background" if mask is None else "shows no object"
            raise BadInput(
                f"view {index + 1} of the {layout.name} {cause}",
                place=place,
                hint="give views of one object on white, or another plain colour",
            )
        masks.append(mask)
    views = None if layout is STRIP else view_set(layout, masks)
    covered = torch.from_numpy(np.stack(masks))
    colors = torch.from_numpy(np.stack(rows[0])).float() / 255
    colors = torch.where(covered[..., None], colors, torch.ones_like(colors))
    empty = Bundle(colors, torch.zeros_like(colors), covered, views=views)
    cameras = cameras_of(empty, radius)
    if not layout.normals:
        hull = visual_hull(covered.float(), cameras, 128)
        shown = render_normals(hull, cameras, (covered.shape[1], covered.shape[2])).normals
        facing = torch.tensor([0.0, 0.0, 1.0]).expand_as(shown)
        unit = torch.where(shown.norm(dim=-1, keepdim=True) > 0.1, normalize(shown, dim=-1), facing)
        note = (
            f"The {layout.name} has no normals: those of the visual hull stand in for them, so hollows are filled and "
            "fine relief is lost."
        )
        return empty.with_normals(torch.where(covered[..., None], unit, torch.zeros_like(unit))).noted(note)
    encoded = torch.from_numpy(np.stack(rows[1])).float() / 255
    vectors = 2 * encoded - 1
    length = vectors.norm(dim=-1)
    if float((length[covered] - 1).abs().mean()) > MAX_DEVIATION:
        raise BadInput(f"neither row of the {layout.name} holds normals", place=place, hint=_ROWS)
    unit, system = _camera_normals(normalize(vectors, dim=-1), covered, cameras)
    note = f"The normals of the {layout.name} were read as {system}."
    return empty.with_normals(torch.where(covered[..., None], unit, torch.zeros_like(unit))).noted(note)


_ROWS = "one row of six must be colours, the other normals, (n + 1) / 2"


def _deviation(tiles: list[np.ndarray]) -> float:
    """How far the colours of a row are from unit vectors, off the plain background."""
    vectors = np.stack(tiles).astype(np.float32) / 127.5 - 1
    inside = np.stack(
        [mask if (mask := plain_mask(tile)) is not None else np.ones(tile.shape[:2], bool) for tile in tiles]
    )
    return float(np.abs(np.linalg.norm(vectors, axis=-1) - 1)[inside].mean()) if inside.any() else np.inf


def _camera_normals(
    vectors: Float[Tensor, "V S S 3"], mask: Bool[Tensor, "V S S"], cameras: Cameras
) -> tuple[Float[Tensor, "V S S 3"], str]:
    """Each camera's own normals of vectors whose frame and signs are unknown.

    They are each camera's, or the front camera's in all views (Wonder3D, Era3D). In the right reading normals point
    outwards at the outlines and towards the camera everywhere.
    """
    best, chosen, words = -np.inf, vectors, ""
    for frame in ("each view's", "the front view's"):
        for x, y in SIGNS.values():
            for z in (1.0, -1.0):
                turned = vectors * vectors.new_tensor([x, y, z])
                if frame == "the front view's":
                    turned = torch.einsum("vij,vhwj->vhwi", cameras.rotation, turned)
                agreement = outline_agreement(turned, mask)
                score = agreement.x + agreement.y + float(turned[..., 2][mask].mean())
                if score > best + 1e-6:
                    best, chosen = score, turned
                    ways = (f"x {'left' if x < 0 else 'right'}", f"y {'down' if y < 0 else 'up'}", "z away" * (z < 0))
                    words = f"vectors in {frame} frame ({', '.join(filter(None, ways))})"
    return chosen, words
