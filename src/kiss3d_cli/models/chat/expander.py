"""A chat model of transformers that expands a caption to four views."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kiss3d_cli.core.device import generators
from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.florence2.captioner import one_line
from kiss3d_cli.models.runtime.pretrained import WEIGHTS, check_module, damage_as_missing, load_module, quiet
from kiss3d_cli.models.store.preflight import Findings

SYSTEM_PROMPT = (
    "You write prompts for a picture that shows one object from four sides. You are given a caption of its front. "
    "Answer with one line of plain English, at most 90 words, and nothing else: name the object, then say what is seen "
    "from the front, from the left, from the back and from the right, in this order. Keep the materials and colours of "
    "the caption, make up only what must be there, and say nothing of a background, of light or of a camera."
)
_LIKELIEST: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


class Expander:
    """The model, loaded once for any number of captions."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        memory_limit: int | None = None,
    ) -> None:
        """Load it.

        Args:
            folder: a chat model's folder.
            name: the model's name on the hub, for messages.
            memory_limit: bytes of video memory that may be used; what does not fit is kept in host memory. None: no
                limit.

        Raises:
            BadInput: half precision on the CPU.
            Missing: a file is not there or damaged, or the model is no chat model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        hint = f"get the files again: kiss3d models pull {name}, or use --set caption.expand=false"
        with damage_as_missing(str(folder), hint), quiet():
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if not self._tokenizer.chat_template:
            raise Missing(
                "the model has no chat template: it is not a chat model",
                place="caption.expand_model",
                hint="use --set caption.expand_model=Qwen/Qwen2-7B-Instruct",
            )
        self._model = load_module(
            AutoModelForCausalLM, folder, device=device, dtype=dtype, hint=hint, memory_limit=memory_limit
        )

    def __call__(self, caption: str, *, temperature: float, max_tokens: int, seed: int) -> str:
        """A caption of four views, in one line; empty if the model found no words.

        Args:
            temperature: of the choice among words; the rest of it is as the model's `generation_config.json` says. 0:
                no choice, the likeliest word.
            max_tokens: longest answer.
            seed: of the choice; the same words come on the same kind of device.
        """
        model, tokenizer = self._model, self._tokenizer
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": caption}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        chosen = {"do_sample": True, "temperature": temperature} if temperature > 0 else _LIKELIEST
        with torch.inference_mode(), quiet(), torch.random.fork_rng(generators(model.device)):
            torch.manual_seed(seed)
            tokens = model.generate(**inputs.to(model.device), max_new_tokens=max_tokens, **chosen)
            answer = tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return one_line(answer)


def check_files(folders: Mapping[str, Path], findings: Findings) -> None:
    """For `store.preflight`: what `Expander` would refuse, of the one chat model in `folders`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (folder,) = folders.values()
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists()), folder / WEIGHTS[0])
    index = folder / f"{weights.name}.index.json"

    def check_words() -> None:
        with damage_as_missing(str(folder), "", Exception), quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if not tokenizer.chat_template:
            raise Missing("the model has no chat template: it is not a chat model")

    findings.attempt(
        index if index.exists() and not weights.exists() else weights,
        lambda: check_module(AutoModelForCausalLM, folder),
    )
    findings.attempt(folder / "tokenizer_config.json", check_words)
