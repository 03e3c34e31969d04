"""Posed views on disk: files of a few objects each, their pictures as JPEG, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.folders import entries
from kiss3d_cli.core.records import Fields, parse_json
from kiss3d_cli.training.posed import PosedViews, check_cameras

FORMAT = "kiss3d-posed-1"
DESCRIBED = "posed"
"""The one entry of the metadata: several would be written in any order."""
QUALITY = 95
"""Of the JPEGs, without chroma subsampling: about 1/10 of the bytes, and errors near 1/255."""
REMAKE = "make them again: kiss3d train data --views 12"


def posed_path(folder: Path, number: int) -> Path:
    return folder / f"posed-{number:05}.safetensors"


def find_posed(folder: Path) -> list[Path]:
    """All shards of posed views in a folder, in order.

    Raises:
        Missing: there are none.
    """
    found = entries(folder, "posed-*.safetensors")
    if not found:
        raise Missing("there are no posed views", place=str(folder), hint="make some: kiss3d train data --views 12")
    return found


def write_posed(path: Path, objects: Sequence[PosedViews], names: Sequence[str]) -> None:
    """Writes objects beside the path first, then renames: a kill or a full disk leaves no half shard.

    Args:
        objects: of one number of views and one size.
        names: of each, for tables.

    Raises:
        BadInput: they are mixed in size or number, or have cameras that can't be.
    """
    shapes = {(found.rgb.shape, found.mask.shape, found.coarse.shape) for found in objects}
    if len(shapes) != 1:
        sizes = sorted({f"{len(found.rgb)} of {found.rgb.shape[1]} x {found.rgb.shape[2]}" for found in objects})
        raise BadInput(f"objects of mixed sizes: {', '.join(sizes)} pixels", place=str(path))
    for found, name in zip(objects, names, strict=True):
        check_cameras(found.world_to_camera, found.intrinsics, name)
    packed = [[_packed(picture) for picture in _pictures(found)] for found in objects]
    blob = b"".join(b"".join(row) for row in packed)
    ends = np.cumsum([len(one) for row in packed for one in row]).reshape(len(objects), -1)
    arrays = {
        "jpegs": np.frombuffer(blob, np.uint8),
        "ends": ends.astype(np.int64),
        "world_to_camera": np.stack([found.world_to_camera for found in objects]).astype(np.float32),
        "intrinsics": np.stack([found.intrinsics for found in objects]).astype(np.float32),
    }
    described = {"format": FORMAT, "size": objects[0].rgb.shape[1], "names": list(names)}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(save(arrays, metadata={DESCRIBED: json.dumps(described)}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _pictures(found: PosedViews) -> list[np.ndarray]:
    return [*found.rgb, *found.mask, *found.coarse[..., :3], *found.coarse[..., 3]]


def _packed(picture: np.ndarray) -> bytes:
    pixels = picture[..., ::-1] if picture.ndim == 3 else picture
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), options)
    assert done
    return bytes(data)


class PosedShard:
    """One file of posed views, read where it is asked.

    Attributes:
        count, views, coarse: objects; views of each; coarse views of each, those after the first.
        size: pixels a side.
        names: of the objects.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadInput: the file is damaged, of another format, or its cameras can't be."""
        self.path = path
        try:
            opened: Any = safe_open(path, framework="np")
            described = Fields(parse_json((opened.metadata() or {}).get(DESCRIBED, "{}")))
            found = described.text("format")
            if found != FORMAT:
                cause = f"these views are of the format {found}, not {FORMAT}"
                raise BadInput(cause, place=str(path), hint=REMAKE)
            self.size = described.whole("size", 1)
            self.names = described.texts("names")
            self.world_to_camera = opened.get_tensor("world_to_camera")
            self.intrinsics = opened.get_tensor("intrinsics")
            self._ends = opened.get_tensor("ends")
            self._jpegs = opened.get_slice("jpegs")
            length = self._jpegs.get_shape()[0]
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}") from error
        self.count, self.views = self.world_to_camera.shape[:2]
        pictures = self._ends.shape[-1]
        self.coarse = (pictures - 2 * self.views) // 2
        whole = (
            self.world_to_camera.shape == (self.count, self.views, 4, 4)
            and self.intrinsics.shape == (self.count, self.views, 4)
            and self._ends.shape == (self.count, 2 * self.views + 2 * self.coarse)
            and 0 <= self.coarse < max(1, self.views)
            and len(self.names) == self.count
            and bool((np.diff(self._ends.ravel(), prepend=0) > 0).all())
            and int(self._ends.ravel()[-1]) == length
            and 1 <= self.size <= 4096
        )
        if not whole:
            raise self._damaged("its parts do not fit together")
        check_cameras(self.world_to_camera, self.intrinsics, str(path))

    def _damaged(self, why: str) -> BadInput:
        hint = "remove the file and run kiss3d train data again"
        return BadInput(f"the posed views are damaged: {why}", place=str(self.path), hint=hint)

    def views_of(self, number: int, which: Sequence[int]) -> UInt8[np.ndarray, "V S S 4"]:
        """Colours on white and masks of some of an object's views."""
        return self._read(number, [(view, self.views + view) for view in which])

    def coarse_of(self, number: int, which: Sequence[int]) -> UInt8[np.ndarray, "V S S 4"]:
        """Colours on white and masks of what was guessed of views 1 to `coarse`."""
        first = 2 * self.views
        return self._read(number, [(first + view - 1, first + self.coarse + view - 1) for view in which])

    def _read(self, number: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        found = np.empty((len(pairs), self.size, self.size, 4), np.uint8)
        for row, (color, mask) in zip(found, pairs, strict=True):
            row[..., :3] = self._picture(number, color, cv2.IMREAD_COLOR)[..., ::-1]
            row[..., 3] = self._picture(number, mask, cv2.IMREAD_GRAYSCALE)
        return found

    def _picture(self, number: int, which: int, kind: int) -> np.ndarray:
        place = number * self._ends.shape[1] + which
        start = int(self._ends.flat[place - 1]) if place else 0
        found = cv2.imdecode(self._jpegs[start : int(self._ends.flat[place])], kind)
        if found is None or found.shape[:2] != (self.size, self.size):
            raise self._damaged(f"a picture of {self.names[number]} is not {self.size} x {self.size} pixels")
        return found
