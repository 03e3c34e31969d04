from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kiss3d_cli.geometry.inflate.double_sheet import double_sheet, without_specks


def lifted(coverage: np.ndarray, levels: int = 0) -> trimesh.Trimesh:
    """The sheets pulled apart: the front one up by 1, the back one down."""
    sheet = double_sheet(coverage, levels)
    vertices = np.column_stack([sheet.points[:, 0], -sheet.points[:, 1], sheet.side])
    return trimesh.Trimesh(vertices, sheet.faces, process=False)


def test_one_pixel_is_an_octahedron() -> None:
    coverage = np.zeros((3, 3))
    coverage[1, 1] = 1
    sheet = double_sheet(coverage)
    np.testing.assert_allclose(sheet.points, [[1.5, 1.5], [1.5, 1.5], [1, 1.5], [2, 1.5], [1.5, 1], [1.5, 2]])
    np.testing.assert_array_equal(sheet.side, [1, -1, 0, 0, 0, 0])
    np.testing.assert_array_equal(sheet.pixel, [4] * 6)
    mesh = lifted(coverage)
    assert len(mesh.faces) == 8
    np.testing.assert_allclose(mesh.volume, 2 * 0.5 / 3)


def test_the_outline_lies_where_the_coverage_crosses_one_half() -> None:
    coverage = np.zeros((3, 4))
    coverage[1, 1:3] = [0.8, 1.0]
    sheet = double_sheet(coverage)
    outline = sheet.points[sheet.side == 0]
    left = 1.5 - (0.8 - 0.5) / 0.8
    assert np.isclose(outline, [left, 1.5]).all(1).any()
    assert np.isclose(outline, [3.0, 1.5]).all(1).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.8), st.booleans())
def test_any_region_is_a_closed_manifold(seed: int, density: float, smooth: bool) -> None:
    rng = np.random.default_rng(seed)
    coverage = rng.random((14, 17))
    if smooth:
        coverage = ndimage.uniform_filter(coverage, 3)
        density = 0.5
    coverage = np.where(coverage < density, 0.5 + 0.5 * rng.random((14, 17)), 0.49 * rng.random((14, 17)))
    coverage[[0, -1]] = coverage[:, [0, -1]] = 0
    if not (coverage > 0.5).any():
        return
    mesh = lifted(coverage)
    # every directed edge once, with its opposite: closed, two faces an edge, consistent winding
    directed = mesh.edges
    keys = directed[:, 0] * len(mesh.vertices) + directed[:, 1]
    assert len(np.unique(keys)) == len(keys)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    # Every vertex has one fan of faces: its link is a single loop.
    for vertex, faces in enumerate(mesh.vertex_faces):
        around = mesh.faces[faces[faces >= 0]]
        links = {int(f[(i + 1) % 3]): int(f[(i + 2) % 3]) for f in around for i in range(3) if f[i] == vertex}
        start = at = next(iter(links))
        steps = 0
        while True:
            at = links[at]
            steps += 1
            if at == start:
                break
        assert steps == len(around)
    assert (mesh.area_faces > 1e-6).all()
    assert mesh.volume > 0
    # pieces and openings are those of the region, pixels connected across corners
    _, pieces = ndimage.label(coverage > 0.5, np.ones((3, 3)))
    _, gaps = ndimage.label(coverage <= 0.5)
    assert mesh.body_count == pieces
    assert mesh.euler_number == 2 * (pieces - (gaps - 1))


def blob(seed: int) -> np.ndarray:
    coverage = ndimage.gaussian_filter(np.random.default_rng(seed).random((90, 110)), 6)
    coverage = ((coverage - np.median(coverage)) / coverage.std() * 0.3 + 0.5).clip(0, 1)
    coverage[[0, -1]] = coverage[:, [0, -1]] = 0
    return coverage


@pytest.mark.parametrize("seed", range(4))
def test_blocks_change_neither_the_outline_nor_the_connectivity(seed: int) -> None:
    fine, coarse = lifted(blob(seed)), lifted(blob(seed), 3)
    assert len(coarse.faces) < 0.9 * len(fine.faces)
    assert coarse.is_watertight
    assert coarse.is_winding_consistent
    assert coarse.euler_number == fine.euler_number
    assert coarse.body_count == fine.body_count
    assert len(np.unique(coarse.faces)) == len(coarse.vertices)
    np.testing.assert_allclose(coarse.volume, fine.volume)
    outlines = [mesh.vertices[mesh.vertices[:, 2] == 0] for mesh in (fine, coarse)]
    np.testing.assert_array_equal(*outlines)


def test_blocks_grow_away_from_the_outline_to_the_largest() -> None:
    coverage = np.zeros((102, 102))
    coverage[1:-1, 1:-1] = 1
    sides = np.sqrt(2 * lifted(coverage, 4).area_faces[:-1])
    counts = [len(double_sheet(coverage, levels).faces) for levels in range(5)]
    assert counts == sorted(counts, reverse=True)
    assert counts[3] < 0.3 * counts[0]
    assert sides.max() > 7


def test_specks_are_dropped_and_nothing_wider_is() -> None:
    coverage = np.zeros((30, 40))
    coverage[5:25, 5:15] = 1
    coverage[2, 36] = coverage[4, 30:34] = 1  # one pixel wide, and short
    coverage[10:12, 30:32] = 0.9  # two pixels wide
    coverage[20, 22:36] = 0.8  # one pixel wide, and long
    kept = without_specks(coverage)
    assert kept[2, 36] == kept[4, 31] == 0
    kept[2, 36] = kept[4, 30:34] = 1
    np.testing.assert_array_equal(kept, coverage)
    alone = np.zeros((5, 5))
    alone[2, 2] = 1
    np.testing.assert_array_equal(without_specks(alone), alone)
