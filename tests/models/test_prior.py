"""The prior's network and weights: what a mirror, other threads and damaged files do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save

from kiss3d_cli.core.errors import DamagedRun, Missing
from kiss3d_cli.models.prior import weights
from kiss3d_cli.models.prior.inference import predict
from kiss3d_cli.models.prior.network import SIZE, Prior, PriorConfig, base_depth
from kiss3d_cli.models.prior.weights import export, load

TINY = PriorConfig((16, 16, 24), (1, 1, 1), 1)


def random_prior(seed=0):
    torch.manual_seed(seed)
    network = Prior(TINY).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def picture(seed=0):
    rng = np.random.default_rng(seed)
    rgba = torch.from_numpy(rng.random((4, SIZE, SIZE))).float()
    return rgba, torch.from_numpy(rng.random((SIZE, SIZE))).float()


@pytest.mark.parametrize("widest", [24, 104])  # three heads of 32 channels can't share 104
def test_an_untrained_prior_says_the_inflation_the_picture_and_a_facing_normal(widest):
    rgba, base = picture()
    answer = Prior(PriorConfig((16, 16, widest), (1, 1, 1), 1)).eval()(rgba[None], base[None])
    assert torch.equal(answer.depth, base_depth(base[None]))
    assert torch.equal(answer.back, rgba[None, :3])
    assert torch.equal(answer.normals[0, 2], torch.ones(SIZE, SIZE))
    assert torch.allclose(answer.depth[0, 0] - answer.depth[0, 1], 2 * base, atol=1e-6)


def test_a_mirrored_picture_gives_the_mirrored_shape():
    network = random_prior()
    rgba, base = picture()
    said, turned = predict(network, rgba, base), predict(network, rgba.flip(-1), base.flip(-1))
    for key in ("residual", "confidence", "back", "gap"):
        assert torch.equal(getattr(said, key), getattr(turned, key).flip(-1)), key
    assert torch.equal(said.left, turned.right.flip(-1))
    assert torch.equal(said.normals[0], -turned.normals[0].flip(-1))


def test_a_symmetric_picture_gives_a_symmetric_shape():
    rgba, base = picture()
    half = slice(0, SIZE // 2)
    rgba[..., SIZE // 2 :] = rgba[..., half].flip(-1)
    base[..., SIZE // 2 :] = base[..., half].flip(-1)
    said = predict(random_prior(), rgba, base)
    assert torch.equal(said.residual, said.residual.flip(-1))
    assert float(said.residual.abs().max()) > 0.01


def test_the_same_bytes_on_one_thread_and_on_two():
    network = random_prior()
    rgba, base = picture()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(predict(network, rgba, base))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(vars(found[0]).values(), vars(found[1]).values(), strict=True))


def test_where_the_prior_expects_to_be_wrong_the_inflation_stays():
    network = random_prior()
    with torch.no_grad():
        network.head.bias.reshape(-1, 16)[2:4] = 40.0  # the spread's channels
    said = predict(network, *picture())
    assert float(said.confidence.max()) == 0


def test_exported_weights_load_to_what_was_exported(tmp_path):
    network = random_prior()
    sha256 = export(tmp_path / "w.safetensors", TINY, network.state_dict())
    loaded = load(tmp_path / "w.safetensors")
    assert loaded.sha256 == sha256
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name].half().float()), name


@pytest.mark.parametrize("fault", ["bytes", "format", "config", "tensor", "nan"])
def test_damaged_weights_are_refused(tmp_path, fault):
    path = tmp_path / "w.safetensors"
    tensors = {name: value.clone() for name, value in random_prior().state_dict().items()}
    described = {"format": weights.FORMAT, "config": json.dumps(TINY.as_dict())}
    if fault == "format":
        described["format"] = "another"
    elif fault == "config":
        described["config"] = json.dumps({"widths": [1, 2], "blocks": [1, 1, 1], "attention": 0})
    elif fault == "tensor":
        del tensors["head.weight"]
    elif fault == "nan":
        tensors["head.weight"][0] = torch.nan
    path.write_bytes(b"\x00" * 64 if fault == "bytes" else save(tensors, described))
    with pytest.raises(DamagedRun, match="can't be read"):
        load(path)


def test_missing_weights_and_other_weights_than_the_release_has(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PACKAGED", tmp_path / "w.safetensors")
    monkeypatch.setattr(weights, "SHA256", tmp_path / "w.sha256")
    with pytest.raises(Missing, match="not there"):
        load()
    export(tmp_path / "w.safetensors", TINY, random_prior().state_dict())
    (tmp_path / "w.sha256").write_text("0" * 64)
    with pytest.raises(DamagedRun, match="not those of this release"):
        load()
