"""Visibility back ends: the built-in rasteriser, or nvdiffrast or pytorch3d where they work.

Only this decision is left to them. Barycentrics, depths, interpolation and silhouettes are computed here for all, so
the pictures and gradients agree wherever the decision does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.rasterize.coverage import visible_faces
from kiss3d_cli.geometry.rasterize.near_plane import cut_at_near_plane

FaceFinder = Callable[[Tensor, Tensor, tuple[int, int]], Tensor]
"""(V, N, 4) clip-space vertices, (F, 3) faces, (H, W) -> (V, H, W) face or -1, row 0 on top."""


@dataclass(frozen=True)
class Backend:
    """
    Attributes:
        name: one of `NAMES`.
        find: the faces that the pixels show.
        find_closed: the same for closed surfaces seen from outside, if that is faster.
        note: why this is not the backend that was asked for, or None if it is.
    """

    name: str
    find: FaceFinder
    find_closed: FaceFinder | None = None
    note: str | None = None


def _built_in(
    clip: Float[Tensor, "V N 4"], faces: Int[Tensor, "F 3"], size: tuple[int, int], *, closed: bool = False
) -> Int[Tensor, "V H W"]:
    def seen(points: Float[Tensor, "N 4"]) -> Int[Tensor, " P"]:
        front = cut_at_near_plane(points, faces)
        return visible_faces(front.clip, front.faces, front.owner, size, closed=closed)

    if not len(clip):
        return torch.empty((0, *size), dtype=torch.int64, device=clip.device)
    return torch.stack(side_by_side(seen, clip, clip.device)).reshape(-1, *size)


BUILT_IN = Backend("torch", _built_in, partial(_built_in, closed=True))
_HINTS = {
    "nvdiffrast": "Install nvdiffrast from its repository (it compiles against CUDA), or use the built-in 'torch'.",
    "pytorch3d": "Install a pytorch3d that was built with your torch and CUDA, or use the built-in 'torch'.",
}
NAMES = (BUILT_IN.name, *_HINTS)


def find_backend(name: str, device: torch.device | str, *, fall_back: bool = True) -> Backend:
    """The backend of that name, tried on a triangle; the built-in one with a note if it does not work here.

    Args:
        name: one of `NAMES`.
        device: where it is to draw.
        fall_back: give the built-in backend and a note instead of an error.

    Raises:
        BadInput: another name.
        Missing: without `fall_back`, a backend that is absent, does not work on the device (built without CUDA, say) or
            draws something else than the built-in one.
    """
    if name == BUILT_IN.name:
        return BUILT_IN
    if name not in _HINTS:
        raise BadInput(f"There is no rasteriser '{name}'.", hint="Use one of " + ", ".join(NAMES) + ".")
    try:
        backend = Backend(name, _nvdiffrast(device) if name == "nvdiffrast" else _pytorch3d())
        _try_out(backend, device)
    except Missing as error:
        cause = error.cause
    except ImportError:
        cause = f"{name} is not installed."
    except Exception as error:  # whatever a half-built extension, a compiler or a driver raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        cause = f"{name} is installed but does not work on {device} ({reason})."
    else:
        return backend
    if not fall_back:
        raise Missing(cause, place=f"rasteriser '{name}'", hint=_HINTS[name])
    return replace(BUILT_IN, note=f"{cause} The built-in rasteriser is used instead. {_HINTS[name]}")


def _try_out(backend: Backend, device: torch.device | str) -> None:
    """Draws two overlapping triangles without any symmetry, in a picture that is not square."""
    points = [
        [-0.9, -0.7, 0.9],
        [0.3, 0.8, 1.1],
        [0.7, -0.2, 2.0],
        [-0.3, 0.9, 1.5],
        [0.1, -0.9, 0.8],
        [0.95, 0.6, 1.9],
    ]
    x, y, w = torch.tensor(points, device=device).unbind(1)
    clip = torch.stack([x * w, y * w, w - 0.2, w], 1)
    views = torch.stack([clip, clip * torch.tensor([0.8, 1, 1, 1], device=device)])
    faces = torch.tensor([[0, 1, 2], [3, 5, 4]], device=device)
    if not torch.equal(backend.find(views, faces, (24, 40)), _built_in(views, faces, (24, 40))):
        raise Missing(f"{backend.name} draws something else than the built-in rasteriser.")


def _nvdiffrast(device: torch.device | str) -> FaceFinder:
    import nvdiffrast.torch as nvdiffrast

    context: Any = nvdiffrast.RasterizeCudaContext(device=device)

    def find(clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
        # Its row 0 is at the bottom. Its fourth channel is the face's number from 1, or 0.
        turned = (clip.float() * torch.tensor([1.0, -1.0, 1.0, 1.0], device=clip.device)).contiguous()
        drawn, _ = nvdiffrast.rasterize(context, turned, faces.int().contiguous(), resolution=list(size), grad_db=False)
        return torch.as_tensor(drawn[..., 3]).round().long() - 1

    return find


def _pytorch3d() -> FaceFinder:
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    def find(clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
        # Its x runs to the left, the picture's shorter side is from -1 to 1, and z is the distance.
        scale = torch.tensor([-size[1] / min(size), size[0] / min(size)], device=clip.device)
        parts = [cut_at_near_plane(view, faces) for view in clip.float()]
        # A part may hold vertices behind the camera that no face uses any more.
        depths = [part.clip[:, 3:].clamp_min(1e-6) for part in parts]
        points = [torch.cat([part.clip[:, :2] / w * scale, w], 1) for part, w in zip(parts, depths, strict=True)]
        meshes = Meshes(verts=points, faces=[part.faces for part in parts])
        number, *_ = rasterize_meshes(
            meshes, image_size=size, blur_radius=0.0, faces_per_pixel=1, perspective_correct=True, cull_backfaces=False
        )
        owners = torch.cat([part.owner for part in parts] + [torch.tensor([-1], device=clip.device)])
        return owners[number[..., 0]]  # the number counts through all views, -1 for none

    return find
