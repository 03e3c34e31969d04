"""Pictures of every kind that a user may hand over."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from kiss3d_cli.core.errors import BadInput, OutOfMemory
from kiss3d_cli.image.picture import load_picture


def gradient(height: int = 40, width: int = 56) -> np.ndarray:
    """A picture without any symmetry, (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 3 * x, 200 - 4 * y, (2 * x + y) % 256], -1).astype(np.uint8)


def cut_alpha(height: int = 40, width: int = 56) -> np.ndarray:
    alpha = np.zeros((height, width), np.uint8)
    alpha[5:30, 10:50] = 255
    return alpha


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def huge_png(path: Path, width: int, height: int) -> Path:
    """A PNG header that promises width x height pixels, and next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )
    return path


def truncated(path: Path, suffix: str, keep: float) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, suffix)
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * keep)])
    return path


def transparent(path: Path) -> Path:
    return save(Image.fromarray(np.dstack([gradient(), np.zeros((40, 56), np.uint8)])), path)


def text(path: Path) -> Path:
    path.write_text("this is no picture\n" * 50, encoding="utf-8")
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def broken_header(path: Path) -> Path:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    return path


def postscript(path: Path) -> Path:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n")
    return path


BAD: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "missing": ("a.png", lambda p: p, "no such file"),
    "folder": ("a.png", folder, "is a folder"),
    "pipe": ("a.png", pipe, "not a regular file"),
    "empty": ("a.png", empty, "0 bytes"),
    "nul in the name": ("a\0b.png", lambda p: p, "can't be the name|no such file"),
    "name too long": ("a" * 400 + ".png", lambda p: p, "can't be the name|no such file"),
    "text": ("a.png", text, "not a picture"),
    "postscript": ("a.png", postscript, "not a picture"),
    "broken header": ("a.png", broken_header, "not a picture"),
    "truncated PNG": ("a.png", lambda p: truncated(p, "PNG", 0.5), "damaged or cut off"),
    "truncated JPEG": ("a.jpg", lambda p: truncated(p, "JPEG", 0.5), "damaged or cut off"),
    "truncated WebP": ("a.webp", lambda p: truncated(p, "WEBP", 0.5), "damaged or cut off|not a picture"),
    "truncated GIF": ("a.gif", lambda p: truncated(p, "GIF", 0.5), "damaged or cut off"),
    "header alone": ("a.png", lambda p: truncated(p, "PNG", 0.005), "damaged or cut off|not a picture"),
    "1 x 1": ("a.png", lambda p: save(Image.new("RGB", (1, 1)), p), "too small: 1 x 1"),
    "thin": ("a.png", lambda p: save(Image.new("RGB", (500, 8)), p), "too small: 500 x 8"),
    "30,000 x 30,000": ("a.png", lambda p: huge_png(p, 30_000, 30_000), "too large"),
    "11,000 x 11,000": ("a.png", lambda p: huge_png(p, 11_000, 11_000), "too large: 11000 x 11000"),
    "20,000 x 100": ("a.png", lambda p: huge_png(p, 20_000, 100), "too large: 20000 x 100"),
    "transparent": ("a.png", transparent, "foreground is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_gets_one_clear_message(case: str, tmp_path: Path) -> None:
    name, make, cause = BAD[case]
    path = make(tmp_path / name)
    with pytest.raises(BadInput, match=cause) as caught:
        load_picture(path)
    error = caught.value
    assert error.place == str(path)
    assert error.hint
    assert "\n" not in error.cause
    assert error.exit_code == 2


def test_an_unreadable_file_names_the_command_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Image.fromarray(gradient()), tmp_path / "a.png")

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, for whom no permission bit holds
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadInput, match="permission denied") as caught:
        load_picture(path)
    assert caught.value.hint is not None
    assert "chmod" in caught.value.hint


def test_a_picture_beyond_memory_is_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Image.fromarray(gradient()), tmp_path / "a.bmp")

    def exhaust(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhaust)
    with pytest.raises(OutOfMemory):
        load_picture(path)


def test_a_large_picture_within_the_limits_is_not_refused_for_its_header(tmp_path: Path) -> None:
    # 95 megapixels: above Pillow's own warning, below this limit; its data are missing
    with pytest.raises(BadInput, match="damaged"):
        load_picture(huge_png(tmp_path / "a.png", 9_700, 9_800))


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    picture = load_picture(save(Image.fromarray(gradient()), tmp_path / "a.png"))
    np.testing.assert_array_equal(picture.rgb, gradient())
    assert picture.alpha is None
    assert picture.notes == ()


def test_alpha_is_split_off_without_touching_the_colours(tmp_path: Path) -> None:
    picture = load_picture(save(Image.fromarray(np.dstack([gradient(), cut_alpha()])), tmp_path / "a.png"))
    np.testing.assert_array_equal(picture.rgb, gradient())
    np.testing.assert_array_equal(picture.alpha, cut_alpha())


def test_an_opaque_alpha_counts_as_none(tmp_path: Path) -> None:
    alpha = np.full((40, 56), 255, np.uint8)
    alpha[0, 0] = 0
    assert load_picture(save(Image.fromarray(np.dstack([gradient(), alpha])), tmp_path / "a.png")).alpha is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int, tmp_path: Path) -> None:
    stored = gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(stored), tmp_path / "a.png", exif=exif)
    # row 0 of the stored picture shows the picture's ..., its column 0 the ... (EXIF 2.3, tag 0x0112)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    np.testing.assert_array_equal(load_picture(path).rgb, upright)


def test_exif_rotation_turns_alpha_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.fromarray(np.dstack([gradient(), cut_alpha()])), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_picture(path).alpha, np.rot90(cut_alpha(), -1))


def test_grey_of_8_and_16_bits_and_its_alpha(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    for name, image in {
        "l.png": Image.fromarray(grey),
        "i16.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "i16.tiff": Image.fromarray(grey.astype(np.uint16) * 257),
        "la.png": Image.merge("LA", [Image.fromarray(grey), Image.fromarray(cut_alpha())]),
    }.items():
        picture = load_picture(save(image, tmp_path / name))
        np.testing.assert_array_equal(picture.rgb, np.repeat(grey[..., None], 3, 2), err_msg=name)
        assert (picture.alpha is not None) == (name == "la.png")
        assert any("16 bits" in note for note in picture.notes) == name.startswith("i16")


def test_16_bit_grey_with_a_transparent_value(tmp_path: Path) -> None:
    values = np.where(cut_alpha() > 0, gradient()[..., 0].astype(np.uint16) * 257, 7)
    picture = load_picture(save(Image.fromarray(values.astype(np.uint16)), tmp_path / "a.png", transparency=7))
    np.testing.assert_array_equal(picture.alpha, cut_alpha())


def test_float_values_and_not_a_number(tmp_path: Path) -> None:
    values = gradient()[..., 0].astype(np.float32) / 255
    values[3, 4], values[5, 6], values[7, 8] = np.nan, 9, -9
    picture = load_picture(save(Image.fromarray(values), tmp_path / "a.tiff"))
    assert picture.rgb[3, 4, 0] == 0
    assert picture.rgb[5, 6, 0] == 255
    assert picture.rgb[7, 8, 0] == 0
    assert picture.rgb[10, 20, 1] == gradient()[10, 20, 0]


def test_palettes_and_their_transparency(tmp_path: Path) -> None:
    index = (cut_alpha() > 0).astype(np.uint8) + (gradient()[..., 0] > 100) * (cut_alpha() > 0)
    palette = [255, 0, 255, 200, 30, 40, 20, 90, 210]
    image = Image.fromarray(index.astype(np.uint8), "P")
    image.putpalette(palette)
    expected = np.array(palette, np.uint8).reshape(3, 3)[index]
    opaque = load_picture(save(image, tmp_path / "opaque.png"))
    np.testing.assert_array_equal(opaque.rgb, expected)
    assert opaque.alpha is None
    for suffix in ("png", "gif"):
        cut = load_picture(save(image, tmp_path / f"cut.{suffix}", transparency=0))
        np.testing.assert_array_equal(cut.alpha, cut_alpha())
        np.testing.assert_array_equal(cut.rgb[cut_alpha() > 0], expected[cut_alpha() > 0])
    half = load_picture(save(image, tmp_path / "half.png", transparency=bytes([0, 200, 100])))
    np.testing.assert_array_equal(half.alpha, np.array([0, 200, 100], np.uint8)[index])


def test_a_colour_key_becomes_alpha(tmp_path: Path) -> None:
    rgb = np.where(cut_alpha()[..., None] > 0, gradient(), np.uint8([1, 2, 3]))
    picture = load_picture(save(Image.fromarray(rgb), tmp_path / "a.png", transparency=(1, 2, 3)))
    np.testing.assert_array_equal(picture.alpha, cut_alpha())


def test_one_bit(tmp_path: Path) -> None:
    bits = cut_alpha() > 0
    picture = load_picture(save(Image.fromarray(bits), tmp_path / "a.png"))
    np.testing.assert_array_equal(picture.rgb[..., 1], bits * np.uint8(255))


def test_cmyk(tmp_path: Path) -> None:
    picture = load_picture(save(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95))
    red, green, blue = picture.rgb.reshape(-1, 3).mean(0)
    assert red > 240
    assert max(green, blue) < 15
    assert any("CMYK" in note for note in picture.notes)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 48), color) for color in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    path = tmp_path / f"a.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, **lossless)
    picture = load_picture(path)
    np.testing.assert_array_equal(picture.rgb, np.asarray(frames[0]))
    assert any("3 frames; the first" in note for note in picture.notes)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 48), color) for color in ((250, 0, 0), (0, 250, 0))]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    picture = load_picture(tmp_path / "a.tiff")
    assert picture.rgb[0, 0, 0] == 250
    assert any("2 pages" in note for note in picture.notes)


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    source = Image.fromarray(gradient())
    as_lab = ImageCms.profileToProfile(source, srgb, ImageCms.createProfile("LAB"), outputMode="LAB")
    path = tmp_path / "a.tiff"
    as_lab.save(path, icc_profile=lab)
    back = load_picture(path).rgb.astype(int)
    # 8-bit CIELAB keeps a colour to within a few levels
    assert np.abs(back - gradient()).mean() < 3
    plain = save(source, tmp_path / "srgb.png", icc_profile=srgb.tobytes())
    np.testing.assert_array_equal(load_picture(plain).rgb, gradient())


def test_a_profile_that_does_not_fit_is_ignored_with_a_note(tmp_path: Path) -> None:
    for number, profile in enumerate((b"nonsense", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())):
        picture = load_picture(save(Image.fromarray(gradient()), tmp_path / f"{number}.png", icc_profile=profile))
        np.testing.assert_array_equal(picture.rgb, gradient())
        assert any("colour profile" in note for note in picture.notes)


def test_a_damaged_exif_block_is_no_obstacle(tmp_path: Path) -> None:
    path = save(Image.fromarray(gradient()), tmp_path / "a.png", exif=b"Exif\0\0MM\0*" + b"\xff" * 30)
    np.testing.assert_array_equal(load_picture(path).rgb, gradient())
