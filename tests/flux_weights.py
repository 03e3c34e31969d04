"""Tiny Flux weights in the published layouts, written once per session."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights, as `models.root`."""
    from checkpoints.flux import write

    root = tmp_path_factory.mktemp("weights")
    write(root, "tiny", 0, wired=False)
    return root


@pytest.fixture(scope="session")
def slim_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a VAE of few channels, which is most of the work where whole pictures are drawn."""
    from checkpoints.flux import SLIM_VAE_SIZES, write

    root = tmp_path_factory.mktemp("slim")
    write(root, "tiny", 0, wired=False, vae_sizes=SLIM_VAE_SIZES)
    return root


@pytest.fixture(scope="session")
def all_in_one(tiny_flux: Path) -> Path:
    return tiny_flux / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors"


@pytest.fixture(scope="session")
def kohya_file(tiny_flux: Path) -> Path:
    return tiny_flux / "LTT" / "Kiss3DGen" / "rgb_normal.safetensors"
