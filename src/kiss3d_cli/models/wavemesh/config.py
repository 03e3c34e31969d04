"""Sizes of the network and everything else that its weights fit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.wavemesh.diffusion import Diffusion
from kiss3d_cli.models.wavemesh.wavelets import Wavelet

MOST_VIEWS = 8
HULL_SIZE = 128
"""Pixels a side of the masks that the visual hull is carved from."""


@dataclass(frozen=True)
class WaveMeshConfig:
    """What the weights fit.

    Attributes:
        resolution: R, cells a side of the volume. truncation: largest distance that is told, in cells.
        wavelet, level: of the transform.
        margin: cells beyond the truncation about the visual hull in which coefficients are generated.
        schedule, prediction, steps: of the diffusion.
        widths: channels of the sites and of each halving of their grid.
        blocks: residual blocks of each of these, on the way down and up.
        attention: grids of at most so many cells a side have attention, to themselves and to the pictures.
        image: pixels a side of the pictures. patch_width, layers: of the picture's transformer.
        lifted: channels that are lifted along the pixels' rays.
        frozen: channels of DINOv2's features, which its patches are given too; 0 for none.
        surface: the distance at which what the network says has the surface, over the truncation: the median of what is
            thin and uncertain is larger than the truth.
    """

    resolution: int = 32
    truncation: float = 2.0
    wavelet: str = "bior4.4"
    level: int = 1
    margin: int = 2
    schedule: str = "cosine"
    prediction: str = "x0"
    steps: int = 1000
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: int = 1
    attention: int = 4
    image: int = 64
    patch_width: int = 128
    layers: int = 2
    lifted: int = 32
    frozen: int = 0
    surface: float = 0.0

    def __post_init__(self) -> None:
        """Raises BadInput for sizes that do not fit together."""
        side = self.transform.side
        self.diffusion  # noqa: B018  it checks its names
        halvings = len(self.widths) - 1
        if not 1 <= len(self.widths) <= 6 or side % 2**halvings:
            raise BadInput(
                f"{side} sites a side can't be halved {halvings} times",
                place="--widths",
                hint="give fewer widths, or a larger resolution",
            )
        if any(width % 8 or not 8 <= width <= 1024 for width in (*self.widths, self.patch_width, self.lifted)):
            raise BadInput(f"widths must be multiples of 8, 8 to 1024: {self.widths}", place="--widths")
        if self.image % 8 or not 16 <= self.image <= HULL_SIZE:
            raise BadInput(f"pictures of {self.image} pixels", hint=f"give a multiple of 8, 16 to {HULL_SIZE}")
        whole = (self.blocks, self.layers, self.attention)
        if not 0 <= self.frozen <= 8192:
            raise BadInput(f"features of {self.frozen} channels", hint="give 0 to 8192")
        if not -0.5 <= self.surface <= 0.5:
            raise BadInput(f"a surface at {self.surface:g} truncations", hint="give -0.5 to 0.5")
        if min(whole) < 0 or max(whole) > 32 or not 0.5 <= self.truncation <= 16 or not 0 <= self.margin <= 32:
            raise BadInput("sizes of the network that can't be", hint="use those of kiss3d train wavemesh --help")

    @property
    def patches(self) -> int:
        """Patches a side of a picture."""
        return self.image // 8

    @property
    def transform(self) -> Wavelet:
        return Wavelet(self.wavelet, self.resolution, self.level)

    @property
    def diffusion(self) -> Diffusion:
        return Diffusion(self.schedule, self.prediction, self.steps)

    @property
    def active(self) -> int:
        """Cells about anything within the truncation in which there may be coefficients that matter."""
        return self.margin if self.wavelet != "haar" else 0

    def as_dict(self) -> dict[str, Any]:
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        if not self.surface:
            del found["surface"]  # a training's checkpoints do not have it
        return found

    @staticmethod
    def of(values: dict[str, Any]) -> WaveMeshConfig:
        """From `as_dict` or JSON.

        Raises:
            ValueError: keys that are unknown or missing, or values of another type.
            BadInput: sizes that do not fit together.
        """
        fields = {entry.name: entry.default for entry in dataclasses.fields(WaveMeshConfig)}
        values = {"surface": 0.0, **values}
        if values.keys() != fields.keys():
            raise ValueError(f"a configuration of {sorted(values)}, not of {sorted(fields)}")
        found: dict[str, Any] = {}
        for name, default in fields.items():
            value = values[name]
            if isinstance(default, tuple):
                if not (isinstance(value, list | tuple) and all(type(n) is int for n in value)):
                    raise ValueError(f"{name} is no list of whole numbers")
                found[name] = tuple(value)
            elif isinstance(default, float):
                if type(value) not in (int, float):
                    raise ValueError(f"{name} is no number")
                found[name] = float(value)
            elif type(value) is not type(default):
                raise ValueError(f"{name} is no {type(default).__name__}")
            else:
                found[name] = value
        return WaveMeshConfig(**found)
