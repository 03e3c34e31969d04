"""The framed picture, the network and the sheets put together."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.inflate.plain import plain_heights
from kiss3d_cli.geometry.inflate.two_sheets import TRUST, SheetColors, two_sheets
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.models.prior.inference import predict
from kiss3d_cli.models.prior.network import SIZE, TILT, Prior


@dataclass(frozen=True)
class Shape:
    """A coloured surface, and the prior's mean confidence over the silhouette."""

    mesh: Mesh
    confidence: float


def shape_of(network: Prior, rgba: UInt8[np.ndarray, "S S 4"], camera: Cameras) -> Shape:
    """What the prior makes of a framed picture.

    Args:
        network: the prior.
        rgba: framed as by the preprocess stage, colour not multiplied by alpha.
        camera: the one that saw the picture.

    Raises:
        BadInput: the silhouette is empty.
    """
    image = rgba.astype(np.float64) / 255
    alpha = image[..., 3]
    # as in training: the object's own colours, white where it is not
    reduced = cv2.resize(alpha, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    covered = cv2.resize(image[..., :3] * alpha[..., None], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    there = reduced[..., None] > 1 / 512
    colors = np.where(there, covered / np.where(there, reduced[..., None], 1), 1.0)
    small = torch.from_numpy(np.concatenate([colors, reduced[..., None]], -1)).float().permute(2, 0, 1)
    said = predict(network, small, torch.from_numpy(plain_heights(reduced, SIZE)).float())
    mesh = two_sheets(
        torch.from_numpy(alpha).float(),
        said.residual,
        TRUST * said.confidence,
        torch.from_numpy(image[..., :3]).float(),
        SheetColors(_picture(said.back), _picture(said.left), _picture(said.right)),
        tilt=TILT,
        camera=camera,
    )
    inside = small[3] > 0.5
    return Shape(mesh, float(said.confidence[inside].mean()) if bool(inside.any()) else 0.0)


def _picture(planes: Float[Tensor, "3 S S"]) -> Float[np.ndarray, "S S 3"]:
    return planes.permute(1, 2, 0).double().numpy()
