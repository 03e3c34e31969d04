"""Florence-2: a picture in words (Xiao et al. 2023, arXiv 2311.06242), with the classes of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.pretrained import WEIGHTS, check_module, damage_as_missing, load_module, quiet
from kiss3d_cli.models.store.headers import read_object
from kiss3d_cli.models.store.preflight import Findings

TASK = "<MORE_DETAILED_CAPTION>"
HINT = "get the files again: kiss3d models pull florence2"
VERSION = 1
"""Raised whenever the same picture and weights give other words; part of the key of cached captions."""


@dataclass(frozen=True)
class Caption:
    """What the model said.

    Attributes:
        text: in one line; empty if it found no words.
        search: `beam` or `greedy`: the search that found them, or the last one tried.
    """

    text: str
    search: str


def caption(
    folder: Path,
    picture: UInt8[np.ndarray, "H W 3"],
    *,
    beams: int,
    max_tokens: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Caption:
    """Describe a picture in detail; if beam search finds no words, a greedy search tries once more.

    Args:
        folder: the model's folder in the published layout.
        beams: of the search.
        max_tokens: longest answer; no longer than the model has positions.
        dtype: of the network; float32 on the CPU.

    Raises:
        BadInput: half precision on the CPU.
        Missing: a file is not there, damaged, or of another model.
    """
    from transformers import AutoProcessor, Florence2ForConditionalGeneration

    with damage_as_missing(str(folder), HINT), quiet():
        processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True)
        inputs = processor(text=TASK, images=Image.fromarray(picture), return_tensors="pt")
    model = load_module(Florence2ForConditionalGeneration, folder, device=device, dtype=dtype, hint=HINT)
    inputs = inputs.to(device)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    # the answer begins with a start token, which takes a position too
    longest = min(max_tokens, model.config.text_config.max_position_embeddings - 1)
    text = _generate(model, processor, inputs, beams, longest)
    if text or beams == 1:
        return Caption(text, "beam" if beams > 1 else "greedy")
    return Caption(_generate(model, processor, inputs, 1, longest), "greedy")


def check_files(folders: Mapping[str, Path], findings: Findings) -> None:
    """For `store.preflight`: what `caption` would refuse."""
    from transformers import Florence2ForConditionalGeneration

    folder = folders["florence2"]
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists()), folder / WEIGHTS[0])
    findings.attempt(folder / "config.json", lambda: read_object(folder / "config.json"))
    model = findings.attempt(weights, lambda: check_module(Florence2ForConditionalGeneration, folder))
    pictures = folder / "preprocessor_config.json"
    findings.attempt(pictures, lambda: _check_pictures(pictures))
    findings.attempt(folder / "tokenizer.json", lambda: _check_words(folder, model))


def _check_pictures(path: Path) -> None:
    """Raises Missing if the file does not say what size and colours the network takes: the library would make it up."""
    values = read_object(path)
    missing = [key for key in ("size", "image_mean", "image_std") if key not in values]
    if missing:
        cause = f"the file does not configure the network's pictures: it lacks {', '.join(missing)}"
        raise Missing(cause, place=str(path), hint=HINT)


def _check_words(folder: Path, model: Any) -> None:
    """Raises Missing if the tokenizer can't be read, or has other words than the network."""
    from transformers import AutoProcessor

    with damage_as_missing(str(folder), HINT, Exception), quiet():
        processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True)
    if model is None:
        return
    known = model.get_input_embeddings().weight.shape[0]
    words, sign = len(processor.tokenizer), processor.image_token_id
    if words > known or sign != model.config.image_token_id:
        raise Missing(
            f"it is the tokenizer of another model: it has {words} words, and the picture's is number {sign}; the "
            f"network knows {known}, and the picture's is number {model.config.image_token_id}",
            hint=HINT,
        )


def _generate(model: Any, processor: Any, inputs: Any, beams: int, longest: int) -> str:
    with torch.inference_mode(), quiet():
        tokens = model.generate(**inputs, max_new_tokens=longest, num_beams=beams, do_sample=False)
        found = processor.batch_decode(tokens, skip_special_tokens=True)[0]
    return one_line(found)


def one_line(text: str) -> str:
    """The words of a text, without what is no word: control characters, broken bytes and runs of spaces."""
    return " ".join(
        "".join(sign for sign in text if sign.isprintable() or sign.isspace()).replace("\ufffd", "").split()
    )
