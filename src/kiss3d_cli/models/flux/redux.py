"""Redux: a picture as words. SigLIP's patches go through two layers into the space of T5's states."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.records import read_json
from kiss3d_cli.models.flux.keys import plain_layout
from kiss3d_cli.models.runtime.weights import Layout, WeightFile, build, fill

_HINT = "download black-forest-labs/FLUX.1-Redux-dev again, or --set bundle.redux=false"


class ReduxEncoder(nn.Module):
    """SigLIP and the Redux embedder.

    Args:
        vision: SiglipVisionModel.
        up, down: the embedder's two layers.
        side: of the square picture that SigLIP sees.
    """

    def __init__(self, vision: nn.Module, up: nn.Module, down: nn.Module, side: int) -> None:
        super().__init__()
        self.vision, self.up, self.down, self.side = vision, up, down, side

    @torch.inference_mode()
    def forward(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "1 L D"]:
        """One token for each of SigLIP's patches. The picture is resized by Pillow, as the published processor does it.

        Args:
            picture: 8-bit sRGB.
        """
        parameter = next(self.parameters())
        resized = np.asarray(Image.fromarray(picture).resize((self.side, self.side), Image.Resampling.BICUBIC))
        images = torch.from_numpy(resized.copy()).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        patches = self.vision(pixel_values=images.to(parameter.device, parameter.dtype)).last_hidden_state
        tokens: Tensor = self.down(functional.silu(self.up(patches)))
        return tokens


Part = tuple[nn.Module, WeightFile, Layout]
"""A network without memory, its file, and where the file has its tensors."""


@dataclasses.dataclass(frozen=True)
class EmptyRedux:
    """Redux before its weights are read. Each part raises Missing if its file is not there or holds something else.

    Attributes:
        vision: SiglipVisionModel, the same one at every call.
        embedder: its two layers, `redux_up` and `redux_down`.
        side: of the square picture that SigLIP sees.
    """

    vision: Callable[[], Part]
    embedder: Callable[[], Part]
    side: int


def empty_redux(folder: Path) -> EmptyRedux:
    """Redux of the published folder, without memory. Raises Missing if its configuration can't be used."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import SiglipVisionConfig, SiglipVisionModel

    place = folder / "image_encoder" / "config.json"
    values = _json(place)
    try:
        config = SiglipVisionConfig.from_dict(values)
        model = build(lambda: SiglipVisionModel(config))
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError, StrictDataclassError) as error:
        raise Missing(f"the file does not configure SigLIP: {error}", place=str(place), hint=_HINT) from error
    if "siglip" not in str(values.get("model_type")):
        raise Missing("the file does not configure SigLIP", place=str(place), hint=_HINT)

    def vision() -> Part:
        file = WeightFile(folder / "image_encoder" / "model.safetensors")
        # transformers 4 wrote `vision_model.` before every name, and version 5 has dropped it
        published = all(name.startswith("vision_model.") for name in file.shapes)
        kept = any(name.startswith("vision_model.") for name in model.state_dict())
        return model, file, plain_layout(file.shapes, "vision_model." if published and not kept else "")

    def embedder() -> Part:
        file = WeightFile(folder / "image_embedder" / "diffusion_pytorch_model.safetensors")
        try:
            (wide, narrow), (words, _wide) = file.shapes["redux_up.weight"], file.shapes["redux_down.weight"]
        except (KeyError, ValueError):
            raise Missing("the file does not hold Redux's embedder", place=str(file.path), hint=_HINT) from None
        model = build(
            lambda: nn.ModuleDict({"redux_up": nn.Linear(narrow, wide), "redux_down": nn.Linear(wide, words)})
        )
        return model, file, plain_layout(file.shapes)

    return EmptyRedux(vision, embedder, config.image_size)


def load_redux(folder: Path, dtype: torch.dtype) -> ReduxEncoder:
    """Redux from the published folder. Raises Missing if a part is not there or does not fit."""
    parts = empty_redux(folder)
    (vision, file, layout), (layers, layers_file, layers_layout) = parts.vision(), parts.embedder()
    fill(vision, file, layout, dtype)
    fill(layers, layers_file, layers_layout, dtype)
    return ReduxEncoder(vision, layers.get_submodule("redux_up"), layers.get_submodule("redux_down"), parts.side)


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = read_json(path)
        return dict(loaded)
    except (OSError, ValueError, TypeError):
        raise Missing("the file is missing or damaged", place=str(path), hint=_HINT) from None
