"""ComfyUI's folder of models, as a place in which networks look for their files: a subfolder for each kind of file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.folders import all_below
from kiss3d_cli.core.records import parse_json

SETTING = "models.comfyui"
FOLDERS = {
    "transformer": ("checkpoints", "unet", "diffusion_models"),
    "encoder": ("clip", "text_encoders"),
    "vae": ("vae",),
    "controlnet": ("controlnet",),
    "lora": ("loras",),
}
"""Names of the subfolders, by the kind of file; `checkpoints` are all in one."""
_LONGEST = 2**27
"""Bytes of a header; those of the largest networks have less than 2^20."""
_MOST = 2_000_000
"""Values of a header: ten a tensor."""

Header = Mapping[str, Any]


def is_comfyui(folder: Path) -> bool:
    return any((folder / name).is_dir() for names in FOLDERS.values() for name in names)


def models_folder(given: Path) -> Path:
    """ComfyUI's folder of models: the one given, or `models` in it. Raises BadInput if it is none."""
    for folder in (given / "models", given):
        if is_comfyui(folder):
            return folder
    names = ", ".join(name for names in FOLDERS.values() for name in names)
    hint = "name ComfyUI's folder, or its `models` folder"
    raise BadInput(f"it has none of ComfyUI's folders ({names})", place=f"{SETTING}={given}", hint=hint)


class ComfyUIFolder:
    """One folder of models, whose files have names of the user's own: their headers tell them. Each is read once."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._headers: dict[Path, Header] = {}

    def files(self, kind: str) -> Iterator[Path]:
        for name in FOLDERS[kind]:
            folder = self.base / name
            yield from (path for path in all_below(folder, "*.safetensors") if path.is_file())

    def header(self, path: Path) -> Header:
        """Every tensor's entry; nothing of a file that is no safetensors file."""
        if path not in self._headers:
            self._headers[path] = _read_header(path)
        return self._headers[path]

    def only(self, what: str, found: list[Path], published: str | None = None) -> Path | None:
        """The one file of those found, or the one of the published name. Raises BadInput if there are several."""
        named = [path for path in found if path.name == published]
        found = named if len(named) == 1 else found
        if len(found) > 1:
            names = ", ".join(path.relative_to(self.base).as_posix() for path in found)
            hint = f"move the others elsewhere, or name a folder with links to those that you want: {SETTING}"
            raise BadInput(f"several files could be {what}: {names}", place=f"{SETTING}={self.base}", hint=hint)
        return found[0] if found else None

    def missing(self, what: str, kind: str, model: str) -> Missing:
        """That a part of a model is not there."""
        places = " or ".join(str(self.base / name) for name in FOLDERS[kind])
        hint = f"put it there, or leave {SETTING} away: kiss3d models pull {model}"
        return Missing(f"no file there is {what}", place=places, hint=hint)


def _read_header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(length), _MOST) if length <= min(_LONGEST, path.stat().st_size) else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(header, dict):
        return {}
    return {name: e for name, e in header.items() if isinstance(e, dict) and isinstance(e.get("shape"), list)}
