"""Edges and defects of drawn triangle lists."""

import torch

from kiss3d_cli.geometry.surface.manifold import (
    Defects,
    face_components,
    find_defects,
    find_edges,
    vertex_fans,
    vertex_laplacian,
)

TETRAHEDRON = torch.tensor([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])


def test_edges_of_a_tetrahedron():
    edges = find_edges(TETRAHEDRON)
    assert edges.ends.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    # the left face holds the edge from the smaller to the larger number: 0 -> 1 is in face (0, 1, 2)
    assert edges.opposite.tolist() == [[2, 3], [3, 1], [1, 2], [0, 3], [2, 0], [0, 1]]
    assert edges.of_face.tolist() == [[0, 3, 1], [2, 4, 0], [4, 5, 3], [5, 2, 1]]
    assert edges.valence(4).tolist() == [3, 3, 3, 3]


def test_laplacian_of_a_tetrahedron_and_of_a_lonely_vertex():
    vertices = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 6, 0], [0, 0, 9], [5, 5, 5]])
    expected = torch.tensor([[1.0, 2, 3], [-3, 2, 3], [1, -6, 3], [1, 2, -9], [0, 0, 0]])
    torch.testing.assert_close(vertex_laplacian(vertices, find_edges(TETRAHEDRON)), expected)


def test_a_closed_manifold_has_no_defect():
    assert find_defects(TETRAHEDRON) == Defects(0, 0, 0, 0, 0)
    assert find_defects(TETRAHEDRON).is_closed_manifold


def test_each_defect_is_found():
    assert find_defects(TETRAHEDRON[:3]).boundary_edges == 3
    turned = TETRAHEDRON.clone()
    turned[0] = turned[0].flip(0)
    assert find_defects(turned).bad_edges == 3
    doubled = torch.cat([TETRAHEDRON, TETRAHEDRON[:1].flip(1)])
    assert find_defects(doubled).duplicate_faces == 1
    assert find_defects(doubled).bad_edges == 3
    assert find_defects(torch.tensor([[0, 1, 1]])).degenerate_faces == 1
    assert find_defects(torch.zeros(0, 3, dtype=torch.int64)).is_closed_manifold


def test_two_solids_that_touch_in_one_vertex():
    other = torch.tensor([0, 4, 5, 6])[TETRAHEDRON]
    both = torch.cat([TETRAHEDRON, other])
    assert find_defects(both) == Defects(0, 0, 0, 0, 1)
    fans = vertex_fans(both)
    at_zero = {int(fan) for fan in fans[both == 0]}
    assert len(at_zero) == 2
    assert int(fans.max()) + 1 == 8
    assert face_components(both).tolist() == [0] * 8


def test_components_are_numbered_by_size():
    octahedron = torch.tensor([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    assert face_components(torch.cat([TETRAHEDRON + 10, octahedron])).tolist() == [1] * 4 + [0] * 8
