"""Tiny random weights for the bundle stage, in the layouts of the published files: the all-in-one fp8 file, the fp8
transformer alone, ControlNet-Union, Redux, the bundle LoRA and the two tokenizers.

Names come from the full published lists under tests/fixtures; only sizes and the number of blocks are smaller.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from checkpoints.wired import wire_controlnet, wire_lora, wire_transformer, wire_vae

LISTS = Path(__file__).parents[2] / "tests" / "fixtures" / "parity" / "flux"
FP8 = torch.float8_e4m3fn

WIDTH, HEADS, T5_WIDTH, CLIP_WIDTH, WORDS = 128, 4, 48, 64, 512
TRANSFORMER_SIZES = {
    3072: WIDTH,
    6144: 2 * WIDTH,
    9216: 3 * WIDTH,
    12288: 4 * WIDTH,
    15360: 5 * WIDTH,
    18432: 6 * WIDTH,
    21504: 7 * WIDTH,
    4096: T5_WIDTH,
    768: CLIP_WIDTH,
    128: WIDTH // HEADS,
}
VAE_SIZES = {128: 32, 256: 64, 512: 96}
WIRED_VAE_SIZES = {128: 96, 256: 96, 512: 96}
T5_SIZES = {4096: T5_WIDTH, 10240: 64, 64: 4, 32128: WORDS}
CLIP_SIZES = {768: CLIP_WIDTH, 3072: 128, 49408: WORDS}
BLOCKS = 2
LORA_RANK = 4


def write(root: Path, size: str, seed: int, *, wired: bool = True) -> None:
    """Write every model of the bundle stage below `root`, as `<owner>/<repository>/<file>`.

    Args:
        wired: give a few tiny tensors the values of `checkpoints.wired`, so that what comes out is a bundle.
    """
    assert size == "tiny"
    random = torch.Generator().manual_seed(seed)
    published = _list("flux1_dev_fp8_names_shapes.json")
    everything = _all_in_one(published, random, WIRED_VAE_SIZES if wired else VAE_SIZES)
    if wired:
        wire_transformer(everything, "model.diffusion_model.")
        wire_vae(everything, "vae.")
    _save(root / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors", everything)
    prefix = "model.diffusion_model."
    alone = {n.removeprefix(prefix): t.clone() for n, t in everything.items() if n.startswith(prefix)}
    merge = root / "drbaph" / "FLUX.1-schnell-dev-merged-fp8"
    _save(merge / "FLUX.1-schnell-dev-merged-fp8.safetensors", alone)
    _controlnet(root / "InstantX" / "FLUX.1-dev-Controlnet-Union", random, wired=wired)
    _redux(root / "black-forest-labs" / "FLUX.1-Redux-dev", random)
    kiss3dgen = root / "LTT" / "Kiss3DGen"
    for name in ("rgb_normal.safetensors", "rgb_normal_redux.safetensors"):
        lora = kohya_lora({n: tuple(t.shape) for n, t in alone.items()}, random)
        if wired:
            wire_lora(lora)
        _save(kiss3dgen / name, lora)
    write_tokenizer(root / "google-t5" / "t5-small" / "tokenizer.json", t5=True)
    write_tokenizer(root / "openai" / "clip-vit-large-patch14" / "tokenizer.json", t5=False)


def _list(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((LISTS / name).read_text()).items()}


def _tensor(name: str, shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Weights that keep the size of what passes through: norms about 1, biases small, matrices by their inputs."""
    values = torch.randn(shape, generator=random)
    if len(shape) == 1:
        return 1 + 0.05 * values if re.search(r"norm|\.scale$|ln_", name) and "bias" not in name else 0.02 * values
    inputs = math.prod(shape[1:])
    if re.search(r"embed|shared|relative", name):
        return 0.5 * values
    return values / inputs**0.5


def _shrink(
    published: Mapping[str, tuple[int, ...]],
    prefix: str,
    sizes: Mapping[int, int],
    dtype: torch.dtype,
    random: torch.Generator,
    keep: Callable[[str], bool] = lambda _name: True,
) -> dict[str, torch.Tensor]:
    return {
        name: _tensor(name, tuple(sizes.get(size, size) for size in shape), random).to(dtype)
        for name, shape in published.items()
        if name.startswith(prefix) and keep(name)
    }


def _few(name: str) -> bool:
    """Whether a tensor belongs to one of the first blocks."""
    match = re.search(r"(?:blocks|\.block|\.layers)\.(\d+)\.", name)
    return match is None or int(match[1]) < BLOCKS


def _one_resnet(name: str) -> bool:
    """Whether a tensor of the VAE is there too if each level has one residual block less."""
    return re.search(r"down\.\d\.block\.1\.|up\.\d\.block\.2\.", name) is None


def _all_in_one(
    published: Mapping[str, tuple[int, ...]], random: torch.Generator, vae_sizes: Mapping[int, int]
) -> dict[str, torch.Tensor]:
    return {
        **_shrink(published, "model.diffusion_model.", TRANSFORMER_SIZES, FP8, random, _few),
        **_shrink(published, "vae.", vae_sizes, torch.bfloat16, random, _one_resnet),
        **_shrink(published, "text_encoders.t5xxl.", T5_SIZES, FP8, random, _few),
        **_shrink(published, "text_encoders.clip_l.", CLIP_SIZES, torch.float16, random, _few),
        "text_encoders.clip_l.transformer.text_projection.weight": torch.eye(CLIP_WIDTH, dtype=torch.float16),
    }


def _controlnet(folder: Path, random: torch.Generator, *, wired: bool) -> None:
    published = _list("controlnet_union_names_shapes.json")

    def first(name: str) -> bool:
        match = re.search(r"blocks\.(\d+)\.", name)
        return match is None or int(match[1]) < 1

    state = _shrink(published, "", TRANSFORMER_SIZES, torch.bfloat16, random, first)
    if wired:
        wire_controlnet(state)
    _save(folder / "diffusion_pytorch_model.safetensors", state)
    config = {
        "_class_name": "FluxControlNetModel",
        "attention_head_dim": WIDTH // HEADS,
        "guidance_embeds": True,
        "in_channels": 64,
        "joint_attention_dim": T5_WIDTH,
        "num_attention_heads": HEADS,
        "num_layers": 1,
        "num_mode": 10,
        "num_single_layers": 1,
        "pooled_projection_dim": CLIP_WIDTH,
    }
    _json(folder / "config.json", config)


def _redux(folder: Path, random: torch.Generator) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in SiglipVisionModel(config).state_dict().items()}
    # published by transformers 4, which put `vision_model.` before every name
    state = {
        f"vision_model.{name.removeprefix('vision_model.')}": _tensor(name, shape, random).bfloat16()
        for name, shape in shapes.items()
    }
    _save(folder / "image_encoder" / "model.safetensors", state)
    _json(folder / "image_encoder" / "config.json", {**config.to_dict(), "architectures": ["SiglipVisionModel"]})
    _json(
        folder / "feature_extractor" / "preprocessor_config.json",
        {"size": {"height": 56, "width": 56}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    )
    shapes = {
        "redux_up.weight": (3 * T5_WIDTH, 32),
        "redux_up.bias": (3 * T5_WIDTH,),
        "redux_down.weight": (T5_WIDTH, 3 * T5_WIDTH),
        "redux_down.bias": (T5_WIDTH,),
    }
    embedder = {name: _tensor(name, shape, random).bfloat16() for name, shape in shapes.items()}
    _save(folder / "image_embedder" / "diffusion_pytorch_model.safetensors", embedder)
    _json(folder / "image_embedder" / "config.json", {"redux_dim": 32, "txt_in_features": T5_WIDTH})


def kohya_lora(
    shapes: Mapping[str, tuple[int, ...]], random: torch.Generator, strength: float = 0.05
) -> dict[str, torch.Tensor]:
    """A LoRA on every linear layer of every block, named as kohya's trainer does.

    Args:
        shapes: of the original transformer's tensors.
        strength: size of the change relative to the weight.
    """
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 2 and re.match(r"(double|single)_blocks\.", name):
            layer = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            rows, columns = shape
            up = torch.randn(rows, LORA_RANK, generator=random) * (strength / LORA_RANK**0.5)
            down = torch.randn(LORA_RANK, columns, generator=random) / columns**0.5
            state[f"{layer}.lora_up.weight"] = up.half()
            state[f"{layer}.lora_down.weight"] = down.half()
            state[f"{layer}.alpha"] = torch.tensor(float(LORA_RANK)).half()
    return state


def write_tokenizer(path: Path, *, t5: bool) -> None:
    """A tokenizer that takes every byte for a word, with the ends of T5 or of CLIP."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    if t5:
        vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{letter: i + 3 for i, letter in enumerate(letters)}}
    else:
        vocabulary = {letter: i for i, letter in enumerate(letters)}
        vocabulary |= {"<|startoftext|>": WORDS - 2, "<|endoftext|>": WORDS - 1}
        vocabulary |= {f"<unused{i}>": i for i in range(len(letters), WORDS - 2)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if t5:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    else:
        ends = [("<|startoftext|>", WORDS - 2), ("<|endoftext|>", WORDS - 1)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|startoftext|> $A <|endoftext|>", special_tokens=ends
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def _save(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})


def _json(path: Path, values: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")
