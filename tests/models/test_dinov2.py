"""DINOv2 as the encoder of views, with random weights in the published layout."""

from __future__ import annotations

import shutil

import pytest
import torch

from checkpoints import dinov2
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.models.dinov2.features import Features
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.described import described_by
from kiss3d_cli.models.wavemesh.network import WaveMesh
from wavemesh_objects import random_views


@pytest.fixture(scope="module")
def folder(tiny_models):
    return tiny_models / dinov2.REPOSITORY


def test_features_are_those_of_the_library_and_stand_where_their_patches_are(folder):
    from transformers import Dinov2Model

    describe = Features(folder, torch.device("cpu"))
    assert describe.width == 32
    rgb = torch.rand(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    found = describe(rgb, 5)
    normal = (rgb - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        wanted = Dinov2Model.from_pretrained(folder)(normal).last_hidden_state[:, 1:]
    assert torch.allclose(found, wanted, atol=1e-4)
    changed = rgb.clone()
    changed[:, :, 14:28, 42:56] = 0
    apart = (describe(changed, 5) - found).norm(dim=-1)
    assert apart.argmax(1).tolist() == [8, 8]
    assert describe(rgb, 8).shape == (2, 64, 32)


def test_it_stays_frozen_and_what_is_trained_leaves_it_out(folder):
    describe = Features(folder, torch.device("cpu"))
    config = WaveMeshConfig(resolution=16, widths=(16, 16), patch_width=16, layers=1, lifted=8, frozen=32)
    network = WaveMesh(config)
    images = random_views(2).described(describe, config.patches)
    assert images.features is not None
    assert not images.features.requires_grad
    seen = network.encoder(images)
    seen.tokens.square().sum().backward()
    assert bool(network.encoder.frozen.weight.grad.any())
    assert not any("dinov2" in name or tuple(value.shape)[:1] == (96,) for name, value in network.state_dict().items())
    assert images.rows([1]).features.shape == (1, 4, 64, 32)


def test_files_of_another_model_and_none_are_said(folder, tmp_path):
    with pytest.raises(Missing, match=r"model\.safetensors"):
        Features(tmp_path, torch.device("cpu"))
    shutil.copytree(folder, tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Missing) as caught:
        Features(tmp_path / "cut", torch.device("cpu"))
    assert "kiss3d models pull dinov2" in str(caught.value.hint)


def test_training_takes_it_where_it_is_asked_for(tiny_models, tmp_path):
    assert described_by("own", tiny_models, "cpu") is None
    assert described_by("auto", tiny_models, "cpu") is None  # on two cores it would be most of the work
    assert described_by("frozen", tiny_models, "cpu").width == 32
    with pytest.raises(Missing, match="dinov2"):
        described_by("frozen", tmp_path, "cpu")
    with pytest.raises(BadInput, match="no features vgg"):
        described_by("vgg", tiny_models, "cpu")
