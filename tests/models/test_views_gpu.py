"""The figures of issue 6 on a CUDA device, at the published sizes with random weights (docs/views.md).

KISS3D_FULL_MODELS may name a folder that `make_checkpoints.py --size full` wrote; else it is written for the session.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.views import PARTS, load_memory, measure_caption, measure_steps, measure_views
from kiss3d_cli.core.device import GIB, resolve
from kiss3d_cli.models.zero123plus.pipeline import prepare_unet

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def device():
    return resolve("cuda")


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    given = os.environ.get("KISS3D_FULL_MODELS")
    if given:
        return Path(given)
    from make_checkpoints import MODELS, SEED

    root = tmp_path_factory.mktemp("full")
    for name in ("florence2", "zero123plus"):
        MODELS[name](root, "full", SEED)
    return root


def test_a_caption_takes_less_than_3_gib(full, device):
    seconds, peak = measure_caption(full, device, tokens=1024)
    print(f"\na caption of 1,024 tokens: {seconds:.1f} s, {peak / GIB:.2f} GiB")
    assert peak < 3 * GIB


def test_four_views_take_less_than_6_gib(full, device):
    seconds, peak = measure_views(full, device, tile=512, steps=3)
    print(f"\nfour views in 3 steps: {seconds:.1f} s, {peak / GIB:.2f} GiB")
    assert peak < 6 * GIB


def test_fifty_steps_take_at_most_1_3_times_the_bare_calls(full, device):
    prepare_unet(full / "sudo-ai" / "zero123plus-v1.2", full / "LTT" / "Kiss3DGen" / "flexgen.ckpt")
    steps = measure_steps(full, device, tile=512, steps=50)
    print(f"\n50 steps: {steps.loop:.2f} s, bare calls {steps.bare:.2f} s")
    assert steps.ratio < 1.3


@pytest.mark.parametrize("part", PARTS)
def test_a_load_takes_at_most_1_2_times_the_file_in_host_memory(full, device, part):
    prepare_unet(full / "sudo-ai" / "zero123plus-v1.2", full / "LTT" / "Kiss3DGen" / "flexgen.ckpt")
    share = load_memory(full, part, device)
    print(f"\n{part}: {share:.2f} of the file in host memory")
    assert share < 1.2
