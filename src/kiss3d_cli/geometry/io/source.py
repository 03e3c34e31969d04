"""A mesh file while it is read: its bytes, the files beside it, what it may describe, and what is to be said of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.files import open_given

EXPORT_AGAIN = "open it in a viewer and export it again"
_FREE = 256 << 20  # bytes that any file may describe, however small it is
_DRIVE_OR_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass
class Source:
    """One file and the rules by which it is read.

    A small file can describe much (instances, sparse accessors, compressed data): what it describes may take twice the
    bytes of the file and of what it names, and 256 MiB; that is claimed before it is made.

    Attributes:
        path: of the file.
        alone: it is going to be copied, so that nothing beside it may be needed.
        textures: colours are wanted that split vertices: of textures, materials, faces.
        notes: what the mesh leaves out of the file, as sentences.
    """

    path: Path
    alone: bool = False
    textures: bool = False
    notes: list[str] = field(default_factory=list)
    _read: int = 0
    _claimed: int = 0

    def refuse(self, cause: str, hint: str = EXPORT_AGAIN) -> BadInput:
        return BadInput(cause, place=str(self.path), hint=hint)

    def unreadable(self, reason: str, hint: str = EXPORT_AGAIN) -> BadInput:
        """The refusal of a damaged file."""
        kind = self.path.suffix[1:].upper()
        return self.refuse(f"the file cannot be read as {kind} ({reason})", hint)

    def note(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def note_short(self, count: int, where: str = "") -> None:
        """Say how many faces were left out because they have no three corners."""
        faces, verb = ("1 face", "is") if count == 1 else (f"{count} faces", "are")
        self.note(f"{faces} with fewer than three corners {verb} left out{where}")

    def data(self) -> bytes:
        """The file's own bytes."""
        with open_given(self.path) as stream:
            data = stream.read()
        self._read += len(data)
        return data

    def claim(self, count: int, each: int, what: str) -> None:
        """Take `count` things of `each` bytes out of what this file may describe.

        Raises:
            BadInput: that is more than a file of this size can mean.
        """
        self._claimed += count * each
        if self._claimed > 2 * self._read + _FREE:
            size = f"{self._read / 1e6:.1f} MB" if self._read >= 1e5 else f"{self._read} bytes"
            raise self.refuse(
                f"a file of {size} describes {count:,} {what}: more than kiss3d unfolds",
                "if that is meant, export the mesh as binary PLY, which holds everything it describes",
            )

    def beside(self, name: str, *, percent: bool = False) -> bytes:
        """A file that this one names, from its own folder or below and from nowhere else.

        Args:
            name: as written; backslashes separate folders too, and upper and lower case may differ.
            percent: decode %20 and the like.

        Raises:
            BadInput: it is outside, not there, or nothing beside the file may be used.
        """
        if self.alone:
            cause = f"it needs '{name}' beside it, and is going to be copied"
            raise self.refuse(cause, "export it as one GLB file")
        plain = (unquote(name) if percent else name).strip().replace("\\", "/")
        parts = PurePosixPath(plain).parts
        outside = self.refuse(
            f"it names '{name}', which is outside its own folder; that is never read", "export it as one GLB file"
        )
        if _DRIVE_OR_SCHEME.match(plain) or plain.startswith("/") or "\0" in plain:
            raise outside
        folder = self.path.parent.resolve()
        wanted = (folder / plain).resolve()
        if not wanted.is_relative_to(folder):
            raise outside
        found: Path | None = wanted
        if not os.path.isfile(wanted):  # noqa: PTH113 (Path's own fails where a name is too long for any file)
            found = None if ".." in parts else _whatever_case(folder, parts)
        if found is None or not found.is_file():
            raise self.refuse(
                f"it names '{name}', which is not there", f"put {wanted.name} beside it, or export it as one GLB file"
            )
        if not found.resolve().is_relative_to(folder):
            raise outside
        with open_given(found) as stream:
            data = stream.read()
        self._read += len(data)
        return data


def _whatever_case(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """The one path of that name in upper or lower case, as on the system that the file comes from."""
    for part in parts:
        if not folder.is_dir():
            return None
        alike = [entry for entry in folder.iterdir() if entry.name.casefold() == part.casefold()]
        if len(alike) != 1:
            return None
        folder = alike[0]
    return folder
