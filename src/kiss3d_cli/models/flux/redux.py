"""Redux: a picture as words. SigLIP's patches go through two layers into the space of T5's states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.flux.keys import plain_layout
from kiss3d_cli.models.runtime.weights import WeightFile, build, fill

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
    def forward(self, picture: Float[Tensor, "H W 3"]) -> Float[Tensor, "1 L D"]:
        """Args: picture: in [0, 1]. Returns one token for each of SigLIP's patches."""
        parameter = next(self.parameters())
        images = picture.permute(2, 0, 1)[None].float()
        images = functional.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True)
        # 8-bit pixels, as the published processor has them after resizing
        images = (images.clamp(0, 1) * 255).round() / 255 * 2 - 1
        patches = self.vision(pixel_values=images.to(parameter.device, parameter.dtype)).last_hidden_state
        tokens: Tensor = self.down(functional.silu(self.up(patches)))
        return tokens


def load_redux(folder: Path, dtype: torch.dtype) -> ReduxEncoder:
    """Redux from the published folder. Raises Missing if a part is not there or does not fit."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import SiglipVisionConfig, SiglipVisionModel

    place = folder / "image_encoder" / "config.json"
    try:
        config = SiglipVisionConfig.from_dict(_json(place))
        vision = build(lambda: SiglipVisionModel(config))
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise Missing(f"the file does not configure SigLIP: {error}", place=str(place), hint=_HINT) from error
    file = WeightFile(folder / "image_encoder" / "model.safetensors")
    # transformers 4 wrote `vision_model.` before every name, and version 5 has dropped it
    published = all(name.startswith("vision_model.") for name in file.shapes)
    kept = any(name.startswith("vision_model.") for name in vision.state_dict())
    fill(vision, file, plain_layout(file.shapes, "vision_model." if published and not kept else ""), dtype)
    file = WeightFile(folder / "image_embedder" / "diffusion_pytorch_model.safetensors")
    try:
        (wide, narrow), (words, _wide) = file.shapes["redux_up.weight"], file.shapes["redux_down.weight"]
    except (KeyError, ValueError):
        raise Missing("the file does not hold Redux's embedder", place=str(file.path), hint=_HINT) from None
    layers = build(lambda: nn.ModuleDict({"redux_up": nn.Linear(narrow, wide), "redux_down": nn.Linear(wide, words)}))
    fill(layers, file, plain_layout(file.shapes), dtype)
    return ReduxEncoder(vision, layers.get_submodule("redux_up"), layers.get_submodule("redux_down"), config.image_size)


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        return dict(loaded)
    except (OSError, ValueError, TypeError):
        raise Missing("the file is missing or damaged", place=str(path), hint=_HINT) from None
