"""What the files of Flux must hold for `loading`, `redux` and `text`, and how they must fit each other, checked without
reading a tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.folders import entries
from kiss3d_cli.models.flux import keys, networks
from kiss3d_cli.models.flux.comfyui import FluxFiles, flux_files
from kiss3d_cli.models.flux.loading import place_lora_in, transformer_file
from kiss3d_cli.models.flux.published import CONTROLNET_FILE, LORAS
from kiss3d_cli.models.flux.redux import empty_redux
from kiss3d_cli.models.flux.text import CLIP_LENGTH, CLIP_PADDING, T5_LENGTH, T5_PADDING, Tokenizer
from kiss3d_cli.models.runtime.blocks import shallow
from kiss3d_cli.models.runtime.pretrained import require_kind
from kiss3d_cli.models.runtime.weights import Layout, Shape, WeightFile, check_fits, check_fp8
from kiss3d_cli.models.store.headers import check_floats, read_object
from kiss3d_cli.models.store.locate import file_of
from kiss3d_cli.models.store.preflight import Findings

VAE_LEVELS = 4
"""Each but the first halves the picture: 8 pixels along a side of a latent."""


def check_files(folders: Mapping[str, Path], findings: Findings) -> None:
    """For `store.preflight`; those of Flux's models that are in `folders`."""
    parts: dict[str, Any] = {}
    if "flux-dev" in folders:
        sources = flux_files(folders["flux-dev"])
        opened = functools.cache(WeightFile)  # its header is long, and four networks may be in it
        parts = _check_dev(sources, opened, findings)
    if "flux-schnell" in folders:
        parts["schnell"] = _check_schnell(folders["flux-schnell"], findings)
    flux, t5, clip = parts.get("transformer"), parts.get("t5"), parts.get("clip")
    if "flux-controlnet" in folders:
        from diffusers import FluxControlNetModel

        path = file_of(folders["flux-controlnet"], CONTROLNET_FILE)
        config = path.with_name("config.json")
        if path != folders["flux-controlnet"]:  # ComfyUI keeps none; nothing is read of it
            findings.attempt(config, lambda: require_kind(FluxControlNetModel, read_object(config), config))
        control = findings.attempt(path, lambda: check_controlnet(WeightFile(path)))
        if control is not None and flux is not None:
            _same(findings, path, "Flux", _sizes(control), _sizes(flux))
    if "flux-redux" in folders:
        _check_redux(folders["flux-redux"], t5, findings)
    if flux is not None and t5 is not None and clip is not None:
        source, theirs = sources.transformer, [opened(path) for path in (sources.transformer, sources.t5, sources.clip)]
        _same(findings, source, "its T5", _sizes(flux)["words"], t5.config.d_model)
        _same(findings, source, "its CLIP", _sizes(flux)["summary"], clip.config.hidden_size)
        for name, file in LORAS.items():
            if name in folders:
                lora = file_of(folders[name], file)
                findings.attempt(lora, lambda lora=lora: place_lora_in(WeightFile(lora), *theirs))  # type: ignore[misc]
    if "t5-tokenizer" in folders:
        path = folders["t5-tokenizer"] / "tokenizer.json"
        words = None if t5 is None else t5.config.vocab_size
        findings.attempt(path, lambda: _check_words(path, T5_LENGTH, T5_PADDING, words))
    if "clip-tokenizer" in folders:
        path = folders["clip-tokenizer"] / "tokenizer.json"
        words = None if clip is None else clip.config.vocab_size
        findings.attempt(path, lambda: _check_words(path, CLIP_LENGTH, CLIP_PADDING, words, last=True))


def _check_dev(sources: FluxFiles, opened: Callable[[Path], WeightFile], findings: Findings) -> dict[str, Any]:
    """The networks of Flux's file or files, without memory, as far as they are whole; of a file one fault is told."""
    parts: dict[str, Any] = {}
    for name, check in (
        ("transformer", check_transformer),
        ("t5", check_t5),
        ("clip", check_clip),
        ("vae", check_vae),
    ):
        path: Path = getattr(sources, name)
        parts[name] = findings.attempt(path, lambda path=path, check=check: check(opened(path)))  # type: ignore[misc]
    return parts


def _check_schnell(folder: Path, findings: Findings) -> nn.Module | None:
    candidates = [folder] if folder.is_file() else entries(folder, "*.safetensors")
    place = candidates[0] if len(candidates) == 1 else folder
    path = findings.attempt(place, lambda: transformer_file(folder))
    return None if path is None else findings.attempt(path, lambda: check_transformer(WeightFile(path)))


def check_transformer(file: WeightFile) -> nn.Module:
    """FluxTransformer2DModel of a file, without memory. Raises Missing or BadInput where `load_transformer` would."""
    prefix = keys.transformer_prefix(file.shapes)
    if prefix is None:
        raise _other(file, "Flux's transformer")
    layout = keys.transformer_layout(file.shapes, prefix)
    check_fp8(file, layout, "Flux", "")
    return _fitting(networks.transformer, file, layout)


def check_controlnet(file: WeightFile) -> nn.Module:
    """FluxControlNetModel (Union) of a file, without memory. Raises Missing where `load_controlnet` would."""
    if "controlnet_mode_embedder.weight" not in file.shapes:
        raise _other(file, "ControlNet-Union")
    return _fitting(networks.controlnet, file, keys.plain_layout(file.shapes))


def check_t5(file: WeightFile) -> nn.Module:
    """T5EncoderModel of a file, without memory. Raises Missing or BadInput where `load_t5` would."""
    layout = keys.t5_layout(file.shapes)
    model = _fitting(networks.t5_encoder, file, layout)
    check_fp8(file, layout, "T5", "")
    return model


def check_clip(file: WeightFile) -> nn.Module:
    """CLIPTextModel of a file, without memory. Raises Missing where `load_clip` would."""
    return _fitting(networks.clip_encoder, file, keys.clip_layout(file.shapes))


def check_vae(file: WeightFile) -> nn.Module:
    """AutoencoderKL of a file, without memory. Raises Missing where `load_vae` would."""
    model: Any = _fitting(networks.vae, file, keys.vae_layout(file.shapes))
    levels = len(model.config.block_out_channels)
    if levels != VAE_LEVELS:
        raise Missing(f"its VAE has {levels} levels; Flux's has {VAE_LEVELS}", place=str(file.path))
    return model


def _fitting(make: Callable[[dict[str, Shape]], nn.Module], file: WeightFile, layout: Layout) -> nn.Module:
    shapes = layout.shapes(file.shapes)
    stacks = networks.stacks(make, shapes)
    name = {"t5_encoder": "T5", "clip_encoder": "CLIP", "vae": "VAE"}.get(make.__name__, make.__name__)
    try:
        model = make(shallow(shapes, stacks))
    except (KeyError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise Missing(f"it lacks tensors of Flux's {name} (for example {error})", place=str(file.path)) from error
    wanted = check_fits(model, shapes, str(file.path), stacks)
    check_floats(file, {target: place.name for target, place in layout.places.items() if target in wanted}, narrow=True)
    return model


def _check_redux(folder: Path, t5: Any, findings: Findings) -> None:
    config = folder / "image_encoder" / "config.json"
    vision = folder / "image_encoder" / "model.safetensors"
    embedder = folder / "image_embedder" / "diffusion_pytorch_model.safetensors"
    parts = findings.attempt(config, lambda: empty_redux(folder))
    if parts is None:
        return
    for path, part in ((vision, parts.vision), (embedder, parts.embedder)):

        def check(part: Any = part) -> None:
            model, file, layout = part()
            check_fits(model, layout.shapes(file.shapes), str(file.path))
            wanted = model.state_dict()
            check_floats(file, {n: p.name for n, p in layout.places.items() if n in wanted}, narrow=True)

        findings.attempt(path, check)
    found = findings.attempt(embedder, lambda: WeightFile(embedder).shapes)
    if found is not None and t5 is not None:
        _same(findings, embedder, "T5", found["redux_down.weight"][0], t5.config.d_model)
        seen = findings.attempt(vision, lambda: _config(parts.vision()[0]).hidden_size)
        if seen is not None:
            _same(findings, embedder, "the image encoder beside it", found["redux_up.weight"][1], seen)


def _check_words(path: Path, length: int, padding: str, known: int | None, *, last: bool = False) -> None:
    """A tokenizer whose words the network knows.

    Args:
        known: words that the network knows; None if that can't be said.
        last: whether the network takes its last word for the end of a text.
    """
    words = Tokenizer(path, length, padding)
    if known is None:
        return
    most = words.most  # slow: it looks at every word
    if most >= known or (last and most != known - 1):
        raise Missing(
            f"it is the tokenizer of another model: its last word has the number {most}, the network knows {known} "
            "words",
            place=str(path),
        )


def _config(network: Any) -> Any:
    return network.config


def _sizes(network: Any) -> dict[str, int]:
    config = network.config
    return {
        "width": config.num_attention_heads * config.attention_head_dim,
        "channels": config.in_channels,
        "words": config.joint_attention_dim,
        "summary": config.pooled_projection_dim,
    }


def _same(findings: Findings, path: Path, other: str, mine: object, theirs: object) -> None:
    if mine != theirs:
        findings.add(path, f"it does not fit {other}: its sizes are {mine}, the other's {theirs}")


def _other(file: WeightFile, what: str) -> Missing:
    first = ", ".join(list(file.shapes)[:2])
    return Missing(f"it is another model's: it does not hold {what}, but {first}, ...", place=str(file.path))
