from __future__ import annotations

import torch

from kiss3d_cli.geometry.extract.dual_tables import CORNER_OFFSETS, EDGE_CORNERS, FACE_CORNERS, dual_tables


def loops_of(case: int) -> set[frozenset[int]]:
    tables = dual_tables()
    lengths = tables.loop_lengths[case]
    return {
        frozenset(tables.loop_edges[case, loop, : lengths[loop]].tolist()) for loop in range(int(tables.loops[case]))
    }


def ambiguous_faces(case: int) -> list[int]:
    inside = [[case >> corner & 1 for corner in ring] for ring in FACE_CORNERS]
    return [face for face, ring in enumerate(inside) if ring in ([0, 1, 0, 1], [1, 0, 1, 0])]


def edges_of(face: int) -> set[int]:
    return {edge for edge, ends in enumerate(EDGE_CORNERS) if set(ends) <= set(FACE_CORNERS[face])}


def test_corners_edges_and_faces_are_those_of_the_drawing():
    assert CORNER_OFFSETS[6] == (0, 1, 1)
    drawn = [(0, 1), (1, 5), (5, 4), (4, 0), (2, 3), (3, 7), (7, 6), (6, 2), (0, 2), (1, 3), (5, 7), (4, 6)]
    assert [set(ends) for ends in EDGE_CORNERS] == [set(ends) for ends in drawn]
    for face, ring in enumerate(FACE_CORNERS):
        assert {CORNER_OFFSETS[corner][face // 2] for corner in ring} == {face % 2}
        assert len(edges_of(face)) == 4


def test_drawn_cases():
    assert loops_of(0b0000_0000) == loops_of(0b1111_1111) == set()
    assert loops_of(0b0000_0001) == loops_of(0b1111_1110) == {frozenset({0, 3, 8})}
    assert loops_of(0b0000_0011) == {frozenset({1, 3, 8, 9})}, "two corners on one edge"
    assert loops_of(0b0000_1001) == {frozenset({0, 3, 8}), frozenset({4, 5, 9})}, "inside corners are cut off"
    assert loops_of(0b1111_0110) == {frozenset({0, 3, 4, 5, 8, 9})}, "outside corners are joined"
    assert loops_of(0b0110_1001) == {frozenset(e) for e in ({0, 3, 8}, {4, 5, 9}, {6, 7, 11}, {1, 2, 10})}


def test_loops_hold_every_crossed_edge_once_and_walk_over_faces():
    tables = dual_tables()
    for case in range(256):
        crossed = [edge for edge, (a, b) in enumerate(EDGE_CORNERS) if (case >> a ^ case >> b) & 1]
        assert sorted(edge for loop in loops_of(case) for edge in loop) == crossed
        assert (tables.loop_of_edge[case] >= 0).nonzero()[:, 0].tolist() == crossed
        for loop in range(int(tables.loops[case])):
            walk = tables.loop_edges[case, loop, : tables.loop_lengths[case, loop]].tolist()
            assert all(tables.loop_of_edge[case, edge] == loop for edge in walk)
            for a, b in zip(walk, walk[1:] + walk[:1], strict=True):
                assert any({a, b} <= edges_of(face) for face in range(6))


def test_a_saddle_has_one_ambiguous_face_and_its_complement_splits_it():
    tables = dual_tables()
    for case in range(256):
        faces = ambiguous_faces(case)
        joined = [face for face in faces if any(edges_of(face) <= loop for loop in loops_of(case))]
        assert bool(tables.saddle[case]) == bool(joined)
        if joined:
            assert faces == joined == [tables.saddle_face[case]]
            assert not any(edges_of(joined[0]) <= loop for loop in loops_of(255 - case))
    assert tables.saddle.sum() == 36


def test_filling_repeats_an_edge_of_the_loop():
    tables = dual_tables()
    padding = torch.arange(tables.loop_edges.shape[2]) >= tables.loop_lengths[..., None]
    first = tables.loop_edges[..., :1].expand_as(tables.loop_edges)
    assert torch.equal(tables.loop_edges[padding], first[padding])
