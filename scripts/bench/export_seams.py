"""Whether the seams of a texture show: colours on the two sides of every seam, at several mipmap levels."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from kiss3d_cli.export.model import Model
from kiss3d_cli.geometry.texture.texture import sampled

LEVELS = (0, 1, 2, 3)
_ALONG = 8


def seams(model: Model) -> dict[int, tuple[float, float]]:
    """Median and 95th percentile of the differences across seams, of 255, by mipmap level."""
    texture = model.texture
    assert texture is not None
    faces, corners = model.mesh.faces.numpy(), texture.corners.numpy()
    start, end = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
    first, second = corners.reshape(-1), np.roll(corners, -1, 1).reshape(-1)
    key = np.minimum(start, end) * len(model.mesh.vertices) + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    pair = np.flatnonzero(key[order][1:] == key[order][:-1])
    one, two = order[pair], order[pair + 1]
    # the neighbour runs along the edge the other way
    here, there = np.stack([first[one], second[one]], 1), np.stack([second[two], first[two]], 1)
    uv = texture.uv.numpy()
    apart = np.abs(uv[here] - uv[there]).max((1, 2)) > 0.5 / texture.image.shape[0]
    here, there = here[apart], there[apart]
    share = (np.arange(_ALONG) + 0.5)[:, None, None] / _ALONG
    places = [
        torch.from_numpy((uv[ends[:, 0]] * (1 - share) + uv[ends[:, 1]] * share).reshape(-1, 2))
        for ends in (here, there)
    ]
    found = {}
    for level in LEVELS:
        side = texture.image.shape[0] >> level
        small = Image.fromarray(texture.image.numpy()).resize((side, side), Image.Resampling.BOX)
        pixels = torch.from_numpy(np.array(small))
        difference = 255 * (sampled(pixels, places[0]) - sampled(pixels, places[1])).abs().mean(1).numpy()
        found[level] = float(np.median(difference)), float(np.percentile(difference, 95))
    return found
