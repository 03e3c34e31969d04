"""Two meshes compared by their pictures: PSNR, SSIM, silhouette and normals from eight sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from kiss3d_cli.geometry.cameras import BUNDLE_ELEVATION, BUNDLE_RADIUS, Cameras, orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_normals

AZIMUTHS = (0.0, 90.0, 180.0, 270.0, 45.0, 135.0, 225.0, 315.0)
"""Degrees: the four bundle views, then the four in between."""
SIZE = 512
_SSIM_SIGMA, _SSIM_K1, _SSIM_K2 = 1.5, 0.01, 0.03


@dataclass(frozen=True)
class RenderedView:
    """One view of both meshes.

    Attributes:
        azimuth: degrees.
        mask_iou: intersection over union of the two silhouettes.
        normal_error: mean angle between the two normals in degrees, where both meshes are seen; None if nowhere.
        psnr: peak signal-to-noise ratio in dB of the whole pictures on white; None without colours, or if equal.
        ssim: structural similarity of the whole pictures, mean over the channels; None without colours.
    """

    azimuth: float
    mask_iou: float
    normal_error: float | None
    psnr: float | None
    ssim: float | None


@dataclass(frozen=True)
class RenderedMetrics:
    """The means over the views, and each view.

    Attributes:
        mask_iou, normal_error, psnr, ssim: means of the views that have the value; None if none has.
        reason: why psnr and ssim are None, else None.
        size: pixels, each way.
        views: in the order of `AZIMUTHS`.
    """

    mask_iou: float
    normal_error: float | None
    psnr: float | None
    ssim: float | None
    reason: str | None
    size: int
    views: tuple[RenderedView, ...]


def compare_renderings(prediction: Mesh, truth: Mesh, size: int = SIZE) -> RenderedMetrics:
    """Render both from eight sides and compare.

    The cameras are the bundle's. The pair is moved and scaled so that the ground truth's box is centred and its
    farthest vertex is at distance 1, which every camera sees whole.

    Args:
        prediction, truth: in one frame; vertices without a face are not looked at.
        size: pixels, each way.
    """
    used = truth.vertices[truth.faces].reshape(-1, 3)
    center = (used.amin(0) + used.amax(0)) / 2
    scale = 1 / (used - center).norm(dim=-1).max()
    pair = [_placed(mesh, center, scale) for mesh in (prediction, truth)]
    colored = [mesh.colors is not None for mesh in pair]
    views = tuple(_compare_view(pair, azimuth, size, all(colored)) for azimuth in AZIMUTHS)
    reason = None
    if not all(colored):
        without = [name for name, has in zip(("prediction", "ground truth"), colored, strict=True) if not has]
        reason = f"the {' and the '.join(without)} {'have' if len(without) > 1 else 'has'} no vertex colours"
    elif all(view.psnr is None for view in views):
        reason = "the pictures are equal"
    return RenderedMetrics(
        mask_iou=float(np.mean([view.mask_iou for view in views])),
        normal_error=_mean([view.normal_error for view in views]),
        psnr=_mean([view.psnr for view in views]),
        ssim=_mean([view.ssim for view in views]),
        reason=reason,
        size=size,
        views=views,
    )


def _placed(mesh: Mesh, center: Float[Tensor, " 3"], scale: Float[Tensor, ""]) -> Mesh:
    vertices = torch.nan_to_num((mesh.vertices - center) * scale).float()
    return Mesh(vertices, mesh.faces, None if mesh.colors is None else mesh.colors.float())


def _compare_view(pair: list[Mesh], azimuth: float, size: int, colored: bool) -> RenderedView:
    """One view at a time keeps millions of faces in memory once."""
    camera: Cameras = orbit_cameras([azimuth], BUNDLE_ELEVATION, BUNDLE_RADIUS)
    normals = [render_normals(mesh, camera, (size, size)) for mesh in pair]
    masks = [rendered.mask[0] > 0 for rendered in normals]
    union = int((masks[0] | masks[1]).sum())
    both = masks[0] & masks[1]
    first, second = (rendered.normals[0][both].double() for rendered in normals)
    # by sine and cosine: the arc cosine alone turns single precision into hundredths of a degree
    angle = torch.atan2(torch.linalg.cross(first, second, dim=-1).norm(dim=-1), (first * second).sum(-1))
    psnr = ssim = None
    if colored:
        images = [render_colors(mesh, camera, (size, size)).colors[0].double().numpy() for mesh in pair]
        psnr, ssim = peak_signal_to_noise(*images), structural_similarity(*images)
    return RenderedView(
        azimuth=azimuth,
        mask_iou=int(both.sum()) / union if union else 1.0,
        normal_error=float(torch.rad2deg(angle).mean()) if len(angle) else None,
        psnr=psnr,
        ssim=ssim,
    )


def peak_signal_to_noise(a: Float[np.ndarray, "H W C"], b: Float[np.ndarray, "H W C"]) -> float | None:
    """PSNR in dB of two pictures in [0, 1]; None if they are equal."""
    error = float(np.mean((a - b) ** 2))
    return -10 * float(np.log10(error)) if error > 0 else None


def structural_similarity(a: Float[np.ndarray, "H W C"], b: Float[np.ndarray, "H W C"]) -> float:
    """SSIM of two pictures in [0, 1] (Wang et al. 2004: Gaussian window of sigma 1.5 and 11 pixels), channels' mean."""
    total = []
    for channel in range(a.shape[-1]):
        x, y = a[..., channel], b[..., channel]
        mean_x, mean_y = _blur(x), _blur(y)
        variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
        covariance = _blur(x * y) - mean_x * mean_y
        c1, c2 = _SSIM_K1**2, _SSIM_K2**2
        above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
        total.append(float((above / below)[5:-5, 5:-5].mean()))
    return float(np.mean(total))


def _blur(image: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    return np.asarray(gaussian_filter(image, _SSIM_SIGMA, truncate=5 / _SSIM_SIGMA))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
