"""The discrete wavelet transform of volumes, in torch: a matrix along each axis, level by level.

Volumes are periodic (PyWavelets' mode `periodization`), so that R^3 numbers become R^3 coefficients. A transform along
an axis of length n is an n x n matrix (low-pass rows above high-pass rows); its inverse is the matrix's inverse, so
that the round trip is exact for every wavelet. On volumes of up to 64^3 three matrix products are faster than
filters. Mallat 1989; the biorthogonal pair bior4.4 is that of Cohen, Daubechies and Feauveau 1992.

Coefficients are kept by site: a site is a cell of the coarse grid of side R / 2^level, and its 8^level channels are its
coarse coefficient and all details within it. So what is sparse is a list of sites.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Missing

_ROOT = 2**0.5
_COIF1 = (1 - 7**0.5, 5 + 7**0.5, 14 + 2 * 7**0.5, 14 - 2 * 7**0.5, 1 - 7**0.5, -3 + 7**0.5)
# of the 9/7 pair: low-pass analysis and synthesis from the middle outwards
_BIOR_ANALYSIS = (0.852698679009, 0.377402855613, -0.110624404418, -0.023849465020, 0.037828455507)
_BIOR_SYNTHESIS = (0.788485616406, 0.418092273222, -0.040689417609, -0.064538882629)
BUILT_IN = ("haar", "bior4.4", "coif1")
MOST_CELLS = 128**3
"""Of a volume: its coefficients, gradients and features must fit into memory."""


def filters(wavelet: str) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Low-pass and high-pass decomposition filters, in PyWavelets' order.

    Those of `BUILT_IN` stand here; any other discrete wavelet is PyWavelets' where that is installed.

    Raises:
        BadInput: there is no such wavelet.
        Missing: it is PyWavelets', which is not installed.
    """
    if wavelet == "haar":
        low = np.array([1, 1]) / _ROOT
        return low, np.array([-1, 1]) / _ROOT
    if wavelet == "coif1":
        low = np.array(_COIF1[::-1]) / (16 * _ROOT)
        return low, _mirrored(low)
    if wavelet == "bior4.4":
        low = np.array([0, *_BIOR_ANALYSIS[:0:-1], *_BIOR_ANALYSIS])
        synthesis = np.array([*_BIOR_SYNTHESIS[:0:-1], *_BIOR_SYNTHESIS])
        return low, np.array([0, *(synthesis * (-1.0) ** np.arange(7)), 0, 0])
    try:
        import pywt
    except ImportError as error:
        raise Missing(
            f"the wavelet {wavelet} is not built in, and PyWavelets is not installed",
            place="--wavelet",
            hint=f"choose of {', '.join(BUILT_IN)}, or pip install 'kiss3d[train]'",
        ) from error
    if wavelet not in pywt.wavelist(kind="discrete"):
        raise BadInput(f"there is no wavelet {wavelet}", place="--wavelet", hint=f"for example {', '.join(BUILT_IN)}")
    found = pywt.Wavelet(wavelet)
    return np.array(found.dec_lo), np.array(found.dec_hi)


def _mirrored(low: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The quadrature mirror: reversed, every other sign turned."""
    signs = np.where(np.arange(len(low)) % 2 == 0, -1.0, 1.0)
    return signs * low[::-1]


@cache
def _matrices(wavelet: str, length: int) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    low, high = filters(wavelet)
    matrix = np.zeros((length, length))
    for row, taps in ((0, low), (length // 2, high)):
        for place in range(length // 2):
            for tap, value in enumerate(taps):
                matrix[row + place, (len(taps) // 2 + 2 * place - tap) % length] += value
    with torch.inference_mode(False):  # kept for both: a tensor made while sampling can't be trained through later
        return torch.from_numpy(matrix).float(), torch.from_numpy(np.linalg.inv(matrix)).float()


def _along_axes(volume: Float[Tensor, "B n n n"], matrix: Float[Tensor, "n n"]) -> Float[Tensor, "B n n n"]:
    matrix = matrix.to(volume)
    for _ in range(3):  # each product moves the axis it transformed to the front of the three
        volume = (volume @ matrix.T).permute(0, 3, 1, 2)
    return volume


@dataclass(frozen=True)
class Wavelet:
    """A transform of volumes of one size.

    Attributes:
        name: of the wavelet. resolution: R, cells a side of the volume. level: how often the low-pass band is split.
    """

    name: str
    resolution: int
    level: int

    def __post_init__(self) -> None:
        """Raises BadInput for sizes that can't be split so often, or that are too large."""
        if not 1 <= self.level <= 6 or self.resolution < 2 or self.resolution % 2**self.level:
            raise BadInput(
                f"a grid of {self.resolution}^3 can't be split {self.level} times",
                hint="give a resolution that is a multiple of 2^level, and a level of at least 1",
            )
        if self.resolution**3 > MOST_CELLS:
            raise BadInput(
                f"a grid of {self.resolution}^3 is too large to learn on", hint="give a resolution of 128 or less"
            )
        filters(self.name)

    @property
    def side(self) -> int:
        """Sites along each axis."""
        return self.resolution // 2**self.level

    @property
    def channels(self) -> int:
        return 8**self.level

    def transform(self, volume: Float[Tensor, "B R R R"]) -> Float[Tensor, "B R R R"]:
        """Coefficients in Mallat's order: the coarse band in the first corner, finer ones around it.

        The same numbers in the same places as `pywt.coeffs_to_array(pywt.wavedecn(..., mode="periodization"))`.
        """
        packed = volume
        for level in range(self.level):
            n = self.resolution // 2**level
            corner = _along_axes(packed[:, :n, :n, :n], _matrices(self.name, n)[0])
            if level == 0:
                packed = corner.contiguous()
            else:
                packed = packed.clone()
                packed[:, :n, :n, :n] = corner
        return packed

    def inverse(self, packed: Float[Tensor, "B R R R"]) -> Float[Tensor, "B R R R"]:
        volume = packed
        for level in reversed(range(self.level)):
            n = self.resolution // 2**level
            corner = _along_axes(volume[:, :n, :n, :n], _matrices(self.name, n)[1])
            if n == self.resolution:
                return corner.contiguous()
            volume = volume.clone()
            volume[:, :n, :n, :n] = corner
        return volume

    def by_site(self, packed: Float[Tensor, "B R R R"]) -> Float[Tensor, "B G G G K"]:
        """Mallat's order to sites and their channels: the coarse one first, then details from coarse to fine."""
        n, g = self.resolution, self.side
        found = []
        for _ in range(self.level):
            half = n // 2
            per = half // g
            for octant in range(1, 8):
                at = [slice(half, n) if octant >> (2 - axis) & 1 else slice(0, half) for axis in range(3)]
                block = packed[:, at[0], at[1], at[2]].reshape(-1, g, per, g, per, g, per)
                found.append(block.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, g, g, g, per**3))
            n = half
        coarse = packed[:, :g, :g, :g, None]
        return torch.cat([coarse, *reversed(_grouped(found))], -1)

    def from_sites(self, sites: Float[Tensor, "B G G G K"]) -> Float[Tensor, "B R R R"]:
        """The inverse of `by_site`."""
        g = self.side
        packed = sites.new_empty(len(sites), self.resolution, self.resolution, self.resolution)
        packed[:, :g, :g, :g] = sites[..., 0]
        start = 1
        for level in reversed(range(self.level)):
            n = self.resolution // 2**level
            half, per = n // 2, n // 2 // g
            for octant in range(1, 8):
                at = [slice(half, n) if octant >> (2 - axis) & 1 else slice(0, half) for axis in range(3)]
                block = sites[..., start : start + per**3].reshape(-1, g, g, g, per, per, per)
                packed[:, at[0], at[1], at[2]] = block.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, half, half, half)
                start += per**3
        return packed

    def analyse(self, volume: Float[Tensor, "B R R R"]) -> Float[Tensor, "B G G G K"]:
        """A volume's coefficients by site."""
        return self.by_site(self.transform(volume))

    def synthesise(self, sites: Float[Tensor, "B G G G K"]) -> Float[Tensor, "B R R R"]:
        """The volume of coefficients by site."""
        return self.inverse(self.from_sites(sites))

    def constant(self, value: float = 1.0) -> Float[Tensor, " K"]:
        """The channels of a site in a volume of one value: details are 0."""
        return self.analyse(torch.full((1, *(self.resolution,) * 3), value))[0, 0, 0, 0]


def _grouped(found: list[Tensor]) -> list[Tensor]:
    """Each level's seven bands joined, finest first as they were found."""
    return [torch.cat(found[start : start + 7], -1) for start in range(0, len(found), 7)]


@dataclass(frozen=True)
class SparseVolume:
    """A volume as the few coefficients that matter.

    Attributes:
        wavelet: the transform.
        places: (N, 3) in Mallat's order.
        values: (N,) coefficients of the volume less `background`.
        background: the value everywhere that nothing is said.
    """

    wavelet: Wavelet
    places: Int[Tensor, "N 3"]
    values: Float[Tensor, " N"]
    background: float = 1.0

    @property
    def bytes(self) -> int:
        """On disk: one byte for each coordinate up to 256, two for each value in half precision."""
        return 5 * len(self.values)

    def volume(self) -> Float[Tensor, "R R R"]:
        """
        Raises:
            BadInput: no coefficients, places outside the grid, or values that are not finite.
        """
        size = self.wavelet.resolution
        if not len(self.values):
            raise BadInput("there are no coefficients: the volume is empty", hint="give a lower threshold")
        if bool((self.places < 0).any() | (self.places >= size).any()) or not bool(self.values.isfinite().all()):
            raise BadInput("coefficients lie outside the grid, or are not finite numbers")
        packed = torch.zeros(1, size, size, size)
        packed[0, self.places[:, 0], self.places[:, 1], self.places[:, 2]] = self.values
        return self.wavelet.inverse(packed)[0] + self.background


def sparse(
    volume: Float[Tensor, "R R R"],
    wavelet: Wavelet,
    *,
    threshold: float = 0.0,
    most: int | None = None,
    background: float = 1.0,
) -> SparseVolume:
    """The coefficients of a volume that are larger than a threshold, or the largest ones.

    Args:
        threshold: coefficients of at most this size are dropped; 0 drops none but zeros.
        most: how many are kept at most.
        background: subtracted first, so that empty space has no coefficients.
    """
    packed = wavelet.transform(volume[None] - background)[0]
    size = packed.abs()
    keep = size > threshold
    if most is not None and int(keep.sum()) > most:
        order = size.flatten().sort(descending=True, stable=True).indices[:most]
        keep = torch.zeros_like(keep).flatten()
        keep[order] = True
        keep = keep.reshape(size.shape)
    return SparseVolume(wavelet, keep.nonzero(), packed[keep], background)
