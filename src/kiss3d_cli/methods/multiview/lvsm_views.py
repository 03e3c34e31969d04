"""The missing views of the bundle, drawn by the view synthesis model on the surface of the geometric route."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.threads import one_thread
from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate
from kiss3d_cli.geometry.inflate.views import show_surface
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.image.png import read_png, write_png
from kiss3d_cli.image.views import VIEW_NAMES, to_bytes
from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.multiview.given import Given, given_views, paint, surface_of, write_given
from kiss3d_cli.models.lvsm.hull import hull_views
from kiss3d_cli.models.lvsm.inference import synthesise
from kiss3d_cli.models.lvsm.network import Lvsm
from kiss3d_cli.models.lvsm.rays import Posed


def draw(radius: float, tile: int, network: Lvsm, context: Context, weight: float) -> None:
    """One run: the views, the surface, and what the network drew.

    Args:
        radius: of the bundle's cameras. tile: pixels a side of a view.
        weight: how much a drawn picture counts against a given one.
    """
    cameras = bundle_cameras(radius)
    given, guess = given_views(context), None
    if given is None:
        context.progress(0.1, "inflating the silhouette")
        mesh, seen, guess = from_one(read_png(context.inputs["preprocess/image_rgba.png"]), cameras, tile)
    else:
        context.progress(0.1, "carving the silhouettes")
        mesh, seen = surface_of(given, cameras, lambda front: _inflated(front, cameras))
    missing = [name for name in VIEW_NAMES if name not in seen.names]
    drawn = torch.zeros(0, 4, network.config.size, network.config.size)
    if missing:
        context.progress(0.5, "drawing the missing views")
        drawn = draw_missing(network, seen, cameras, missing, guess)
    context.progress(0.7, "painting the surface")
    large = [_enlarged(picture, seen.rgba.shape[1]) for picture in drawn]
    both = Given((*seen.names, *missing), torch.cat([seen.rgba, *(picture[None] for picture in large)]))
    painted = paint(mesh, both, cameras, tile, [1.0] * len(seen.names) + [weight] * len(missing))
    write_given(context, painted, seen)
    if missing:
        strip = torch.cat(list(drawn[:, :3]), -1).permute(1, 2, 0)
        write_png(context.output / "drawn.png", to_bytes(strip))
    context.facts["drawn"] = missing


def _inflated(front: Float[Tensor, "S S 4"], cameras: Cameras) -> tuple[Mesh, float]:
    found = inflate(front[..., 3], cameras[[0]], views=cameras)
    return found.mesh, found.scale


def from_one(rgba: np.ndarray, cameras: Cameras, tile: int) -> tuple[Mesh, Given, Float[Tensor, "V S S 4"]]:
    """The inflated silhouette of a framed picture: its surface, the picture as it is seen beside it, and its views,
    colours on white and masks.
    """
    picture = torch.from_numpy(rgba.copy()).float() / 255
    surface = inflate(picture[..., 3], cameras[[0]], views=cameras)
    size = (tile, tile)
    views = show_surface(surface, picture[..., :3], picture[..., 3], cameras, size).views
    mask = render_normals(surface.mesh, cameras, size, antialiased=False).mask
    seen = Given(("front",), picture[None]).framed(len(rgba), surface.scale)
    return surface.mesh, seen, torch.cat([views, mask[..., None]], -1)


def draw_missing(
    network: Lvsm,
    given: Given,
    cameras: Cameras,
    missing: list[str],
    guess: Float[Tensor, "V S S 4"] | None,
) -> Float[Tensor, "T 4 s s"]:
    """Colours on white and masks of the missing views, of the network's size.

    Args:
        given: the front first.
        cameras: of the four views.
        guess: colours on white and masks of all four views, in any size; None without.
    """
    size = network.config.size
    rgb, alpha = given.rgba[..., :3], given.rgba[..., 3:]
    small = _reduced(torch.cat([rgb * alpha + 1 - alpha, alpha], -1), size)
    own, other = (cameras[[VIEW_NAMES.index(name) for name in names]] for names in (given.names, missing))
    guessed = None
    if guess is not None:
        guessed = _reduced(guess[[VIEW_NAMES.index(name) for name in missing]], size)
    elif network.config.carved and len(small) > 1:
        with one_thread():
            guessed = hull_views(small, _posed(own), _posed(other))
    return synthesise(network, small, _posed(own), _posed(other), guessed)


def _posed(cameras: Cameras) -> Posed:
    focal = cameras.projection[:, [0, 1], [0, 1]] / 2
    return Posed(cameras.world_to_camera, torch.cat([focal, torch.full_like(focal, 0.5)], 1))


def _reduced(pictures: Float[Tensor, "V S S 4"], size: int) -> Float[Tensor, "V 4 s s"]:
    small = [cv2.resize(picture.numpy(), (size, size), interpolation=cv2.INTER_AREA) for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)


def _enlarged(picture: Float[Tensor, "4 s s"], size: int) -> Float[Tensor, "S S 4"]:
    """Colours without the white that the pixels along the outline are mixed with, and the mask."""
    alpha = picture[3:]
    covered = torch.cat([(picture[:3] - 1 + alpha).clamp(0, 1), alpha]).permute(1, 2, 0).numpy()
    large = torch.from_numpy(cv2.resize(covered, (size, size), interpolation=cv2.INTER_CUBIC)).clamp(0, 1)
    mask = large[..., 3:]
    return torch.cat([(large[..., :3] / mask.clamp_min(1e-3)).clamp(0, 1), mask], -1)
