"""What a step and the VAE need beside their weights, counted on the published sizes: tensors without memory."""

from __future__ import annotations

import json
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kiss3d_cli.models.flux import keys, latents, networks
from kiss3d_cli.models.flux.denoise import Control, Prompt, denoise, working_bytes
from kiss3d_cli.models.flux.schedule import Schedule
from kiss3d_cli.models.runtime.fp8 import FP8, Fp8Linear, Fp8Weight

HALF = torch.bfloat16
WORDS = 512 + 729
LIBRARIES = 2**29


class Peak(TorchDispatchMode):
    """The most bytes of new tensors that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[int] = set()
        self._alive = 0
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    self._alive += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.bytes = max(self.bytes, self._alive)
        return result

    def _freed(self, storage: int, size: int) -> None:
        self._known.remove(storage)
        self._alive -= size


def in_fp8(model: nn.Module) -> nn.Module:
    model.to(HALF)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            codes = torch.empty(layer.weight.shape, dtype=FP8, device="meta")
            bias = None if layer.bias is None else layer.bias.detach()
            model.set_submodule(name, Fp8Linear(Fp8Weight(codes), bias))
    return model


def acted_upon(name: str) -> bool:
    """Whether a tensor of the transformer belongs to none but the first 5 double and 10 single blocks."""
    block = re.search(r"(double|single)_blocks\.(\d+)\.", name)
    return block is None or int(block[2]) < {"double": 5, "single": 10}[block[1]]


@pytest.fixture(scope="module")
def published(parity_dir: Path) -> dict[str, nn.Module]:
    def shapes(name: str) -> dict[str, tuple[int, ...]]:
        stored = json.loads((parity_dir / "flux" / name).read_text(encoding="utf-8"))
        return {name: tuple(shape) for name, shape in stored.items()}

    # A block's tensors are gone when the next one begins: as many are kept as the ControlNet adds to, one each.
    flux = {name: shape for name, shape in shapes("flux1_dev_fp8_names_shapes.json").items() if acted_upon(name)}
    return {
        "transformer": in_fp8(networks.transformer(keys.transformer_layout(flux, keys.TRANSFORMER).shapes(flux))),
        "controlnet": in_fp8(networks.controlnet(shapes("controlnet_union_names_shapes.json"))),
        "vae": networks.vae(keys.vae_layout(flux).shapes(flux)).to(HALF),
    }


@pytest.fixture(autouse=True)
def _attention_without_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; without a device torch takes the method that makes all scores at once."""

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_rest: object) -> torch.Tensor:
        return torch.empty_like(query)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", attention)


@pytest.mark.parametrize("tile", [320, 512])
@pytest.mark.parametrize("controls", [0, 1, 3])
def test_a_step_needs_what_is_counted(published: dict[str, nn.Module], tile: int, controls: int) -> None:
    count = 8 * tile**2 // 256
    with torch.device("meta"):
        places, start = torch.empty(count, 3), torch.empty(1, count, 64)
        prompt = Prompt(torch.empty(1, WORDS, 4096, dtype=HALF), torch.empty(1, 768, dtype=HALF))
    acting = [Control(mode, start, 0.6, 0, 1) for mode in ("tile", "canny", "depth")[:controls]]
    pair, schedule = (published["transformer"], published["controlnet"]), Schedule("euler", (1.0, 0.0))
    with Peak() as peak:
        denoise(*pair, schedule, start, prompt, acting, places, 3.5, HALF)
    counted = working_bytes(WORDS + 1 + count, count, 3072, 15 if controls else 0, controls, HALF) - LIBRARIES
    assert 0.65 * counted < peak.bytes < counted


@pytest.mark.parametrize("tile", [320, 512])
def test_the_vae_needs_less_than_is_counted(published: dict[str, nn.Module], tile: int) -> None:
    """Convolutions take workspaces of their own: the count has room for them."""
    height, width = 2 * tile, 4 * tile
    counted = latents.decode_bytes(height * width, HALF)
    with Peak() as peak:
        latents.decode(published["vae"], torch.empty(1, height * width // 256, 64, device="meta"), height, width)
    assert 0.5 * counted < peak.bytes < 0.8 * counted
    with Peak() as peak:
        latents.encode(published["vae"], torch.empty(height, width, 3, device="meta"))
    assert peak.bytes < 0.8 * counted
