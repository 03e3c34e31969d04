"""Remeshing: drawn meshes with every expected array, then random closed meshes."""

import itertools

import pytest
import torch
import trimesh

from kiss3d_cli.geometry.mesh import face_normals
from kiss3d_cli.geometry.surface.manifold import find_defects, find_edges
from kiss3d_cli.geometry.surface.remesh import collapse_edges, flip_edges, remesh, split_edges

TETRAHEDRON = torch.tensor([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])


def _faces(faces):
    """A set of triangles, each turned so that its smallest vertex comes first."""
    turned = []
    for face in faces.tolist():
        k = face.index(min(face))
        turned.append(tuple(face[k:] + face[:k]))
    assert len(turned) == len(set(turned))
    return set(turned)


def _bipyramid(ring, top, bottom):
    """Vertices of the ring (counter-clockwise from above), then the two tips."""
    n = len(ring)
    rows = torch.tensor([*ring, top, bottom], dtype=torch.float32)
    faces = [face for k in range(n) for face in ((k, (k + 1) % n, n), ((k + 1) % n, k, n + 1))]
    return rows, torch.tensor(faces)


def _random_mesh(seed, bumps=0.15):
    """An asymmetric closed mesh of genus 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    solid = trimesh.creation.icosphere(3) if seed % 2 else trimesh.creation.torus(0.7, 0.3, major_sections=40)
    rows = torch.tensor(solid.vertices, dtype=torch.float32) * torch.tensor([1.0, 0.7, 0.5])
    rows = rows + bumps * torch.sin(3 * rows[:, [1, 2, 0]]) + 0.01 * torch.randn(rows.shape, generator=generator)
    return rows, torch.tensor(solid.faces)


def _genus_sum(rows, faces):
    return len(rows) - len(find_edges(faces).ends) + len(faces)


def test_collapse_of_one_edge():
    """A bipyramid over a pentagon with one short side: it becomes one over a quadrangle."""
    rows, faces = _bipyramid([(1, 0, 0), (1, 0.1, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0)], (0, 0, 1), (0, 0, -1))
    rows = torch.cat([rows, torch.arange(7.0)[:, None]], 1)  # a number that belongs to the vertex
    result = collapse_edges(rows, faces, 0.2)
    expected = torch.tensor(
        [[1, 0.05, 0, 0.5], [0, 1, 0, 2], [-1, 0, 0, 3], [0, -1, 0, 4], [0, 0, 1, 5], [0, 0, -1, 6]]
    )
    torch.testing.assert_close(result.rows, expected)
    ring = [(k, (k + 1) % 4) for k in range(4)]
    assert _faces(result.faces) == _faces(torch.tensor([face for a, b in ring for face in ((a, b, 4), (b, a, 5))]))


def test_collapse_is_refused_where_the_result_would_be_too_long():
    rows, faces = _bipyramid([(1, 0, 0), (1, 0.1, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0)], (0, 0, 1), (0, 0, -1))
    assert len(collapse_edges(rows, faces, 0.2, longest=1.44).faces) == len(faces)
    assert len(collapse_edges(rows, faces, 0.2, longest=1.46).faces) == len(faces) - 2


def test_collapse_keeps_a_tetrahedron():
    rows = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(collapse_edges(rows, TETRAHEDRON, 100.0).faces, TETRAHEDRON)


def test_collapse_respects_the_link_condition():
    """Three short edges around a thin neck bound no face: collapsing one would pinch the surface."""
    height = [-1.0, 0.0, 1.0]
    angle = torch.arange(3) * 2 * torch.pi / 3
    rings = [
        torch.stack([r * angle.cos(), r * angle.sin(), torch.full((3,), h)], 1)
        for h, r in zip(height, (1, 0.05, 1), strict=True)
    ]
    rows = torch.cat([*rings, torch.tensor([[0.0, 0, -2], [0, 0, 2]])])
    faces = []
    for k in range(3):
        n = (k + 1) % 3
        for low in (0, 3):
            faces += [(low + k, low + n, low + 3 + n), (low + k, low + 3 + n, low + 3 + k)]
        faces += [(n, k, 9), (6 + k, 6 + n, 10)]
    faces = torch.tensor(faces)
    assert find_defects(faces).is_closed_manifold
    assert len(collapse_edges(rows, faces, 0.5).faces) == len(faces)


def test_split_with_one_two_and_three_long_edges():
    """A tetrahedron whose face (0, 1, 2) has three long edges, seen from a close tip: the others have one."""
    rows = torch.tensor([[2.0, 0, 0], [-1, 1.7, 0], [-1, -1.7, 0], [0, 0, 0.2]])
    result = split_edges(rows, TETRAHEDRON, 3.0)
    middles = torch.tensor([[0.5, 0.85, 0], [0.5, -0.85, 0], [-1, 0, 0]])  # of 01, 02, 12
    torch.testing.assert_close(result.rows, torch.cat([rows, middles]))
    expected = [
        (0, 4, 5),
        (4, 1, 6),
        (5, 6, 2),
        (4, 6, 5),
        (1, 4, 3),
        (4, 0, 3),
        (2, 6, 3),
        (6, 1, 3),
        (0, 5, 3),
        (5, 2, 3),
    ]
    assert _faces(result.faces) == _faces(torch.tensor(expected))


def test_split_of_two_edges_takes_the_shorter_diagonal():
    rows = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 1, 0], [1, 0.4, 0.1]])
    # long: 0-1 (4) and 1-2 (4.12); m01 = (2, 0), m12 = (2, 0.5): from 0 to m12 is 2.06, from 2 to m01 is 2.24
    result = split_edges(rows, TETRAHEDRON, 3.5)
    torch.testing.assert_close(result.rows[4:], torch.tensor([[2.0, 0, 0], [2, 0.5, 0]]))
    expected = [(4, 1, 5), (0, 4, 5), (0, 5, 2), (0, 3, 4), (4, 3, 1), (1, 3, 5), (5, 3, 2), (2, 3, 0)]
    assert _faces(result.faces) == _faces(torch.tensor(expected))


def _regular_torus(around=12, along=10):
    """Every vertex has six neighbours."""
    i, j = torch.meshgrid(torch.arange(around), torch.arange(along), indexing="ij")
    u, v = i.flatten() * 2 * torch.pi / around, j.flatten() * 2 * torch.pi / along
    radius = 1 + 0.4 * v.cos()
    rows = torch.stack([radius * u.cos(), radius * u.sin(), 0.4 * v.sin()], 1)
    number = i * along + j
    right, up, both = number.roll(-1, 0), number.roll(-1, 1), number.roll((-1, -1), (0, 1))
    quads = torch.stack([number, right, both, up], -1).reshape(-1, 4)
    return rows, torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def test_flip_restores_the_one_edge_that_was_turned():
    rows, faces = _regular_torus()
    assert find_edges(faces).valence(len(rows)).unique().tolist() == [6]
    assert torch.equal(flip_edges(rows, faces).faces, faces)
    count = len(faces) // 2
    turned = faces.clone()
    a, b, c = faces[7].tolist()
    d = int(faces[7 + count, 2])
    turned[7], turned[7 + count] = torch.tensor([a, b, d]), torch.tensor([b, c, d])
    assert sorted(find_edges(turned).valence(len(rows)).tolist()) == [5, 5, *[6] * (len(rows) - 4), 7, 7]
    result = flip_edges(rows, turned)
    assert torch.equal(result.rows, rows)
    assert _faces(result.faces) == _faces(faces)


def test_flip_never_makes_a_second_edge_between_two_vertices(monkeypatch):
    """A waist of two vertices, 2 and 3, and the edge 0-1 across: turning that edge would join 2 and 3 once more."""
    monkeypatch.setattr("kiss3d_cli.geometry.surface.remesh._MIN_COSINE", -2.0)
    faces = [(0, 1, 2), (1, 0, 3)]
    for tip, path in ((0, [2, *range(4, 12), 3]), (1, [3, *range(12, 20), 2])):
        centre = 20 + tip
        faces += [(tip, a, b) for a, b in itertools.pairwise(path)]
        faces += [(centre, b, a) for a, b in zip(path, [*path[1:], path[0]], strict=True)]
    faces = torch.tensor(faces)
    assert find_defects(faces).is_closed_manifold
    rows = torch.rand(22, 3, generator=torch.Generator().manual_seed(0))
    result = flip_edges(rows, faces)
    assert find_defects(result.faces).is_closed_manifold
    assert (0, 1, 2) in _faces(result.faces)
    assert len(_faces(result.faces) - _faces(faces)) >= 4


def test_flip_leaves_creases_alone():
    box = trimesh.creation.box((1, 0.8, 0.6))
    start = split_edges(torch.tensor(box.vertices, dtype=torch.float32), torch.tensor(box.faces), 0.7)
    for longest in (0.5, 0.3, 0.15):
        start = split_edges(start.rows, start.faces, longest)
    result = flip_edges(start.rows, start.faces)
    assert not torch.equal(result.faces, start.faces)
    normals = face_normals(result.rows, result.faces)
    torch.testing.assert_close(normals.abs().amax(1), normals.norm(dim=-1))  # all faces still lie in the box's sides


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length", [0.03, 0.08, 0.3])
def test_random_meshes_stay_closed_manifolds(seed, length):
    rows, faces = _random_mesh(seed)
    euler = _genus_sum(rows, faces)
    for _ in range(4):
        result = remesh(rows, faces, 0.5 * length, 1.5 * length)
        rows, faces = result.rows, result.faces
        assert find_defects(faces).is_closed_manifold
        assert _genus_sum(rows, faces) == euler
        assert torch.equal(faces.unique(), torch.arange(len(rows)))


@pytest.mark.parametrize("seed", range(4))
def test_topology_is_kept_without_any_help_from_geometry(seed, monkeypatch):
    """Faces may turn any way, every edge is too short, and flips choose among random vertices: only topology guards."""
    monkeypatch.setattr("kiss3d_cli.geometry.surface.remesh._MIN_COSINE", -2.0)
    rows, faces = _random_mesh(seed)
    euler = _genus_sum(rows, faces)
    generator = torch.Generator().manual_seed(seed)
    for step in range(30):
        result = collapse_edges(rows, faces, 100.0)
        assert find_defects(result.faces).is_closed_manifold
        result = flip_edges(torch.rand(result.rows.shape, generator=generator), result.faces)
        rows, faces = result.rows, result.faces
        assert find_defects(faces).is_closed_manifold, step
        assert _genus_sum(rows, faces) == euler
        assert find_edges(faces).valence(len(rows)).min() >= 3
    assert len(faces) < 500


def _rounds(rows, faces, shortest, longest, count):
    for _ in range(count):
        result = remesh(rows, faces, shortest, longest, find_edges(faces))
        rows, faces = result.rows, result.faces
    return result


@pytest.mark.parametrize("seed", range(2))
def test_edges_end_up_between_the_bounds(seed):
    rows, faces = _random_mesh(seed, bumps=0.05)
    result = _rounds(rows, faces, 0.04, 0.12, count=12)
    ends = result.rows[find_edges(result.faces).ends]
    length = (ends[:, 0] - ends[:, 1]).norm(dim=-1)
    assert (length > 0.12).float().mean() < 0.01
    assert (length < 0.04).float().mean() < 0.08
    valence = find_edges(result.faces).valence(len(result.rows))
    assert ((valence >= 5) & (valence <= 7)).float().mean() > 0.85


def test_the_surface_stays_where_it_is():
    rows, faces = _random_mesh(1)
    result = _rounds(rows, faces, 0.03, 0.09, count=6)
    before, after = trimesh.Trimesh(rows, faces), trimesh.Trimesh(result.rows, result.faces)
    assert after.volume == pytest.approx(before.volume, rel=0.01)
    assert trimesh.proximity.closest_point(before, after.vertices)[1].mean() < 0.005


def test_the_same_bytes_every_time():
    rows, faces = _random_mesh(2)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(_rounds(rows, faces, 0.02, 0.06, count=3))
    torch.set_num_threads(threads)
    assert torch.equal(results[0].faces, results[1].faces)
    assert torch.equal(results[0].rows, results[1].rows)
