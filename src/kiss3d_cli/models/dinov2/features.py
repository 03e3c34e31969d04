"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193), frozen: pictures to features of their patches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kiss3d_cli.models.runtime.pretrained import check_module, load_module
from kiss3d_cli.models.store.preflight import Findings

NAME = "dinov2"
HINT = f"get the files again: kiss3d models pull {NAME}"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, for RGB in [0, 1]."""


class Features:
    """The network, loaded once; it is never trained.

    Attributes:
        width: channels of a feature.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Args:
        folder: in the published layout. device: where it works, in float32.

        Raises:
            Missing: a file is not there, damaged, or of another model.
        """
        from transformers import Dinov2Model

        found = load_module(Dinov2Model, folder, device=device, dtype=torch.float32, hint=HINT)
        self._network: torch.nn.Module = found.eval().requires_grad_(False)
        self.width, self._patch = int(found.config.hidden_size), int(found.config.patch_size)

    @torch.no_grad()
    def __call__(self, rgb: Float[Tensor, "N 3 S S"], side: int) -> Float[Tensor, "N P C"]:
        """Features of the side x side patches of each picture, row by row.

        Args:
            rgb: in [0, 1]; enlarged to a patch of the network for each that is asked for.
            side: patches a side.
        """
        pixels = side * self._patch
        device = next(self._network.parameters()).device
        large = functional.interpolate(
            rgb.float().to(device), (pixels, pixels), mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
        mean, deviation = (large.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
        tokens: Tensor = self._network((large - mean) / deviation).last_hidden_state
        return tokens[:, 1:].to(rgb.device)  # the first stands for the whole picture


def check_files(folders: Mapping[str, Path], findings: Findings) -> None:
    """For `store.preflight`: what loading would refuse."""
    from transformers import Dinov2Model

    folder = folders[NAME]
    findings.attempt(folder / "config.json", lambda: check_module(Dinov2Model, folder))
