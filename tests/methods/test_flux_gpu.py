"""The bundle at full size within 12 GiB of video memory. Needs a CUDA device, 45 GB of disk and some minutes.

KISS3D_FULL_MODELS may name a folder that `make_checkpoints.py --size full` wrote; else it is written for the session.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from bench.flux_gpu import HEAD, Reading, begin, rows, run
from checkpoints.flux import write
from kiss3d_cli.core import device as devices
from kiss3d_cli.core.device import GIB
from kiss3d_cli.core.machine import measure
from pictures import draw_figure

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
LIMIT = 12
WHOLE = 20 * GIB
"""Video memory from which nothing is streamed."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    """A run that prepares the weights, one with them prepared, and one with no limit but the card's."""
    folder = tmp_path_factory.mktemp("full")
    picture, device = draw_figure(folder / "figure.png"), devices.resolve("cuda")
    given = os.environ.get("KISS3D_FULL_MODELS")
    weights = Path(given) if given else folder / "weights"
    if not given:
        write(weights, "full", 0)
    begun, rates = begin(picture, weights, folder), measure(device, seconds=1.0)
    print(f"\n{device.model}: {rates.matrix / 1e12:.1f} TFLOP/s measured, host to device {rates.host / 1e9:.1f} GB/s")
    print(f"| {HEAD} | x counted |")
    found = {}
    for name, limit in {"first": LIMIT, "capped": LIMIT, "resident": None}.items():
        if limit or (device.memory_bytes or 0) > WHOLE:
            found[name] = run(begun, device, limit)
            print("\n".join(rows(found[name], rates)), flush=True)
    return found


def test_peaks_stay_within_the_limits(runs: dict[str, Reading]) -> None:
    for stage in ("prompt", "bundle"):
        assert runs["capped"].stages[stage]["peak_vram_bytes"] < LIMIT * GIB
        assert runs["capped"].stages[stage]["peak_rss_bytes"] < 24 * GIB
    assert runs["capped"].stages["bundle"]["facts"]["streamed_bytes"] > 0


def test_the_first_step_comes_within_15_seconds(runs: dict[str, Reading]) -> None:
    assert runs["capped"].stages["bundle"]["facts"]["seconds_to_first_step"] < 15


def test_streaming_changes_no_bit_and_costs_little(runs: dict[str, Reading]) -> None:
    if "resident" not in runs:
        pytest.skip("the card does not hold all weights at once")
    assert runs["resident"].stages["bundle"]["facts"]["streamed_bytes"] == 0
    bundles = [
        next(a["sha256"] for a in runs[name].stages["bundle"]["artifacts"] if a["path"] == "bundle.png")
        for name in ("capped", "resident")
    ]
    assert bundles[0] == bundles[1]
    assert runs["capped"].seconds_of_steps < 1.15 * runs["resident"].seconds_of_steps


def test_a_step_takes_at_most_half_again_what_its_operations_do(runs: dict[str, Reading]) -> None:
    fastest = runs.get("resident", runs["capped"])
    rate = measure(devices.resolve("cuda"), seconds=1.0).matrix
    assert fastest.seconds_of_steps < 1.5 * fastest.counted / rate
