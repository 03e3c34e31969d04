"""The mesh by the wavelet diffusion model of kiss3d's own training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from kiss3d_cli.core.errors import DamagedRun, Missing
from kiss3d_cli.methods.base import Machine, Method, Opened, Prospect, once
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import Cameras, Seeded

if TYPE_CHECKING:
    from kiss3d_cli.methods.wavemesh import Network

TRAINED = "outputs/wavemesh/run/wavemesh.safetensors"
TRAIN = (
    "kiss3d train data --fields 32 --objects FOLDER && kiss3d train wavemesh, then "
    f"--set reconstruct.weights={TRAINED}; or --set reconstruct.method=hull"
)
DINOV2 = "dinov2"
"""The model that describes the views for weights that were trained with it."""
SECONDS = 0.1
"""Of one answer of the network, measured: scripts/bench/wavemesh.py."""


class WaveMeshSettings(Cameras, Seeded):
    """What is drawn, and how."""

    section: ClassVar[str] = "reconstruct"

    weights: str | None = None
    """Weights file of `kiss3d train wavemesh`; none ships with kiss3d."""
    steps: int = Field(4, ge=1, le=1000)
    """Number of sampler steps."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """Sampler: `ddim` is deterministic, `ddpm` adds noise at every step."""
    guidance: float = Field(1.0, ge=0, le=20)
    """Classifier-free guidance: 1 is the model as trained, more takes twice the time, 0 uses the silhouettes alone."""
    samples: int = Field(1, ge=1, le=64)
    """Number of samples; the one that matches the views best is kept."""
    symmetries: int = Field(8, ge=1, le=8)
    """Number of turned and mirrored versions that a sample is the mean of; 1 gives samples that differ more."""


class WaveMesh(Method[WaveMeshSettings]):
    """The visual hull, corrected by a diffusion model over the wavelet coefficients of its signed distances."""

    stage, name, version = "reconstruct", "wavemesh", 2
    settings = WaveMeshSettings
    reads = ("bundle/bundle.png",)
    writes = ("mesh.ply",)
    help = "corrects the hull by a wavelet diffusion model of your own training"
    alternative = "reconstruct with --set reconstruct.method=hull"

    def models(self, settings: WaveMeshSettings) -> tuple[str, ...]:
        if settings.weights is None or not Path(settings.weights).is_file():
            return ()
        from kiss3d_cli.models.wavemesh.weights import read_config

        try:
            return (DINOV2,) if read_config(Path(settings.weights)).frozen else ()
        except DamagedRun:  # `require` says it
            return ()

    def cost(self, settings: WaveMeshSettings, around: Surroundings) -> Cost:
        answers = settings.steps * settings.samples * settings.symmetries * (1 if settings.guidance in (0, 1) else 2)
        return Cost(host_seconds=2 + SECONDS * answers, memory=0.6 * GIB)

    def require(self, settings: WaveMeshSettings, prospect: Prospect) -> None:
        if settings.weights is None:
            raise Missing(
                "the wavelet diffusion model has no weights of its own in the package",
                place="reconstruct.weights",
                hint=TRAIN,
            )
        from kiss3d_cli.models.wavemesh.weights import read_config

        config = read_config(Path(settings.weights))
        config.diffusion.times(settings.steps)

    @contextmanager
    def open(self, settings: WaveMeshSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.wavemesh import loaded, reconstruct

        network: Network = once(lambda: loaded(settings))
        yield lambda context: reconstruct(settings, network, context, machine)
