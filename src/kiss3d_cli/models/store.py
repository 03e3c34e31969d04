"""Finding model weights on this machine: in a folder of the user's, or in the Hugging Face cache."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.models.registry import MODELS, Model


@dataclasses.dataclass(frozen=True)
class Located:
    """A model that is there.

    Attributes:
        path: its folder.
        identity: hash of its files' names and contents; of their names and sizes where the cache has no content hash.
    """

    path: Path
    identity: str


def find(model: Model, root: Path | None = None) -> Located | None:
    """Look a model up without loading it.

    Args:
        model: which.
        root: a folder laid out as `<owner>/<repository>/<file>`; None for the Hugging Face cache (HF_HOME).
    """
    folder = _cached_snapshot(model.repository) if root is None else root / model.repository
    if folder is None or not folder.is_dir():
        return None
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    needed = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in model.files)]
    exact = [pattern for pattern in model.files if not any(sign in pattern for sign in "*?[")]
    if not needed or any(name not in needed for name in exact):
        return None
    return Located(folder, json_sha256({name: _file_identity(folder / name) for name in needed}))


def find_all(names: Iterable[str], root: Path | None = None) -> dict[str, Located]:
    """The models of these names that are there."""
    found = {name: find(MODELS[name], root) for name in names}
    return {name: located for name, located in found.items() if located is not None}


def missing(names: Iterable[str], found: Mapping[str, Located]) -> list[Model]:
    return [MODELS[name] for name in names if name not in found]


def missing_error(models: list[Model]) -> Missing:
    """Names every model that is not there, its size, its licence and the command that gets it."""
    lines = [f"  - {m.name}: {m.repository} ({m.gigabytes:g} GB; {m.licence}{_gate(m)})" for m in models]
    commands = [f"hf download {m.repository} {' '.join(_include(m))}" for m in models]
    return Missing(
        "these model weights are not on this machine:\n" + "\n".join(lines),
        place="models",
        hint="\n       ".join([*commands, "or use --preset draft, which needs none"]),
    )


def _gate(model: Model) -> str:
    return f"; accept its terms at https://huggingface.co/{model.repository} first" if model.gated else ""


def _include(model: Model) -> list[str]:
    exact = all(not any(sign in pattern for sign in "*?[") for pattern in model.files)
    return list(model.files) if exact else [f"--include '{pattern}'" for pattern in model.files]


def _cached_snapshot(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _file_identity(path: Path) -> str:
    # The hub's cache names each blob by its content hash; hashing tens of gigabytes on every plan would cost minutes.
    target = path.resolve()
    if target.parent.name == "blobs":
        return target.name
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
