"""Perceptual distance of two pictures: VGG-19 features or LPIPS if their weights are found, else gradients.

The weights are files in the layouts of torchvision (`vgg19-*.pth`, `alexnet-*.pth`) and of the package lpips
(`alex.pth`); nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.runtime.pickles import Damaged, StoredTensor
from kiss3d_cli.models.runtime.torch_files import Checkpoint

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512)
LOOKED_AT = (1, 3, 5, 9, 13)
"""VGG-19's convolutions whose outputs are compared: 1_2, 2_2, 3_2, 4_2 and 5_2 (Chen and Koltun 2017)."""
SCALES = 3
"""Of the gradients that are compared without VGG-19, each half as fine."""
PictureLoss = Callable[[Tensor, Tensor], Tensor]
N = TypeVar("N", bound=nn.Module)


def gradient_loss(found: Float[Tensor, "B 3 S S"], truth: Float[Tensor, "B 3 S S"]) -> Float[Tensor, ""]:
    """Mean absolute difference of gradients, at several scales: what a squared error lets blur."""
    total = found.new_zeros(())
    for scale in range(SCALES):
        error = found - truth
        total = total + (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / SCALES
        if scale < SCALES - 1:
            found, truth = functional.avg_pool2d(found, 2), functional.avg_pool2d(truth, 2)
    return total


class Vgg(nn.Module):
    """VGG-19's convolutions (Simonyan and Zisserman 2014) as a loss; never trained."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for size in VGG:
            if isinstance(size, int):
                layers += [nn.Conv2d(width, size, 3, padding=1), nn.ReLU()]
                width = size
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.requires_grad_(False)

    def forward(self, found: Float[Tensor, "B 3 S S"], truth: Float[Tensor, "B 3 S S"]) -> Float[Tensor, ""]:
        """The mean, over layers, of the absolute difference of features relative to the features of the truth."""
        both = _standard(torch.cat([found, truth]))
        total, seen = found.new_zeros(()), -1
        for layer in self.features:
            both = layer(both)
            if isinstance(layer, nn.ReLU):
                seen += 1
                if seen in LOOKED_AT:
                    first, second = both.chunk(2)
                    total = total + (first - second).abs().mean() / second.abs().mean().clamp_min(1e-6)
            if seen == LOOKED_AT[-1]:
                break
        return total / len(LOOKED_AT)


class Lpips(nn.Module):
    """Learned perceptual image patch similarity with AlexNet (Zhang et al. 2018), version 0.1 of its weights."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
        self.layers = nn.ModuleList(nn.Conv2d(i, o, k, s, p) for i, o, k, s, p in sizes)
        self.weights = nn.ParameterList(torch.zeros(o) for _, o, *_ in sizes)
        self.requires_grad_(False)

    @torch.inference_mode()
    def forward(self, found: Float[Tensor, "B 3 S S"], truth: Float[Tensor, "B 3 S S"]) -> Float[Tensor, " B"]:
        """Of each pair of pictures, sRGB-encoded in [0, 1]; 0 is alike. Pictures under 64 pixels are enlarged."""
        both = torch.cat([found, truth])
        if both.shape[-1] < 64:
            both = functional.interpolate(both, (64, 64), mode="bilinear", antialias=True)
        # in [-1, 1] the published weights were shifted and scaled by (m - 1/2) * 2 and 2 s: ImageNet's own in [0, 1]
        both = _standard(both)
        total = found.new_zeros(len(found))
        for number, (layer, weight) in enumerate(zip(self.layers, self.weights, strict=True)):
            if number in (1, 2):
                both = functional.max_pool2d(both, 3, 2)
            both = functional.relu(layer(both))
            first, second = (both / (both.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
            total = total + ((first - second).square() * weight[:, None, None]).sum(1).mean((1, 2))
        return total


def _standard(colors: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 S S"]:
    mean, deviation = (torch.tensor(row).to(colors)[:, None, None] for row in (MEAN, DEVIATION))
    return (colors - mean) / deviation


def read_vgg(path: Path) -> Vgg:
    """VGG-19 with the weights of a file: torchvision's state dict as `.pth`, or the same as safetensors.

    Raises:
        BadInput: the file is damaged, or not of VGG-19.
    """
    network, found = Vgg(), _tensors(path)
    return _filled(network, {name: found.get(name) for name in network.state_dict()}, path)


def read_lpips(folder: Path) -> Lpips | None:
    """LPIPS with the weights of `alexnet*.pth` and `alex.pth` in a folder; None if either is not there.

    Raises:
        BadInput: a file is damaged, or of another network.
    """
    backbones, linear = sorted(folder.glob("alexnet*.pth")), folder / "alex.pth"
    if not backbones or not linear.is_file():
        return None
    network, alexnet, weights = Lpips(), _tensors(backbones[0]), _tensors(linear)
    state: dict[str, Tensor | None] = {}
    for number, place in enumerate((0, 3, 6, 8, 10)):
        for kind in ("weight", "bias"):
            state[f"layers.{number}.{kind}"] = alexnet.get(f"features.{place}.{kind}")
        one = weights.get(f"lin{number}.model.1.weight")
        state[f"weights.{number}"] = None if one is None else one.reshape(-1)
    return _filled(network, state, folder)


def find_vgg() -> Path | None:
    """Where torchvision keeps VGG-19's weights once it has downloaded them; None if they are not there."""
    found = sorted((Path(torch.hub.get_dir()) / "checkpoints").glob("vgg19-*.pth"))
    return found[0] if found else None


def _filled(network: N, state: Mapping[str, Tensor | None], path: Path) -> N:
    lacking = [name for name, value in state.items() if value is None]
    try:
        if lacking:
            raise ValueError(f"it lacks {lacking[0]}")
        network.load_state_dict(dict(state))
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"these are not the weights that are needed: {error}", place=str(path)) from error
    return network.eval()


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        checkpoint = Checkpoint(path)
        if not isinstance(checkpoint.root, Mapping):
            raise Damaged("it holds no dictionary of tensors")
        found = {str(name): value for name, value in checkpoint.root.items() if isinstance(value, StoredTensor)}
        return {name: checkpoint.tensor(value).float() for name, value in found.items()}
    except (Damaged, SafetensorError, OSError) as error:
        raise BadInput(f"the weights can't be read: {error}", place=str(path)) from error
