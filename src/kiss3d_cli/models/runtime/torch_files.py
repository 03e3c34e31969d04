"""The files of `torch.save`: zip archives, and what torch wrote before 1.6. Nothing in them is run; see `pickles`."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from kiss3d_cli.models.runtime.pickles import LONGEST, Damaged, Machine, StoredTensor

_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_FAULTS = (
    *(zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, struct.error),
    *(NotImplementedError, RecursionError),
)


class Checkpoint:
    """A file that `torch.save` wrote.

    Attributes:
        root: what was saved: dictionaries, lists, tuples, plain values, StoredTensor, and Unknown for all else.
    """

    def __init__(self, path: Path) -> None:
        """Raises Damaged, and OSError for a file that can't be read."""
        self.path = path
        self._starts: dict[str, tuple[int, int]] = {}  # first byte and length of each storage, by key
        try:
            with path.open("rb") as stream:
                zipped = stream.read(4) == b"PK\x03\x04"
            self.root = self._read_zip() if zipped else self._read_legacy()
        except _FAULTS as error:
            raise Damaged(str(error)) from error

    def require(self, stored: StoredTensor) -> None:
        """Raises Damaged if a tensor's numbers are not all in the file."""
        self._range(stored)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """A tensor's numbers, in memory of their own. Raises Damaged if they are not all in the file."""
        first, count = self._range(stored)
        numbers = torch.empty(count, dtype=torch.uint8)
        with self.path.open("rb") as stream:
            stream.seek(first)
            buffer: Any = numbers.numpy()
            if stream.readinto(buffer) != count:
                raise Damaged("the file is cut short")
        values = torch.as_strided(numbers.view(stored.dtype), stored.shape, stored.stride)
        return values.clone(memory_format=torch.contiguous_format)

    def _range(self, stored: StoredTensor) -> tuple[int, int]:
        """First byte of a tensor's numbers, and how many bytes they take."""
        width = stored.dtype.itemsize
        start, length = self._starts.get(stored.storage.key, (0, -1))
        first, count = stored.offset * width, stored.reach * width
        if first + count > length:
            raise Damaged(f"the numbers of storage {stored.storage.key} are not all there")
        return start + first, count

    def _read_zip(self) -> Any:
        with zipfile.ZipFile(self.path) as archive, self.path.open("rb") as stream:
            entries = {info.filename: info for info in archive.infolist()}
            end = stream.seek(0, io.SEEK_END)
            program = next((name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"), None)
            if program is None:
                raise Damaged("it has no data.pkl")
            folder = program.removesuffix("data.pkl")
            order = entries.get(f"{folder}byteorder")
            if order is not None and _contents(stream, order) != b"little":
                raise Damaged("its numbers are big-endian")
            for name, info in entries.items():
                if name.startswith(f"{folder}data/") and info.compress_type == zipfile.ZIP_STORED:
                    start, length = _extent(stream, info)
                    self._starts[name.removeprefix(f"{folder}data/")] = start, min(length, end - start)
            return Machine(io.BytesIO(_contents(stream, entries[program]))).run()

    def _read_legacy(self) -> Any:
        """Four pickles, the keys of the storages, and their numbers one after the other."""
        with self.path.open("rb") as file:
            head = _Bounded(file)
            if Machine(head).run() != _MAGIC or Machine(head).run() != _LEGACY_VERSION:
                raise Damaged("it does not begin as a checkpoint of torch does")
            Machine(head).run()  # byte order and sizes of the machine
            machine = Machine(head)
            root = machine.run()
            keys = Machine(head).run()
            file.seek(0, io.SEEK_END)
            end, place = file.tell(), head.place
            for key in keys:
                file.seek(place)
                count = int.from_bytes(file.read(8), "little")
                length = count * machine.storages[key].dtype.itemsize
                if place + 8 + length > end:
                    raise Damaged("the file is cut short")
                self._starts[key] = (place + 8, length)
                place += 8 + length
            return root


def _extent(stream: BinaryIO, info: zipfile.ZipInfo) -> tuple[int, int]:
    """First byte and length of an entry's data. Its checksum is not looked at: torch may leave it out."""
    stream.seek(info.header_offset)
    head = stream.read(30)
    if head[:4] != b"PK\x03\x04":
        raise Damaged("an entry is not where the directory says")
    lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return info.header_offset + 30 + lengths, info.file_size


def _contents(stream: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type != zipfile.ZIP_STORED:
        raise Damaged("its entries are compressed")  # torch never does that, and what is compressed may be of any size
    start, length = _extent(stream, info)
    if length > LONGEST:
        raise Damaged("its pickle is longer than that of any checkpoint")
    stream.seek(start)
    return stream.read(length)


class _Bounded:
    """The beginning of a file, of which no instruction can read more than a pickle may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.place = file, 0

    def read(self, count: int) -> bytes:
        if count > LONGEST - self.place:
            raise Damaged("its pickle is longer than that of any checkpoint")
        return self._moved(self._file.read(count))

    def readline(self) -> bytes:
        return self._moved(self._file.readline(LONGEST - self.place))

    def _moved(self, data: bytes) -> bytes:
        self.place += len(data)
        return data
