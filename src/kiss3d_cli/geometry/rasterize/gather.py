"""Values at the pixels from values at the vertices, with their gradients.

Written as autograd functions with derivatives by hand: the pixels go through in chunks that fit the cache, in both
directions, and nothing but the inputs is kept in between. Sums over pixels run in one fixed order on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.rasterize.chunks import chunk_size


@dataclass(frozen=True)
class _Pixels:
    """Some covered pixels of one view and the corners of what they show.

    Attributes:
        view: in which view they are.
        flat: indices into H*W.
        corners: three arrays of vertices.
    """

    view: int
    flat: Int[Tensor, " P"]
    corners: tuple[Int[Tensor, " P"], Int[Tensor, " P"], Int[Tensor, " P"]]


def _covered(face_id: Int[Tensor, "V H W"], faces: Int[Tensor, "F 3"]) -> Iterator[_Pixels]:
    corner_of = faces.T.contiguous()
    for view in range(len(face_id)):
        yield from _covered_in(view, face_id, corner_of)


def _covered_in(view: int, face_id: Int[Tensor, "V H W"], corner_of: Int[Tensor, "3 F"]) -> Iterator[_Pixels]:
    shown = face_id[view].flatten()
    for flat in torch.split((shown >= 0).nonzero()[:, 0], chunk_size(face_id.device)):
        face = shown.index_select(0, flat)
        a, b, c = (corner.index_select(0, face) for corner in corner_of)
        yield _Pixels(view, flat, (a, b, c))


def _for_each_view(draw: Callable[[_Pixels], None], face_id: Int[Tensor, "V H W"], faces: Int[Tensor, "F 3"]) -> None:
    """Views side by side: `draw` writes to what belongs to its pixels alone."""
    corner_of = faces.T.contiguous()

    def draw_view(view: int) -> None:
        for pixels in _covered_in(view, face_id, corner_of):
            draw(pixels)

    side_by_side(draw_view, range(len(face_id)), face_id.device)


def _planes(values: Float[Tensor, "... N C"]) -> Float[Tensor, "C K N"]:
    """Every channel an array of its own, in each view or, where it is the same for all, once: K is V or 1."""
    return (values if values.ndim == 3 else values[None]).movedim(2, 0).contiguous()


@dataclass(frozen=True)
class _HomogeneousWeights:
    """Perspective-correct barycentrics by homogeneous coordinates.

    With u_i = x_i - X w_i and v_i = y_i - Y w_i at the pixel's normalised coordinates (X, Y), the weights b solve
    `sum b_i u_i = sum b_i v_i = 0`, so `b = u x v / sum(u x v)`. No division by w: faces that reach behind the camera
    are right too.
    """

    x: Float[Tensor, " P"]
    y: Float[Tensor, " P"]
    u: tuple[Tensor, Tensor, Tensor]
    v: tuple[Tensor, Tensor, Tensor]
    w: tuple[Tensor, Tensor, Tensor]
    weights: tuple[Tensor, Tensor, Tensor]
    total: Float[Tensor, " P"]
    thin: Bool[Tensor, " P"]
    """The face is there by its span, but has no area in this precision."""


def _cross(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    total = a[0] * b[0]
    for left, right in zip(a[1:], b[1:], strict=True):
        total = total + left * right
    return total


def _weights_at(columns: Float[Tensor, "4 N"], pixels: _Pixels, size: tuple[int, int]) -> _HomogeneousWeights:
    height, width = size
    row = pixels.flat.div(width, rounding_mode="floor")
    x = (2 * (pixels.flat - row * width) + 1).to(columns.dtype) / width - 1
    y = 1 - (2 * row + 1).to(columns.dtype) / height
    us, vs, ws = [], [], []
    for corner in pixels.corners:
        w = columns[3].index_select(0, corner)
        us.append(columns[0].index_select(0, corner) - x * w)
        vs.append(columns[1].index_select(0, corner) - y * w)
        ws.append(w)
    areas = _cross(tuple(us), tuple(vs))
    total = areas[0] + areas[1] + areas[2]
    thin = total == 0
    total = torch.where(thin, 1, total)
    # Rounding may put a pixel on the rim of its face just outside.
    inside = [torch.where(thin, 1 / 3, area / total).clamp_min(0) for area in areas]
    scale = 1 / (inside[0] + inside[1] + inside[2])
    a, b, c = (part * scale for part in inside)
    return _HomogeneousWeights(
        x, y, (us[0], us[1], us[2]), (vs[0], vs[1], vs[2]), (ws[0], ws[1], ws[2]), (a, b, c), total, thin
    )


class SurfacePoints(torch.autograd.Function):
    """Barycentrics (V, H, W, 3) and depths (V, H, W) of the faces seen, from clip-space vertices (V, N, 4)."""

    @staticmethod
    def forward(
        ctx: Any, clip: Float[Tensor, "V N 4"], faces: Int[Tensor, "F 3"], face_id: Int[Tensor, "V H W"]
    ) -> tuple[Float[Tensor, "V H W 3"], Float[Tensor, "V H W"]]:
        ctx.save_for_backward(clip, faces, face_id)
        columns = _planes(clip)
        views, height, width = face_id.shape
        barycentric = clip.new_zeros(views, height * width, 3)
        depth = clip.new_zeros(barycentric.shape[:2])

        def draw(pixels: _Pixels) -> None:
            at = _weights_at(columns[:, pixels.view], pixels, (height, width))
            barycentric[pixels.view].index_copy_(0, pixels.flat, torch.stack(at.weights, 1))
            depth[pixels.view].index_copy_(0, pixels.flat, _dot(at.weights, at.w))

        _for_each_view(draw, face_id, faces)
        return barycentric.reshape(*face_id.shape, 3), depth.reshape(face_id.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Float[Tensor, "V N 4"], None, None]:
        clip, faces, face_id = ctx.saved_tensors
        columns = _planes(clip)
        views, height, width = face_id.shape
        grad_weights, grad_depths = grads[0].reshape(views, -1, 3), grads[1].reshape(views, -1)
        result = torch.zeros_like(columns)
        for pixels in _covered(face_id, faces):
            at = _weights_at(columns[:, pixels.view], pixels, (height, width))
            grad_depth = grad_depths[pixels.view].index_select(0, pixels.flat)
            grad = grad_weights[pixels.view].index_select(0, pixels.flat).T.contiguous()
            to_x, to_y, _, to_w = result[:, pixels.view]
            parts = [grad[i] + grad_depth * at.w[i] for i in range(3)]
            mean = _dot(parts, at.weights)
            scale = torch.where(at.thin, 0, 1 / at.total)
            pull = tuple((part - mean) * scale for part in parts)
            grad_u, grad_v = _cross(at.v, pull), _cross(pull, at.u)
            for i, corner in enumerate(pixels.corners):
                to_x.index_add_(0, corner, grad_u[i])
                to_y.index_add_(0, corner, grad_v[i])
                to_w.index_add_(0, corner, grad_depth * at.weights[i] - at.x * grad_u[i] - at.y * grad_v[i])
        return result.movedim(0, 2), None, None


class Mixture(torch.autograd.Function):
    """Attributes (N, C) or (V, N, C), mixed by the barycentrics of what each pixel shows: (V, H, W, C)."""

    @staticmethod
    def forward(
        ctx: Any,
        attributes: Float[Tensor, "*V N C"],
        barycentric: Float[Tensor, "V H W 3"],
        faces: Int[Tensor, "F 3"],
        face_id: Int[Tensor, "V H W"],
    ) -> Float[Tensor, "V H W C"]:
        ctx.save_for_backward(attributes, barycentric, faces, face_id)
        channels = _planes(attributes).expand(-1, len(face_id), -1)
        weights = barycentric.flatten(1, 2)
        image = attributes.new_zeros(*weights.shape[:2], len(channels))

        def draw(pixels: _Pixels) -> None:
            weight = weights[pixels.view].index_select(0, pixels.flat).T.contiguous()
            mixed = [
                _dot(weight.unbind(), [channel.index_select(0, corner) for corner in pixels.corners])
                for channel in channels[:, pixels.view]
            ]
            image[pixels.view].index_copy_(0, pixels.flat, torch.stack(mixed, 1))

        _for_each_view(draw, face_id, faces)
        return image.reshape(*face_id.shape, len(channels))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        attributes, barycentric, faces, face_id = ctx.saved_tensors
        planes = _planes(attributes)
        channels = planes.expand(-1, len(face_id), -1)
        weights, grad_image = barycentric.flatten(1, 2), grads[0].flatten(1, 2)
        for_attributes = torch.zeros_like(planes) if ctx.needs_input_grad[0] else None
        for_weights = torch.zeros_like(weights) if ctx.needs_input_grad[1] else None
        for pixels in _covered(face_id, faces):
            grad = grad_image[pixels.view].index_select(0, pixels.flat).T.contiguous()
            if for_attributes is not None:
                weight = weights[pixels.view].index_select(0, pixels.flat).T.contiguous()
                for target, pull in zip(for_attributes.expand_as(channels)[:, pixels.view], grad, strict=True):
                    for i, corner in enumerate(pixels.corners):
                        target.index_add_(0, corner, pull * weight[i])
            if for_weights is not None:
                pulls = [
                    _dot(grad.unbind(), [channel.index_select(0, corner) for channel in channels[:, pixels.view]])
                    for corner in pixels.corners
                ]
                for_weights[pixels.view].index_copy_(0, pixels.flat, torch.stack(pulls, 1))
        return (
            None if for_attributes is None else for_attributes.movedim(0, 2).reshape(attributes.shape),
            None if for_weights is None else for_weights.reshape(barycentric.shape),
            None,
            None,
        )
