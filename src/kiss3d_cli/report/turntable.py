"""A film of one turn around a run's mesh."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.files import replacing
from kiss3d_cli.core.shell import typed
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.render import render_colors, render_normals, render_texture
from kiss3d_cli.image.views import to_bytes
from kiss3d_cli.report.run_view import RunView
from kiss3d_cli.report.shape import Shape, read_shape

FRAMES = 72
FRAMES_PER_SECOND = 24
SIZE = 512
ELEVATION = 10.0
"""Degrees above the object."""
FORMATS = ("mp4", "gif")
_INSTALL = "pip install 'kiss3d[turntable]'"


def best_format() -> str:
    """`mp4` where it can be written, else `gif`.

    Raises:
        Missing: imageio is not installed.
    """
    _check("imageio", "a turntable needs imageio, which is not installed")
    return "mp4" if importlib.util.find_spec("imageio_ffmpeg") is not None else "gif"


def write_turntable(
    run: RunView,
    kind: str,
    device: torch.device,
    frames: int = FRAMES,
    size: int = SIZE,
    progress: Callable[[float], None] = lambda _share: None,
) -> Path:
    """Write turntable.mp4 or turntable.gif into the run folder, as a whole; the mesh starts from the front.

    Args:
        kind: one of `FORMATS`.
        device: where it is rendered.
        frames: of one turn.
        size: pixels, each way; a multiple of 16 suits every codec.
        progress: told the share that is done.

    Raises:
        BadInput: the run has no mesh, or it can't be read.
        Missing: imageio, or for MP4 imageio-ffmpeg, is not installed.
    """
    assert kind in FORMATS
    _check("imageio", "a turntable needs imageio, which is not installed")
    if kind == "mp4":
        _check("imageio_ffmpeg", "an MP4 needs imageio-ffmpeg, which is not installed")
    import imageio.v2 as imageio

    shape = read_shape(run)
    if shape is None:
        place = str(run.folder.path)
        raise BadInput("this run has no mesh yet", place=place, hint=typed("kiss3d", "resume", place))
    path = run.folder.path / f"turntable.{kind}"
    options: dict[str, Any] = (
        {"fps": FRAMES_PER_SECOND, "codec": "libx264", "pixelformat": "yuv420p", "macro_block_size": 16}
        if kind == "mp4"
        else {"duration": 1000 / FRAMES_PER_SECOND, "loop": 0}
    )
    with replacing(path) as partial:
        writer: Any = imageio.get_writer(partial, **options)
        with writer:
            for number, frame in enumerate(turn(shape, frames, size, device, run.record.config["camera.radius"]), 1):
                writer.append_data(frame)
                progress(number / frames)
    return path


def turn(
    shape: Shape, frames: int, size: int, device: torch.device, radius: float
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The pictures of one turn to the viewer's left, on white."""
    mesh = shape.mesh.to(device)
    for frame in range(frames):
        camera = orbit_cameras([360 * frame / frames], ELEVATION, radius).to(device)
        if shape.texture is not None:
            image = render_texture(mesh, shape.texture, camera, (size, size)).colors
        elif mesh.colors is not None:
            image = render_colors(mesh, camera, (size, size)).colors
        else:
            rendered = render_normals(mesh, camera, (size, size))
            image = 1 - rendered.mask[..., None] * (1 - (rendered.normals + 1) / 2)
        yield to_bytes(image[0])


def _check(module: str, cause: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise Missing(cause, place="--turntable", hint=_INSTALL)
