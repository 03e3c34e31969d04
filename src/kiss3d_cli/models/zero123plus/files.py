"""What the published folder and the UNet must be for `pipeline.draw_views`, checked without reading a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.convert import check_converted
from kiss3d_cli.models.runtime.pretrained import check_module, check_shapes, damage_as_missing, quiet, require_kind
from kiss3d_cli.models.store.headers import read_object
from kiss3d_cli.models.store.preflight import Findings
from kiss3d_cli.models.zero123plus.networks import HINT, empty_unet, read_ramp, read_tokenizer
from kiss3d_cli.models.zero123plus.pipeline import read_scheduler
from kiss3d_cli.models.zero123plus.preprocess import FeatureExtractor
from kiss3d_cli.models.zero123plus.published import UNET_FILE


def check_files(folders: Mapping[str, Path], findings: Findings) -> None:
    """For `store.preflight`."""
    folder = folders.get("zero123plus")
    unet = None
    if folder is not None:
        unet = _check_folder(folder, findings)
    if "flexgen" in folders and (unet is not None or folder is None):
        source = folders["flexgen"] / UNET_FILE
        wanted = {} if unet is None else {name: tuple(value.shape) for name, value in unet.state_dict().items()}

        def fits(found: Mapping[str, tuple[int, ...]]) -> None:
            if wanted:
                check_shapes(dict(found), wanted, place=str(source), hint=HINT)

        findings.attempt(source, lambda: check_converted(source, entry=None, prefix="", check=fits, hint=HINT))


def _check_folder(folder: Path, findings: Findings) -> Any:
    """The UNet, without memory; None if its configuration can't be used."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

    def read(name: str) -> Any:
        return findings.attempt(folder / name, lambda: read_object(folder / name))

    if read("scheduler/scheduler_config.json") is not None:
        findings.attempt(folder / "scheduler/scheduler_config.json", lambda: read_scheduler(folder))
    for name in ("feature_extractor_vae", "feature_extractor_clip"):
        path = folder / name / "preprocessor_config.json"
        findings.attempt(path, lambda name=name: FeatureExtractor.read(folder / name, HINT))  # type: ignore[misc]
    networks = {}
    for part, kind, file in (
        ("text_encoder", CLIPTextModel, "model.safetensors"),
        ("vision_encoder", CLIPVisionModelWithProjection, "model.safetensors"),
        ("vae", AutoencoderKL, "diffusion_pytorch_model.safetensors"),
    ):
        if read(f"{part}/config.json") is not None:
            networks[part] = findings.attempt(
                folder / part / file,
                lambda kind=kind, part=part: check_module(kind, folder, subfolder=part, stacked=True),  # type: ignore[misc]
            )
    words = findings.attempt(folder / "tokenizer" / "vocab.json", lambda: read_tokenizer(folder))
    text, vision = networks.get("text_encoder"), networks.get("vision_encoder")
    merges = folder / "tokenizer" / "merges.txt"
    findings.attempt(merges, lambda: _check_merges(merges, folder / "tokenizer" / "vocab.json"))
    if words is not None:
        ramp = folder / "model_index.json"
        findings.attempt(ramp, lambda: read_ramp(folder, words.shape[1]))
        known = None if text is None else text.get_input_embeddings().weight.shape[0]
        if known is not None and int(words.max()) >= known:
            findings.add(folder / "tokenizer/vocab.json", f"it has more words than the text encoder, which has {known}")
    unet = None
    if read("unet/config.json") is not None:
        with quiet():
            unet = findings.attempt(folder / "unet/config.json", lambda: _unet(folder))
    if unet is not None and text is not None and vision is not None:
        width = unet.config.cross_attention_dim
        for part, found in (
            ("text_encoder", text.config.hidden_size),
            ("vision_encoder", vision.config.projection_dim),
        ):
            if found != width:
                path = folder / part / "config.json"
                findings.add(path, f"its network gives {found} numbers a word, the UNet takes {width}")
    return unet


def _unet(folder: Path) -> Any:
    from diffusers import UNet2DConditionModel

    path = folder / "unet/config.json"
    require_kind(UNet2DConditionModel, read_object(path), path)
    with damage_as_missing(str(path), HINT, Exception):
        return empty_unet(folder)


SINGLE = 2 * 256 + 2
"""Words of CLIP that no merge makes: every byte, alone and at the end of a word, and the two ends of a text."""


def _check_merges(path: Path, vocabulary: Path) -> None:
    """Raises Missing if the merges do not make the vocabulary's words: a text file says nothing of where it ends."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    known = read_object(vocabulary)
    words = len(known)
    if words < SINGLE or not {"<|startoftext|>", "<|endoftext|>"} <= known.keys():
        raise Missing("it is not the vocabulary of CLIP", place=str(vocabulary), hint=HINT)
    if len(lines) + SINGLE != words or not all(len(line.split()) == 2 for line in lines):
        cause = f"it is cut short, or of another tokenizer: {len(lines)} merges do not make {words} words"
        raise Missing(cause, place=str(path), hint=HINT)
