"""One reader for all JSON and YAML, and records that vouch for themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kiss3d_cli.core.records import (
    BadRecord,
    Fields,
    UnknownSchema,
    parse_json,
    parse_yaml,
    read_sealed,
    seal,
    write_json,
)

DIGITS = b"0123456789"
RECORD = {"schema_version": 2, "size": 64, "name": "füchse", "facts": {"seconds": 0.5, "of": [1, None, True]}}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        (nested(100_000), "too deep"),
        (nested(65), "too deep"),
        ('{"a":' * 1000 + "1" + "}" * 1000, "too deep"),
        ("NaN", "number that is none"),
        ("[-Infinity]", "number that is none"),
        ("1e999", "too large"),
        ("9" * 5000, "too large"),
        ("9223372036854775808", "too large"),
        ('"\\ud800"', "half a character"),
        ('{"\\udc00": 1}', "half a character"),
        ('{"a": 1, "a": 2}', "twice"),
        (b"\xff\xfe", "truncated"),
        ("[" + "0," * 200_001 + "0]", "too many"),
    ],
)
def test_json_that_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        parse_json(text)


def test_json_that_is_read() -> None:
    assert parse_json('{"a": [1, -2.5e3, "\\ud83e\\udd8a", null, true]}') == {"a": [1, -2500.0, "🦊", None, True]}
    assert parse_json(nested(64)) is not None
    assert parse_json(write_json({"name": "\udcff.png"})) == {"name": "\\udcff.png"}, "a name that is not UTF-8"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "too deep"),
        ("&a [*a]", "too deep"),
        ("a: .nan", "none"),
        ("a: 1e999", "too large"),
        ("a: " + "9" * 5000, "."),
        ("a: !!python/object/apply:os.system [echo]", "tag"),
        ("a: 1\na: 2", "twice"),
        ('a: "\\ud800"', "half a character"),
        ("a: 'x\0y'", "unacceptable"),
        ("a: !!int ''", "."),
        ("a: !!timestamp x", "."),
        ("a: !!binary aGk=", "kind"),
        ("? [a]\n: 1", "unhashable"),
        ("--- 1\n--- 2", "single document"),
        ("x: &a {a: 1}\ny: {<<: [*a, *a]}", "merging"),
        ("a: " + "x" * 2**20, "larger"),
    ],
)
def test_yaml_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        parse_yaml(text.encode())


def test_yaml_that_repeats_itself_without_end() -> None:
    lines = ["a: &a0 [x, x]"] + [f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(9)]
    with pytest.raises(BadRecord, match="too many"):
        parse_yaml("\n".join(lines).encode())


def test_yaml_that_is_read() -> None:
    text = "a: 1e3\nb: .5\nc: &x [1, yes]\nd: *x\ne: 2020-01-01\nf: {<<: {g: 1}, h: ~}\n"
    expected = {"a": 1000.0, "b": 0.5, "c": [1, True], "d": [1, True], "e": "2020-01-01", "f": {"g": 1, "h": None}}
    assert parse_yaml(b"\xef\xbb\xbf" + text.encode()) == expected
    assert parse_yaml(b"") is None


def test_no_single_byte_changes_unnoticed(tmp_path: Path) -> None:
    """Every bit, and every digit to the others: a version's must not turn a record into one without a checksum."""
    data = seal(RECORD)
    path = tmp_path / "record.json"
    path.write_bytes(data)
    assert read_sealed(path, 2, 1) == RECORD
    for place in range(len(data)):
        others = {data[place] ^ 1 << bit for bit in range(8)}
        if data[place] in DIGITS:
            others |= set(DIGITS)
        for byte in others - {data[place]}:
            path.write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
            with pytest.raises(BadRecord) as caught:
                read_sealed(path, 2, 1)
            assert not isinstance(caught.value, UnknownSchema)


def test_a_cut_or_longer_record_is_noticed(tmp_path: Path) -> None:
    data = seal(RECORD)
    path = tmp_path / "record.json"
    for changed in (data[:-1], data + b"\n", data + b" ", b" " + data, data.replace(b"\n", b"\r\n"), data * 2):
        path.write_bytes(changed)
        with pytest.raises(BadRecord):
            read_sealed(path, 2, 1)


def test_records_of_before_and_of_later(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"schema_version": 1, "size": 64}))
    assert read_sealed(path, 2, 1) == {"schema_version": 1, "size": 64}
    path.write_text(json.dumps({"schema_version": 2, "size": 64}))
    with pytest.raises(BadRecord, match="checksum"):
        read_sealed(path, 2, 1)
    path.write_bytes(seal({"schema_version": 3}))
    with pytest.raises(UnknownSchema):
        read_sealed(path, 2, 1)
    for text in ("[]", "1", '{"schema_version": true}', '{"schema_version": 1.0}', '{"schema_version": 0}'):
        path.write_text(text)
        with pytest.raises(BadRecord, match="no schema version"):
            read_sealed(path, 2, 1)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("text", (1, None, [], {})),
        ("whole", ("1", 1.0, True, None, -1)),
        ("optional_whole", ("1", 1.5, False)),
        ("number", ("1", True, None, -0.5)),
        ("object", ([], "x", None)),
        ("texts", ("ab", [1], [None], {"a": "b"})),
        ("text_by_name", ({"a": 1}, [], "x")),
        ("objects", ({}, ["x"], "x")),
    ],
)
def test_types_are_checked(method: str, wrong: tuple) -> None:
    for value in wrong:
        with pytest.raises(BadRecord):
            getattr(Fields({"key": value}), method)("key")
    with pytest.raises(BadRecord):
        getattr(Fields({}), method)("key")
