"""docs/reference/json.md and run_folder.md name what commands print and runs leave, and nothing that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiss3d_cli.pipeline.stages import stages
from reference_pages import run_folder

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "json.md"


def documented(title: str) -> dict[str, str]:
    """The keys of a section of the page, with their meanings."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.MULTILINE))


def paths(value: object, above: str = "") -> Iterator[str]:
    """Every key of a JSON value with those above it: `a`, `a.b`, `list[].c`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            found = f"{above}.{name}" if above else name
            yield found
            yield from paths(inner, found)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from paths(inner, f"{above}[]")


def differences(title: str, value: object) -> list[str]:
    """What is there and not documented, and what is documented and not there."""
    known, there = documented(title), set(paths(value))
    assert known, title
    opaque = tuple(key.removesuffix(".*") for key in known if key.endswith(".*"))
    below = {key.rpartition("[]")[0] if "[]" in key else key.rpartition(".")[0] for key in known}
    missing = [
        path
        for path in there
        if path not in known
        and path not in opaque
        and path not in below
        and not path.startswith(tuple(f"{o}." for o in opaque))
    ]
    gone = [key for key, text in known.items() if key.removesuffix(".*") not in there and not text.startswith("Only ")]
    return sorted(missing) + sorted(gone)


@pytest.fixture(scope="module")
def run(finished_run) -> Path:
    return Path(finished_run["run_dir"])


def test_a_run_and_its_records(finished_run, run) -> None:
    assert differences("kiss3d run and resume", finished_run) == []
    for name, title in (
        ("run.json", "run.json"),
        ("refine/manifest.json", "manifest.json"),
        ("check/check.json", "check.json"),
    ):
        assert differences(title, json.loads((run / name).read_text(encoding="utf-8"))) == [], name


@pytest.mark.parametrize(
    ("title", "arguments"),
    [
        ("kiss3d status", ["status", "{run}"]),
        ("kiss3d status of a folder of runs", ["status", "{run}/.."]),
        ("kiss3d report", ["report", "{run}"]),
        ("kiss3d doctor", ["doctor", "--quick"]),
        ("kiss3d models list", ["models", "list"]),
        ("kiss3d models verify", ["models", "verify", "--root", "{empty}"]),
        (
            "kiss3d run and resume --dry-run",
            ["run", "{picture}", "--preset", "12gb", "--dry-run", "--set", "models.root={empty}"],
        ),
        ("kiss3d export", ["export", "{run}", "--to", "godot", "--texture", "64", "--out", "{empty}"]),
        ("kiss3d eval", ["eval", "{run}/refine/mesh.ply", "--gt", "{run}/refine/mesh.ply", "--points", "100"]),
    ],
)  # fmt: skip
def test_what_a_command_prints(title, arguments, kiss3d, run, picture, tmp_path) -> None:
    answer = kiss3d(*(word.format(run=run, picture=picture, empty=tmp_path) for word in arguments), "--json")
    assert differences(title, answer.json) == []


def test_an_error(kiss3d, tmp_path) -> None:
    assert differences("Errors", kiss3d("status", tmp_path, "--json").json["error"]) == []


def test_a_key_that_is_not_documented_is_noticed(finished_run) -> None:
    assert differences("kiss3d run and resume", {**finished_run, "news": 1}) == ["news"]
    less = {name: value for name, value in finished_run.items() if name != "mesh"}
    assert differences("kiss3d run and resume", less) == ["mesh"]


def test_every_file_of_a_run_is_documented(run) -> None:
    declared = set(run_folder.declared())
    more = {f"{stage}/{name}" for stage, names in run_folder.MORE.items() for name in names}
    manifests = {f"{stage.name}/manifest.json" for stage in stages()}
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert there <= declared | more | manifests | set(run_folder.OWN) | {"input.png"}
    assert "refine/mesh.glb" in there
