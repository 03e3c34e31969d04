"""Zero123++ v1.2 and the UNet of FlexGen that takes the place of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from checkpoints import vocabulary
from checkpoints.tensors import Spec, specs_of, write_json, write_pickle, write_safetensors

REPOSITORY = "sudo-ai/zero123plus-v1.2"
FLEXGEN = "LTT/Kiss3DGen"
TOKENS = 77
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
PICTURE = 224
"""Side of what CLIP sees, at either size: the small files are the published ones."""
WIDTH = {"tiny": 32, "full": 1024}
DTYPE = torch.float16
_CROSS, _PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
UNET: dict[str, dict[str, Any]] = {
    "tiny": {"block_out_channels": (16, 32), "attention_head_dim": (2, 4), "layers_per_block": 1, "norm_num_groups": 4},
    "full": {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": (5, 10, 20, 20)},
}
VAE: dict[str, dict[str, Any]] = {
    "tiny": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 256},
    "full": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 768},
}
TEXT: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "full": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
}
VISION: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 56,
    },
    "full": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
}


def unet(size: str) -> UNet2DConditionModel:
    """Stable Diffusion 2.1's, on the meta device."""
    count = len(UNET[size]["block_out_channels"])
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=120,
            cross_attention_dim=WIDTH[size],
            down_block_types=(_CROSS[0],) * (count - 1) + (_PLAIN[0],),
            up_block_types=(_PLAIN[1],) + (_CROSS[1],) * (count - 1),
            use_linear_projection=True,
            upcast_attention=True,
            **UNET[size],
        )


def vae(size: str) -> AutoencoderKL:
    count = len(VAE[size]["block_out_channels"])
    with torch.device("meta"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            latent_channels=4,
            **VAE[size],
        )


def text_config(size: str, tokens: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        **TEXT[size],
        vocab_size=tokens,
        hidden_act="gelu",
        max_position_embeddings=TOKENS,
        projection_dim=WIDTH[size],
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=0,
    )


def vision_config(size: str) -> CLIPVisionConfig:
    return CLIPVisionConfig(**VISION[size], hidden_act="gelu", image_size=PICTURE, projection_dim=WIDTH[size])


def text_specs(size: str, tokens: int) -> dict[str, Spec]:
    with torch.device("meta"):
        found = specs_of(CLIPTextModel(text_config(size, tokens)), DTYPE)
    # published before transformers 5, which left the prefix out
    return {name if name.startswith("text_model.") else f"text_model.{name}": spec for name, spec in found.items()}


def vision_specs(size: str) -> dict[str, Spec]:
    with torch.device("meta"):
        return specs_of(CLIPVisionModelWithProjection(vision_config(size)), DTYPE)


def write(root: Path, size: str, seed: int) -> None:
    folder = root / REPOSITORY
    tokens = vocabulary.write_clip(folder / "tokenizer")
    network, autoencoder = unet(size), vae(size)
    text = text_config(size, 49408 if size == "full" else tokens)
    write_json(folder / "model_index.json", model_index())
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(
        folder / "feature_extractor_vae" / "preprocessor_config.json", FOR_VAE if size == "full" else FOR_TINY_VAE
    )
    write_json(folder / "feature_extractor_clip" / "preprocessor_config.json", FOR_CLIP)
    network.save_config(folder / "unet")
    autoencoder.save_config(folder / "vae")
    _age(folder / "vae" / "config.json")
    text.architectures, vision = ["CLIPTextModel"], vision_config(size)
    vision.architectures = ["CLIPVisionModelWithProjection"]
    text.save_pretrained(folder / "text_encoder")
    vision.save_pretrained(folder / "vision_encoder")
    write_safetensors(folder / "unet" / "diffusion_pytorch_model.safetensors", specs_of(network), seed)
    write_safetensors(
        folder / "vae" / "diffusion_pytorch_model.safetensors", old_names(specs_of(autoencoder, DTYPE)), seed
    )
    write_safetensors(folder / "text_encoder" / "model.safetensors", text_specs(size, text.vocab_size), seed)
    write_safetensors(folder / "vision_encoder" / "model.safetensors", vision_specs(size), seed)
    (root / FLEXGEN).mkdir(parents=True, exist_ok=True)
    write_pickle(root / FLEXGEN / "flexgen.ckpt", specs_of(network), seed + 1)


OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""What diffusers called the layers of the VAE's attention when the model was published."""


def old_names(specs: dict[str, Spec]) -> dict[str, Spec]:
    """A VAE's tensors under the names of that time."""

    def old(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        new = next((new for new in OLD if layer.endswith(f".attentions.0.{new}")), None)
        return name if new is None else f"{layer.removesuffix(new)}{OLD[new]}.{kind}"

    return {old(name): spec for name, spec in specs.items()}


def _age(path: Path) -> None:
    """Take from a VAE's configuration what it did not say then."""
    config = json.loads(path.read_text(encoding="utf-8"))
    later = ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention", "latents_mean", "latents_std")
    kept = {key: value for key, value in config.items() if key not in (*later, "shift_factor")}
    write_json(path, kept)


SCHEDULER = {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "_diffusers_version": "0.24.0",
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "linspace",
    "trained_betas": None,
}
FOR_VAE = {
    "crop_size": {"height": 512, "width": 512},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": 0.5,
    "image_processor_type": "CLIPImageProcessor",
    "image_std": 0.8,
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 512},
}
"""As published, 369 bytes: one number stands for all channels."""
FOR_TINY_VAE = {**FOR_VAE, "crop_size": {"height": 256, "width": 256}, "size": {"shortest_edge": 256}}
"""Half as large: attention to the condition, a sixteenth of the published one's, is most of a tiny network's work."""
FOR_CLIP = {
    **FOR_VAE,
    "crop_size": {"height": PICTURE, "width": PICTURE},
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "resample": 3,
    "size": {"shortest_edge": PICTURE},
}


def model_index() -> dict[str, Any]:
    parts = {
        "feature_extractor_clip": ["transformers", "CLIPImageProcessor"],
        "feature_extractor_vae": ["transformers", "CLIPImageProcessor"],
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "vision_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    }
    ramp = [0.1 + 0.9 * token / (TOKENS - 1) for token in range(TOKENS)]
    return {"_class_name": "Zero123PlusPipeline", "ramping_coefficients": ramp, **parts}
