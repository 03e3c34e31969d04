"""Getting model weights: all access is checked first, then every file comes through here, resumable."""

from __future__ import annotations

import dataclasses
import fnmatch
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import Kiss3dError, Missing
from kiss3d_cli.core.files import move
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.models.store.locate import folder_beside, is_pattern
from kiss3d_cli.models.store.model import Model

SPARE = 2**30
"""Bytes that a download leaves free on the disk."""
CHUNK = 2**20
TIMEOUT = 30
"""Seconds without an answer after which a server counts as out of reach."""
OnBytes = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Download:
    """Files of one model that are to be downloaded.

    Attributes:
        files: size in bytes by name, of every needed file; the hub skips those that are there.
        folder: where they go; None for the hub's cache.
    """

    model: Model
    files: dict[str, int]
    folder: Path | None

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


def plan_downloads(models: Sequence[Model], root: Path | None = None) -> list[Download]:
    """Ask about every file and check that all can be had, before the first byte is downloaded.

    Args:
        models: which.
        root: a folder to lay them out in as `<owner>/<repository>/<file>`; None for the hub's cache (HF_HOME).

    Raises:
        Missing: names every repository that is out of reach, gated, misspelt or lacks a file, or the missing space.
    """
    planned: list[Download] = []
    faults: list[Kiss3dError] = []
    for model in models:
        try:
            folder = (
                root / model.repository if root is not None else None if model.url is None else folder_beside(model)
            )
            files = (
                _hub_files(model) if model.url is None else {name: _remote_size(model, name) for name in model.files}
            )
            planned.append(Download(model, files, folder))
        except Kiss3dError as fault:
            faults.append(fault)
    if faults:
        causes = "\n".join(f"  - {fault}" for fault in faults)
        hints = list(dict.fromkeys(fault.hint for fault in faults if fault.hint))
        raise Missing(f"these models can't be had:\n{causes}", place="models", hint="\n       ".join(hints))
    _require_space(planned)
    return planned


def fetch(download: Download, on_bytes: OnBytes | None = None) -> None:
    """Download one model; what is there already is kept, what was begun is taken up again.

    Args:
        on_bytes: called with a file's name, the bytes that are there and its size, for files that are not on the hub.

    Raises:
        Missing: the connection broke, a file is not the published one, or there is no space left.
    """
    again = "type the same command again: it goes on where it stopped"
    try:
        if download.model.url is None:
            from huggingface_hub import snapshot_download

            patterns = list(download.model.files)
            snapshot_download(download.model.repository, allow_patterns=patterns, local_dir=download.folder)
            return
        assert download.folder is not None
        for name, size in download.files.items():
            _fetch_url(download.model, name, size, download.folder, on_bytes)
    except Kiss3dError:
        raise
    except (
        Exception
    ) as error:  # the hub's client raises errors of several HTTP libraries, which change with its version
        cause = f"the download broke off: {_in_words(error)}"
        raise Missing(cause, place=download.model.repository, hint=again) from error


def _hub_files(model: Model) -> dict[str, int]:
    """Size of every needed file on the hub, if this user may have it."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    place = model.repository
    if constants.HF_HUB_OFFLINE:
        raise Missing(
            "offline mode is on", place=place, hint="unset HF_HUB_OFFLINE, or copy the files and use models.root"
        )
    api = HfApi()
    try:
        info = api.model_info(place, files_metadata=True, timeout=TIMEOUT)
        if info.gated:
            api.auth_check(place)
    except GatedRepoError:
        raise Missing(
            "its terms are not accepted by this user",
            place=place,
            hint=f"accept them at {model.page}, then: hf auth login (or set HF_TOKEN)",
        ) from None
    except RepositoryNotFoundError:
        raise Missing(
            f"there is no such repository at {api.endpoint}, or it is private",
            place=place,
            hint="check its spelling; if it is private: hf auth login (or set HF_TOKEN)",
        ) from None
    except Exception as error:  # of several HTTP libraries, which change with the client's version
        raise Missing(
            f"{api.endpoint} can't be reached: {_in_words(error)}",
            place=place,
            hint="check the network, or set HF_ENDPOINT to a mirror",
        ) from error
    sizes = {sibling.rfilename: int(sibling.size or 0) for sibling in info.siblings or ()}
    needed = {n: size for n, size in sizes.items() if any(fnmatch.fnmatchcase(n, pattern) for pattern in model.files)}
    absent = [name for name in model.files if not is_pattern(name) and name not in needed]
    if absent or not needed:
        cause = f"it has no file {', '.join(absent or model.files)}"
        raise Missing(cause, place=place, hint="this version of kiss3d expects another layout: update kiss3d")
    return needed


def _remote_size(model: Model, name: str) -> int:
    from huggingface_hub import constants

    assert model.url is not None
    if constants.HF_HUB_OFFLINE:
        hint = f"unset HF_HUB_OFFLINE, or put the file into {folder_beside(model)}"
        raise Missing("offline mode is on", place=model.url + name, hint=hint)
    try:
        with _open(model.url + name, method="HEAD") as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, HTTPException, TypeError, ValueError) as error:
        cause = f"it can't be reached: {_in_words(error)}"
        hint = f"check the network, or put the file into {folder_beside(model)}"
        raise Missing(cause, place=model.url + name, hint=hint) from error


def _fetch_url(model: Model, name: str, size: int, folder: Path, on_bytes: OnBytes | None) -> None:
    assert model.url is not None
    target, partial = folder / name, folder / f"{name}.partial"
    if target.is_file() and file_sha256(target) == model.sha256[name]:
        return
    folder.mkdir(parents=True, exist_ok=True)
    done = partial.stat().st_size if partial.is_file() else 0
    with _open(model.url + name, {"Range": f"bytes={done}-"} if 0 < done < size else {}) as answer:
        done = done if answer.status == 206 else 0
        with partial.open("ab" if done else "wb") as file:
            while chunk := answer.read(CHUNK):
                done += file.write(chunk)
                if on_bytes is not None:
                    on_bytes(name, done, size)
    if done < size:
        raise OSError(f"{done} of {size} bytes came")
    found = file_sha256(partial)
    if found != model.sha256[name]:
        partial.unlink()
        raise Missing(
            f"the file is not the published one (sha256 {found[:12]}... instead of {model.sha256[name][:12]}...)",
            place=model.url + name,
            hint="type the same command again; if that does not help, report it",
        )
    move(partial, target)


def _open(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Any:
    # the addresses come from the registry, never from a user
    request = urllib.request.Request(url, headers=dict(headers or {}), method=method)  # noqa: S310
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection open
            raise ConnectionError(f"the server answered {error.code} {error.reason}") from None


def _require_space(downloads: Sequence[Download]) -> None:
    from huggingface_hub import constants

    needed: dict[int, tuple[Path, int]] = {}  # by the device: two folders of one disk share what is free
    for download in downloads:
        folder = _existing(download.folder or Path(constants.HF_HUB_CACHE))
        # a pickle is converted once, beside itself
        converted = sum(size for name, size in download.files.items() if name.endswith(".ckpt"))
        place, count = needed.get(folder.stat().st_dev, (folder, 0))
        needed[folder.stat().st_dev] = place, count + download.bytes + converted - _already(download)
    for folder, count in needed.values():
        free = shutil.disk_usage(folder).free
        if count > 0 and free < count + SPARE:
            raise Missing(
                f"the download needs {(count + SPARE) / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
                place=str(folder),
                hint="free some space, or set HF_HOME (or --root) to a folder on a larger disk",
            )


def _already(download: Download) -> int:
    from huggingface_hub import try_to_load_from_cache

    there = 0
    for name, size in download.files.items():
        if download.folder is not None:
            there += size if (download.folder / name).is_file() else 0
        else:
            there += size if isinstance(try_to_load_from_cache(download.model.repository, name), str) else 0
    return there


def _existing(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
