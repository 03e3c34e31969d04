"""What Pillow alone would read wrongly: spare samples of a TIFF, camera raw, empty first frames, HEIC."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coded_pictures import png_with, tiff
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.image.formats import suffix_of
from kiss3d_cli.image.picture import load_picture


def gradient(height: int = 40, width: int = 56) -> np.ndarray:
    """A picture without any symmetry, (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 3 * x, 200 - 4 * y, (2 * x + y) % 256], -1).astype(np.uint8)


def cut_alpha(height: int = 40, width: int = 56) -> np.ndarray:
    alpha = np.zeros((height, width), np.uint8)
    alpha[5:30, 10:50] = 255
    return alpha


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_spare_sample_of_a_tiff_is_alpha(order: str, bits: int, tmp_path: Path) -> None:
    pixels = np.dstack([gradient(), cut_alpha()])
    if bits == 16:
        pixels = pixels.astype(np.uint16) * 257
    picture = load_picture(tiff(tmp_path / "a.tif", pixels, order=order, t338=0))
    np.testing.assert_array_equal(picture.rgb, gradient())
    np.testing.assert_array_equal(picture.alpha, cut_alpha())
    pixels[..., 3] = 0
    assert load_picture(tiff(tmp_path / "empty.tif", pixels, order=order, t338=0)).alpha is None


def test_a_spare_sample_of_a_grey_tiff_is_alpha(tmp_path: Path) -> None:
    pixels = np.dstack([gradient()[..., 1], cut_alpha()])
    picture = load_picture(tiff(tmp_path / "a.tif", pixels, t338=0, t262=1))
    np.testing.assert_array_equal(picture.rgb[..., 2], gradient()[..., 1])
    np.testing.assert_array_equal(picture.alpha, cut_alpha())


RAW = {
    "a.dng": (lambda p: tiff(p, gradient(), t50706=1), "DNG"),
    "a.nef": (lambda p: tiff(p, gradient(), subs=32803), "sensor"),
    "a.pef": (lambda p: tiff(p, gradient()[..., :1], t262=32803), "sensor"),
    "a.cr2": (lambda p: p.write_bytes(b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 400) and p, "CR2"),
    "a.cr3": (lambda p: p.write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 400) and p, "CR3"),
    "a.raf": (lambda p: p.write_bytes(b"FUJIFILMCCD-RAW 0201" + b"\0" * 400) and p, "RAF"),
    "a.orf": (lambda p: p.write_bytes(b"IIRO\x08\0\0\0" + b"\0" * 400) and p, "ORF"),
    "renamed.tif": (lambda p: tiff(p, gradient(), t50706=1), "DNG"),
}


@pytest.mark.parametrize("name", RAW)
def test_camera_raw_is_not_its_preview(name: str, tmp_path: Path) -> None:
    make, kind = RAW[name]
    path = make(tmp_path / name)
    with pytest.raises(BadInput, match="camera raw") as caught:
        load_picture(path)
    assert kind in caught.value.cause
    assert "export" in str(caught.value.hint)


def test_a_tiff_whose_directories_go_round_in_circles(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", gradient())
    data = bytearray(path.read_bytes())
    data[-4:] = data[4:8]  # the next directory is the first
    path.write_bytes(data)
    np.testing.assert_array_equal(load_picture(path).rgb, gradient())


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
@pytest.mark.parametrize("ground", [(0, 0, 0, 0), (250, 250, 250, 255)])
def test_an_animation_starts_where_it_shows_something(suffix: str, ground: tuple[int, ...], tmp_path: Path) -> None:
    blank = Image.new("RGBA", (64, 64), ground)
    frames = [blank]
    for side in (12, 40):
        frame = blank.copy()
        frame.paste((210, 40, 30, 255), (10, 8, 10 + side, 8 + side))
        frames.append(frame)
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, disposal=2, lossless=True)
    picture = load_picture(path)
    red = (picture.rgb[..., 0] > 180) & (picture.rgb[..., 1] < 80)
    if picture.alpha is not None:
        red &= picture.alpha > 127
    assert red.sum() == 12 * 12
    assert any("3 frames; frame 2, the first that shows something" in note for note in picture.notes)


def test_a_heic_is_read_where_its_decoder_is_installed_and_else_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("kiss3d_cli.image.formats.find_spec", lambda _name: None)
    with pytest.raises(Missing, match="HEIC") as caught:
        load_picture(path)
    assert "kiss3d[heic]" in str(caught.value.hint)
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    smooth = np.asarray(Image.fromarray(gradient()).resize((224, 160), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).save(path, "HEIF", quality=-1)
    picture = load_picture(path)
    assert np.abs(picture.rgb.astype(int) - smooth).mean() < 3
    assert suffix_of(path) == ".heic"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadInput, match=r"known format|damaged"):
        load_picture(path)


@pytest.mark.parametrize(
    ("name", "kind", "suffix"),
    [
        ("photo.png (1)", "PNG", ".png"),
        ("x.png~", "JPEG", ".jpg"),
        ("x.png?raw=true", "WEBP", ".webp"),
        ("x", "GIF", ".gif"),
    ],
)
def test_a_suffix_follows_the_content(name: str, kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.fromarray(gradient()).save(path, format=kind)
    assert suffix_of(path) == suffix
    other = tmp_path / "no.picture"
    other.write_bytes(b"nothing")
    assert suffix_of(other) == ".picture"


def test_a_chunk_cut_off_is_no_obstacle(tmp_path: Path) -> None:
    path = png_with(tmp_path / "a.png", gradient(), cICP=b"\1")
    np.testing.assert_array_equal(load_picture(path).rgb, gradient())
