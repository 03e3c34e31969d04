"""Posed pictures as the network takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.wavemesh.config import MOST_VIEWS

PLANES = 7
"""Of a picture: red, green, blue, the camera-space normal, the mask."""
_RIGID = 1e-3
PatchFeatures = Callable[[Tensor, int], Tensor]
"""From pictures (N, 3, S, S) in [0, 1] and the number of patches a side to features (N, P, D), as `dinov2.Features`."""


@dataclass(frozen=True)
class PosedImages:
    """V pictures of each of B objects.

    Attributes:
        planes: colours on white (sRGB-encoded, in [0, 1]), camera-space normals (0 where unknown), mask.
        world_to_camera: rigid; OpenGL axes, looking at an object about the origin.
        focal: focal length over half the picture's side.
        given: which views count; the others are padding.
        features: of each picture's patches, row by row, by a network that is not trained along; None without one.
    """

    planes: Float[Tensor, "B V 7 S S"]
    world_to_camera: Float[Tensor, "B V 4 4"]
    focal: Float[Tensor, "B V"]
    given: Bool[Tensor, "B V"]
    features: Float[Tensor, "B V P D"] | None = None

    def to(self, device: torch.device) -> PosedImages:
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, index: list[int]) -> PosedImages:
        """Some of the objects."""
        return self._each(lambda tensor: tensor[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> PosedImages:
        tensors = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        there = {name: change(tensor) for name, tensor in tensors.items() if tensor is not None}
        return PosedImages(**there)

    def described(self, describe: PatchFeatures | None, side: int) -> PosedImages:
        """With the features of their side x side patches; unchanged if nothing describes them."""
        if describe is None:
            return self
        found = describe(self.planes[:, :, :3].flatten(0, 1), side)
        return replace(self, features=found.unflatten(0, self.planes.shape[:2]))

    @property
    def rays(self) -> Float[Tensor, "B V 6 S S"]:
        """Pluecker coordinates of every pixel's ray in the world: its unit direction, and its moment o x d."""
        side = self.planes.shape[-1]
        line = (torch.arange(side, device=self.planes.device, dtype=self.planes.dtype) + 0.5) * (2 / side) - 1
        up, right = torch.meshgrid(-line, line, indexing="ij")
        focal = self.focal[..., None, None]
        local = torch.stack([right / focal, up / focal, -torch.ones_like(up).expand(*focal.shape[:2], -1, -1)], -1)
        rotation = self.world_to_camera[..., :3, :3]
        with _exact(self.planes):
            way = torch.nn.functional.normalize(torch.einsum("bvji,bvhwj->bvhwi", rotation, local), dim=-1)
            centre = -torch.einsum("bvji,bvj->bvi", rotation, self.world_to_camera[..., :3, 3])
            moment = torch.linalg.cross(centre[:, :, None, None].expand_as(way), way, dim=-1)
        return torch.cat([way, moment], -1).permute(0, 1, 4, 2, 3)

    def seen_at(self, points: Float[Tensor, "P 3"]) -> Float[Tensor, "B V P 3"]:
        """Where points of the world lie in each picture: to the right and down in [-1, 1], and their depth."""
        with _exact(points):
            local = torch.einsum("bvij,pj->bvpi", self.world_to_camera[..., :3, :3], points)
        local = local + self.world_to_camera[..., None, :3, 3]
        depth = -local[..., 2]
        flat = local[..., :2] * self.focal[..., None, None] / depth.clamp_min(1e-3)[..., None]
        return torch.stack([flat[..., 0], -flat[..., 1], depth], -1)


def _exact(on: Tensor) -> torch.autocast:
    """Places in pictures are not computed in 8 bits, whatever precision the network has: that is a pixel in 256."""
    return torch.autocast(on.device.type, enabled=False)


def check_views(images: PosedImages, size: int, place: str) -> None:
    """
    Args:
        images: what is to be reconstructed from.
        size: pixels a side that the network takes.
        place: for the error.

    Raises:
        BadInput: too many or too few views, another size, numbers that are not finite, poses that are not rigid, or a
            camera in which the object is not ahead.
    """
    views = images.planes.shape[1]
    hint = "a pose is a 4 x 4 matrix from the world to the camera: three unit axes at right angles, right-handed"
    if not 1 <= views <= MOST_VIEWS or not bool(images.given.any(1).all()):
        raise BadInput(f"{views} views were given", place=place, hint=f"give 1 to {MOST_VIEWS} pictures with poses")
    if images.world_to_camera.shape[1:] != (views, 4, 4) or images.focal.shape[1] != views:
        raise BadInput(f"{views} views with poses of shape {tuple(images.world_to_camera.shape[1:])}", place=place)
    if images.planes.shape[-2:] != (size, size):
        height, width = images.planes.shape[-2:]
        raise BadInput(f"pictures of {width} x {height} pixels, not {size} x {size}", place=place)
    for tensor in (images.planes, images.world_to_camera, images.focal):
        if not bool(tensor.isfinite().all()):
            raise BadInput("a picture or pose has numbers that are not finite", place=place, hint=hint)
    rotation = images.world_to_camera[..., :3, :3].double()
    apart = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax((-1, -2))
    last = (images.world_to_camera[..., 3, :] - torch.tensor([0.0, 0, 0, 1])).abs().amax(-1)
    wrong = (apart > _RIGID) | (last > _RIGID) | (torch.linalg.det(rotation) < 0)
    if bool(wrong.any()):
        raise BadInput(f"the pose of view {int(wrong.nonzero()[0, 1])} is not rigid", place=place, hint=hint)
    if bool((images.focal <= 0).any()):
        raise BadInput("a focal length is not above 0", place=place)
    if bool((images.world_to_camera[..., 2, 3] > -1.05).any()):
        raise BadInput("a camera stands in the object, or looks away from it", place=place, hint=hint)
