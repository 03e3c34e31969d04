"""A chat model in the layout of Qwen2, for the expansion of captions."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from checkpoints import vocabulary
from checkpoints.tensors import specs_of, write_json, write_safetensors

REPOSITORY = "Qwen/Qwen2-7B-Instruct"


def write(root: Path, size: str, seed: int) -> None:
    """Tiny only: the expansion is off by default, and its real size is any chat model's."""
    if size != "tiny":
        return
    folder = root / REPOSITORY
    tokens = vocabulary.write_chat(folder)
    config = Qwen2Config(
        vocab_size=tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(folder)
    write_json(folder / "generation_config.json", GENERATION)
    with torch.device("meta"):
        found = specs_of(Qwen2ForCausalLM(config), torch.bfloat16)
    shards = [f"model-{number + 1:05}-of-{SHARDS:05}.safetensors" for number in range(SHARDS)]
    place = {name: shards[index * SHARDS // len(found)] for index, name in enumerate(found)}
    for shard in shards:
        write_safetensors(folder / shard, {name: spec for name, spec in found.items() if place[name] == shard}, seed)
    total = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in found.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))},
    )


SHARDS = 4
GENERATION = {
    "bos_token_id": 0,
    "pad_token_id": 0,
    "do_sample": True,
    "eos_token_id": [2, 0],
    "repetition_penalty": 1.05,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
}
