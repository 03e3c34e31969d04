"""Bundles and grids of other programs: their normals, cameras and order, against views that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ellipsoids import Ellipsoid, cast
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.image.bundle import Bundle, encode_normals, load_bundle, write_bundle
from kiss3d_cli.image.conventions import with_convention
from kiss3d_cli.image.grids import FAR_AWAY, SIX, ZERO123PLUS, ViewSet, layout_of, plain_mask
from kiss3d_cli.image.png import write_png
from kiss3d_cli.image.views import to_bytes
from kiss3d_cli.methods.bundle.elsewhere import cameras_of, read_elsewhere

SIZE = 96


def leaning() -> Mesh:
    """A closed body without any symmetry."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=4)
    x, y, z = np.asarray(ball.vertices, dtype=np.float32).T
    moved = np.stack([0.5 * x + 0.2 * y**2, 0.7 * y + 0.25 * z**3, 0.35 * z - 0.2 * x**2 + 0.15 * y], 1)
    return Mesh(torch.from_numpy(moved), torch.from_numpy(np.asarray(ball.faces, dtype=np.int64)))


def seen(cameras: Cameras) -> tuple[Tensor, Tensor]:
    shown = render_normals(leaning(), cameras, (SIZE, SIZE))
    mask = shown.mask > 0.5
    return torch.where(mask[..., None], torch.nn.functional.normalize(shown.normals, dim=-1), 0), mask


def grid(rows: list[Tensor]) -> np.ndarray:
    return np.concatenate([np.concatenate(list(to_bytes(row)), 1) for row in rows], 0)


def colors_of(mask: Tensor, background: float = 1.0) -> Tensor:
    tint = torch.linspace(0.2, 0.7, mask.shape[-1])[:, None].expand(*mask.shape, 1) * torch.tensor([1.0, 0.6, 0.3])
    return torch.where(mask[..., None], tint, torch.full((3,), background))


@pytest.mark.parametrize("convention", ["kiss3d", "opengl", "kiss3d-y-down", "opengl-y-down"])
def test_a_bundle_of_another_convention_is_named_and_turned(tmp_path: Path, convention: str) -> None:
    views = cast([Ellipsoid((0.1, -0.2, 0), (0.4, 0.6, 0.3)), Ellipsoid((-0.3, 0.4, 0.2), (0.3, 0.2, 0.35))], SIZE)
    given = encode_normals(with_convention(views.normals, convention), views.mask)
    write_png(tmp_path / "b.png", grid([colors_of(views.mask), given]))
    found = read_elsewhere(tmp_path / "b.png", "auto", False, 4.15)
    cosine = (found.normals * views.normals).sum(-1)[views.mask]
    assert float(cosine.min()) > 0.98
    assert any("outlines" in note for note in found.notes) == (convention != "kiss3d")
    kept = read_elsewhere(tmp_path / "b.png", convention, False, 4.15)
    torch.testing.assert_close(kept.normals, found.normals)
    assert not any("outlines" in note for note in kept.notes)


@pytest.mark.parametrize("frame", ["camera", "front"])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("normals_first", [True, False])
def test_six_orthographic_views_with_normals_of_any_frame(
    tmp_path: Path, frame: str, signs: tuple[int, int, int], normals_first: bool
) -> None:
    half = 1.2
    cameras = orbit_cameras(SIX.azimuths, SIX.elevations, FAR_AWAY, float(np.degrees(2 * np.arctan(half / FAR_AWAY))))
    normals, mask = seen(cameras)
    given = cameras.normals_to_world(normals) if frame == "front" else normals
    encoded = torch.where(mask[..., None], (given * torch.tensor(signs) + 1) / 2, torch.ones(3))
    rows = [encoded, colors_of(mask)] if normals_first else [colors_of(mask), encoded]
    write_png(tmp_path / "six.png", grid(rows))
    found = read_elsewhere(tmp_path / "six.png", "auto", False, 4.15)
    assert found.views is not None
    assert found.views.azimuths == SIX.azimuths
    both = found.mask & mask
    assert float(both.sum() / (found.mask | mask).sum()) > 0.95
    assert float((found.normals * normals).sum(-1)[both].mean()) > 0.98
    assert float((found.rgb - colors_of(mask))[both].abs().max()) < 0.01
    # the object's largest half extent is taken for 0.95
    reach = (np.abs((mask.nonzero()[:, 1:].numpy() + 0.5) / SIZE * 2 - 1)).max()
    assert np.tan(np.radians(found.views.fov) / 2) * FAR_AWAY * reach == pytest.approx(0.95, rel=0.03)


def test_zero123plus_views_get_the_normals_of_their_hull(tmp_path: Path) -> None:
    cameras = orbit_cameras(ZERO123PLUS.azimuths, ZERO123PLUS.elevations, 4.0, 30.0)
    _, mask = seen(cameras)
    tiles = colors_of(mask, 0.5)  # that model's grey background
    write_png(tmp_path / "z.png", grid([tiles[0:2], tiles[2:4], tiles[4:6]]))
    found = read_elsewhere(tmp_path / "z.png", "auto", False, 4.15)
    assert len(found.mask) == 6
    assert float((found.mask & mask).sum() / (found.mask | mask).sum()) > 0.95
    torch.testing.assert_close(found.normals[found.mask].norm(dim=-1), torch.ones(int(found.mask.sum())))
    assert any("no normals" in note for note in found.notes)
    write_bundle(tmp_path / "bundle.png", found)
    again = load_bundle(tmp_path / "bundle.png")
    assert again.views == found.views
    torch.testing.assert_close(cameras_of(again, 4.15).world_to_camera, cameras.world_to_camera, atol=1e-6, rtol=1e-6)


def test_a_strip_of_four_views_and_its_sides_exchanged(tmp_path: Path) -> None:
    views = cast([Ellipsoid((0.1, -0.2, 0.3), (0.4, 0.6, 0.3)), Ellipsoid((-0.3, 0.4, 0.2), (0.3, 0.2, 0.35))], SIZE)
    write_png(tmp_path / "s.png", grid([colors_of(views.mask)]))
    found = read_elsewhere(tmp_path / "s.png", "auto", False, 4.15)
    assert found.views is None
    assert float((found.mask & views.mask).sum() / (found.mask | views.mask).sum()) > 0.95
    exchanged = read_elsewhere(tmp_path / "s.png", "auto", True, 4.15)
    torch.testing.assert_close(exchanged.rgb, found.rgb[[0, 3, 2, 1]])


def test_a_white_object_that_its_alpha_channel_cuts_out(tmp_path: Path) -> None:
    views = cast([Ellipsoid((0.1, -0.2, 0.3), (0.4, 0.6, 0.3)), Ellipsoid((-0.3, 0.4, 0.2), (0.3, 0.2, 0.35))], SIZE)
    alpha = np.concatenate(list(views.mask.numpy()), 1).astype(np.uint8) * 255
    write_png(tmp_path / "s.png", np.dstack([np.full((*alpha.shape, 3), 255, np.uint8), alpha]))
    found = read_elsewhere(tmp_path / "s.png", "auto", False, 4.15)
    torch.testing.assert_close(found.mask, views.mask)
    exchanged = read_elsewhere(tmp_path / "s.png", "auto", True, 4.15)
    torch.testing.assert_close(exchanged.mask, views.mask[[0, 3, 2, 1]])


def test_exchanged_sides_are_named(tmp_path: Path) -> None:
    solids = [
        Ellipsoid((0.1, -0.3, 0.0), (0.5, 0.5, 0.3)),
        Ellipsoid((-0.1, 0.3, 0.35), (0.3, 0.35, 0.45)),
        Ellipsoid((0.4, -0.3, -0.4), (0.15, 0.2, 0.4)),
    ]
    views = cast(solids, SIZE)
    order = [0, 3, 2, 1]
    rows = [colors_of(views.mask[order]), encode_normals(views.normals[order], views.mask[order])]
    write_png(tmp_path / "b.png", grid(rows))
    found = read_elsewhere(tmp_path / "b.png", "auto", False, 4.15)
    assert any("swap_sides" in note for note in found.notes)
    mended = read_elsewhere(tmp_path / "b.png", "auto", True, 4.15)
    assert not any("swap_sides" in note for note in mended.notes)
    assert float((mended.normals * views.normals).sum(-1)[views.mask].min()) > 0.98


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"azimuths": [0, 90], "elevations": [0], "radius": 4, "fov": 30}', "[" * 100_000]
    + [
        f'{{"azimuths": [0, {a}], "elevations": [0, {e}], "radius": {r}, "fov": {f}}}'
        for a, e, r, f in (("NaN", 0, 4, 30), (90, 90, 4, 30), (90, 0, 0, 30), (90, 0, 4, 1e9), ("1e999", 0, 4, 30))
    ],
)
def test_cameras_in_a_file_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="cameras"):
        ViewSet.from_json(text, "b.png")


def test_pictures_that_are_no_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no grid"):
        layout_of(np.zeros((100, 130, 3), np.uint8), "x.png")
    noise = np.random.default_rng(0).integers(0, 255, (3 * SIZE, 2 * SIZE, 3), dtype=np.uint8)
    assert plain_mask(noise[:SIZE, :SIZE]) is None
    write_png(tmp_path / "n.png", noise)
    with pytest.raises(BadInput, match="no plain background"):
        read_elsewhere(tmp_path / "n.png", "auto", False, 4.15)
    write_png(tmp_path / "w.png", np.full((SIZE, 4 * SIZE, 3), 255, np.uint8))
    with pytest.raises(BadInput, match="shows no object"):
        read_elsewhere(tmp_path / "w.png", "auto", False, 4.15)
    colors = torch.rand(6, SIZE, SIZE, 3) * 0.3
    mask = torch.zeros(6, SIZE, SIZE, dtype=torch.bool)
    mask[:, 20:60, 20:60] = True
    dark = torch.where(mask[..., None], 0.4 + colors * 0.2, torch.ones(3))
    write_png(tmp_path / "d.png", grid([dark, dark]))
    with pytest.raises(BadInput, match="neither row"):
        read_elsewhere(tmp_path / "d.png", "auto", False, 4.15)


def test_bundle_of_this_run_is_a_bundle_again(tmp_path: Path) -> None:
    normals, mask = seen(orbit_cameras(SIX.azimuths, SIX.elevations, FAR_AWAY, 1.4))
    views = ViewSet(SIX.azimuths, SIX.elevations, FAR_AWAY, 1.4)
    write_bundle(tmp_path / "mine.png", Bundle(colors_of(mask), normals, mask, views=views))
    found = read_elsewhere(tmp_path / "mine.png", "auto", False, 4.15)
    assert found.views == views
