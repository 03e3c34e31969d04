"""Segmentation of a picture without alpha: the method, the components to keep, and what makes the result doubtful."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.contours import fill_contours
from kiss3d_cli.image.matting import MAX_SHARE, MIN_SHARE, Matte, border_saliency
from kiss3d_cli.image.plain_ground import Ground, find_ground, find_object, soft_alpha, to_lab

PIECE = 0.01
"""Share of the largest piece's area from which another counts as a piece of its own, and its loss is said."""
SPECK = 0.0005
"""The same from which a piece is kept where all are."""
CUT_BORDER = 0.2
"""Share of the picture's border that an object on a plain ground may cover."""
DOUBT_SIDE = 512
BAND = 0.25
"""Widest band of ground between two pieces of one object, over the longer side of their box."""
EVEN = 1.35
"""How much wider than at its narrowest a band may be."""
FACING = 0.5
"""Share of the smaller piece's own width along which a band lies between two halves of one object."""
LARGE = 0.05
"""Share of the cut-out's area from which a piece may be half of an object."""
LEAST_STEP = 8.0
"""CIELAB units across the outline below which it follows no edge of the picture."""
MOST_WEAK = 0.3
"""Share of the outline that may follow no edge before the cut-out is doubted."""
MOST_PALE = 0.1
"""Share of the outline on a plain ground that may have nearly the ground's colour."""
MOST_TOUCH = 0.12
"""Share of the picture's border that a cut-out may cover before it is doubted."""
MOST_LEFT = 0.08
"""Share of what stands out that a cut-out may leave out before it is doubted."""
TRY = "look at mask.png of the preprocess stage; --mask takes a cut-out of your own"
GUESS = (
    f"The background is not plain, where {{name}} alone often goes wrong: {TRY}, and pip install "
    "'kiss3d[matting]' with kiss3d models pull draft gets a network that finds objects anywhere."
)


@dataclass(frozen=True)
class Cut:
    """An object cut out.

    Attributes:
        rgb: (H, W, 3), the background's share taken out along the soft edge.
        alpha: (H, W), 255 on the object.
        how: what found it, for the record.
        notes: sentences for the user.
        doubts: those of them that doubt the cut-out.
    """

    rgb: UInt8[np.ndarray, "H W 3"]
    alpha: UInt8[np.ndarray, "H W"]
    how: str
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def cut_object(
    rgb: UInt8[np.ndarray, "H W 3"],
    find: Callable[[UInt8[np.ndarray, "H W 3"]], Matte],
    *,
    name: str,
    keep: str = "auto",
    contours: str = "auto",
    learned: bool = False,
) -> Cut:
    """Cut the object out: by the ground's colour where the ground is plain, else by `find`.

    Args:
        rgb: sRGB picture.
        find: finds the object in any picture.
        name: of `find`, for the record.
        keep: `all` pieces, the `largest` alone, or `auto`: all on a plain ground or where a network saw them.
        contours: `fill` those of a drawing on plain ground, `keep` the strokes as they are, or `auto`: fill them where
            the picture is a line drawing.
        learned: `find` is a network, which is then asked on plain grounds too, drawings left out.

    Raises:
        BadInput: nothing stands out, or everything does; and what `find` raises.
    """
    ground = find_ground(rgb)
    mask = None if ground is None else _on_plain_ground(ground)
    if ground is not None and mask is not None:
        filled = None if contours == "keep" else fill_contours(mask, always=contours == "fill")
        if filled is not None:
            closed = f", gaps of up to {filled.gap} pixels closed" if filled.gap else ""
            note = (
                f"The picture is a line drawing: its closed contours are filled{closed} "
                "(preprocess.contours=keep keeps the strokes)."
            )
            alpha = soft_alpha(rgb, ground, filled.mask)
            return _finished(rgb, alpha, "closed contours", keep, "all", (note,), ())
        if not learned:
            alpha = soft_alpha(rgb, ground, mask)
            doubts = (*_pale_doubts(ground, mask), *_band_doubts(mask))
            return _finished(rgb, alpha, "plain ground", keep, "all", (), doubts)
    matte = find(rgb)
    doubts = (
        doubts_of(rgb, matte.alpha)
        if learned
        else (*matte.notes, *doubts_of(rgb, matte.alpha), GUESS.format(name=name))
    )
    return _finished(rgb, matte.alpha, name, keep, "all" if learned else "largest", (), doubts)


def _on_plain_ground(ground: Ground) -> Bool[np.ndarray, "h w"] | None:
    mask = find_object(ground)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return mask if MIN_SHARE / 4 < mask.mean() < MAX_SHARE and border.mean() < CUT_BORDER else None


def _finished(
    rgb: UInt8[np.ndarray, "H W 3"],
    alpha: UInt8[np.ndarray, "H W"],
    how: str,
    keep: str,
    usual: str,
    notes: tuple[str, ...],
    doubts: tuple[str, ...],
) -> Cut:
    alpha, said = keep_pieces(alpha, usual if keep == "auto" else keep)
    return Cut(own_colors(rgb, alpha), alpha, how, (*notes, *said, *doubts), doubts)


def keep_pieces(alpha: UInt8[np.ndarray, "H W"], keep: str) -> tuple[UInt8[np.ndarray, "H W"], tuple[str, ...]]:
    """The alpha with all pieces or the largest alone, and what was left out, in words.

    Args:
        keep: `everything`, `all` but specks, or the `largest`.
    """
    labels, count = ndimage.label(alpha >= 128, np.ones((3, 3)))
    if count <= 1 or keep == "everything":
        return alpha, ()
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    others = int((areas >= max(4, PIECE * areas.max())).sum()) - 1
    kept = areas >= (areas.max() if keep == "largest" else max(4, SPECK * areas.max()))
    if keep == "largest":
        kept &= np.arange(count + 1) == areas.argmax()
    kept[0] = False
    # each pixel of the soft edges goes with the piece that it is nearest to
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    result = np.where(kept[labels[nearest[0], nearest[1]]], alpha, 0).astype(np.uint8)
    crumbs = int((kept & (areas < PIECE * areas.max())).sum())
    if keep == "all" and crumbs:
        pieces = "A small piece" if crumbs == 1 else f"{crumbs} small pieces"
        return result, (
            f"{pieces} beside the object will be in the mesh too: look at mask.png of the preprocess stage; "
            "preprocess.keep=largest leaves them out.",
        )
    if keep == "all" or others == 0:
        return result, ()
    pieces = "One more object stands" if others == 1 else f"{others} more objects stand"
    return result, (
        f"{pieces} out and {'is' if others == 1 else 'are'} left out; preprocess.keep=all keeps every one.",
    )


def own_colors(rgb: UInt8[np.ndarray, "H W 3"], alpha: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The object's own colours along its soft edge, where a picture shows them mixed with what is behind.

    A pixel is alpha of the object and the rest background: with the nearest clear background colour the object's share
    is solved for; where alpha is too small for that, the nearest colour of the object is taken.
    """
    mixed = (alpha > 0) & (alpha < 255)
    clear, solid = alpha == 0, alpha == 255
    if not mixed.any() or not clear.any() or not solid.any():
        return rgb
    behind = ndimage.distance_transform_edt(~clear, return_distances=False, return_indices=True)
    inside = ndimage.distance_transform_edt(~solid, return_distances=False, return_indices=True)
    share = alpha[mixed].astype(np.float32)[:, None] / 255
    back = rgb[behind[0][mixed], behind[1][mixed]].astype(np.float32)
    nearest = rgb[inside[0][mixed], inside[1][mixed]].astype(np.float32)
    solved = (rgb[mixed] - (1 - share) * back) / np.maximum(share, 0.05)
    trust = ((share - 0.2) / 0.4).clip(0, 1)
    result = rgb.copy()
    result[mixed] = (trust * solved + (1 - trust) * nearest).clip(0, 255).round().astype(np.uint8)
    return result


def _pale_doubts(ground: Ground, mask: Bool[np.ndarray, "h w"]) -> tuple[str, ...]:
    edge = mask & ~ndimage.binary_erosion(mask, np.ones((3, 3), bool), border_value=1)
    strongest = cv2.dilate(np.where(mask, ground.distance, 0).astype(np.float32), np.ones((9, 9), np.uint8))
    pale = float((strongest[edge] < 2 * ground.threshold).mean()) if edge.any() else 0.0
    if pale <= MOST_PALE:
        return ()
    return (f"{pale:.0%} of the object's outline has nearly the colour of its ground, and may be off: {TRY}.",)


def _band_doubts(mask: Bool[np.ndarray, "h w"]) -> tuple[str, ...]:
    """Whether a band of ground parts what may be one object: a stripe of the ground's own colour is cut off with it.

    Those rows and columns count in which two pieces face each other across a gap about as wide as the narrowest: what
    stands side by side is seldom so even.
    """
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    large = np.flatnonzero(areas >= LARGE * areas.sum()) + 1
    if len(large) < 2:
        return ()
    boxes = ndimage.find_objects(np.where(np.isin(labels, large), labels, 0))
    rows, columns = np.nonzero(np.isin(labels, large))
    halves = {*large.tolist()}
    reach = BAND * max(np.ptp(rows), np.ptp(columns))
    for turned, across in ((labels, 1), (labels.T, 0)):
        gaps: dict[tuple[int, int], list[int]] = {}
        for line in turned:
            at = np.flatnonzero(line)
            step = np.flatnonzero(np.diff(at) > 1)
            for left, right in zip(at[step], at[step + 1], strict=True):
                pair = (int(line[left]), int(line[right]))
                if pair[0] != pair[1] and {*pair} <= halves:
                    gaps.setdefault((min(pair), max(pair)), []).append(int(right - left))
        for pair, found in gaps.items():
            widths = [boxes[piece - 1][1 - across].stop - boxes[piece - 1][1 - across].start for piece in pair]
            even = sum(gap <= min(found) * EVEN + 1 for gap in found)
            if min(found) <= reach and even >= FACING * min(widths):
                return (f"A band of the ground's colour parts the object; if it belongs to the object, {TRY}.",)
    return ()


def doubts_of(rgb: UInt8[np.ndarray, "H W 3"], alpha: UInt8[np.ndarray, "H W"]) -> tuple[str, ...]:
    """A sentence for every reason to doubt a cut-out: it follows no edges, covers the border, or leaves out
    what stands out."""
    scale = min(1.0, DOUBT_SIDE / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    lab = cv2.GaussianBlur(to_lab(small), (0, 0), 1.0)
    mask = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) >= 128
    if not mask.any() or mask.all():
        return ()
    found = []
    weak = weak_outline(lab, mask)
    if weak > MOST_WEAK:
        found.append(f"{weak:.0%} of the cut-out's outline follows no edge of the picture: {TRY}.")
    touched = float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
    if touched > MOST_TOUCH:
        found.append(f"The cut-out covers {touched:.0%} of the picture's border; it may hold some background: {TRY}.")
    left = _left_out(small, mask)
    if left > MOST_LEFT:
        found.append(f"The cut-out leaves out {left:.0%} of what stands out; parts may be missing: {TRY}.")
    return tuple(found)


def weak_outline(lab: Float32[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], reach: int = 4) -> float:
    """Share of the outline across which the colour changes by less than `LEAST_STEP` within `reach` pixels each way."""
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    gradient = np.stack(np.gradient(cv2.GaussianBlur(depth.astype(np.float32), (0, 0), 2.0)), -1)
    gradient /= np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-6)
    edge = mask & ndimage.binary_dilation(~mask)
    edge[[0, -1]] = edge[:, [0, -1]] = False
    at = np.argwhere(edge)
    if not len(at):
        return 0.0
    limit = np.array(mask.shape) - 1
    step = np.rint(reach * gradient[edge]).astype(int)
    inner, outer = (np.clip(at + sign * step, 0, limit) for sign in (1, -1))
    change = np.linalg.norm(lab[inner[:, 0], inner[:, 1]] - lab[outer[:, 0], outer[:, 1]], axis=-1)
    return float((change < LEAST_STEP).mean())


def _left_out(rgb: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> float:
    """Share of the salient pixels outside the mask."""
    try:
        salient = border_saliency(rgb) > 0.5
    except BadInput:
        return 0.0
    return float((salient & ~mask).sum() / max(1, salient.sum()))


def require_shape(alpha: UInt8[np.ndarray, "A B"], rgb: UInt8[np.ndarray, "H W 3"], place: str) -> None:
    """Raises BadInput if a mask is of another size than its picture."""
    if alpha.shape != rgb.shape[:2]:
        (height, width), (rows, columns) = alpha.shape, rgb.shape[:2]
        raise BadInput(
            f"the mask is {width} x {height} pixels, the picture {columns} x {rows}",
            place=place,
            hint="save the mask at the size of the picture, turned as the picture is shown",
        )
