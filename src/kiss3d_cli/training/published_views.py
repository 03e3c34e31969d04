"""Rendered views as other data sets publish them, brought to our frame and size.

    objaverse-mix   <object>/000.png ... 011.png (BAAI/Objaverse-MIX, after `7z x`; also what Objaverse-XL's
                    scripts render), poses in 000.npy beside each picture, or, as they are the same for all
                    objects of Objaverse-MIX (a sphere of radius 2), once in poses.npy
    gobjaverse      <dictionary>/<instance>/campos_512_v4/00000/00000.png and 00000.json (G-Objaverse, RichDreamer)

Both have z up and objects in a box of side 1 about the origin.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.folders import entries
from kiss3d_cli.core.records import BadRecord, read_json
from kiss3d_cli.training.posed import LARGEST_SIDE, PosedViews, as_opengl, check_cameras

LENS_FOV = math.degrees(2 * math.atan(16 / 35))
"""Degrees: a lens of 35 mm before a sensor of 32 mm, as Objaverse's rendering scripts set Blender's camera."""
GOBJAVERSE_FOCAL = 1422.222 / 1024
"""In shares of the picture's side, where a file does not say its field of view."""
HELD_OUT_ONE_IN = 50
"""Objects; which, a hash of their names says, as they have no families."""
LARGEST_PICTURE = 64 * 2**20
"""Bytes of a file; more is no view of 512 x 512 pixels."""
Z_UP_TO_Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From Blender's world (z up, front -y) to ours (y up, front +z)."""


@dataclass(frozen=True)
class Source:
    """An object of a published set: its views' pictures, and where each view's pose is.

    Attributes:
        name: of the object.
        pictures: of its views.
        poses: the file of each view's pose, or one for all.
    """

    name: str
    pictures: tuple[Path, ...]
    poses: tuple[Path, ...]


Layout = Callable[[Path], Iterator[Source]]


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    for place, inner, files in os.walk(folder):
        inner.sort()
        yield Path(place), files


def _objaverse_mix(folder: Path) -> Iterator[Source]:
    shared = folder / "poses.npy"
    for place, files in _folders(folder):
        pictures = tuple(sorted(place / name for name in files if name.endswith(".png") and name[:-4].isdigit()))
        if pictures:
            own = tuple(picture.with_suffix(".npy") for picture in pictures)
            poses = (shared,) if shared.is_file() and not any(path.is_file() for path in own) else own
            yield Source(place.relative_to(folder).as_posix(), pictures, poses)


def _gobjaverse(folder: Path) -> Iterator[Source]:
    for place, _ in _folders(folder):
        if place.name == "campos_512_v4":
            pictures = tuple(view / f"{view.name}.png" for view in entries(place) if view.name.isdigit())
            name = place.parent.relative_to(folder).as_posix()
            yield Source(name, pictures, tuple(path.with_suffix(".json") for path in pictures))


LAYOUTS: Mapping[str, Layout] = {"objaverse-mix": _objaverse_mix, "gobjaverse": _gobjaverse}


def find_published(folder: Path, layout: str, split: str) -> list[Source]:
    """The objects of a split, "train" or "held-out", by name.

    Raises:
        BadInput: no such layout or split. Missing: no folder, or no object of this layout in it.
    """
    if layout not in LAYOUTS:
        raise BadInput(f"there is no layout {layout}", place="--layout", hint=f"choose of: {', '.join(LAYOUTS)}")
    if split not in ("train", "held-out"):
        raise BadInput(f"a published set has no family {split}", place="--split", hint="use train or held-out")
    if not folder.is_dir():
        raise Missing("there is no such folder of objects", place=str(folder), hint="give --objects an existing folder")
    found = sorted(LAYOUTS[layout](folder), key=lambda source: source.name)
    chosen = [source for source in found if is_held_out(source.name) == (split == "held-out")]
    if not chosen:
        why = f"none of its {len(found)} objects is in the split {split}" if found else f"it has no object of {layout}"
        raise Missing(why, place=str(folder), hint="docs/lvsm.md shows the layouts that are read")
    return chosen


def is_held_out(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.rpartition("/")[2].encode()).digest()[:4]) % HELD_OUT_ONE_IN == 0


def read_published(source: Source, count: int, size: int, seed: int) -> PosedViews:
    """An object's views, reduced to one size and put on white.

    Args:
        count: views to take; which, the seed and the object's name decide.
        size: pixels a side.
        seed: of the choice.

    Raises:
        BadInput: too few views, a view without a pose, a pose that is not rigid, pictures of mixed sizes or damaged.
    """
    if len(source.pictures) < count:
        raise BadInput(f"it has {len(source.pictures)} views, {count} are asked for", place=source.name)
    digest = hashlib.sha256(f"{seed}/{source.name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8]))
    which = sorted(rng.permutation(len(source.pictures))[:count].tolist())
    poses, intrinsics = _cameras(source, which)
    check_cameras(poses, intrinsics, source.name)
    poses = as_opengl(poses, source.name) @ np.linalg.inv(Z_UP_TO_Y_UP)
    poses[:, :3, 3] *= 2 * LARGEST_SIDE
    read = [_picture(source.pictures[number]) for number in which]
    shapes = {picture.shape[:2] for picture in read}
    if len(shapes) > 1 or any(height != width for height, width in shapes):
        sizes = ", ".join(sorted(f"{width} x {height}" for height, width in shapes))
        raise BadInput(f"its views are {sizes} pixels: not square, or of mixed sizes", place=source.name)
    small = np.stack([_reduced(picture, size) for picture in read])
    if float(small[..., 3].mean()) < 1:
        raise BadInput("its views show nothing", place=source.name)
    return PosedViews(
        np.ascontiguousarray(small[..., :3]),
        np.ascontiguousarray(small[..., 3]),
        poses.astype(np.float32),
        intrinsics.astype(np.float32),
        np.zeros((0, size, size, 4), np.uint8),
    )


def _cameras(source: Source, which: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera poses in the set's own world, and intrinsics."""
    if source.poses and source.poses[0].suffix == ".json":
        rows = [_from_json(source.poses[number]) for number in which]
        return np.stack([pose for pose, _ in rows]), np.stack([row for _, row in rows])
    if len(source.poses) == 1 < len(source.pictures):
        shared = _array(source.poses[0])
        if shared.ndim != 3 or len(shared) < len(source.pictures):
            cause = f"it has poses of shape {shared.shape}, and {source.name} has {len(source.pictures)} views"
            raise BadInput(cause, place=str(source.poses[0]), hint="save an array of shape (views, 3, 4)")
        found = [_square(shared[number], source.poses[0]) for number in which]
    else:
        found = [_square(_array(source.poses[number]), source.poses[number]) for number in which]
    focal = 0.5 / math.tan(math.radians(LENS_FOV) / 2)
    return np.stack(found), np.tile([focal, focal, 0.5, 0.5], (len(which), 1))


def _array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float64)
    except FileNotFoundError:
        hint = "put NNN.npy (3 x 4, world to camera) beside NNN.png, or one poses.npy (views x 3 x 4) into the folder"
        raise BadInput("a view has no pose", place=str(path), hint=hint) from None
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"the pose can't be read: {error}", place=str(path)) from error


def _square(pose: np.ndarray, path: Path) -> Float[np.ndarray, "4 4"]:
    if pose.shape not in ((3, 4), (4, 4)):
        raise BadInput(f"a pose of shape {pose.shape}, not 3 x 4", place=str(path))
    return np.concatenate([pose[:3], [[0.0, 0, 0, 1]]]) if len(pose) == 3 else pose


def _from_json(path: Path) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, " 4"]]:
    """The camera's axes and place in the world, as G-Objaverse writes them."""
    if not path.is_file():
        raise BadInput("a view has no pose", place=str(path), hint="G-Objaverse has NNNNN.json beside NNNNN.png")
    try:
        record = read_json(path)
        to_world = np.eye(4)
        for column, key in enumerate(("x", "y", "z", "origin")):
            to_world[:3, column] = np.asarray(record[key], np.float64)
        focal = [
            0.5 / math.tan(float(record[key]) / 2) if key in record else GOBJAVERSE_FOCAL for key in ("x_fov", "y_fov")
        ]
    except (BadRecord, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        cause = f"the pose can't be read: {type(error).__name__}: {error}"
        raise BadInput(cause, place=str(path)) from error
    check_cameras(to_world[None], np.array([[*focal, 0.5, 0.5]]), str(path))
    return np.linalg.inv(to_world), np.array([*focal, 0.5, 0.5])


def _picture(path: Path) -> UInt8[np.ndarray, "H W 4"]:
    """RGB on white, and alpha."""
    try:
        if path.stat().st_size > LARGEST_PICTURE:
            raise BadInput("the view is larger than any of its kind", place=str(path))
        pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except FileNotFoundError:
        raise BadInput("a view is missing", place=str(path)) from None
    except cv2.error:
        pixels = None
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise BadInput("the view is damaged, or has no alpha channel", place=str(path))
    values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    alpha = values[..., 3:]
    white = values[..., 2::-1] * alpha + 1 - alpha
    return (np.concatenate([white, alpha], -1) * 255).round().astype(np.uint8)


def _reduced(picture: UInt8[np.ndarray, "H W 4"], size: int) -> UInt8[np.ndarray, "S S 4"]:
    filtered = cv2.INTER_AREA if len(picture) >= size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (size, size), interpolation=filtered))
