"""Segmentation without a neural network: saliency, then GrabCut, then a soft edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from kiss3d_cli.core.errors import BadInput

WORK_SIDE = 512
"""Longer side, in pixels, at which the segmentation works."""
SALIENCY_SIDE = 96
EDGE_SIDE = 2048
"""Longer side, in pixels, at which the edge is drawn: twice what any later stage can use."""
MIN_SHARE, MAX_SHARE = 0.002, 0.95
"""Shares of the picture below and above which a cut-out is not believed."""
MAX_PATH_SHARE = 0.9
"""Share of the picture far from the border, by paths, above which there is no background to speak of."""
ITERATIONS = 8
LEAST_PATH = 6.0
"""CIELAB units along a path from the border below which nothing stands out."""
LEAST_CONTRAST = 1.0
"""Spreads of the border's own colours below which nothing stands out."""
LEAST_SALIENCY = 0.2
HINT = "give a picture with a transparent background, or install a neural cut-out: pip install 'kiss3d[matting]'"


@dataclass(frozen=True)
class Matte:
    """A foreground cut out of a picture.

    Attributes:
        alpha: (H, W), 255 on the object, soft along its edge.
        notes: sentences for the user on what is doubtful.
    """

    alpha: UInt8[np.ndarray, "H W"]
    notes: tuple[str, ...] = ()


def cut_out(rgb: UInt8[np.ndarray, "H W 3"], *, seed: int = 0, largest: bool = True) -> Matte:
    """The one salient object of a picture.

    GrabCut (Rother et al. 2004) starts from the border as background and from a saliency map (geodesic distance to
    the border, Wei et al. 2012) as foreground; the largest component is kept. A guided filter (He et al. 2010) lays
    the soft edge along the picture's own edges.

    Args:
        rgb: sRGB picture.
        largest: keep the largest piece alone.
        seed: for the colour clusters of GrabCut; the same seed gives the same bytes on any number of threads.

    Raises:
        BadInput: nothing stands out from the border, or everything does.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    small = cv2.resize(rgb, _scaled(rgb, scale), interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    with _reproducible(seed):
        saliency = border_saliency(small)
        mask = _grab_cut(small, saliency)
        mask = _without_pinholes(_largest_component(mask) if largest else mask)
        _refuse(float(mask.mean()))
        fine = min(1.0, EDGE_SIDE / max(height, width))
        reduced = cv2.resize(rgb, _scaled(rgb, fine), interpolation=cv2.INTER_AREA) if fine < 1 else rgb
        alpha = _soft_edge(reduced, mask)
        if fine < 1:
            alpha = np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR))
    require_foreground(alpha)
    return Matte(alpha, _doubts(saliency, mask))


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """OpenCV's clusters depend on its generator and could on its threads: both fixed, the threads put back after."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cv2.setRNGSeed(seed)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _scaled(picture: np.ndarray, scale: float) -> tuple[int, int]:
    return max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))


def border_saliency(rgb: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W"]:
    """How much each pixel stands out from the picture's border, in [0, 1].

    The product of the cost of the cheapest path from the border (steps cost their difference in CIELAB above the
    texture's own) and of the colour distance to the border's colours, drawn towards the centre a little.

    Raises:
        BadInput: all but a thin frame stands out.
    """
    scale = min(1.0, SALIENCY_SIDE / max(rgb.shape[:2]))
    small = cv2.resize(rgb, _scaled(rgb, scale), interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab = cv2.bilateralFilter(lab, 5, 12, 3)
    rows, columns = lab.shape[:2]
    path = _unit(_geodesic(lab), LEAST_PATH)
    if float((path > 0.5).mean()) > MAX_PATH_SHARE:
        _refuse(1.0)
    # past a modest distance a colour is simply not the background's: white and black parts count alike
    contrast = (_unit(_color_distance(lab), LEAST_CONTRAST) / 0.4).clip(0, 1)
    product = path * (0.1 + 0.9 * contrast)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    off_center = ((x + 0.5) / columns - 0.5) ** 2 + ((y + 0.5) / rows - 0.5) ** 2
    saliency = _unit(product * np.exp(-off_center / (2 * 0.35**2)), LEAST_SALIENCY)
    full = cv2.resize(saliency.astype(np.float32), (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full)


def _geodesic(lab: Float32[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W"]:
    rows, columns = lab.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    pairs = [
        (index[:, :-1], index[:, 1:]),
        (index[:-1], index[1:]),
        (index[:-1, :-1], index[1:, 1:]),
        (index[:-1, 1:], index[1:, :-1]),
    ]
    start = np.concatenate([a.ravel() for a, _ in pairs])
    end = np.concatenate([b.ravel() for _, b in pairs])
    flat = lab.reshape(-1, 3)
    step = np.linalg.norm(flat[start] - flat[end], axis=1)
    # half of the steps of any picture are texture and gradient: they cost next to nothing
    cost = np.maximum(step - np.median(step), 0) + 1e-3
    graph = sparse.csr_matrix((cost, (start, end)), shape=(rows * columns, rows * columns))
    border = np.unique(np.concatenate([index[0], index[-1], index[:, 0], index[:, -1]]))
    distance = dijkstra(graph, directed=False, indices=border, min_only=True)
    return distance.reshape(rows, columns).astype(np.float32)


def _color_distance(lab: Float32[np.ndarray, "H W 3"], clusters: int = 8) -> Float32[np.ndarray, "H W"]:
    """Distance of each pixel's colour to the nearest cluster of the border's colours, within that cluster's spread."""
    band = max(1, min(lab.shape[:2]) // 24)
    frame = np.ones(lab.shape[:2], bool)
    frame[band:-band, band:-band] = False
    border = lab[frame]
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    count = min(clusters, len(border))
    _, labels, centers = cv2.kmeans(border, count, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    nearest = np.full(lab.shape[:2], np.inf, np.float32)
    for cluster in range(count):
        members = border[labels[:, 0] == cluster]
        # a cluster of few pixels may be the object itself, where it touches the border
        if len(members) < 0.02 * len(border):
            continue
        spread = float(np.sqrt(((members - centers[cluster]) ** 2).sum(1).mean()))
        nearest = np.minimum(nearest, np.linalg.norm(lab - centers[cluster], axis=-1) / (spread + 4))
    return np.asarray(np.minimum(nearest, 12))


def _unit(values: Float32[np.ndarray, "H W"], least: float) -> Float32[np.ndarray, "H W"]:
    """Values stretched to [0, 1]; a range below `least` is noise and stays small."""
    low, high = np.percentile(values, [2, 99.5])
    return np.asarray(((values - low) / max(float(high - low), least)).clip(0, 1), np.float32)


def _grab_cut(rgb: UInt8[np.ndarray, "H W 3"], saliency: Float32[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    levels = (saliency * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if levels.max() < 8 or not (levels > threshold).any():
        _refuse(0.0)
    seeds = np.full(levels.shape, cv2.GC_PR_BGD, np.uint8)
    seeds[levels > threshold] = cv2.GC_PR_FGD
    seeds[levels > threshold + (255 - threshold) * 0.6] = cv2.GC_FGD
    frame = max(2, round(0.012 * max(levels.shape)))
    edge = np.ones(levels.shape, bool)
    edge[frame:-frame, frame:-frame] = False
    seeds[edge & (levels <= threshold)] = cv2.GC_BGD
    if not (seeds == cv2.GC_BGD).any():
        _refuse(1.0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    # flat colours make ties, over which the minimum cut takes minutes
    grain = np.random.default_rng(0).integers(-2, 3, rgb.shape)
    bgr = (rgb[..., ::-1].astype(np.int16) + grain).clip(0, 255).astype(np.uint8)
    try:
        cv2.grabCut(bgr, seeds, None, background, foreground, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        # no pixel left to one of the two colour models
        _refuse(float((seeds & 1).mean() > 0.5))
    return np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _largest_component(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The largest 8-connected component."""
    if not mask.any():
        return mask
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _without_pinholes(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    kept = mask.copy()
    gaps, count = ndimage.label(~kept)
    if count > 1:
        areas = np.bincount(gaps.ravel())
        pinhole = areas < max(4, 0.0005 * kept.sum())
        pinhole[0] = False
        kept |= pinhole[gaps]
    return kept


def _soft_edge(rgb: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "H W"]:
    """The mask at full size, its edge drawn along the picture's by a guided filter in a narrow band."""
    height, width = rgb.shape[:2]
    scale = height / mask.shape[0]
    coarse = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    radius = max(2, round(2 * scale))
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(values, size, borderType=cv2.BORDER_REFLECT))

    mean_guide, mean_mask = mean(guide), mean(coarse)
    variance = mean(guide * guide) - mean_guide**2
    slope = (mean(guide * coarse) - mean_guide * mean_mask) / (variance + 1e-3)
    alpha = mean(slope) * guide + mean(mean_mask - slope * mean_guide)
    # outside the band around the edge the mask itself holds
    inside = cv2.erode(coarse, np.ones(size, np.uint8)) > 0.99
    outside = cv2.dilate(coarse, np.ones(size, np.uint8)) < 0.01
    alpha = np.where(inside, 1, np.where(outside, 0, (alpha - 0.15) / 0.7))
    return (alpha.clip(0, 1) * 255).round().astype(np.uint8)


def require_foreground(alpha: UInt8[np.ndarray, "H W"], hint: str = HINT) -> None:
    """Raises BadInput if a cut-out, made in whatever way, holds next to nothing or next to everything."""
    _refuse(float((alpha >= 128).mean()), hint)


def _refuse(share: float, hint: str = HINT) -> None:
    if share < MIN_SHARE:
        raise BadInput("the foreground is empty: nothing stands out from the picture's border", hint=hint)
    if share > MAX_SHARE:
        raise BadInput("the foreground fills the picture: no background was found around it", hint=hint)


def _doubts(saliency: Float32[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"]) -> tuple[str, ...]:
    contrast = float(saliency[mask].mean() - saliency[~mask].mean()) if not mask.all() else 0.0
    if contrast < 0.25:
        return ("The object stands out little from its background; look at mask.png before you trust the result.",)
    return ()
