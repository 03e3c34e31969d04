import itertools

import numpy as np
import pytest
import trimesh

from kiss3d_cli.geometry.surface.intersections import bent_edges, self_intersections


def segment_meets_triangle(p, q, triangle):
    """By signed volumes, another way than the module's."""

    def volume(a, b, c, d):
        return np.dot(np.cross(b - a, c - a), d - a)

    a, b, c = triangle
    if volume(a, b, c, p) * volume(a, b, c, q) >= 0:
        return False
    turns = [volume(p, q, a, b), volume(p, q, b, c), volume(p, q, c, a)]
    return min(turns) > 0 or max(turns) < 0


def brute_force(vertices, faces):
    count = 0
    for one, two in itertools.combinations(vertices[faces], 2):
        if (one[:, None] == two[None]).all(-1).any():
            continue
        edges = [(a, b, two) for a, b in zip(one, np.roll(one, 1, 0), strict=True)]
        edges += [(a, b, one) for a, b in zip(two, np.roll(two, 1, 0), strict=True)]
        count += any(segment_meets_triangle(*edge) for edge in edges)
    return count


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_crossing_faces_are_those_of_a_search_of_all_pairs(seed):
    random = np.random.default_rng(seed)
    centers = random.uniform(-1, 1, (60, 1, 3))
    sizes = random.choice([0.05, 0.3, 1.0], (60, 1, 1))  # boxes that span one cell and many
    vertices = (centers + sizes * random.normal(size=(60, 3, 3))).reshape(-1, 3)
    faces = np.arange(180).reshape(60, 3)
    faces[1, 0] = faces[0, 0]  # neighbours are not looked at
    expected = brute_force(vertices, faces)
    assert expected > 20
    assert self_intersections(vertices, faces) == expected


def test_a_ball_cuts_itself_nowhere_and_two_that_overlap_do():
    ball = trimesh.creation.icosphere(3)
    assert self_intersections(ball.vertices, ball.faces) == 0
    both = trimesh.util.concatenate([ball, ball.copy().apply_translation([1.2, 0.1, 0.05])])
    assert self_intersections(np.asarray(both.vertices), np.asarray(both.faces)) > 50


def test_one_face_and_none_cut_nothing():
    assert self_intersections(np.eye(3), np.array([[0, 1, 2]])) == 0
    assert self_intersections(np.eye(3), np.zeros((0, 3), int)) == 0


def test_the_edges_of_a_box_are_bent_and_its_diagonals_are_not():
    box = trimesh.creation.box()
    assert bent_edges(np.asarray(box.vertices), np.asarray(box.faces)) == pytest.approx(1000 * 12 / 18)
    # vertices split at seams are one place
    split = box.vertices[box.faces].reshape(-1, 3)
    assert bent_edges(split, np.arange(len(split)).reshape(-1, 3)) == pytest.approx(1000 * 12 / 18)
    assert bent_edges(np.asarray(box.vertices), np.asarray(box.faces), degrees=91) == 0


def test_bent_edges_agree_with_trimesh_on_a_wrinkled_ball():
    ball = trimesh.creation.icosphere(3)
    vertices = ball.vertices * np.random.default_rng(0).uniform(0.8, 1.2, (len(ball.vertices), 1))
    rough = trimesh.Trimesh(vertices, ball.faces, process=False)
    expected = 1000 * (np.rad2deg(rough.face_adjacency_angles) > 60).mean()
    assert 50 < expected < 900
    assert bent_edges(vertices, ball.faces) == pytest.approx(expected)
