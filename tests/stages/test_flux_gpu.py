"""The bundle at full size within 12 GiB of video memory. Needs a CUDA device, 45 GB of disk and some minutes."""

from __future__ import annotations

import json

import pytest
import torch

from checkpoints.flux import write
from kiss3d_cli.core import device as devices
from kiss3d_cli.core.device import GIB
from kiss3d_cli.core.machine import measure
from kiss3d_cli.pipeline.launch import Request, prepare, start
from kiss3d_cli.pipeline.work import CONTROLNET, FLUX, transformer_flops
from pictures import draw_figure

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SETTINGS = ("bundle.method=flux", "bundle.tile=320", "bundle.steps=14", "bundle.scheduler=heun")
LIMIT = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict]]:
    """Manifests of a run that prepares the weights, one with them prepared, and one with no limit but the card's."""
    device = devices.resolve("cuda")
    assert device.memory_bytes is not None
    folder = tmp_path_factory.mktemp("full")
    root, picture = folder / "weights", draw_figure(folder / "figure.png")
    write(root, "full", 0)
    found = {}
    free = device.memory_bytes / GIB * 0.95
    for name, limit in (("first", LIMIT), ("capped", LIMIT), ("resident", free)):
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit * GIB / device.memory_bytes))
        settings = (*SETTINGS, f"models.root={root}", f"device.memory_limit={limit}")
        request = Request(picture=picture, preset="draft", settings=settings, out=folder / name, until="bundle")
        finished = start(prepare(request))
        records = [json.loads(p.read_text()) for p in finished.folder.path.glob("[0-9][0-9]-*/manifest.json")]
        found[name] = {record["stage"]: record for record in records}
    return found


def test_peaks_stay_within_the_limits(runs: dict) -> None:
    for stage in ("prompt", "bundle"):
        assert runs["capped"][stage]["peak_vram_bytes"] < LIMIT * GIB
        assert runs["capped"][stage]["peak_rss_bytes"] < 24 * GIB
    assert runs["capped"]["bundle"]["facts"]["streamed_bytes"] > 0
    assert runs["resident"]["bundle"]["facts"]["streamed_bytes"] == 0


def test_the_first_step_comes_within_15_seconds(runs: dict) -> None:
    assert runs["capped"]["bundle"]["facts"]["seconds_to_first_step"] < 15


def test_streaming_changes_no_bit_and_costs_little(runs: dict) -> None:
    bundles = [
        next(a["sha256"] for a in runs[name]["bundle"]["artifacts"] if a["path"] == "bundle.png")
        for name in ("capped", "resident")
    ]
    assert bundles[0] == bundles[1]
    capped, resident = (runs[name]["bundle"]["facts"]["seconds_of_steps"] for name in ("capped", "resident"))
    assert capped < 1.15 * resident


def test_a_step_takes_at_most_half_again_what_its_operations_do(runs: dict) -> None:
    rate = measure(devices.resolve("cuda"), seconds=1.0).matrix
    counted = 27 * transformer_flops(FLUX, 4441) + 18 * transformer_flops(CONTROLNET, 4442)
    assert runs["resident"]["bundle"]["facts"]["seconds_of_steps"] < 1.5 * counted / rate
