from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.bundle import (
    Bundle,
    decode_normals,
    encode_normals,
    join_bundle,
    load_bundle,
    split_bundle,
)


def random_bundle(side: int = 64, seed: int = 0) -> Bundle:
    """Four different shapes with different colours and unit normals that face the camera."""
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn(4, side, side, 3, generator=generator)
    normals[..., 2] = normals[..., 2].abs()
    normals = normals / normals.norm(dim=-1, keepdim=True)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    mask = torch.stack([(x - side // 2) ** 2 + (y - side // 3) ** 2 < (side * r) ** 2 for r in (0.1, 0.2, 0.25, 0.3)])
    rgb = torch.rand(4, side, side, 3, generator=generator)
    white = torch.ones(3)
    zero = torch.zeros(3)
    return Bundle(torch.where(mask[..., None], rgb, white), torch.where(mask[..., None], normals, zero), mask)


def test_the_code_of_a_drawn_normal() -> None:
    normals = torch.tensor([[[0.0, 0, 1], [-1, 0, 0], [1, 0, 0], [0, 1, 0], [0.6, 0, 0.8]]])
    mask = torch.tensor([[True, True, True, True, False]])
    expected = torch.tensor([[[0.5, 0.5, 1], [1, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 1, 0.5], [1, 1, 1]]])
    torch.testing.assert_close(encode_normals(normals, mask), expected)
    torch.testing.assert_close(decode_normals(expected[:, :4]), normals[:, :4])


def test_columns_are_views_and_rows_are_colours_and_normals() -> None:
    bundle = random_bundle()
    picture = join_bundle(bundle)
    assert picture.shape == (128, 256, 3)
    for view in range(4):
        tile = picture[:64, 64 * view : 64 * (view + 1)]
        np.testing.assert_array_equal(tile, (bundle.rgb[view] * 255).round().byte().numpy())
        white = (picture[64:, 64 * view : 64 * (view + 1)] == 255).all(-1)
        np.testing.assert_array_equal(white, ~bundle.mask[view].numpy())


def test_views_are_on_white_whatever_was_drawn_beside_the_object() -> None:
    bundle = random_bundle()
    clean = join_bundle(bundle)
    drawn = clean.copy()
    background = np.concatenate(list(~bundle.mask.numpy()), 1)
    drawn[:64][background] = (250, 180, 244)
    assert torch.equal(split_bundle(drawn).rgb, split_bundle(clean).rgb)


@pytest.mark.parametrize("seed", range(3))
def test_splitting_undoes_joining(seed: int) -> None:
    bundle = random_bundle(seed=seed)
    back = split_bundle(join_bundle(bundle))
    assert torch.equal(back.mask, bundle.mask)
    torch.testing.assert_close(back.rgb, bundle.rgb, atol=0.5 / 255 + 1e-6, rtol=0)
    # a level of 1/255 is 2/255 in the vector; three of them and the scaling to unit length
    torch.testing.assert_close(back.normals, bundle.normals, atol=0.01, rtol=0)
    lengths = back.normals.norm(dim=-1)
    torch.testing.assert_close(lengths[back.mask], torch.ones_like(lengths[back.mask]))
    assert (lengths[~back.mask] == 0).all()
    assert back.notes == ()


def test_normals_off_unit_length_are_repaired_with_a_note() -> None:
    bundle = random_bundle()
    short = Bundle(bundle.rgb, bundle.normals * 0.85, bundle.mask)
    back = split_bundle(join_bundle(short))
    torch.testing.assert_close(back.normals, bundle.normals, atol=0.012, rtol=0)
    assert any("0.15 on average" in note for note in back.notes)


def with_row(value: int | None) -> np.ndarray:
    picture = join_bundle(random_bundle())
    if value is None:
        picture[64:] = picture[:64]
    else:
        picture[64:] = value
    return picture


BAD: dict[str, tuple[np.ndarray, str]] = {
    "one row": (np.full((64, 256, 3), 255, np.uint8), "256 x 64 pixels"),
    "three columns": (np.full((128, 192, 3), 255, np.uint8), "192 x 128 pixels"),
    "odd": (np.full((129, 258, 3), 255, np.uint8), "258 x 129 pixels"),
    "tiny": (np.full((40, 80, 3), 255, np.uint8), "80 x 40 pixels"),
    "white": (with_row(255), "shows no object"),
    "black": (with_row(0), "is black"),
    "grey": (with_row(128), "no background"),
    "colours again": (with_row(None), "no normals"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_picture_that_is_no_bundle_is_refused(case: str) -> None:
    picture, cause = BAD[case]
    with pytest.raises(BadInput, match=cause) as caught:
        split_bundle(picture, place="some.png")
    assert caught.value.place == "some.png"
    assert caught.value.hint


def test_one_empty_view_is_named() -> None:
    picture = join_bundle(random_bundle())
    picture[64:, 128:192] = 255
    with pytest.raises(BadInput, match="back view"):
        split_bundle(picture)


def test_reading_a_file_puts_transparency_on_white(tmp_path: Path) -> None:
    bundle = random_bundle()
    picture = join_bundle(bundle)
    alpha = np.where((picture == 255).all(-1), 0, 255).astype(np.uint8)
    holes = np.where(alpha[..., None] == 0, 0, picture)
    Image.fromarray(np.dstack([holes, alpha])).save(tmp_path / "bundle.png")
    back = load_bundle(tmp_path / "bundle.png")
    assert torch.equal(back.mask, bundle.mask)
    torch.testing.assert_close(back.rgb, bundle.rgb, atol=0.5 / 255 + 1e-6, rtol=0)
    with pytest.raises(BadInput, match="no such file"):
        load_bundle(tmp_path / "none.png")
