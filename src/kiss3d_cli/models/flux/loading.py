"""Flux's networks from published files. They come as views of mapped files in host memory; `offload` moves them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.folders import entries
from kiss3d_cli.models.flux import keys, networks, prepare
from kiss3d_cli.models.flux.lora import fold_module, read_lora
from kiss3d_cli.models.flux.lora_names import LoraLayer, Network, place_lora
from kiss3d_cli.models.runtime.weights import Layout, Shape, WeightFile, check_fits, check_fp8, fill

DEV_FILE = "flux1-dev-fp8.safetensors"
_DEV_HINT = f"use {DEV_FILE} of Comfy-Org/flux1-dev: kiss3d models pull flux-dev"
_SCHNELL_HINT = "use the file of drbaph/FLUX.1-schnell-dev-merged-fp8: kiss3d models pull flux-schnell"
_CONTROLNET_HINT = (
    "use diffusion_pytorch_model.safetensors of InstantX/FLUX.1-dev-Controlnet-Union: "
    "kiss3d models pull flux-controlnet"
)

Progress = Callable[[float], None]


def quiet(_fraction: float) -> None:
    """Progress that nobody watches."""


def transformer_file(folder: Path) -> Path:
    """The file of a folder that holds Flux's transformer, or that file itself. Raises Missing if none does."""
    if folder.is_file():
        return folder
    candidates = entries(folder, "*.safetensors")
    for path in candidates:
        if keys.transformer_prefix(WeightFile(path).shapes) is not None:
            return path
    raise Missing("no file there holds Flux's transformer", place=str(folder), hint=_SCHNELL_HINT)


def load_transformer(
    source: Path,
    lora: Path | None,
    scale: float,
    dtype: torch.dtype,
    *,
    device: torch.device,
    progress: Progress = quiet,
) -> nn.Module:
    """FluxTransformer2DModel in fp8, with a LoRA folded in; what was folded before is mapped from disk.

    Args:
        source: the all-in-one file, or one of the transformer alone.
        lora: the LoRA's file.
        scale: of the LoRA.
        dtype: of the activations and of what is not in fp8.
        device: where to fold, if it must be done.

    Raises:
        BadInput: weights that are not in fp8, or a LoRA that does not fit.
        Missing: a damaged file, or one that holds something else.
    """
    file, hint = WeightFile(source), _DEV_HINT if source.name == DEV_FILE else _SCHNELL_HINT
    prefix = keys.transformer_prefix(file.shapes)
    if prefix is None:
        raise Missing("the file does not hold Flux's transformer", place=str(source), hint=hint)
    with _place(source):
        layout = keys.transformer_layout(file.shapes, prefix)
    check_fp8(file, layout, "Flux", hint)
    if lora is None or scale == 0 or not _changes(lora, "transformer"):
        return _filled(networks.transformer, file, layout, dtype, hint)
    target = prepare.prepared_path(
        source, {"source": file_identity(source), "lora": file_identity(lora), "scale": scale}
    )

    def fold() -> None:
        _check_whole(networks.transformer, layout.shapes(file.shapes), source, hint)
        changes = read_lora(WeightFile(lora), "transformer", layout.shapes(file.shapes))
        prepare.fold_transformer(file, layout, changes, scale, target, device, progress)

    return _from_prepared(networks.transformer, target, fold, dtype)


def load_controlnet(source: Path, dtype: torch.dtype, *, progress: Progress = quiet) -> nn.Module:
    """FluxControlNetModel (Union) with its blocks in fp8, whatever it was published in."""
    file = WeightFile(source)
    layout = keys.plain_layout(file.shapes)
    if "controlnet_mode_embedder.weight" not in file.shapes:
        raise Missing("the file does not hold ControlNet-Union", place=str(source), hint=_CONTROLNET_HINT)
    if all(file.dtypes[p.name] == "F8_E4M3" for n, p in layout.places.items() if n.endswith("attn.to_q.weight")):
        return _filled(networks.controlnet, file, layout, dtype, _CONTROLNET_HINT)
    target = prepare.prepared_path(source, {"source": file_identity(source)})

    def narrow() -> None:
        _check_whole(networks.controlnet, layout.shapes(file.shapes), source, _CONTROLNET_HINT)
        prepare.narrow_controlnet(file, layout, target, progress)

    return _from_prepared(networks.controlnet, target, narrow, dtype)


def load_t5(
    source: Path,
    dtype: torch.dtype,
    *,
    lora: Path | None = None,
    scale: float = 1.0,
    device: torch.device | None = None,
) -> nn.Module:
    """T5EncoderModel of the all-in-one file, its matrices in fp8, its norms and relative bias wide.

    Args:
        lora: the LoRA's file; what it changes of T5, which is rare, is folded in.
        scale: of the LoRA.
        device: where to fold; None for the CPU.
    """
    file = WeightFile(source)
    layout = keys.t5_layout(file.shapes)
    _checked(networks.t5_encoder, layout.shapes(file.shapes), source)
    check_fp8(file, layout, "T5", _DEV_HINT)  # before it is filled: a scale of rows is no number
    model = _filled(networks.t5_encoder, file, layout, dtype)
    if lora is not None and scale != 0 and _changes(lora, "t5"):
        fold_module(
            model, read_lora(WeightFile(lora), "t5", layout.shapes(file.shapes)), scale, device or torch.device("cpu")
        )
    return model


def load_clip(source: Path, dtype: torch.dtype, *, lora: Path | None = None, scale: float = 1.0) -> nn.Module:
    """CLIPTextModel of the all-in-one file, with what a LoRA changes of it folded in. See `load_t5` for the rest."""
    file = WeightFile(source)
    layout = keys.clip_layout(file.shapes)
    if lora is None or scale == 0 or not _changes(lora, "clip"):
        return _filled(networks.clip_encoder, file, layout, dtype)
    model = _filled(networks.clip_encoder, file, layout, torch.float32)  # rounded once, after the change
    changes = read_lora(WeightFile(lora), "clip", layout.shapes(file.shapes))
    fold_module(model, changes, scale, torch.device("cpu"))
    return model.to(dtype)


def check_lora(lora: Path, transformer: Path, t5: Path, clip: Path) -> list[LoraLayer]:
    """Where every tensor of a LoRA belongs; only headers are read.

    Args:
        lora: the LoRA's file.
        transformer, t5, clip: the files of the networks, which are commonly one.

    Raises:
        BadInput: a LoRA that does not fit, with every kind of fault in one message.
        Missing: a damaged file, or one that holds something else.
    """
    files = {path: WeightFile(path) for path in {transformer, t5, clip}}
    return place_lora_in(WeightFile(lora), files[transformer], files[t5], files[clip])


def place_lora_in(lora: WeightFile, flux: WeightFile, words: WeightFile, summary: WeightFile) -> list[LoraLayer]:
    """`check_lora` of files that are open: the LoRA's, the transformer's, T5's and CLIP's."""
    prefix = keys.transformer_prefix(flux.shapes)
    if prefix is None:
        raise Missing("the file does not hold Flux's transformer", place=str(flux.path), hint=_DEV_HINT)
    with _place(flux.path):
        layout = keys.transformer_layout(flux.shapes, prefix)
    return place_lora(
        lora,
        {
            "transformer": layout.shapes(flux.shapes),
            "t5": keys.t5_layout(words.shapes).shapes(words.shapes),
            "clip": keys.clip_layout(summary.shapes).shapes(summary.shapes),
        },
    )


def _changes(lora: Path, network: Network) -> bool:
    return any(layer.target.network == network for layer in place_lora(WeightFile(lora), {}))


def load_vae(source: Path, dtype: torch.dtype) -> nn.Module:
    """AutoencoderKL of the all-in-one file, wide."""
    file = WeightFile(source)
    layout = keys.vae_layout(file.shapes)
    model = _checked(networks.vae, layout.shapes(file.shapes), source)
    fill(model, file, layout, dtype, widen_linears=True)
    return model


def file_identity(path: Path) -> str:
    """Content hash of a file in the hub's cache, which names files by it; else its name, size and time."""
    target = path.resolve()
    if target.parent.name == "blobs":
        return target.name
    status = target.stat()
    return f"{path.name}-{status.st_size}-{status.st_mtime_ns}"


def _filled(
    make: Callable[[dict[str, Shape]], nn.Module],
    file: WeightFile,
    layout: Layout,
    dtype: torch.dtype,
    hint: str = _DEV_HINT,
) -> nn.Module:
    model = _checked(make, layout.shapes(file.shapes), file.path, hint)
    fill(model, file, layout, dtype)
    return model


def _checked(
    make: Callable[[dict[str, Shape]], nn.Module], shapes: dict[str, Shape], source: Path, hint: str = _DEV_HINT
) -> nn.Module:
    """The network that these shapes imply, or Missing if they imply none."""
    try:
        return make(shapes)
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise Missing(
            f"the file lacks tensors that a {make.__name__.replace('_', ' ')} has (for example {error})",
            place=str(source),
            hint=hint,
        ) from error


def _check_whole(
    make: Callable[[dict[str, Shape]], nn.Module], shapes: dict[str, Shape], source: Path, hint: str
) -> None:
    """Raises Missing if the file lacks a tensor: said of this file, and not of what is prepared from it."""
    check_fits(_checked(make, shapes, source, hint), shapes, str(source))


def _from_prepared(
    make: Callable[[dict[str, Shape]], nn.Module], target: Path, prepare_it: Callable[[], None], dtype: torch.dtype
) -> nn.Module:
    def filled() -> nn.Module:
        file = WeightFile(target)
        return _filled(make, file, keys.plain_layout(file.shapes), dtype)

    if target.is_file():
        with contextlib.suppress(Missing):  # our own file, damaged: made again
            return filled()
        target.unlink(missing_ok=True)
    prepare_it()
    return filled()


@contextlib.contextmanager
def _place(source: Path) -> Iterator[None]:
    """Errors of the layout, which knows names alone, with the file."""
    try:
        yield
    except (BadInput, Missing) as error:
        error.place = error.place or str(source)
        raise
