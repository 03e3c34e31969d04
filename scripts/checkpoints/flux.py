"""Tiny random weights for the bundle stage, in the layouts of the published files: the all-in-one fp8 file, the fp8
transformer alone, ControlNet-Union, Redux, the bundle LoRA and the two tokenizers.

Names come from the full published lists under tests/fixtures; only sizes and the number of blocks are smaller.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file

from checkpoints.spheres import open_gates, wire_embedder, wire_painting, wire_siglip
from checkpoints.wired import wire_controlnet, wire_lora, wire_transformer, wire_vae
from kiss3d_cli.models.runtime.weights import Entry, file_header

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
SLIM_VAE_SIZES = {128: 32, 256: 32, 512: 32}
WIRED_VAE_SIZES = {128: 96, 256: 32, 512: 96}
"""At the finest and coarsest levels `wire_vae` passes colours through a norm: three channels in each of 32 groups."""
T5_SIZES = {4096: T5_WIDTH, 10240: 64, 64: 4, 32128: WORDS}
CLIP_SIZES = {768: CLIP_WIDTH, 3072: 128, 49408: WORDS}
BLOCKS = 2
LORA_RANK = 4


def write(
    root: Path,
    size: str,
    seed: int,
    *,
    wired: bool = True,
    vae_sizes: Mapping[int, int] | None = None,
    schnell: bool = False,
) -> None:
    """Write every model of the bundle stage below `root`, as `<owner>/<repository>/<file>`.

    Args:
        size: `tiny`; `full` for the published sizes, 25 GB, for runs on a GPU; or
            `hollow`, which is `full` with zeros that take no room on the disk.
        vae_sizes: channels of the VAE's levels by the published ones; what is tiny by default.
        schnell: write the merge with schnell at full size too, 12 GB.
        wired: give a few tiny tensors the values of `checkpoints.wired`, so that what comes out is a bundle.
    """
    if size != "tiny":
        _write_full(root, seed, hollow=size == "hollow", schnell=schnell)
        return
    random = torch.Generator().manual_seed(seed)
    published = _list("flux1_dev_fp8_names_shapes.json")
    everything = _all_in_one(published, random, vae_sizes or (WIRED_VAE_SIZES if wired else VAE_SIZES))
    if wired:
        wire_transformer(everything, "model.diffusion_model.")
        wire_painting(everything, "model.diffusion_model.", "text_encoders.t5xxl.transformer.")
        wire_vae(everything, "vae.")
    _save(root / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors", everything)
    prefix = "model.diffusion_model."
    alone = {n.removeprefix(prefix): t.clone() for n, t in everything.items() if n.startswith(prefix)}
    merge = root / "drbaph" / "FLUX.1-schnell-dev-merged-fp8"
    _save(merge / "FLUX.1-schnell-dev-merged-fp8.safetensors", alone)
    _controlnet(root / "InstantX" / "FLUX.1-dev-Controlnet-Union", random, wired=wired)
    _redux(root / "black-forest-labs" / "FLUX.1-Redux-dev", random, wired=wired)
    kiss3dgen = root / "LTT" / "Kiss3DGen"
    for name in ("rgb_normal.safetensors", "rgb_normal_redux.safetensors"):
        lora = kohya_lora({n: tuple(t.shape) for n, t in alone.items()}, random)
        if wired:
            wire_lora(lora)
            if name.endswith("_redux.safetensors"):
                open_gates(lora)
        _save(kiss3dgen / name, lora)
    _tokenizers(root, WORDS, WORDS)


PATTERN = 2**20
"""Random numbers that a full-size tensor repeats: more would take minutes to draw and nothing would come of it."""


def _write_full(root: Path, seed: int, *, hollow: bool, schnell: bool) -> None:
    pattern = torch.randn(PATTERN, generator=torch.Generator().manual_seed(seed))

    def entry(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Entry:
        def make() -> torch.Tensor:
            count = math.prod(shape)
            few = _sized(name, shape, pattern[: min(PATTERN, count)]).to(dtype)
            return few.repeat(-(-count // few.numel()))[:count].reshape(shape)

        return Entry(name, dtype, shape, make)

    def save(path: Path, entries: list[Entry]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        head, size = file_header(entries)
        with path.open("wb") as stream:
            stream.write(head)
            if hollow:  # ends where it should, but only the header was ever written
                stream.truncate(len(head) + size)
                return
            for one in entries:
                stream.write(one.make().reshape(-1).view(torch.uint8).numpy().data)

    published = _list("flux1_dev_fp8_names_shapes.json")
    kinds = {"vae.": torch.float32, CLIP_L: torch.float16}
    dtypes = {name: next((d for prefix, d in kinds.items() if name.startswith(prefix)), FP8) for name in published}
    beside = {name: make(768) for name, make in BESIDE.items()}
    everything = [
        *(entry(name, shape, dtypes[name]) for name, shape in published.items()),
        *(Entry(n, t.dtype, tuple(t.shape), lambda t=t: t) for n, t in beside.items()),  # type: ignore[misc]
    ]
    controlnet = _list("controlnet_union_names_shapes.json")
    folder = root / "InstantX" / "FLUX.1-dev-Controlnet-Union"
    prefix = "model.diffusion_model."
    transformer = {n.removeprefix(prefix): s for n, s in published.items() if n.startswith(prefix)}
    files = {
        root / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors": everything,
        folder / "diffusion_pytorch_model.safetensors": [entry(n, s, torch.bfloat16) for n, s in controlnet.items()],
    }
    if schnell:
        merge = root / "drbaph" / "FLUX.1-schnell-dev-merged-fp8" / "FLUX.1-schnell-dev-merged-fp8.safetensors"
        files[merge] = [entry(name, shape, FP8) for name, shape in transformer.items()]
    with ThreadPoolExecutor() as pool:  # what takes the time lets the interpreter go on
        list(pool.map(save, files, files.values()))
    _json(folder / "config.json", controlnet_config(24, 128, 5, 10, words=4096, summary=768))
    random = torch.Generator().manual_seed(seed)
    _redux(root / "black-forest-labs" / "FLUX.1-Redux-dev", random, full=True)
    lora = kohya_lora(transformer, random, rank=16)
    for name in ("rgb_normal.safetensors", "rgb_normal_redux.safetensors"):
        _save(root / "LTT" / "Kiss3DGen" / name, lora)
    _tokenizers(root, t5_words=32128, clip_words=49408)


def _tokenizers(root: Path, t5_words: int, clip_words: int) -> None:
    write_tokenizer(root / "google-t5" / "t5-small" / "tokenizer.json", t5_words, t5=True)
    write_tokenizer(root / "openai" / "clip-vit-large-patch14" / "tokenizer.json", clip_words, t5=False)


def _list(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((LISTS / name).read_text(encoding="utf-8")).items()}


def _tensor(name: str, shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    return _sized(name, shape, torch.randn(shape, generator=random))


def _sized(name: str, shape: tuple[int, ...], values: torch.Tensor) -> torch.Tensor:
    """Weights that keep the size of what passes through: norms about 1, biases small, matrices by their inputs."""
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
        # float32, but on bfloat16's grid, as they were when runs of the published pipeline were recorded with them
        **{n: t.float() for n, t in _shrink(published, "vae.", vae_sizes, torch.bfloat16, random, _one_resnet).items()},
        **_shrink(published, "text_encoders.t5xxl.", T5_SIZES, FP8, random, _few),
        **_shrink(published, "text_encoders.clip_l.", CLIP_SIZES, torch.float16, random, _few),
        **{name: make(CLIP_WIDTH) for name, make in BESIDE.items()},
    }


CLIP_L = "text_encoders.clip_l."
BESIDE: Mapping[str, Callable[[int], torch.Tensor]] = {
    f"{CLIP_L}transformer.text_projection.weight": lambda width: torch.eye(width, dtype=torch.float16),
    f"{CLIP_L}logit_scale": lambda _width: torch.tensor(4.6055, dtype=torch.float16),
    f"{CLIP_L}transformer.text_model.embeddings.position_ids": lambda _width: torch.arange(77)[None],
    "text_encoders.t5xxl.logit_scale": lambda _width: torch.tensor(4.6055, dtype=torch.float16),
}
"""What the all-in-one file holds besides the networks that are used, by the width of CLIP."""


def _controlnet(folder: Path, random: torch.Generator, *, wired: bool) -> None:
    published = _list("controlnet_union_names_shapes.json")

    def first(name: str) -> bool:
        match = re.search(r"blocks\.(\d+)\.", name)
        return match is None or int(match[1]) < 1

    state = _shrink(published, "", TRANSFORMER_SIZES, torch.bfloat16, random, first)
    if wired:
        wire_controlnet(state)
    _save(folder / "diffusion_pytorch_model.safetensors", state)
    config = controlnet_config(HEADS, WIDTH // HEADS, 1, 1, words=T5_WIDTH, summary=CLIP_WIDTH)
    _json(folder / "config.json", config)


def controlnet_config(
    heads: int, head: int, double_blocks: int, single_blocks: int, *, words: int, summary: int
) -> dict[str, object]:
    """The published `config.json` of ControlNet-Union, with these sizes."""
    spatial = head * 7 // 16
    return {
        "_class_name": "FluxControlNetModel",
        "_diffusers_version": "0.30.0.dev0",
        "attention_head_dim": head,
        "axes_dims_rope": [head - 2 * spatial, spatial, spatial],
        "guidance_embeds": True,
        "in_channels": 64,
        "joint_attention_dim": words,
        "num_attention_heads": heads,
        "num_layers": double_blocks,
        "num_mode": 10,
        "num_single_layers": single_blocks,
        "patch_size": 1,
        "pooled_projection_dim": summary,
    }


REDUX_SIZES = {
    False: {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 70,
        "patch_size": 14,
    },
    True: {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
}


def _redux(folder: Path, random: torch.Generator, *, full: bool = False, wired: bool = False) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(**REDUX_SIZES[full])
    seen, words = config.hidden_size, 4096 if full else T5_WIDTH
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in SiglipVisionModel(config).state_dict().items()}
    # published by transformers 4, which put `vision_model.` before every name
    state = {
        f"vision_model.{name.removeprefix('vision_model.')}": _tensor(name, shape, random).bfloat16()
        for name, shape in shapes.items()
    }
    if wired:
        wire_siglip(state)
    _save(folder / "image_encoder" / "model.safetensors", state)
    sizes = {key: getattr(config, key) for key in REDUX_SIZES[full]}
    _json(folder / "image_encoder" / "config.json", dict(sorted({**SIGLIP, **sizes}.items())))
    side = {"height": config.image_size, "width": config.image_size}
    _json(folder / "feature_extractor" / "preprocessor_config.json", {**SIGLIP_PICTURES, "size": side})
    shapes = {
        "redux_up.weight": (3 * words, seen),
        "redux_up.bias": (3 * words,),
        "redux_down.weight": (words, 3 * words),
        "redux_down.bias": (words,),
    }
    embedder = {name: _tensor(name, shape, random).bfloat16() for name, shape in shapes.items()}
    if wired:
        wire_embedder(embedder)
    _save(folder / "image_embedder" / "diffusion_pytorch_model.safetensors", embedder)
    sizes = {"redux_dim": seen, "txt_in_features": words}
    _json(
        folder / "image_embedder" / "config.json",
        {"_class_name": "ReduxImageEncoder", "_diffusers_version": "0.32.0.dev0", **sizes},
    )


SIGLIP = {
    "_name_or_path": "google/siglip-so400m-patch14-384",
    "architectures": ["SiglipVisionModel"],
    "attention_dropout": 0.0,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-06,
    "model_type": "siglip_vision_model",
    "num_channels": 3,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.47.0.dev0",
}
SIGLIP_PICTURES = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "SiglipProcessor",
    "resample": 3,
    "rescale_factor": 1 / 255,
}


def kohya_lora(
    shapes: Mapping[str, tuple[int, ...]], random: torch.Generator, strength: float = 0.05, rank: int = LORA_RANK
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
            up = torch.randn(rows, rank, generator=random) * (strength / rank**0.5)
            down = torch.randn(rank, columns, generator=random) / columns**0.5
            state[f"{layer}.lora_up.weight"] = up.half()
            state[f"{layer}.lora_down.weight"] = down.half()
            state[f"{layer}.alpha"] = torch.tensor(float(rank)).half()
    return state


def write_tokenizer(path: Path, words: int, *, t5: bool) -> None:
    """A tokenizer that takes every byte for a word, with the ends of T5 or of CLIP."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    if t5:
        vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{letter: i + 3 for i, letter in enumerate(letters)}}
    else:
        vocabulary = {letter: i for i, letter in enumerate(letters)}
        vocabulary |= {"<|startoftext|>": words - 2, "<|endoftext|>": words - 1}
        vocabulary |= {f"<unused{i}>": i for i in range(len(letters), words - 2)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if t5:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    else:
        ends = [("<|startoftext|>", words - 2), ("<|endoftext|>", words - 1)]
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
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
