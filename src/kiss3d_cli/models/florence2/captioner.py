"""Florence-2: a picture in words (Xiao et al. 2023, arXiv 2311.06242), with the classes of transformers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from safetensors import safe_open

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.empty import unfilled
from kiss3d_cli.models.runtime.pretrained import (
    WEIGHTS,
    check_module,
    check_shapes,
    damage_as_missing,
    load_module,
    quiet,
    require_precision,
)
from kiss3d_cli.models.store.headers import check_floats, read_header, read_object
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


class Captioner:
    """The network, loaded once for any number of pictures."""

    def __init__(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> None:
        """Load it.

        Args:
            folder: the model's folder in the published layout.
            dtype: of the network; float32 on the CPU.

        Raises:
            BadInput: half precision on the CPU.
            Missing: a file is not there, damaged, or of another model.
        """
        from transformers import Florence2ForConditionalGeneration

        self._folder = folder
        with damage_as_missing(str(folder), HINT), quiet():
            self._processor = _read_processor(folder)
        path = folder / "model.safetensors"
        with damage_as_missing(str(folder), HINT):
            older = _older_names(path) if path.is_file() else {}
        self._model = (
            _load_older(folder, older, device, dtype)
            if older
            else load_module(Florence2ForConditionalGeneration, folder, device=device, dtype=dtype, hint=HINT)
        )

    def __call__(self, picture: UInt8[np.ndarray, "H W 3"], *, beams: int, max_tokens: int) -> Caption:
        """Describe a picture in detail; if beam search finds no words, a greedy search tries once more.

        Args:
            beams: of the search.
            max_tokens: longest answer; no longer than the model has positions.

        Raises:
            Missing: the processor's files are damaged.
        """
        model, processor = self._model, self._processor
        with damage_as_missing(str(self._folder), HINT), quiet():
            inputs = processor(text=TASK, images=Image.fromarray(picture), return_tensors="pt")
        inputs = inputs.to(model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
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
    model = findings.attempt(
        weights,
        lambda: _check_older(folder, weights) or check_module(Florence2ForConditionalGeneration, folder, stacked=True),
    )
    pictures = folder / "preprocessor_config.json"
    findings.attempt(pictures, lambda: _check_pictures(pictures))
    if not any(fault.path.parent == folder and fault.path.suffix == ".json" for fault in findings.faults):
        # the library reads them all, and does not say which is at fault
        findings.attempt(folder / "tokenizer.json", lambda: _check_words(folder, model))


def _read_processor(folder: Path) -> Any:
    from transformers import Florence2Processor

    class Processor(Florence2Processor):  # type: ignore[misc]
        """Without its description, which the library makes for its log, with every word of the tokenizer: 0.3 s."""

        __repr__ = object.__repr__

    return Processor.from_pretrained(str(folder), local_files_only=True)


def _check_pictures(path: Path) -> None:
    """Raises Missing if the file does not say what size and colours the network takes: the library would make it up."""
    values = read_object(path)
    missing = [key for key in ("size", "image_mean", "image_std") if key not in values]
    if missing:
        cause = f"the file does not configure the network's pictures: it lacks {', '.join(missing)}"
        raise Missing(cause, place=str(path), hint=HINT)


def _check_words(folder: Path, model: Any) -> None:
    """Raises Missing if the tokenizer can't be read, or has other words than the network."""
    with damage_as_missing(str(folder), HINT, Exception), quiet():
        processor = _read_processor(folder)
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


_RENAMED = (
    (r"^language_model\.(lm_head|final_logits_bias)", r"\1"),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^vision_tower\.convs\.(\d+)\.proj\.", r"model.vision_tower.convs.\1.conv."),
    (r"\.(conv[12])\.fn\.dw\.", r".\1."),
    (r"\.(window_attn|channel_attn)\.norm\.", ".norm1."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.(window_attn|channel_attn|ffn)\.fn\.(net\.)?", r".\1."),
    (r"^image_pos_embed\.", "model.multi_modal_projector.image_position_embed."),
    (r"^image_projection$", "model.multi_modal_projector.image_projection.weight"),
    (r"^(image_proj_norm|visual_temporal_embed)\.", r"model.multi_modal_projector.\1."),
    (r"^vision_tower\.", "model.vision_tower."),
)
"""From the names of the code that came with the weights, before transformers had the class."""
_TIED = ("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "final_logits_bias")


_PROJECTION = "model.multi_modal_projector.image_projection.weight"
"""It was no layer, but a matrix to multiply by: its sides change places."""


def _older_names(path: Path) -> dict[str, str]:
    """The class's names of the stored tensors, by the names of older files; empty for a newer one."""
    with safe_open(path, framework="pt") as file:
        return _renamed(file.keys())


def _renamed(names: Iterable[str]) -> dict[str, str]:
    names = list(names)
    if not any(name.startswith("language_model.model.") for name in names):
        return {}
    renamed = {}
    for name in names:
        new = name
        for pattern, replacement in _RENAMED:
            new = re.sub(pattern, replacement, new)
        renamed[name] = new
    return renamed


def _check_older(folder: Path, path: Path) -> Any:
    """The network without memory, where a file has the older names and fits; None if it has the newer ones.

    Raises:
        Missing: tensors are missing, have other shapes or are no floats.
    """
    header = read_header(path)
    names = _renamed(header.shapes)
    if not names:
        return None
    check_floats(header, {new: old for old, new in names.items() if not new.endswith(_TIED)})
    with unfilled():
        model = _empty(folder)
    shapes = {new: header.shapes[old] for old, new in names.items()}
    _fit_older({**shapes, _PROJECTION: shapes.get(_PROJECTION, ())[::-1]}, model, path)
    return model


def _load_older(folder: Path, names: dict[str, str], device: torch.device, dtype: torch.dtype) -> Any:
    """The network from a file with the older names. Raises Missing if tensors are missing or have other shapes."""
    from transformers import GenerationConfig

    require_precision(device, dtype)
    path = folder / "model.safetensors"
    with damage_as_missing(str(path), HINT), quiet():
        model = _empty(folder)
        with safe_open(path, framework="pt") as file:
            state = {new: file.get_tensor(old) for old, new in names.items() if not new.endswith(_TIED)}
        if _PROJECTION in state:
            state[_PROJECTION] = state[_PROJECTION].T
        _fit_older({name: tuple(value.shape) for name, value in state.items()}, model, path)
        model.load_state_dict(state, strict=False)
        model.tie_weights()
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    return model.to(device, dtype).eval().requires_grad_(False)


def _empty(folder: Path) -> Any:
    from transformers import Florence2Config, Florence2ForConditionalGeneration

    with damage_as_missing(str(folder / "config.json"), HINT, Exception):
        return Florence2ForConditionalGeneration(Florence2Config.from_pretrained(str(folder), local_files_only=True))


def _fit_older(shapes: Mapping[str, tuple[int, ...]], model: Any, path: Path) -> None:
    """Raises Missing, naming the first tensors that are missing, extra or misshapen."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items() if not name.endswith(_TIED)}
    found = {name: shape for name, shape in shapes.items() if not name.endswith(_TIED)}
    check_shapes(found, expected, place=str(path), hint=HINT)


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
