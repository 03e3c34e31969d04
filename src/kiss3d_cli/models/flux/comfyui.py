"""Flux's files where ComfyUI keeps them: found by what their headers say, as their names are the user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.flux.published import ALL_IN_ONE, LORAS
from kiss3d_cli.models.store.comfyui import ComfyUIFolder, Header, is_comfyui


@dataclasses.dataclass(frozen=True)
class FluxFiles:
    """Where the four parts of Flux are: one file, or several."""

    transformer: Path
    t5: Path
    clip: Path
    vae: Path


def flux_files(folder: Path) -> FluxFiles:
    """The files of `flux-dev`.

    Args:
        folder: with the published all-in-one file, or ComfyUI's folder of models.

    Raises:
        BadInput: several files could be a part.
        Missing: a part is not there.
    """
    whole = folder / ALL_IN_ONE
    if whole.is_file() or not is_comfyui(folder):
        return FluxFiles(whole, whole, whole, whole)
    return _parts(ComfyUIFolder(folder))


def find_in_comfyui(name: str, base: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """Where one of Flux's models is in ComfyUI's folder: what to load it from, and all of its files; or nothing.

    Raises:
        BadInput: several files could be it.
    """
    folder = ComfyUIFolder(base)
    if name == "flux-dev":
        try:
            files = _parts(folder)
        except Missing:
            return []
        return [(base, tuple(dict.fromkeys(dataclasses.astuple(files))))]
    one: Mapping[str, Callable[[], Path | None]] = {
        "flux-schnell": lambda: _transformer(folder, schnell=True),
        "flux-controlnet": lambda: _controlnet(folder),
        **{lora: lambda file=file: _lora(folder, file) for lora, file in LORAS.items()},  # type: ignore[misc]
    }
    found = one[name]() if name in one else None
    return [] if found is None else [(found, (found,))]


def _parts(folder: ComfyUIFolder) -> FluxFiles:
    transformer = _transformer(folder, schnell=False)
    if transformer is None:
        raise folder.missing("Flux's transformer", "transformer", "flux-dev")
    header = folder.header(transformer)

    def part(kind: str, what: str, fits: Callable[[Header], bool]) -> Path:
        if fits(header):
            return transformer
        found = _one(folder, kind, what, fits)
        if found is None:
            raise folder.missing(what, kind, "flux-dev")
        return found

    ends = ("img_in.weight", "txt_in.weight", "vector_in.in_layer.weight")
    image, text, pooled = (_size(header, end) for end in ends)
    return FluxFiles(
        transformer,
        part("encoder", "T5", lambda h: _size(h, "encoder.block.0.layer.0.SelfAttention.q.weight") == text),
        part("encoder", "CLIP-L", lambda h: _size(h, "text_model.encoder.layers.0.mlp.fc1.weight") == pooled),
        part("vae", "Flux's VAE", lambda h: 4 * (_size(h, "decoder.conv_in.weight") or 0) == image),
    )


def _transformer(folder: ComfyUIFolder, *, schnell: bool) -> Path | None:
    """The merge with schnell has the tensors of dev: only its name tells it."""

    def fits(header: Header) -> bool:
        controls = _size(header, "img_in.weight") != _size(header, "final_layer.linear.weight", rows=True)
        return not controls and _size(header, "guidance_in.in_layer.weight") is not None

    named = [path for path in folder.files("transformer") if ("schnell" in path.name.lower()) == schnell]
    found = [path for path in named if fits(folder.header(path))]
    narrow = [path for path in found if _is_fp8(folder.header(path))]
    return folder.only("Flux's transformer", narrow or found, ALL_IN_ONE)


def _controlnet(folder: ComfyUIFolder) -> Path | None:
    sign = "controlnet_mode_embedder.weight"
    return _one(folder, "controlnet", "ControlNet-Union", lambda header: _size(header, sign) is not None)


def _lora(folder: ComfyUIFolder, name: str) -> Path | None:
    """A LoRA is known by its name alone: all have the same tensors."""
    return folder.only(name, [path for path in folder.files("lora") if path.name == name])


def _one(folder: ComfyUIFolder, kind: str, what: str, fits: Callable[[Header], bool]) -> Path | None:
    found = [path for path in folder.files(kind) if fits(folder.header(path))]
    narrow = [path for path in found if _is_fp8(folder.header(path))]
    return folder.only(what, narrow if what == "T5" and narrow else found, ALL_IN_ONE)


def _size(header: Header, end: str, *, rows: bool = False) -> int | None:
    """Columns, or rows, of the matrix whose name ends so; None without one."""
    for name, entry in header.items():
        if (name == end or name.endswith(f".{end}")) and len(entry["shape"]) >= 2:
            return int(entry["shape"][0 if rows else 1])
    return None


def _is_fp8(header: Header) -> bool:
    ends = ("img_attn.qkv.weight", "SelfAttention.q.weight")
    kinds = [entry.get("dtype") for name, entry in header.items() if name.endswith(ends)]
    return bool(kinds) and set(kinds) == {"F8_E4M3"}
