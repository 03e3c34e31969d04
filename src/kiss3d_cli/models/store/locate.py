"""Finding model weights on this machine: in a folder of the user's, or in the caches of the tools that share them."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path

from kiss3d_cli.core.cache import cache_folder
from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.files import open_given
from kiss3d_cli.core.folders import all_below
from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.core.records import LIMIT, parse_json
from kiss3d_cli.core.shell import typed
from kiss3d_cli.models.store.comfyui import models_folder
from kiss3d_cli.models.store.identity import content_identity
from kiss3d_cli.models.store.model import Model
from kiss3d_cli.models.store.registry import lookup, network_of


@dataclasses.dataclass(frozen=True)
class Located:
    """A model that is there.

    Attributes:
        path: its folder, or its file where it has but one.
        identity: hash of its files' names and contents.
    """

    path: Path
    identity: str


def find(model: Model, root: Path | None = None) -> Located | None:
    """Look a model up without loading it.

    Args:
        model: which.
        root: a folder laid out as `<owner>/<repository>/<file>`; None for the Hugging Face cache (HF_HOME), and
            for what is not on the hub the folder that its network declares (`folder_beside`).
    """
    folder = home(model, root)
    if folder is None or not folder.is_dir():
        return None
    needed = needed_files(model, folder)
    exact = [pattern for pattern in model.files if not is_pattern(pattern)]
    if not needed or any(name not in needed for name in exact):
        return None
    if any(name.endswith(".safetensors.index.json") for name in needed) and not _all_shards(folder, needed):
        return None
    return Located(folder, identify(model, folder))


def identify(model: Model, folder: Path) -> str:
    """Hash that changes when any needed file of the model does."""
    return json_sha256({name: content_identity(folder / name) for name in needed_files(model, folder)})


def needed_files(model: Model, folder: Path) -> list[str]:
    """Names of the needed files that are there, sorted. Hidden folders are the download tool's own."""
    names = sorted(path.relative_to(folder).as_posix() for path in all_below(folder) if path.is_file())
    names = [name for name in names if not name.startswith(".")]
    return [name for name in names if is_needed(model, name)]


def is_needed(model: Model, name: str) -> bool:
    """Whether a file, named as below the model's folder, is one of those that are needed."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in model.files)


def find_all(names: Iterable[str], root: Path | None = None, comfyui: Path | None = None) -> dict[str, Located]:
    """The models of these names that are there.

    Args:
        root: see `find`.
        comfyui: ComfyUI's folder, in which the files of networks that know it are looked up first.

    Raises:
        BadInput: that is no folder of ComfyUI's, or several files in it could be one model.
    """
    found = {name: _in_comfyui(name, comfyui) or find(lookup(name), root) for name in names}
    return {name: located for name, located in found.items() if located is not None}


def _in_comfyui(name: str, folder: Path | None) -> Located | None:
    for path, files in in_comfyui(name, folder):
        return Located(path, json_sha256({file.name: content_identity(file) for file in files}))
    return None


def in_comfyui(name: str, folder: Path | None) -> list[tuple[Path, tuple[Path, ...]]]:
    """Where a model is in ComfyUI's folder: what to load it from, and all of its files; or nothing.

    Raises:
        BadInput: no folder of ComfyUI's, or several files that could be it.
    """
    if folder is None:
        return []
    base, find_there = models_folder(folder), network_of(name).comfyui
    return [] if find_there is None else find_there(name, base)


def file_of(path: Path, name: str) -> Path:
    """The file of a model that has but one: `path` itself, or the published one in that folder."""
    return path if path.is_file() else path / name


def bytes_of(model: Model, located: Located | None) -> float:
    """Size of a model's files; the published one if they are not there."""
    if located is None:
        return (model.gigabytes or 0) * 1e9
    if located.path.is_file():
        return located.path.stat().st_size
    return sum((located.path / name).stat().st_size for name in needed_files(model, located.path))


def missing(names: Iterable[str], found: Mapping[str, Located]) -> list[Model]:
    return [lookup(name) for name in names if name not in found]


DRAFT = "use --preset draft"


def missing_error(models: list[Model], root: Path | None = None, without: str = DRAFT) -> Missing:
    """Names every model that is not there, its files, size and licence, and the command that gets it."""
    cause = "these model weights are not on this machine:\n" + "\n".join(described(models))
    return Missing(cause, place="models", hint=way_out(models, root, without))


def described(models: Iterable[Model]) -> list[str]:
    """A line for each model: its files, size and licence."""
    return [
        f"  - {m.name}: {', '.join(m.files[:2])}{', ...' if len(m.files) > 2 else ''} of {m.repository} "
        f"({m.size}; {m.licence}{gate(m)})"
        for m in models
    ]


def way_out(models: Iterable[Model], root: Path | None = None, without: str = DRAFT) -> str:
    """What to type where these models can't be used: the command that gets them, and what does without."""
    known = list(models)
    place = () if root is None else ("--root", root)
    commands = [typed("kiss3d", "models", "pull", *(model.name for model in known), *place)]
    commands += [f"or --set {model.without}, which does without {model.name}" for model in known if model.without]
    commands.append(f"or {without}, which needs none")
    return "\n       ".join(commands)


def is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def home(model: Model, root: Path | None) -> Path | None:
    """The folder in which a model's files are, or would be; None if the hub's cache has nothing of it."""
    if root is not None:
        return root / model.repository
    return _cached_snapshot(model) if model.url is None else folder_beside(model)


def partial_home(model: Model, root: Path | None = None) -> Path | None:
    """The folder of a model of which at least one needed file is there, or something in its place."""
    folder = home(model, root)
    if folder is None:
        folder = _begun_snapshot(model)
    if folder is None or not folder.is_dir():
        return None
    exact = (name for name in model.files if not is_pattern(name))
    begun = any((folder / name).exists() or (folder / name).is_symlink() for name in exact)
    return folder if begun or needed_files(model, folder) else None


def folder_beside(model: Model) -> Path:
    """Where a model is kept that is not on the hub: where its network says, or in kiss3d's own cache."""
    folder = network_of(model.name).folder
    return cache_folder() / "models" / model.repository if folder is None else folder()


def gate(model: Model) -> str:
    """What has to be accepted before a model can be fetched; nothing for most."""
    return f"; accept its terms at {model.page} first" if model.gated else ""


def _cached_snapshot(model: Model) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # without the patterns a snapshot of only these files counts as incomplete
        patterns = list(model.files)
        return Path(snapshot_download(model.repository, allow_patterns=patterns, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _begun_snapshot(model: Model) -> Path | None:
    """The hub's own folder of a model that was downloaded in part."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    repository = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model.repository, repo_type="model")
    try:
        revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return repository / "snapshots" / revision


def _all_shards(folder: Path, needed: list[str]) -> bool:
    for name in needed:
        if name.endswith(".safetensors.index.json"):
            try:
                with open_given(folder / name) as stream:
                    parts = set(parse_json(stream.read(LIMIT + 1))["weight_map"].values())
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                return False
            parent = (folder / name).parent
            if not all((parent / str(part)).is_file() for part in parts):
                return False
    return True
