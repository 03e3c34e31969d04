"""Zero123++'s networks, each loaded when it is needed: released afterwards for one picture, kept for many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.empty import unfilled
from kiss3d_cli.models.runtime.pretrained import load_module, load_weights, quiet, read_json
from kiss3d_cli.models.zero123plus.preprocess import FeatureExtractor

HINT = "get the files again: kiss3d models pull zero123plus flexgen"


class Networks:
    """The text encoder, the vision encoder, the VAE and the UNet in one dtype.

    Attributes:
        folder: the model's folder in the published layout.
        dtype: of the networks.
    """

    def __init__(
        self, folder: Path, unet_weights: Path, *, device: torch.device, dtype: torch.dtype, keep: bool = False
    ) -> None:
        """Nothing is loaded yet.

        Args:
            unet_weights: as safetensors; see `pipeline.prepare_unet`.
            keep: for the pictures after the first. The vision encoder waits for them in host memory.
        """
        self.folder, self.dtype = folder, dtype
        self._unet_weights, self._device, self._keep = unet_weights, device, keep
        self._text: Tensor | None = None
        self._ramp: Tensor | None = None
        self._vision: Any = None
        self._vae: Any = None
        self._unet: Any = None

    def in_float32(self) -> Networks:
        """The same networks in float32, for one picture; these here are let go but for the text."""
        self._vision = self._vae = self._unet = None
        return Networks(self.folder, self._unet_weights, device=self._device, dtype=torch.float32)

    @property
    def _where(self) -> dict[str, Any]:
        return {"device": self._device, "dtype": self.dtype, "hint": HINT}

    def embeddings(self, picture: UInt8[np.ndarray, "S S 3"]) -> tuple[Float[Tensor, "1 T D"], Float[Tensor, "1 T D"]]:
        """The empty prompt's, and the same with the picture's added, token by token along a ramp."""
        from transformers import CLIPVisionModelWithProjection

        text, ramp = self._prompt()
        vision = self._vision
        if vision is None:
            vision = load_module(CLIPVisionModelWithProjection, self.folder, subfolder="vision_encoder", **self._where)
        vision.to(self._device)
        pixels = FeatureExtractor.read(self.folder / "feature_extractor_clip", HINT)(picture)
        seen = vision(pixels.to(self._device, self.dtype)).image_embeds[:, None]
        self._vision = vision.to("cpu") if self._keep else None
        return text, text + seen * ramp

    def vae(self) -> Any:
        from diffusers import AutoencoderKL

        vae = self._vae
        if vae is None:
            vae = load_module(AutoencoderKL, self.folder, subfolder="vae", **self._where)
        self._vae = vae if self._keep else None
        return vae

    def unet(self, empty: Any) -> Any:
        """The UNet with its weights. Args: empty: as of `empty_unet`, to be filled."""
        if self._unet is None:
            load_weights(empty, self._unet_weights, **self._where)
            self._unet = empty
        return self._unet

    def let_unet_go(self) -> None:
        """It has done its part for this picture."""
        if not self._keep:
            self._unet = None

    def _prompt(self) -> tuple[Tensor, Tensor]:
        """The empty prompt's embedding and the ramp; the text encoder is not needed again."""
        from transformers import CLIPTextModel

        if self._text is not None and self._ramp is not None:
            return self._text, self._ramp
        tokens = read_tokenizer(self.folder)
        ramp = read_ramp(self.folder, tokens.shape[1])
        encoder = load_module(CLIPTextModel, self.folder, subfolder="text_encoder", **self._where)
        self._text = encoder(tokens.to(self._device)).last_hidden_state
        self._ramp = torch.tensor(ramp, device=self._device, dtype=self.dtype)[:, None]
        return self._text, self._ramp


def read_tokenizer(folder: Path) -> Tensor:
    """(1, T) The empty prompt in words, padded to the length of CLIP. Raises Missing if there is no such tokenizer."""
    from transformers import CLIPTokenizer

    place = folder / "tokenizer"
    try:
        with quiet():
            tokenizer = CLIPTokenizer.from_pretrained(str(place), local_files_only=True)
        length = tokenizer.model_max_length
        words: Tensor = tokenizer(
            "", padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
    except Exception as error:  # the tokenizers' own errors have no class but this
        raise Missing(f"the tokenizer can't be read: {error}", place=str(place), hint=HINT) from error
    return words


def read_ramp(folder: Path, words: int) -> list[float]:
    """By how much each word's embedding takes the picture's. Raises Missing if there is not one for each."""
    path = folder / "model_index.json"
    ramp = read_json(path, HINT).get("ramping_coefficients")
    if not isinstance(ramp, list) or len(ramp) != words or not all(isinstance(share, int | float) for share in ramp):
        cause = "the file is damaged: it has no ramping coefficient for each token"
        raise Missing(cause, place=str(path), hint=HINT)
    return ramp


def empty_unet(folder: Path) -> Any:
    """The UNet of the folder's config without memory for its weights."""
    from diffusers import UNet2DConditionModel

    config = read_json(folder / "unet" / "config.json", HINT)
    with unfilled():
        return UNet2DConditionModel.from_config(config)
