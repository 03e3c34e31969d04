"""The world turned by quarters about its upright axis, and mirrored: what was learned holds there as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.models.wavemesh.views import PosedImages

QUARTER = torch.tensor([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
"""By 90 degrees about y, from the turned world to the unturned: the right becomes the front."""
MIRROR = torch.diag(torch.tensor([-1.0, 1, 1, 1]))


@dataclass(frozen=True)
class Symmetry:
    """Quarter turns, then left and right exchanged or not."""

    quarters: int
    mirrored: bool

    def volume(self, volume: Float[Tensor, "*B R R R"]) -> Float[Tensor, "*B R R R"]:
        """A volume in the changed world."""
        for _ in range(self.quarters):
            volume = volume.transpose(-1, -3).flip(-3)
        return volume.flip(-3) if self.mirrored else volume

    def back(self, volume: Float[Tensor, "*B R R R"]) -> Float[Tensor, "*B R R R"]:
        """The inverse of `volume`."""
        if self.mirrored:
            volume = volume.flip(-3)
        return Symmetry(-self.quarters % 4, mirrored=False).volume(volume)

    def images(self, images: PosedImages) -> PosedImages:
        """The same pictures in the changed world. Features of patches go with their patches."""
        poses = images.world_to_camera @ torch.matrix_power(QUARTER, self.quarters).to(images.world_to_camera)
        if not self.mirrored:
            return replace(images, world_to_camera=poses)
        mirror = MIRROR.to(poses)
        planes = images.planes.flip(-1)
        planes = torch.cat([planes[:, :, :3], -planes[:, :, 3:4], planes[:, :, 4:]], 2)
        features = images.features
        if features is not None:
            side = round(features.shape[2] ** 0.5)
            features = features.unflatten(2, (side, side)).flip(3).flatten(2, 3)
        return replace(images, planes=planes, world_to_camera=mirror @ poses @ mirror, features=features)


SYMMETRIES = tuple(Symmetry(quarters, mirrored) for mirrored in (False, True) for quarters in (0, 2, 1, 3))
"""All, the unchanged world first."""
