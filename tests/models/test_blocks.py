"""What a network of many blocks holds is known from its first two, and every block is still looked at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.flux import networks
from kiss3d_cli.models.runtime import pretrained
from kiss3d_cli.models.runtime.blocks import deep, shallow
from kiss3d_cli.models.runtime.empty import unfilled
from kiss3d_cli.models.runtime.weights import check_fits

DEPTH = 5


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def flux() -> torch.nn.Module:
    from diffusers import FluxTransformer2DModel

    sizes = {"attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 24, "pooled_projection_dim": 8}
    return FluxTransformer2DModel(
        num_layers=DEPTH, num_single_layers=DEPTH + 2, in_channels=4, axes_dims_rope=(2, 6, 8), **sizes
    )


def t5() -> torch.nn.Module:
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "vocab_size": 20}
    return T5EncoderModel(T5Config(num_layers=DEPTH, feed_forward_proj="gated-gelu", **sizes))


def clip_config() -> dict[str, Any]:
    sizes = {"hidden_size": 64, "intermediate_size": 32, "num_attention_heads": 1, "vocab_size": 20}
    return {"model_type": "clip_text_model", "num_hidden_layers": DEPTH, **sizes}


def clip() -> torch.nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**clip_config()))


@pytest.mark.parametrize(
    ("make", "whole"), [(networks.transformer, flux), (networks.t5_encoder, t5), (networks.clip_encoder, clip)]
)
def test_two_blocks_tell_what_all_hold(make: Any, whole: Any) -> None:
    with unfilled():
        expected = shapes_of(whole())
    stacks = networks.stacks(make, expected)
    assert stacks
    assert DEPTH in stacks.values()
    assert len(shallow(expected, stacks)) < len(expected) / 1.5
    model = make(shallow(expected, stacks))
    assert deep(shapes_of(model), stacks) == expected
    assert deep(shallow(expected, stacks), stacks) == expected
    assert check_fits(model, expected, "file", stacks) == expected
    for name in [name for name in expected if "guidance" not in name][::-9]:  # some of every block
        found = {other: shape for other, shape in expected.items() if other != name}
        assert networks.stacks(make, found) == stacks, "a block that lacks a tensor is a block"
        with pytest.raises(Missing, match=f"{re.escape(name)} is missing"):
            check_fits(model, found, "file", stacks)


def test_a_stack_that_lacks_a_block_is_made_whole() -> None:
    with unfilled():
        expected = shapes_of(clip())
    found = {name: shape for name, shape in expected.items() if ".layers.1." not in name}
    assert networks.stacks(networks.clip_encoder, found) == {}
    with pytest.raises(Missing, match=r"encoder\.layers\.1\."):
        check_fits(networks.clip_encoder(found), found, "file")


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A text encoder of five blocks in a folder."""
    (tmp_path / "config.json").write_text(json.dumps(clip_config()))
    save_file(dict(clip().state_dict()), tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("number", range(DEPTH))
def test_every_block_of_a_folder_is_looked_at(clip_folder: Path, number: int) -> None:
    from transformers import CLIPTextModel

    assert shapes_of(pretrained.check_module(CLIPTextModel, clip_folder))
    state = dict(clip().state_dict())
    lost = next(name for name in state if f"layers.{number}.mlp.fc2.weight" in name)
    save_file({name: value for name, value in state.items() if name != lost}, clip_folder / "model.safetensors")
    with pytest.raises(Missing, match=rf"layers\.{number}\.mlp\.fc2"):
        pretrained.check_module(CLIPTextModel, clip_folder)
    save_file({**state, lost: state[lost].T.contiguous()}, clip_folder / "model.safetensors")
    with pytest.raises(Missing, match=rf"of another shape.*layers\.{number}\.mlp\.fc2"):
        pretrained.check_module(CLIPTextModel, clip_folder)


def test_florence_of_two_blocks_tells_what_all_hold() -> None:
    from transformers import Florence2Config, Florence2ForConditionalGeneration

    text = {"encoder_layers": DEPTH, "decoder_layers": DEPTH + 1, "d_model": 16, "vocab_size": 30}
    text |= {"encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "encoder_attention_heads": 1, "decoder_attention_heads": 1}
    vision = {"depths": [1], "embed_dim": [16], "num_heads": [1], "num_groups": [1], "projection_dim": 16}
    vision |= {"patch_size": [3], "patch_stride": [2], "patch_padding": [1], "patch_prenorm": [False]}
    config = {"model_type": "florence2", "text_config": text, "vision_config": vision}
    config = Florence2Config.from_dict(config).to_dict()
    with unfilled():
        expected = shapes_of(Florence2ForConditionalGeneration(Florence2Config.from_dict(config)))
    made = pretrained._all_there(Florence2ForConditionalGeneration, config, expected, True)
    assert len(shapes_of(made)) < len(expected)
    assert config["text_config"]["encoder_layers"] == DEPTH, "the caller's configuration stays as it was"
    for name in (name for name in expected if "fc1.weight" in name):
        found = {other: shape for other, shape in expected.items() if other != name}
        assert pretrained._all_there(Florence2ForConditionalGeneration, config, found, True) is None
