"""Posed views of things whose pictures are known by calculation, and published layouts that the tests write."""

from __future__ import annotations

import dataclasses
import json
import math

import cv2
import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.training import posed_data
from kiss3d_cli.training.assembled import legged
from kiss3d_cli.training.data import Recipe
from kiss3d_cli.training.looks import draw_look
from kiss3d_cli.training.objects import normalised
from kiss3d_cli.training.posed import draw_posed, intrinsics_of
from kiss3d_cli.training.posed_data import make_posed
from kiss3d_cli.training.posed_shards import PosedShard, posed_path, write_posed
from kiss3d_cli.training.published_views import Z_UP_TO_Y_UP, find_published, is_held_out, read_published

S = 16


def plain_look():
    look = draw_look(np.random.default_rng(0))
    return dataclasses.replace(look, paint="own", unlit=True, texture=0.0, gloss=(0.0, 0.0), exposure=1.0)


def marker() -> Mesh:
    """A small red ball at (0.8, 0.5, -0.6) inside the box of a thin grey frame."""
    ball = trimesh.creation.icosphere(2, 0.2)
    ball.apply_translation([0.8, 0.5, -0.6])
    post = trimesh.creation.box([0.1, 2, 0.1])
    vertices = np.concatenate([ball.vertices, post.vertices])
    faces = np.concatenate([ball.faces, post.faces + len(ball.vertices)])
    colors = np.concatenate([np.tile([1.0, 0, 0], (len(ball.vertices), 1)), np.full((len(post.vertices), 3), 0.5)])
    return Mesh(torch.tensor(vertices).float(), torch.tensor(faces).long(), torch.tensor(colors).float())


def red_middle(rgb):
    """Row and column of what is red, as shares of the side; None if nothing is."""
    red = (rgb[..., 0].astype(int) - rgb[..., 1] > 120) & (rgb[..., 0] > 150)
    return None if red.sum() < 4 else (np.argwhere(red).mean(0) + 0.5) / len(rgb)


def projected(point, world_to_camera, intrinsics):
    local = world_to_camera[:3, :3] @ point + world_to_camera[:3, 3]
    fx, fy, cx, cy = intrinsics
    return np.array([cy - fy * local[1] / -local[2], cx + fx * local[0] / -local[2]])


def test_every_view_shows_a_point_where_its_camera_projects_it():
    rng = np.random.default_rng(2)
    assert rng.random() < 0.5, "the object would turn"
    scale = 0.95 * rng.uniform(0.85, 1.0)
    found = draw_posed(marker(), np.random.default_rng(2), 8, 64, plain_look())
    assert found.rgb.shape == (8, 64, 64, 3)
    seen = 0
    for rgb, pose, intrinsics in zip(found.rgb, found.world_to_camera, found.intrinsics, strict=True):
        middle = red_middle(rgb)
        if middle is not None:
            assert np.abs(middle - projected(np.array([0.8, 0.5, -0.6]) * scale, pose, intrinsics)).max() < 0.015
            seen += 1
    assert seen >= 5
    assert found.mask[0].max() == 255
    assert (found.rgb[found.mask == 0] == 255).all()


def test_the_coarse_views_are_those_of_the_inflated_front():
    """Where the front shows the red ball, the back shows it mirrored; from the right it is at the same height."""
    found = draw_posed(marker(), np.random.default_rng(2), 4, 48, plain_look())
    assert found.coarse.shape == (3, 48, 48, 4)
    front = red_middle(found.rgb[0])
    right, back, _ = (red_middle(view) for view in found.coarse[..., :3])
    assert np.abs(back - [front[0], 1 - front[1]]).max() < 0.06
    assert abs(right[0] - front[0]) < 0.06
    assert (found.coarse[..., 3] == 255).mean() > 0.02
    assert (found.coarse[..., :3][found.coarse[..., 3] == 0] == 255).all()


def objects(tmp_path, name="views", **changes):
    recipe = Recipe(None, 1.0, 3, views=5, size=S, **changes)
    return tmp_path / name, recipe


def test_shards_keep_views_and_cameras_and_are_drawn_again_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(posed_data, "OBJECTS", 2)
    monkeypatch.setattr(posed_data, "draw_object", lambda rng: normalised(legged(rng), "legged"))
    folder, recipe = objects(tmp_path)
    make_posed(folder, recipe, 1)
    other, _ = objects(tmp_path, "again")
    make_posed(other, recipe, 1)
    assert posed_path(folder, 0).read_bytes() == posed_path(other, 0).read_bytes()
    shard = PosedShard(posed_path(folder, 0))
    assert (shard.count, shard.views, shard.coarse, shard.size) == (2, 5, 3, S)
    assert shard.views_of(1, [4, 0]).shape == (2, S, S, 4)
    assert not np.array_equal(shard.views_of(0, [0]), shard.views_of(1, [0]))
    with pytest.raises(BadInput, match="another recipe"):
        make_posed(folder, dataclasses.replace(recipe, size=64), 1)


def test_jpeg_keeps_the_pictures_to_a_few_levels(tmp_path):
    found = draw_posed(marker(), np.random.default_rng(1), 5, 64, plain_look())
    write_posed(posed_path(tmp_path, 0), [found], ["one"])
    shard = PosedShard(posed_path(tmp_path, 0))
    read = shard.views_of(0, range(5)).astype(float)
    error = read - np.concatenate([found.rgb, found.mask[..., None]], -1)
    assert 10 * math.log10(255**2 / (error**2).mean()) > 35
    coarse = shard.coarse_of(0, [1, 2, 3]).astype(float) - found.coarse
    assert 10 * math.log10(255**2 / (coarse**2).mean()) > 35
    assert np.array_equal(shard.world_to_camera[0], found.world_to_camera)


def test_objects_of_mixed_sizes_and_cameras_that_cannot_be_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    small, large = (draw_posed(marker(), rng, 2, size, plain_look()) for size in (16, 24))
    path = posed_path(tmp_path, 0)
    with pytest.raises(BadInput, match="mixed sizes: 2 of 16 x 16, 2 of 24 x 24"):
        write_posed(path, [small, large], ["a", "b"])
    for change, words in (
        (np.diag([1.1, 1.1, 1.1, 1]), "view 1 is not rigid"),
        (np.diag([-1.0, 1, 1, 1]), "mirrored"),
        (np.diag([np.nan, 1, 1, 1]), "not finite"),
    ):
        poses = small.world_to_camera.copy()
        poses[1] = change.astype(np.float32) @ poses[1]
        with pytest.raises(BadInput, match=words):
            write_posed(path, [dataclasses.replace(small, world_to_camera=poses)], ["a"])
    with pytest.raises(BadInput, match="focal"):
        write_posed(path, [dataclasses.replace(small, intrinsics=-small.intrinsics)], ["a"])
    assert not path.exists()


def test_damaged_and_foreign_shards_are_said(tmp_path):
    path = posed_path(tmp_path, 0)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="damaged"):
        PosedShard(path)
    found = draw_posed(marker(), np.random.default_rng(1), 2, 16, plain_look())
    write_posed(path, [found], ["one"])
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xd8\xff")
    data[at : at + 3] = b"xyz"
    path.write_bytes(data)
    with pytest.raises(BadInput, match="picture of one is not 16 x 16"):
        PosedShard(path).views_of(0, [0, 1])


# -- published layouts ------------------------------------------------------------------------------------------------


def z_up(world_to_camera):
    """Poses of our world, as a world with z up and objects of side 1 has them."""
    poses = np.asarray(world_to_camera, np.float64) @ Z_UP_TO_Y_UP
    poses[:, :3, 3] /= 1.9
    return poses


def render(count, size):
    found = draw_posed(marker(), np.random.default_rng(1), count, size, plain_look())
    alpha = found.mask.astype(float)[..., None] / 255
    own = np.where(alpha > 0, (found.rgb / 255.0 - 1 + alpha) / np.maximum(alpha, 1e-3), 0).clip(0, 1)
    return found, (np.concatenate([own[..., ::-1], alpha], -1) * 255).round().astype(np.uint8)


def write_mix(folder, *, shared=False, count=12, opencv=False):
    """BAAI/Objaverse-MIX after unpacking: 000-000/<uid>/000.png ..."""
    fov = math.degrees(2 * math.atan(16 / 35))
    cameras = orbit_cameras(np.linspace(0, 330, count).tolist(), [20.0] * count, 2 * 1.9, fov)
    place = folder / "000-000" / "0a0c6d3b"
    place.mkdir(parents=True)
    _, pictures = render(count, 48)
    poses = z_up(cameras.world_to_camera.numpy())
    if opencv:
        poses = np.diag([1.0, -1, -1, 1]) @ poses
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(place / f"{number:03}.png"), picture)
        if not shared:
            np.save(place / f"{number:03}.npy", poses[number, :3])
    if shared:
        np.save(folder / "poses.npy", poses[:, :3])
    return cameras, pictures


@pytest.mark.parametrize("kind", [{}, {"shared": True}, {"opencv": True}])
def test_objaverse_mix_is_read_with_its_poses(tmp_path, kind):
    cameras, pictures = write_mix(tmp_path, **kind)
    (source,) = find_published(tmp_path, "objaverse-mix", "train")
    assert source.name == "000-000/0a0c6d3b"
    found = read_published(source, 12, 24, 0)
    assert np.abs(found.world_to_camera - cameras.world_to_camera.numpy()).max() < 1e-5
    assert np.abs(found.intrinsics - intrinsics_of(cameras)).max() < 1e-6
    distance = np.linalg.inv(found.world_to_camera)[:, :3, 3]
    assert np.allclose(np.linalg.norm(distance, axis=1), 3.8, atol=1e-4)
    alpha = cv2.resize(pictures[3][..., 3], (24, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(found.mask[3].astype(int) - alpha).max() <= 1
    assert found.rgb[found.mask == 0].min() >= 254


def write_gobjaverse(folder, size=48):
    found, pictures = render(5, size)
    to_world = np.linalg.inv(z_up(found.world_to_camera))
    for number, (picture, pose, (fx, fy, _, _)) in enumerate(zip(pictures, to_world, found.intrinsics, strict=True)):
        place = folder / "0" / "10010" / "campos_512_v4" / f"{number:05}"
        place.mkdir(parents=True)
        cv2.imwrite(str(place / f"{number:05}.png"), picture)
        (place / f"{number:05}_albedo.png").write_bytes(b"not looked at")
        record = {  # OpenCV's axes
            "x": pose[:3, 0].tolist(), "y": (-pose[:3, 1]).tolist(), "z": (-pose[:3, 2]).tolist(),
            "origin": pose[:3, 3].tolist(),
            "x_fov": 2 * math.atan(0.5 / fx), "y_fov": 2 * math.atan(0.5 / fy),
        }  # fmt: skip
        (place / f"{number:05}.json").write_text(json.dumps(record), encoding="utf-8")
    return found


def test_gobjaverse_is_read_with_its_cameras(tmp_path):
    truth = write_gobjaverse(tmp_path)
    (source,) = find_published(tmp_path, "gobjaverse", "train")
    assert source.name == "0/10010"
    found = read_published(source, 5, 48, 0)
    assert np.abs(found.world_to_camera - truth.world_to_camera).max() < 1e-4
    assert np.abs(found.intrinsics - truth.intrinsics).max() < 1e-5
    assert np.abs(found.rgb.astype(int) - truth.rgb).max() <= 3
    folder = tmp_path / "shards"
    notes = make_posed(folder, Recipe(tmp_path / "0", views=4, size=24, layout="gobjaverse"), None)
    assert notes == []
    shard = PosedShard(posed_path(folder, 0))
    assert (shard.count, shard.views, shard.coarse, shard.names) == (1, 4, 0, ("10010",))


def test_bad_published_views_are_said(tmp_path):
    with pytest.raises(Missing, match="no such folder"):
        find_published(tmp_path / "nowhere", "gobjaverse", "train")
    with pytest.raises(BadInput, match="no layout"):
        find_published(tmp_path, "shapenet", "train")
    with pytest.raises(BadInput, match="no family fish"):
        find_published(tmp_path, "gobjaverse", "fish")
    with pytest.raises(Missing, match="no object of gobjaverse"):
        find_published(tmp_path, "gobjaverse", "train")
    write_mix(tmp_path, count=4)
    (source,) = find_published(tmp_path, "objaverse-mix", "train")
    place = tmp_path / source.name

    def fails(words, count=4):
        with pytest.raises(BadInput, match=words):
            read_published(source, count, 16, 0)

    fails("4 views, 5 are asked", 5)
    pose = np.load(place / "001.npy")
    for changed, words in (
        (1.2 * pose, "not rigid"),
        (pose[:2], "shape"),
        (np.diag([1.0, -1, -1]) @ pose, "do not all look at the origin"),
    ):
        np.save(place / "001.npy", changed)
        fails(words)
    np.save(place / "001.npy", np.array([{}]), allow_pickle=True)
    fails("can't be read")
    (place / "001.npy").unlink()
    fails("no pose")
    np.save(place / "001.npy", pose)
    cv2.imwrite(str(place / "002.png"), np.zeros((20, 20, 4), np.uint8))
    fails("mixed sizes")
    (place / "002.png").write_bytes(b"no picture")
    fails("damaged")
    with pytest.raises(BadInput, match="damaged"):
        make_posed(tmp_path / "shards", Recipe(tmp_path / "000-000", views=4, size=16, layout="objaverse-mix"), None)


def test_about_one_published_object_in_fifty_is_held_out_wherever_it_lies():
    names = [f"000-000/{number:08x}" for number in range(3000)]
    held = [name for name in names if is_held_out(name)]
    assert 30 <= len(held) <= 90
    assert all(is_held_out(name.replace("000-000", "elsewhere")) for name in held)
