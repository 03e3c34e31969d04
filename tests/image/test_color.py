"""Colours by their profiles and codings: against Little CMS and the numbers of the standards."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from coded_pictures import ADOBE_COLORANTS, SRGB_COLORANTS, icc_profile, png_with
from kiss3d_cli.image.color import _BT709, ADOBE_RGB, PRIMARIES, between, code_points, srgb_encode
from kiss3d_cli.image.picture import load_picture


def colors() -> np.ndarray:
    """(36, 48, 3): greys, and every mixture of six levels of the channels."""
    steps = np.linspace(0, 255, 6).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    grey = np.repeat(np.arange(0, 256, 2, dtype=np.uint8)[:, None], 3, 1)
    return np.resize(np.concatenate([grid, grey]), (36, 48, 3))


def by_lcms(rgb: np.ndarray, profile: bytes) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    image = ImageCms.profileToProfile(Image.fromarray(rgb), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", ["Linear sRGB", "sRGB IEC61966-2.1 (linear)", "Something else"])
def test_a_linear_profile_is_linear_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    profile = icc_profile(SRGB_COLORANTS, 1.0, name)
    path = tmp_path / "a.png"
    Image.fromarray(colors()).save(path, icc_profile=profile)
    expected = np.round(srgb_encode(colors() / 255) * 255)
    assert np.abs(load_picture(path).rgb - expected).max() <= 2


def test_a_profile_with_the_curves_of_srgb_leaves_the_values_alone(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "a.png"
    Image.fromarray(colors()).save(path, icc_profile=profile)
    np.testing.assert_array_equal(load_picture(path).rgb, colors())


def test_grey_with_the_profile_of_a_colour_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    grey = Image.fromarray(colors()[..., 1])
    grey.save(path, icc_profile=icc_profile(SRGB_COLORANTS, 1.0, "linear"))
    picture = load_picture(path)
    assert picture.notes == ()
    expected = np.round(srgb_encode(np.asarray(grey) / 255) * 255)
    assert np.abs(picture.rgb[..., 0] - expected).max() <= 2


@pytest.mark.parametrize(("space", "index"), [(0xFFFF, "R03"), (2, None)])
def test_adobe_rgb_by_exif_is_what_little_cms_makes_of_its_profile(
    space: int, index: str | None, tmp_path: Path
) -> None:
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)
    details[0xA001] = space
    if index is not None:
        details[0xA005] = {1: index}
    path = tmp_path / "a.webp"
    Image.fromarray(colors()).save(path, exif=exif, lossless=True)
    expected = by_lcms(colors(), icc_profile(ADOBE_COLORANTS, 563 / 256, "Adobe"))
    found = load_picture(path).rgb.astype(int)
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - colors()).max() > 20
    # an sRGB picture says 1, or that its option file is R98
    details[0xA001] = 1
    Image.fromarray(colors()).save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(load_picture(path).rgb, colors())


def test_gamma_and_chromaticities_of_a_png(tmp_path: Path) -> None:
    def gama(value: float) -> bytes:
        return struct.pack(">I", round(value * 100_000))

    linear = load_picture(png_with(tmp_path / "1.png", colors(), gAMA=gama(1.0))).rgb
    assert np.abs(linear - np.round(srgb_encode(colors() / 255) * 255)).max() <= 1
    dark = load_picture(png_with(tmp_path / "2.png", colors(), gAMA=gama(1 / 1.8))).rgb
    assert np.abs(dark - np.round(srgb_encode((colors() / 255) ** 1.8) * 255)).max() <= 1
    usual = load_picture(png_with(tmp_path / "3.png", colors(), gAMA=gama(0.45455))).rgb
    np.testing.assert_array_equal(usual, colors())
    both = load_picture(png_with(tmp_path / "4.png", colors(), sRGB=b"\0", gAMA=gama(1.0))).rgb
    np.testing.assert_array_equal(both, colors())
    senseless = load_picture(png_with(tmp_path / "5.png", colors(), gAMA=gama(0))).rgb
    np.testing.assert_array_equal(senseless, colors())
    red, green, blue, white = ADOBE_RGB
    chrm = b"".join(struct.pack(">I", round(v * 100_000)) for v in (*white, *red, *green, *blue))
    adobe = load_picture(png_with(tmp_path / "6.png", colors(), gAMA=gama(256 / 563), cHRM=chrm)).rgb.astype(int)
    # a gamma within 5 % of sRGB's stands for sRGB's own curve, which is not quite a power
    assert np.abs(adobe - by_lcms(colors(), icc_profile(ADOBE_COLORANTS, 563 / 256, "Adobe"))).mean() <= 3


def test_coding_independent_code_points_of_a_png(tmp_path: Path) -> None:
    def read(*values: int, **chunks: bytes) -> np.ndarray:
        return load_picture(png_with(tmp_path / "a.png", colors(), cICP=bytes(values), **chunks)).rgb

    np.testing.assert_array_equal(read(1, 13, 0, 1), colors())
    linear = np.round(srgb_encode(colors() / 255) * 255)
    assert np.abs(read(1, 8, 0, 1) - linear).max() <= 1
    # it wins over gAMA
    assert np.abs(read(1, 8, 0, 1, gAMA=struct.pack(">I", 45455)) - linear).max() <= 1
    wide = read(12, 13, 0, 1).astype(int)
    # green by the matrix below: encoded(1.04206 * 0.13287 - 0.04206) = 87.6; red is over 255, blue under 0
    at = np.flatnonzero((colors() == (255, 102, 0)).all(-1).ravel())[0]
    np.testing.assert_allclose(wide.reshape(-1, 3)[at], (255, 87.6, 0), atol=1)
    narrow = read(1, 13, 0, 0).astype(int)
    expected = ((colors().astype(float) - 16) / 219 * 255).clip(0, 255)
    assert np.abs(narrow - expected).max() <= 1
    picture = load_picture(png_with(tmp_path / "b.png", colors(), cICP=bytes([3, 99, 0, 1])))
    np.testing.assert_array_equal(picture.rgb, colors())
    assert any("not known" in note for note in picture.notes)


@pytest.mark.parametrize(("transfer", "code"), [(16, 0.58069), (18, 0.75)])
def test_the_white_of_high_dynamic_range(transfer: int, code: float, tmp_path: Path) -> None:
    """ITU-R BT.2408, table 1: diffuse white, 203 cd/m2, is 58 % of PQ and 75 % of HLG."""
    coding = code_points(9, transfer)
    assert coding is not None
    assert coding.bright
    assert float(coding.decode(np.array([code]))[0]) == pytest.approx(1.0, abs=0.01)
    picture = load_picture(png_with(tmp_path / "a.png", colors(), cICP=bytes([9, transfer, 0, 1])))
    assert any("high dynamic range" in note for note in picture.notes)
    grey = picture.rgb[(colors().min(-1) == colors().max(-1)) & (colors()[..., 0] > 200)]
    assert (grey == 255).all()


def test_primaries_against_published_matrices() -> None:
    """Adobe RGB and Display P3 to sRGB, linear light (CSS Color 4, sample code)."""
    adobe = [[1.39836, -0.39836, 0.0], [0.0, 1.0, 0.0], [0.0, -0.04293, 1.04293]]
    display_p3 = [[1.22494, -0.22494, 0.0], [-0.04206, 1.04206, 0.0], [-0.01964, -0.07864, 1.09827]]
    np.testing.assert_allclose(between(ADOBE_RGB, _BT709), adobe, atol=2e-4)
    np.testing.assert_allclose(between(PRIMARIES[12], _BT709), display_p3, atol=2e-4)
    for primaries in PRIMARIES.values():  # white goes to white
        np.testing.assert_allclose(between(primaries, _BT709) @ np.ones(3), 1, atol=1e-6)
