"""IS-Net: the salient object of a picture (Qin et al. 2022, arXiv 2203.03041), as rembg publishes it for onnxruntime.

onnxruntime is used directly: rembg adds a resize on either side, and would fetch the weights past `models.store`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.isnet.published import FILE
from kiss3d_cli.models.store.headers import look
from kiss3d_cli.models.store.onnx import read_signature
from kiss3d_cli.models.store.preflight import Findings

SIDE = 1024
"""Side of the network's square input; a picture is stretched to it."""
LEAST = 0.1
"""Probability that some pixel must reach for there to be an object at all."""
HINT = "get the file again: kiss3d models pull isnet"


class IsNet:
    """The network, loaded once for any number of pictures; it runs on the CPU."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: where `FILE` is. Raises Missing: no onnxruntime, or weights that are not there or damaged."""
        try:
            import onnxruntime
        except ImportError:
            hint = "pip install 'kiss3d[matting]', or use --set preprocess.method=grabcut"
            raise Missing("onnxruntime is not installed", place="preprocess.method=rembg", hint=hint) from None
        self._path = folder / FILE
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        with self._readable():
            self._session: Any = onnxruntime.InferenceSession(
                str(self._path), options, providers=["CPUExecutionProvider"]
            )
            (self._entry,) = self._session.get_inputs()

    def __call__(self, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
        """Alpha of the salient object of an sRGB picture, 255 on it; 0 everywhere if the network sees none.

        Raises:
            Missing: the weights are those of another model.
        """
        with self._readable():
            probability = self._session.run(None, {self._entry.name: _normalised(rgb)})[0]
        return _alpha(probability, rgb.shape[1], rgb.shape[0])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # onnxruntime's errors have no class in common but this
            text = " ".join(str(error).split())[:200]
            raise Missing(f"the model can't be read: {text}", place=str(self._path), hint=HINT) from error


def check_files(folders: Mapping[str, Path], findings: Findings) -> None:
    """For `store.preflight`: that the file is whole, and a network from three channels of SIDE x SIDE to one."""
    path = folders["isnet"] / FILE
    findings.attempt(path, lambda: _check_onnx(path))


def _check_onnx(path: Path) -> None:
    look(path)
    signature = read_signature(path)
    taken, given = (1, 3, SIDE, SIDE), (1, 1, SIDE, SIDE)
    if len(signature.inputs) != 1 or not _agree(signature.inputs, taken) or not _agree(signature.outputs, given):
        raise Missing(
            f"it is another network: it makes {_sizes(signature.outputs)} of {_sizes(signature.inputs)}, "
            f"not {_sizes([given])} of {_sizes([taken])}",
            place=str(path),
            hint=HINT,
        )


def _agree(shapes: Sequence[tuple[int, ...]], wanted: tuple[int, ...]) -> bool:
    """Whether the first shape is the wanted one, as far as it is said; 0 is a side of any length."""
    first = shapes[0] if shapes else None
    return first == () or (
        first is not None and len(first) == len(wanted) and all(a in (0, b) for a, b in zip(first, wanted, strict=True))
    )


def _sizes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(" x ".join(str(side) if side else "any" for side in shape) for shape in shapes) or "nothing"


def _normalised(rgb: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "1 3 S S"]:
    stretched = Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    values = np.asarray(stretched, np.float32)
    unit = values / max(float(values.max()), 1e-6) - 0.5
    return np.ascontiguousarray(unit.transpose(2, 0, 1)[None])


def _alpha(probability: Float32[np.ndarray, "1 1 S S"], width: int, height: int) -> UInt8[np.ndarray, "H W"]:
    """Stretched to the full range, as rembg does; but not where that would stretch noise."""
    plane = probability[0, 0]
    low, high = float(plane.min()), float(plane.max())
    if not high >= LEAST or high == low:
        return np.zeros((height, width), np.uint8)
    levels = ((plane - low) / (high - low) * 255).astype(np.uint8)
    return np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.LANCZOS))
