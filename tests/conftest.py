"""Types and shapes are checked in every test: jaxtyping's annotations are enforced by beartype."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a second thread that waits leaves its core to the other worker

import typechecker

# Modules with their checks take longer to compile than to run: their bytecode is kept, also for the commands that tests
# start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
typechecker.install()

pytest_plugins = ["flux_weights"]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Numbers of the published implementation: KISS3D_PARITY_DIR, or the project's copy."""
    return Path(os.environ.get("KISS3D_PARITY_DIR", ROOT / "tests" / "fixtures" / "parity"))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    """Random models in the published layouts, for `models.root`. Tests that change them take a copy."""
    from make_checkpoints import MODELS, SEED

    root = tmp_path_factory.mktemp("models")
    for write in MODELS.values():
        write(root, "tiny", SEED)
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """No test reads or fills the user's own cache of kiss3d."""
    monkeypatch.setenv("KISS3D_CACHE", str(tmp_path / "kiss3d-cache"))


def _collect_garbage(*arguments, _collect=gc.collect, _seen=[0], **named):  # noqa: B006 - kept between calls
    """Stages look for garbage at their ends: among a million objects of libraries only once."""
    found = _collect(*arguments, **named)
    # Hypothesis collects to see who still holds a generator: what is frozen is not seen.
    ours = sys._getframe(1).f_globals.get("__name__", "").startswith("kiss3d_cli")
    if ours and len(sys.modules) > _seen[0]:
        gc.freeze()
        _seen[0] = len(sys.modules) + 50
    return found


gc.collect = _collect_garbage


def _sync_nothing(descriptor: int) -> None:
    """No test cuts the power: a killed process leaves what it wrote to the system, synced or not."""
    os.fstat(descriptor)  # what is no open file is refused as before


os.fsync = _sync_nothing
