"""Florence-2-large, as the classes of transformers save it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Florence2Config, Florence2ForConditionalGeneration

from checkpoints import vocabulary
from checkpoints.tensors import Spec, specs_of, write_json, write_safetensors

REPOSITORY = "florence-community/Florence-2-large"
IMAGE_SIDE = {"tiny": 64, "full": 768}
TOKENS = {"tiny": 600, "full": 51290}
VISION: dict[str, dict[str, Any]] = {
    "tiny": {"depths": (1, 1, 1, 1), "embed_dim": (16, 16, 32, 32), "num_heads": (2, 2, 4, 4), "window_size": 4},
    "full": {"depths": (1, 1, 9, 1), "embed_dim": (256, 512, 1024, 2048), "num_heads": (8, 16, 32, 64)},
}
TEXT: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 32, "layers": 2, "heads": 4, "hidden": 64, "positions": 128},
    "full": {"d_model": 1024, "layers": 12, "heads": 16, "hidden": 4096, "positions": 4096},
}
DTYPE = torch.float16


def config(size: str, image_token_id: int) -> Florence2Config:
    text, vision = TEXT[size], VISION[size]
    return Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": TOKENS[size],
            "d_model": text["d_model"],
            "max_position_embeddings": text["positions"],
            **{f"{part}_layers": text["layers"] for part in ("encoder", "decoder")},
            **{f"{part}_attention_heads": text["heads"] for part in ("encoder", "decoder")},
            **{f"{part}_ffn_dim": text["hidden"] for part in ("encoder", "decoder")},
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
        },
        vision_config={**vision, "num_groups": vision["num_heads"], "projection_dim": text["d_model"]},
        image_token_id=image_token_id,
    )


def specs(size: str) -> dict[str, Spec]:
    with torch.device("meta"):
        return specs_of(Florence2ForConditionalGeneration(config(size, TOKENS[size] - 1)), DTYPE)


def write(root: Path, size: str, seed: int) -> None:
    folder = root / REPOSITORY
    image_token_id = vocabulary.write_florence(folder, TOKENS[size])
    settings = config(size, image_token_id)
    settings.architectures = ["Florence2ForConditionalGeneration"]
    settings.save_pretrained(folder)
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    beams = {"num_beams": 3, "no_repeat_ngram_size": 3, "early_stopping": True, "forced_eos_token_id": 2}
    write_json(folder / "generation_config.json", {**ids, **beams, "forced_bos_token_id": 0})
    side = IMAGE_SIDE[size]
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": {"height": side, "width": side},
            "do_center_crop": False,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "CLIPImageProcessor",
            # one token for each patch of 32 pixels, one for their mean
            "image_seq_length": (side // 32) ** 2 + 1,
            "image_std": [0.229, 0.224, 0.225],
            "processor_class": "Florence2Processor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": side, "width": side},
        },
    )
    write_json(
        folder / "processor_config.json", {"num_additional_image_tokens": 0, "processor_class": "Florence2Processor"}
    )
    write_safetensors(folder / "model.safetensors", specs(size), seed)
