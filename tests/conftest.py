"""Types and shapes are checked in every test: jaxtyping's annotations are enforced by beartype."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("kiss3d_cli", "typechecker.check")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Numbers of the published implementation: KISS3D_PARITY_DIR, or the project's copy."""
    return Path(os.environ.get("KISS3D_PARITY_DIR", ROOT / "tests" / "fixtures" / "parity"))
