"""Cut-outs on plain grounds, of drawings and of several things, against the shapes that were drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from kiss3d_cli.image.contours import fill_contours
from kiss3d_cli.image.cutting import cut_object, doubts_of, keep_pieces, own_colors
from kiss3d_cli.image.matting import Matte, cut_out

SIDE = 360
Y, X = np.mgrid[0:SIDE, 0:SIDE]


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def ground(kind: str) -> np.ndarray:
    y, x = Y / SIDE, X / SIDE
    plane = {
        "white": np.full((SIDE, SIDE, 3), 255.0),
        "grey": np.full((SIDE, SIDE, 3), 128.0),
        "paper": np.full((SIDE, SIDE, 3), 1.0) * [240, 232, 210],
        "gradient": np.stack([120 + 60 * y] * 3, -1),
        "vignette": np.stack([215 - 160 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)] * 3, -1),
    }[kind]
    return plane + np.random.default_rng(1).normal(0, 2, plane.shape)


def on(kind: str, *things: tuple[np.ndarray, tuple[int, int, int]], shadow: bool = False) -> np.ndarray:
    """Things over a ground, edges antialiased."""
    rgb = ground(kind)
    if shadow:
        rgb = rgb * (1 - 0.4 * np.exp(-(((X - 150) / 90) ** 2) - ((Y - 310) / 30) ** 2))[..., None]
    for where, color in things:
        cover = cv2.GaussianBlur(where.astype(np.float64), (0, 0), 0.7)[..., None]
        rgb = rgb * (1 - cover) + np.array(color) * cover
    return rgb.clip(0, 255).astype(np.uint8)


BODY = ((X - 150) / 80) ** 2 + ((Y - 220) / 90) ** 2 < 1
WIRE = (abs(X - 150) < 2) & (Y > 40) & (Y < 200)
BALL = (X - 290) ** 2 + (Y - 120) ** 2 < 30**2
RING = ((X - 245) ** 2 + (Y - 220) ** 2 < 45**2) & ((X - 245) ** 2 + (Y - 220) ** 2 > 30**2)


def refuse(_rgb: np.ndarray) -> Matte:
    raise AssertionError("a plain ground needs no search")


@pytest.mark.parametrize("kind", ["white", "grey", "paper", "gradient", "vignette"])
@pytest.mark.parametrize("shadow", [False, True])
def test_everything_on_a_plain_ground_is_found(kind: str, shadow: bool) -> None:
    """A body with a handle and a wire three pixels wide, and a ball beside it; its shadow is not it."""
    rgb = on(
        kind, (RING, (40, 60, 150)), (BODY, (190, 50, 40)), (WIRE, (20, 20, 20)), (BALL, (230, 190, 40)), shadow=shadow
    )
    cut = cut_object(rgb, refuse, name="none")
    truth = BODY | WIRE | BALL | RING
    shown = cut.alpha >= 128
    assert iou(shown, truth) > 0.96
    assert shown[60:130, 150].all()  # the wire
    assert not shown[205:235, 240:260].any()  # the opening of the handle
    assert cut.how == "plain ground"
    assert not cut.doubts


@pytest.mark.parametrize("kind", ["white", "grey", "paper", "gradient"])
def test_a_shadow_with_a_sharp_edge_leaves_no_rim_and_no_spots(kind: str) -> None:
    """It is sharp near the body and soft at its far end, with a darker spot; a grey wire on the ground is no shadow."""
    cast = (((X - 205) / 130) ** 2 + ((Y - 305) / 26) ** 2 < 1).astype(np.float64)
    spot = ((X - 270) ** 2 + (Y - 305) ** 2 < 5**2).astype(np.float64)
    far = 1 / (1 + np.exp(-(X - 265) / 12))
    soft = (1 - far) * cv2.GaussianBlur(cast, (0, 0), 1.5) + far * cv2.GaussianBlur(cast, (0, 0), 14)
    dark = 0.3 * soft + 0.07 * cv2.GaussianBlur(spot, (0, 0), 0.7)
    level = float(ground(kind)[60, 300].mean())
    wire = (abs(X - 300) < 2) & (Y > 40) & (Y < 180)
    rgb = on(kind, (wire, (int(0.5 * level),) * 3))
    rgb = (rgb * (1 - dark)[..., None]).astype(np.uint8)
    cover = cv2.GaussianBlur(BODY.astype(np.float64), (0, 0), 0.7)[..., None]
    rgb = (rgb * (1 - cover) + np.array((190, 50, 40)) * cover).astype(np.uint8)
    cut = cut_object(rgb, refuse, name="none")
    shown = cut.alpha >= 128
    assert shown[60:160, 300].mean() > (0.95 if kind != "paper" else 0.9)
    shadow = (cast > 0) & ~cv2.dilate(BODY.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert shown[shadow].mean() < 0.02
    assert iou(shown, BODY | wire) > 0.95


def test_small_pieces_that_will_be_in_the_mesh_are_said() -> None:
    alpha = (255 * BODY).astype(np.uint8)
    alpha[20:30, 20:30] = 255
    (note,) = keep_pieces(alpha, "all")[1]
    assert note.startswith("A small piece beside the object")
    assert "preprocess.keep=largest" in note


def test_the_second_object_is_said_and_kept_as_asked() -> None:
    rgb = on("white", (BODY, (190, 50, 40)), (BALL, (230, 190, 40)))
    both = cut_object(rgb, refuse, name="none", keep="all")
    assert iou(both.alpha >= 128, BODY | BALL) > 0.97
    one = cut_object(rgb, refuse, name="none", keep="largest")
    assert iou(one.alpha >= 128, BODY) > 0.97
    assert any("One more object" in note and "preprocess.keep=all" in note for note in one.notes)
    busy = on("white", (BODY, (190, 50, 40)), (BALL, (200, 60, 50)))
    busy[:60] = (90, 120, 60)
    found = cut_object(busy, lambda _: Matte(both.alpha), name="GrabCut")
    assert any("One more object" in note for note in found.notes)
    assert iou(found.alpha >= 128, BODY) > 0.97
    seen = cut_object(busy, lambda _: Matte(both.alpha), name="IS-Net", learned=True)
    assert iou(seen.alpha >= 128, BODY | BALL) > 0.97


def test_a_speck_is_no_object() -> None:
    alpha = (255 * BODY).astype(np.uint8)
    alpha[20:23, 20:23] = 255
    kept, notes = keep_pieces(alpha, "all")
    assert notes == ()
    np.testing.assert_array_equal(kept >= 128, BODY)


def draw(shapes: list[tuple[str, object]], width: int, paper: tuple[int, ...] = (253, 252, 249)) -> np.ndarray:
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), paper)
    pen = ImageDraw.Draw(image)
    for kind, where in shapes:
        if kind == "arc":
            pen.arc(where[:4], *where[4:], fill=(20, 20, 30), width=width)  # type: ignore[index]
        elif kind == "line":
            pen.line(where, fill=(20, 20, 30), width=width)  # type: ignore[arg-type]
        else:
            getattr(pen, kind)(where, outline=(20, 20, 30), width=width)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


HEAD, TAIL = ("ellipse", (100, 250, 500, 500)), ("polygon", [(490, 375), (640, 260), (640, 490)])


@pytest.mark.parametrize("width", [5, 14])
def test_the_contours_of_a_line_drawing_are_filled(width: int) -> None:
    """A fish: an ellipse and a triangle; its eye is a contour within, its feeler an open stroke that stays."""
    rgb = draw([HEAD, TAIL, ("ellipse", (180, 340, 210, 370)), ("line", [(110, 360), (20, 200)])], width)
    cut = cut_object(rgb, refuse, name="none")
    shown = cut.alpha >= 128
    assert cut.how == "closed contours"
    assert any("line drawing" in note for note in cut.notes)
    assert shown[187, 80:240].all()
    assert shown[187, 250:315].all()
    assert shown[100:180, 5:60].sum() > 30  # the feeler
    assert not shown[40:90, 100:300].any()
    kept = cut_object(rgb, refuse, name="none", contours="keep").alpha >= 128
    assert kept.sum() < 0.4 * shown.sum()


@pytest.mark.parametrize("gap", [4, 6])
def test_a_contour_that_is_not_quite_closed_is_closed(gap: int) -> None:
    rgb = draw([("arc", (150, 150, 550, 550, gap / 2, 360 - gap / 2))], 8)
    shown = cut_object(rgb, refuse, name="none").alpha >= 128
    assert shown[175, 175]
    assert shown.mean() > 0.2


def test_what_holds_no_area_is_not_filled_and_what_is_no_drawing_stays_open() -> None:
    star = draw(
        [("line", [(360, 360), (360 + 300 * np.cos(a), 360 + 300 * np.sin(a))]) for a in np.arange(6) * 1.05], 8
    )
    assert cut_object(star, refuse, name="none").how == "plain ground"
    assert fill_contours(RING | BODY) is None
    assert fill_contours(np.zeros((20, 20), bool)) is None


def test_colours_along_the_edge_are_the_objects_own() -> None:
    rgb = on("white", (BODY, (40, 90, 30)))
    cut = cut_object(rgb, refuse, name="none")
    edge = (cut.alpha > 60) & (cut.alpha < 250)
    assert edge.sum() > 100
    assert np.abs(cut.rgb[edge].astype(int) - (40, 90, 30)).mean() < 12
    assert np.abs(rgb[edge].astype(int) - (40, 90, 30)).mean() > 30
    np.testing.assert_array_equal(own_colors(rgb, np.full((SIDE, SIDE), 255, np.uint8)), rgb)


def test_a_cut_out_that_leaves_out_a_part_or_follows_no_edge_is_doubted() -> None:
    clutter = cv2.resize(
        np.random.default_rng(3).uniform(60, 160, (9, 9, 3)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    rgb = np.where(BODY[..., None], (225, 40, 45), clutter * [0.4, 1.0, 0.6]).clip(0, 255).astype(np.uint8)
    right = (255 * BODY).astype(np.uint8)
    assert doubts_of(rgb, right) == ()
    half = right * (Y > 200).astype(np.uint8)
    assert any("leaves out" in note for note in doubts_of(rgb, half))
    blob = (255 * ((X - 150) ** 2 + (Y - 220) ** 2 < 140**2)).astype(np.uint8)
    assert any("follows no edge" in note for note in doubts_of(rgb, blob))
    wide = (255 * ((X < 150) | BODY)).astype(np.uint8)
    assert any("border" in note for note in doubts_of(rgb, wide))


def test_grabcut_tells_of_every_piece_where_asked() -> None:
    clutter = on("white", (BODY, (190, 50, 40)), (BALL, (200, 60, 50)))
    assert (cut_out(clutter, largest=False).alpha[BALL] >= 128).mean() > 0.9
    assert (cut_out(clutter).alpha[BALL] >= 128).mean() < 0.1


CREAM, WHITE, BLUE = (246, 240, 228), (250, 246, 238), (40, 90, 170)


def can(stripe: tuple[int, int, int, int]):
    """A blue can with a white stripe, on a cream ground."""

    def draw(d):
        d.rounded_rectangle((120, 80, 280, 330), 20, fill=BLUE)
        d.rectangle(stripe, fill=WHITE)

    return draw


def balls(d):
    d.ellipse((40, 150, 180, 290), fill=(200, 40, 40))
    d.ellipse((200, 150, 340, 290), fill=BLUE)


@pytest.mark.parametrize(
    ("draw", "parted"),
    [(can((118, 180, 282, 225)), True), (can((180, 78, 205, 332)), True), (can((140, 180, 260, 225)), False),
     (balls, False)],
    ids=["across", "along", "inside", "two balls"],
)  # fmt: skip
def test_a_stripe_of_the_grounds_colour_that_parts_an_object_is_said(draw, parted):
    image = Image.new("RGB", (400, 400), CREAM)
    draw(ImageDraw.Draw(image))
    cut = cut_object(np.asarray(image), lambda rgb: pytest.fail("the ground is plain"), name="none")
    assert cut.how == "plain ground"
    assert any("parts the object" in doubt for doubt in cut.doubts) == parted
