"""Tiny Flux weights in the published layouts, written once per session."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights, as `models.root`."""
    from checkpoints.flux import write

    root = tmp_path_factory.mktemp("weights")
    write(root)
    return root


@pytest.fixture(scope="session")
def all_in_one(tiny_root: Path) -> Path:
    return tiny_root / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors"


@pytest.fixture(scope="session")
def kohya_file(tiny_root: Path) -> Path:
    return tiny_root / "LTT" / "Kiss3DGen" / "rgb_normal.safetensors"
