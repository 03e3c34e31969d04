"""Flux's files where ComfyUI keeps them: found by what their headers say, as their names are the user's own.

ComfyUI has one folder for each kind of file: `unet` or `diffusion_models`, `clip` or `text_encoders`, `vae`,
`controlnet`, `loras`, and `checkpoints` for all in one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.folders import all_below
from kiss3d_cli.core.records import parse_json
from kiss3d_cli.models.store.registry import MODELS

ALL_IN_ONE = MODELS["flux-dev"].files[0]
SETTING = "models.comfyui"
_FOLDERS = {
    "transformer": ("checkpoints", "unet", "diffusion_models"),
    "encoder": ("clip", "text_encoders"),
    "vae": ("vae",),
    "controlnet": ("controlnet",),
    "lora": ("loras",),
}
_LONGEST = 2**27
"""Bytes of a header; those of Flux have less than 2^20."""

_MOST = 2_000_000
"""Values of a header: ten a tensor."""

Header = Mapping[str, Any]


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
    return _Folder(folder).flux()


def is_comfyui(folder: Path) -> bool:
    return any((folder / name).is_dir() for names in _FOLDERS.values() for name in names)


def models_folder(given: Path) -> Path:
    """ComfyUI's folder of models: the one given, or `models` in it. Raises BadInput if it is none."""
    for folder in (given / "models", given):
        if is_comfyui(folder):
            return folder
    names = ", ".join(name for names in _FOLDERS.values() for name in names)
    hint = "name ComfyUI's folder, or its `models` folder"
    raise BadInput(f"it has none of ComfyUI's folders ({names})", place=f"{SETTING}={given}", hint=hint)


def find_in_comfyui(name: str, given: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """Where a model of the registry is in ComfyUI's folders: what to load it from, and all of its files; or nothing.

    Raises:
        BadInput: no folder of ComfyUI's, or several files that could be it.
    """
    base = models_folder(given)
    folder = _Folder(base)
    if name == "flux-dev":
        try:
            files = folder.flux()
        except Missing:
            return []
        return [(base, tuple(dict.fromkeys(dataclasses.astuple(files))))]
    one: Mapping[str, Callable[[], Path | None]] = {
        "flux-schnell": lambda: folder.transformer(schnell=True),
        "flux-controlnet": folder.controlnet,
        "bundle-lora": lambda: folder.lora(MODELS["bundle-lora"].files[0]),
        "redux-lora": lambda: folder.lora(MODELS["redux-lora"].files[0]),
    }
    found = one[name]() if name in one else None
    return [] if found is None else [(found, (found,))]


class _Folder:
    """One folder of models. Headers are read once."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._headers: dict[Path, Header] = {}

    def flux(self) -> FluxFiles:
        transformer = self.transformer(schnell=False)
        if transformer is None:
            raise self._missing("Flux's transformer", "transformer")
        header = self._header(transformer)

        def part(kind: str, what: str, fits: Callable[[Header], bool]) -> Path:
            if fits(header):
                return transformer
            found = self._one(kind, what, fits)
            if found is None:
                raise self._missing(what, kind)
            return found

        ends = ("img_in.weight", "txt_in.weight", "vector_in.in_layer.weight")
        image, text, pooled = (_size(header, end) for end in ends)
        return FluxFiles(
            transformer,
            part("encoder", "T5", lambda h: _size(h, "encoder.block.0.layer.0.SelfAttention.q.weight") == text),
            part("encoder", "CLIP-L", lambda h: _size(h, "text_model.encoder.layers.0.mlp.fc1.weight") == pooled),
            part("vae", "Flux's VAE", lambda h: 4 * (_size(h, "decoder.conv_in.weight") or 0) == image),
        )

    def transformer(self, *, schnell: bool) -> Path | None:
        """The merge with schnell has the tensors of dev: only its name tells it."""

        def fits(header: Header) -> bool:
            controls = _size(header, "img_in.weight") != _size(header, "final_layer.linear.weight", rows=True)
            return not controls and _size(header, "guidance_in.in_layer.weight") is not None

        named = [path for path in self._files("transformer") if ("schnell" in path.name.lower()) == schnell]
        found = [path for path in named if fits(self._header(path))]
        narrow = [path for path in found if _is_fp8(self._header(path))]
        return self._only("Flux's transformer", narrow or found)

    def controlnet(self) -> Path | None:
        sign = "controlnet_mode_embedder.weight"
        return self._one("controlnet", "ControlNet-Union", lambda header: _size(header, sign) is not None)

    def lora(self, name: str) -> Path | None:
        """A LoRA is known by its name alone: all have the same tensors."""
        return self._only(name, [path for path in self._files("lora") if path.name == name])

    def _one(self, kind: str, what: str, fits: Callable[[Header], bool]) -> Path | None:
        found = [path for path in self._files(kind) if fits(self._header(path))]
        narrow = [path for path in found if _is_fp8(self._header(path))]
        return self._only(what, narrow if what == "T5" and narrow else found)

    def _only(self, what: str, found: list[Path]) -> Path | None:
        published = [path for path in found if path.name == ALL_IN_ONE]
        found = published if len(published) == 1 else found
        if len(found) > 1:
            names = ", ".join(path.relative_to(self._base).as_posix() for path in found)
            hint = f"move the others elsewhere, or name a folder with links to those that you want: {SETTING}"
            raise BadInput(f"several files could be {what}: {names}", place=f"{SETTING}={self._base}", hint=hint)
        return found[0] if found else None

    def _files(self, kind: str) -> Iterator[Path]:
        for name in _FOLDERS[kind]:
            folder = self._base / name
            yield from (path for path in all_below(folder, "*.safetensors") if path.is_file())

    def _header(self, path: Path) -> Header:
        if path not in self._headers:
            self._headers[path] = _read_header(path)
        return self._headers[path]

    def _missing(self, what: str, kind: str) -> Missing:
        places = " or ".join(str(self._base / name) for name in _FOLDERS[kind])
        hint = f"put it there, or leave {SETTING} away: kiss3d models pull flux-dev"
        return Missing(f"no file there is {what}", place=places, hint=hint)


def _read_header(path: Path) -> Header:
    """Every tensor's entry; nothing of a file that is no safetensors file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(length), _MOST) if length <= min(_LONGEST, path.stat().st_size) else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(header, dict):
        return {}
    return {name: e for name, e in header.items() if isinstance(e, dict) and isinstance(e.get("shape"), list)}


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
