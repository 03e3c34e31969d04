"""The network as a whole."""

from __future__ import annotations

import psutil
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kiss3d_cli.core.errors import BadInput, Missing, OutOfMemory
from kiss3d_cli.models.lrm.config import LrmConfig
from kiss3d_cli.models.lrm.encoder import Encoder
from kiss3d_cli.models.lrm.field import Decoder, ReconstructedField
from kiss3d_cli.models.lrm.transformer import TriplaneTransformer

MEMORY_HINT = "close other programs, or take a coarser grid: --set reconstruct.resolution=96"


class Synthesizer(nn.Module):
    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        self.decoder = Decoder(config)


class LargeReconstructionModel(nn.Module):
    """Views and their cameras to a field. The weights are uninitialised: see `checkpoint.build`."""

    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.transformer = TriplaneTransformer(config)
        self.synthesizer = Synthesizer(config)

    @torch.inference_mode()
    def forward(self, images: Float[Tensor, "V 3 H W"], cameras: Float[Tensor, "K 16"]) -> ReconstructedField:
        """Reconstruct one object.

        Args:
            images: RGB in [0, 1] on white, of `config.views` views, square, `config.image_size` pixels a side.
            cameras: of those views, as `cameras.camera_vectors` makes them.

        Raises:
            BadInput: another number of views, another size, or values outside [0, 1].
            Missing: weights gave values that are not finite.
        """
        self._check(images, cameras)
        device = self.transformer.pos_embed.device
        tokens = self.encoder(images.to(device), cameras.to(device))
        planes = self.transformer(tokens.flatten(0, 1)).float()
        if not planes.isfinite().all():
            raise Missing(
                f"the feature planes are not finite in {self.transformer.pos_embed.dtype}".replace("torch.", ""),
                place="LRM",
                hint="run it in float32 (--set device.name=cpu), or fetch the weights again",
            )
        return ReconstructedField(planes, self.synthesizer.decoder)

    def _check(self, images: Tensor, cameras: Tensor) -> None:
        views, side = self.config.views, self.config.image_size
        if len(images) != views or len(cameras) != views:
            raise BadInput(
                f"{len(images)} views with {len(cameras)} cameras were given, the network takes {views}",
                place="LRM",
                hint=f"give {views} views, each with its camera",
            )
        if images.shape[2:] != (side, side):
            raise BadInput(
                f"views of {images.shape[3]} x {images.shape[2]} pixels were given, the network takes {side} x {side}",
                place="LRM",
                hint=f"resize each view to {side} x {side}",
            )
        if not (images.isfinite().all() and images.min() >= 0 and images.max() <= 1):
            raise BadInput(
                "the views have values outside [0, 1]", place="LRM", hint="divide 8-bit values by 255, clamp others"
            )


def require_memory(device: torch.device, needed: int) -> None:
    """Refuses work that would not fit; without this Linux kills the process instead of failing an allocation.

    Args:
        device: where the work is to be done; one that does not tell its free memory is trusted.
        needed: bytes.
    """
    if device.type == "cpu":
        free = psutil.virtual_memory().available
    elif hasattr(torch.get_device_module(device), "mem_get_info"):
        free = torch.get_device_module(device).mem_get_info(device)[0]
    else:
        return
    if free < needed:
        raise OutOfMemory(
            f"{needed / 2**30:.1f} GiB of memory are needed on {device}, {free / 2**30:.1f} GiB are free",
            place="LRM",
            hint=MEMORY_HINT,
        )
