"""Views from several given pictures: the surface carved from their silhouettes, in their colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.extract.carve import carve, is_across
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.geometry.surface.components import keep_large_components
from kiss3d_cli.geometry.texture.mirror import with_mirror_images
from kiss3d_cli.geometry.texture.project import Photographs, project_colors
from kiss3d_cli.image.framing import frame_window
from kiss3d_cli.image.png import read_png
from kiss3d_cli.image.views import VIEW_NAMES, to_bytes, write_views
from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.multiview.views import SIDES_TAKEN

WHITE = 240
"""A pixel of a drawn view is background if each channel is at least so bright, of 255."""
CRUMB = 0.002
"""Share of the largest part's faces below which a part of the carved surface is a crumb of the grid."""


@dataclass(frozen=True)
class Given:
    """Pictures of some of the four views, in the bundle's frame.

    Attributes:
        names: of the views, the front first.
        rgba: (V, S, S, 4) in [0, 1], colour not multiplied by alpha.
    """

    names: tuple[str, ...]
    rgba: Float[Tensor, "V S S 4"]

    def framed(self, size: int, scale: float = 1.0) -> Given:
        """The same with so many pixels a side, shown larger by a factor, about the middle."""
        pixels = (255 * self.rgba).round().to(torch.uint8).numpy()
        side = self.rgba.shape[1]
        window = (side * (1 - 1 / scale) / 2, side * (1 - 1 / scale) / 2, side / scale)
        framed = [frame_window(p[..., :3], p[..., 3], window, size=size).rgba for p in pixels]
        return Given(self.names, torch.from_numpy(np.stack(framed)).float() / 255)

    def on_white(self) -> dict[str, UInt8[np.ndarray, "S S 3"]]:
        """Each view's picture."""
        rgb, alpha = self.rgba[..., :3], self.rgba[..., 3:]
        return dict(zip(self.names, to_bytes(rgb * alpha + 1 - alpha), strict=True))


def given_views(context: Context) -> Given | None:
    """What the `sides` stage matched; None in a run of one picture."""
    names = tuple(name for name in VIEW_NAMES if SIDES_TAKEN[VIEW_NAMES.index(name)] in context.inputs)
    if not names:
        return None
    pictures = [read_png(context.inputs[f"sides/{name}_rgba.png"]) for name in names]
    return Given(names, torch.from_numpy(np.stack(pictures)).float() / 255)


@dataclass(frozen=True)
class Shown:
    """
    Attributes:
        views: every view's picture: the given ones where the surface has them, and renderings.
        mesh: the surface, coloured.
    """

    views: dict[str, UInt8[np.ndarray, "S S 3"]]
    mesh: Mesh


Guess = Callable[[Float[Tensor, "S S 4"]], tuple[Mesh, float]]
"""From the front to a surface, and the factor by which it is smaller than the picture, about the middle."""


def show_given(given: Given, cameras: Cameras, size: int, guess: Guess) -> Shown:
    """The surface carved from the silhouettes, painted by the pictures, and the four views of it.

    Args:
        cameras: of the four views.
        size: of the views, in pixels.
        guess: makes the surface where no picture shows how deep the object is.
    """
    return paint(*surface_of(given, cameras, guess), cameras, size)


def surface_of(given: Given, cameras: Cameras, guess: Guess) -> tuple[Mesh, Given]:
    """The surface carved from the silhouettes, without colours, and the pictures as they are seen beside it.

    Args:
        cameras: of the four views.
        guess: makes the surface where no picture shows how deep the object is.
    """
    own = cameras[[VIEW_NAMES.index(name) for name in given.names]]
    if any(is_across(own)):
        return keep_large_components(carve(given.rgba[..., 3], own), CRUMB), given
    mesh, scale = guess(given.rgba[0])
    return mesh, given.framed(given.rgba.shape[1], scale)


def paint(mesh: Mesh, given: Given, cameras: Cameras, size: int, weights: Sequence[float] | None = None) -> Shown:
    """A surface in the colours of pictures of it, and its four views, with the pictures where the surface shows them.

    A side that no picture shows takes the other's mirror image where the object is symmetric.

    Args:
        given: the pictures.
        cameras: of the four views.
        size: of the views, in pixels.
        weights: how much each picture counts; all alike if None.
    """
    own = cameras[[VIEW_NAMES.index(name) for name in given.names]]
    rgb, masks = given.rgba[..., :3], given.rgba[..., 3] > 0.5
    photographs = Photographs(own, rgb, masks, torch.tensor(weights or [1.0] * len(masks)))
    photographs = with_mirror_images(mesh, photographs)
    mesh = mesh.with_colors(project_colors(mesh, photographs))
    rendered = render_colors(mesh, cameras, (size, size), antialiased=False)
    scaled = given.framed(size)
    views = rendered.colors.clone()
    for index, name in enumerate(given.names):
        view = VIEW_NAMES.index(name)
        shows = (scaled.rgba[index, ..., 3] > 0.5) & (rendered.mask[view] > 0.5)
        views[view][shows] = scaled.rgba[index, ..., :3][shows]
    return Shown(dict(zip(VIEW_NAMES, to_bytes(views), strict=True)), mesh)


def scale_of_front(given: Given, drawn: UInt8[np.ndarray, "S S 3"]) -> float:
    """How much larger a drawn front shows the object than the given one does, by the area of its silhouette."""
    share = float((drawn < WHITE).any(-1).mean())
    return (share / float((given.rgba[0, ..., 3] > 0.5).float().mean())) ** 0.5


def write_given(context: Context, shown: Shown, given: Given) -> None:
    """What a method that makes a surface leaves."""
    write_views(context.output, shown.views)
    write_mesh(context.output / "surface.ply", shown.mesh)
    context.facts.update(vertices=len(shown.mesh.vertices), faces=len(shown.mesh.faces), given=list(given.names))
