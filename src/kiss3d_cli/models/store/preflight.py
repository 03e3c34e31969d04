"""Every file that a run will open, looked at before any work: what is wrong with it is told at once, and all of it.

Each network checks its own files, beside its loader and with what the loader asks for (`Network.check`). Only headers
are read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from kiss3d_cli.core.errors import Kiss3dError, Missing
from kiss3d_cli.core.folders import all_below
from kiss3d_cli.core.packages import EXTRAS
from kiss3d_cli.core.shell import typed
from kiss3d_cli.models.store import locate
from kiss3d_cli.models.store.headers import look, read_header, read_object
from kiss3d_cli.models.store.model import Model, Network
from kiss3d_cli.models.store.registry import lookup, network_of, networks
from kiss3d_cli.models.store.registry import models as registered

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with a file.

    Attributes:
        path: the file.
        what: in words.
        models: registry names of those that need it.
    """

    path: Path
    what: str
    models: tuple[str, ...] = ()


class Findings:
    """What is wrong with files, each named once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._seen: set[Path] = set()

    def add(self, path: Path, what: str) -> None:
        if path not in self._seen:
            self._seen.add(path)
            self.faults.append(Fault(path, what))

    def attempt(self, path: Path, do: Callable[[], T]) -> T | None:
        """What `do` returns; None, and a fault, if it raises an error of kiss3d.

        Args:
            path: the file that the fault is told of, unless the error's place is another file.
        """
        if path in self._seen:
            return None
        try:
            return do()
        except Kiss3dError as error:
            place = path if error.place is None else Path(error.place)
            self.add(place if place.is_file() or place.is_symlink() else path, error.cause)
            return None


@dataclasses.dataclass(frozen=True)
class _Here:
    """A model that is there: its folder or file, and its files where they are not those below the folder."""

    folder: Path
    files: tuple[Path, ...] = ()


def check(names: Iterable[str], root: Path | None = None, comfyui: Path | None = None) -> list[Fault]:
    """What is wrong with the files of these models, as far as the models are on this machine at all.

    Args:
        names: registry names.
        root: as in `locate.find`.
        comfyui: as in `locate.find_all`.
    """
    here: dict[str, _Here] = {}
    for name in names:
        if found := locate.in_comfyui(name, comfyui):
            here[name] = _Here(*found[0])
        elif (folder := locate.partial_home(lookup(name), root)) is not None:
            here[name] = _Here(folder)
    groups = [(network, [m.name for m in network.models if m.name in here]) for network in networks()]
    groups += [(network_of(name), [name]) for name in here if name not in registered()]
    faults: list[Fault] = []
    with _uncollected():
        for network, group in groups:
            if group:
                faults += _check_group(network, {name: here[name] for name in group})
    return faults


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of garbage, which would look through all that the libraries hold, for half a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_sound: set[tuple[object, ...]] = set()


def _check_group(network: Network, here: Mapping[str, _Here]) -> list[Fault]:
    folders = {name: found.folder for name, found in here.items()}
    state = (tuple(here), *(entry for name in here for entry in _state(lookup(name), folders[name])))
    if state in _sound:  # a thousand runs look once
        return []
    findings = Findings()
    for name, found in here.items():
        check_whole(lookup(name), found.folder, findings, found.files)
    try:
        if (look_closer := network.check) is not None:
            # what a check lets through is a fault too: the others are told with it, and the way out
            findings.attempt(next(iter(folders.values())), lambda: look_closer(folders, findings))
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        return _owned(findings, folders)  # without that package the model can't run, which is told elsewhere
    if not findings.faults:
        _sound.add(state)
    return _owned(findings, folders)


def _owned(findings: Findings, folders: Mapping[str, Path]) -> list[Fault]:
    return [dataclasses.replace(fault, models=_owners(fault.path, folders)) for fault in findings.faults]


def check_whole(model: Model, folder: Path, findings: Findings, files: Iterable[Path] = ()) -> None:
    """What can be said of any file: that it is there, whole, and of the kind that its name says.

    Args:
        folder: the model's folder, or its file where it has but one.
        files: the model's files, where they are elsewhere than in that folder under their published names.
    """
    readers: Mapping[str, Callable[[Path], object]] = {".safetensors": read_header, ".json": read_object}
    elsewhere = (folder,) if folder.is_file() else tuple(files)
    if elsewhere:
        for path in elsewhere:
            findings.attempt(path, lambda path=path: read_header(path))  # type: ignore[misc]
        return
    exact = (folder / name for name in model.files if not locate.is_pattern(name))
    # also what is no file: a link that leads nowhere, or a folder in a file's place
    there = (path for path in all_below(folder) if locate.is_needed(model, path.relative_to(folder).as_posix()))
    for path in sorted({*exact, *there}):
        findings.attempt(path, lambda path=path: readers.get(path.suffix, look)(path))  # type: ignore[misc]


def _state(model: Model, folder: Path) -> Iterable[tuple[object, ...]]:
    """Changes whenever a file of the model or one beside it does."""
    for path in all_below(folder) or [folder]:
        try:
            status = path.stat()
            yield (path, status.st_size, status.st_mtime_ns, status.st_mode, status.st_ino)
        except OSError:
            yield (path, None)
    yield (model.name,)


def _owners(path: Path, folders: Mapping[str, Path]) -> tuple[str, ...]:
    """The models that a file belongs to: several may share a folder."""
    owners = []
    for name, folder in folders.items():
        if path.is_relative_to(folder):
            relative = path.relative_to(folder).as_posix()
            if locate.is_needed(lookup(name), relative) or len(folders) == 1:
                owners.append(name)
    return tuple(owners) or tuple(n for n, folder in folders.items() if path.is_relative_to(folder)) or tuple(folders)


def refusal(
    missing: Iterable[Model], faults: Iterable[Fault], root: Path | None = None, without: str = locate.DRAFT
) -> Missing | None:
    """One error that names every file that can't be used and every model that is not there; None if all is well.

    Args:
        without: what needs none of these models.
    """
    faults = list(faults)
    broken = list(dict.fromkeys(name for fault in faults for name in fault.models))
    absent = [model for model in missing if model.name not in broken]
    if not faults:
        return locate.missing_error(absent, root, without) if absent else None
    lines = [f"  - {fault.path} ({', '.join(fault.models)}): {fault.what}" for fault in faults]
    cause = "these files of model weights can't be used; nothing was started:\n" + "\n".join(lines)
    models = [lookup(name) for name in broken] + absent
    if absent:
        cause += "\nand these models are not on this machine:\n" + "\n".join(locate.described(absent))
    gated = [lookup(name) for name in broken if lookup(name).gated]
    cause += "".join(f"\n{model.name} is gated{locate.gate(model)}" for model in gated)
    error = Missing(cause, place="models", hint=locate.way_out(models, root, without))
    if faults:
        assert error.hint is not None
        first, _, rest = error.hint.partition("\n")
        error.hint = f"{first}   (replaces the files named above)\n{rest}"
    return error


def pull_command(models: Iterable[str], root: Path | None) -> str:
    """The command that gets models, and replaces what is damaged of them."""
    return typed("kiss3d", "models", "pull", *models, *(() if root is None else ("--root", root)))


def clear(path: Path) -> None:
    """Make room for a file that is to be fetched again. A folder in its place is kept, under another name."""
    if path.is_dir() and not path.is_symlink():
        number = next(n for n in range(1, 1000) if not path.with_name(f"{path.name}.old{n}").exists())
        path.rename(path.with_name(f"{path.name}.old{number}"))
        return
    target = path.resolve()
    if path.is_symlink() and target.parent.name == "blobs":  # the hub's cache would link to the same blob again
        target.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
