"""The reader of all JSON and YAML, and records with a checksum.

What is read may have been written by anyone: its size, its depth, its numbers and its letters are checked before
anything looks at it, and `Fields` checks the types.

A sealed record is a JSON object whose last entry is the sha256 of every byte before it. Its form is fixed to the byte,
so that no byte of it can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kiss3d_cli.core.files import read_bytes

LIMIT = 16 * 2**20
"""Bytes of a record: a thousand times what kiss3d writes."""
YAML_LIMIT = 2**20
"""Bytes of a YAML file: its reader is slow, and a plan of 10,000 objects has half of that."""
MOST = 200_000
"""Values in one text, counting what YAML's aliases repeat."""
DEPTH = 64
"""Objects and lists within one another: ten times what kiss3d writes."""
_LARGEST = 2**63
_SEAL = b'  "checksum": "'
_TAIL = re.compile(rb'  "checksum": "([0-9a-f]{64})"\n}\n')


class BadRecord(ValueError):
    """A text that is no record, with the reason in words that fit after `it is not whole`, `it can't be read`."""


class UnknownSchema(BadRecord):
    """A record of a schema that this kiss3d does not know; `version` is its number."""

    def __init__(self, version: int) -> None:
        super().__init__("it was written by a newer kiss3d")
        self.version = version


# -- texts ------------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """What `parse_json` makes of a file that may be a link, as those in the hub's cache are.

    Raises:
        BadRecord: it is larger than a record may be, or no such JSON.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise BadRecord(f"it is larger than {LIMIT:,} bytes")
    return parse_json(data)


def parse_json(data: bytes | str, most: int = MOST) -> Any:
    """Read JSON as its standard has it: no NaN, no infinity, no name twice, no half characters, bounded numbers, depth.

    Args:
        most: how many values it may have.

    Raises:
        BadRecord: anything else.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_number, parse_int=_whole, object_pairs_hook=_object
        )
    except RecursionError:
        raise BadRecord("it nests too deep") from None
    except BadRecord:
        raise
    except ValueError:
        raise BadRecord("it is truncated or not JSON") from None
    _check(value, most)
    return value


def parse_yaml(data: bytes) -> Any:
    """Read YAML of plain mappings, lists, texts and numbers: no tags, no name twice, bounded size and depth.

    Raises:
        BadRecord: anything else.
    """
    if len(data) > YAML_LIMIT:
        raise BadRecord(f"it is larger than {YAML_LIMIT:,} bytes")
    try:
        value = yaml.load(data.decode("utf-8-sig"), Loader=_Loader)  # noqa: S506  # safe, and of fewer kinds
    except (BadRecord, MemoryError):
        raise
    except UnicodeDecodeError:
        raise BadRecord("it is not UTF-8 text") from None
    except Exception as error:  # PyYAML's constructors raise many kinds for what only looks like a number or a date
        raise BadRecord(" ".join(str(error).split())[:200]) from None
    _check(value)
    return value


def write_json(value: Any) -> bytes:
    """JSON that `parse_json` reads: indented, in UTF-8; half characters (of names that are not UTF-8) are written out.

    Raises:
        ValueError: NaN, an infinity, or what is no JSON.
    """
    return (json.dumps(whole_text(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def whole_text(value: Any) -> Any:
    """The value with every text encodable: bytes of a name that are not UTF-8 become `\\xff` in letters."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {whole_text(key): whole_text(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [whole_text(entry) for entry in value]
    return value


# -- records ----------------------------------------------------------------------------------------------------------


def seal(record: Mapping[str, Any]) -> bytes:
    """A record as JSON, with the checksum of all before it as its last entry."""
    assert "schema_version" in record
    head = write_json(record).removesuffix(b"\n}\n") + b",\n"
    return head + _SEAL + hashlib.sha256(head).hexdigest().encode() + b'"\n}\n'


def read_sealed(path: Path, known: int, unsealed: int, *, within: Path | None = None) -> dict[str, Any]:
    """Read a record whose `schema_version` is its first concern.

    Args:
        known: the newest schema that the caller understands.
        unsealed: the newest schema from before records had a checksum.
        within: as of `files.open_file`.

    Raises:
        BadRecord: it is not JSON, not an object, not as it was written; UnknownSchema if it is newer.
        OSError: it can't be opened, or is too large.
    """
    data = read_bytes(path, LIMIT, within=within)
    record = parse_json(data)
    version = record.get("schema_version") if isinstance(record, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BadRecord("it has no schema version")
    # a flipped digit of the version must not pass for a newer kiss3d, or for one from before the checksum
    whole = _is_whole(data)
    if not whole and ("checksum" in record or unsealed < version <= known):
        raise BadRecord("its checksum is wrong: it was damaged, or edited")
    if version > known:
        raise UnknownSchema(version)
    record.pop("checksum", None)
    return record


def _is_whole(data: bytes) -> bool:
    start = data.rfind(_SEAL)
    tail = None if start < 0 else _TAIL.fullmatch(data, start)
    return tail is not None and hashlib.sha256(data[:start]).hexdigest().encode() == tail[1]


class Fields:
    """Typed access to the entries of a JSON object.

    Every method raises BadRecord if the entry is missing or of another type.
    """

    def __init__(self, record: Any, name: str = "it") -> None:
        if not isinstance(record, dict):
            raise BadRecord(f"{name} is not an object")
        self._record: dict[str, Any] = record

    def text(self, key: str) -> str:
        value = self._get(key, str, "a text")
        return str(value)

    def whole(self, key: str, low: int = 0) -> int:
        value = self._get(key, int, "a whole number")
        if value < low:
            raise BadRecord(f"'{key}' is below {low}")
        return int(value)

    def optional_whole(self, key: str) -> int | None:
        return None if key in self._record and self._record[key] is None else self.whole(key)

    def number(self, key: str, low: float = 0.0) -> float:
        value = float(self._get(key, int | float, "a number"))
        if not low <= value:
            raise BadRecord(f"'{key}' is below {low:g}")
        return value

    def object(self, key: str) -> dict[str, Any]:
        value: dict[str, Any] = self._get(key, dict, "an object")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key, list, "a list")
        if not all(isinstance(entry, str) for entry in value):
            raise BadRecord(f"'{key}' is not a list of texts")
        return tuple(value)

    def text_by_name(self, key: str) -> dict[str, str]:
        value = self.object(key)
        if not all(isinstance(entry, str) for entry in value.values()):
            raise BadRecord(f"'{key}' is not an object of texts")
        return value

    def objects(self, key: str) -> list[Fields]:
        return [Fields(entry, f"an entry of '{key}'") for entry in self._get(key, list, "a list")]

    def _get(self, key: str, kind: Any, words: str) -> Any:
        if key not in self._record:
            raise BadRecord(f"it has no '{key}'")
        value = self._record[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BadRecord(f"'{key}' is not {words}")
        return value


# -- the parts of the reader ------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise BadRecord(f"it has a number that is none ({name})")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRecord("it has a number that is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:
        raise BadRecord("it has a number that is too large")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadRecord("it gives a name twice")
    return found


def _check(value: Any, most: int = MOST) -> None:
    """Raises BadRecord for depth, half characters, and numbers that JSON does not have (YAML has them)."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    seen = 0
    while waiting:
        entry, depth = waiting.pop()
        seen += 1
        if seen > most:
            raise BadRecord("it has too many values")
        if depth > DEPTH:
            raise BadRecord("it nests too deep")
        if isinstance(entry, str):
            _check_text(entry)
        elif isinstance(entry, dict):
            for key, inner in entry.items():
                waiting += [(key, depth + 1), (inner, depth + 1)]
        elif isinstance(entry, list):
            waiting += [(inner, depth + 1) for inner in entry]
        elif isinstance(entry, float) and not math.isfinite(entry):
            raise BadRecord("it has a number that is none, or too large")
        elif isinstance(entry, int) and not -_LARGEST <= entry < _LARGEST:
            raise BadRecord("it has a number that is too large")
        elif entry is not None and not isinstance(entry, int | float):
            raise BadRecord(f"it has a value of a kind that is not supported ({type(entry).__name__})")


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRecord("it has half a character (a lone surrogate)") from None


class _Loader(yaml.SafeLoader):
    """No dates; `1e3` is a number, as in YAML 1.2; a name is given once."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEPTH:
            raise BadRecord("it nests too deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        self._refuse_twice(node)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: Any) -> None:
        self._refuse_twice(node)
        if any(name.value == "<<" and isinstance(value, yaml.SequenceNode) for name, value in node.value):
            raise BadRecord("merging a list of mappings is not supported")  # in a few lines it grows without bounds
        super().flatten_mapping(node)

    @staticmethod
    def _refuse_twice(node: Any) -> None:
        names = [entry.value for entry, _value in node.value if isinstance(entry, yaml.ScalarNode)]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise BadRecord(f"it gives '{twice[:80]}' twice")


_Loader.yaml_implicit_resolvers = {
    letter: [entry for entry in entries if entry[0] not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")]
    for letter, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
    ),
    list("-+0123456789."),
)
