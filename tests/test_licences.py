"""No dependency without a licence that was looked at: a new one fails here until its licence is on the list."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT",
    "MIT-CMU", "PSF-2.0", "Python-2.0", "TOST-1.0", "Zlib",
}  # fmt: skip
WEAK_COPYLEFT = {"MPL-2.0"}
"""Of single files: using them asks for nothing of the code that does."""
STRONG_COPYLEFT = {"pymeshlab": "pymeshlab"}
"""A package under the GPL, and the one extra that may bring it (besides `dev`, which nobody ships)."""

WORDS = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0", "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause", "isc license": "ISC", "isc license (iscl)": "ISC", "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "python software foundation license": "PSF-2.0",
    "gpl3": "GPL-3.0-only",
}  # fmt: skip
"""What packages without an SPDX expression write, in lower case."""
READ_BY_HAND = {
    "assimp-py": "MIT",
    "usd-core": "TOST-1.0",  # the Apache License 2.0 with another clause on trademarks
    "pywavelets": "MIT",  # and code under BSD-3-Clause
    "embreex": "BSD-3-Clause", "sentencepiece": "Apache-2.0", "tensorboard": "Apache-2.0", "absl-py": "Apache-2.0",
    "grpcio": "Apache-2.0", "markdown": "BSD-3-Clause", "tensorboard-data-server": "Apache-2.0",
    "werkzeug": "BSD-3-Clause", "attrs": "MIT", "jsonschema": "MIT", "jsonschema-specifications": "MIT",
    "msgpack": "Apache-2.0", "ray": "Apache-2.0", "referencing": "MIT", "rpds-py": "MIT",
    "babel": "BSD-3-Clause", "backrefs": "MIT", "colorama": "BSD-3-Clause", "ghp-import": "Apache-2.0",
    "mergedeep": "MIT", "mkdocs": "BSD-2-Clause", "mkdocs-get-deps": "MIT", "mkdocs-material": "MIT",
    "mkdocs-material-extensions": "MIT", "paginate": "MIT", "platformdirs": "MIT", "pymdown-extensions": "MIT",
    "pyyaml-env-tag": "MIT", "typos": "MIT", "watchdog": "Apache-2.0",
}  # fmt: skip
"""Packages that say nothing a program understands, or that are pinned without being installed here."""

NOT_FROM_THE_INDEX = re.compile(r"nvidia-.*|cuda-.*|triton|colorama|pywin32|setuptools|tomli|exceptiongroup")
"""What torch brings on other systems (README says what NVIDIA's libraries are), and other interpreters' fill-ins."""


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if line and not line.startswith("#")}


def extras() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def found(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licences(name: str) -> set[str]:
    """SPDX names of a package's licence; whatever is not understood comes back as it is written."""
    if name in READ_BY_HAND:
        return {READ_BY_HAND[name]}
    package = found(name)
    if package is None:
        return {"not installed, so not known"}
    expression = package.metadata.get("License-Expression")
    if not expression:
        written = (package.metadata.get("License") or "").strip()
        classes = [
            c.rpartition("::")[2].strip() for c in package.metadata.get_all("Classifier") or [] if "License" in c
        ]
        classes = [c for c in classes if c not in ("DFSG approved", "OSI Approved")]
        short = written if "\n" not in written and len(written) < 60 else ""
        expression = short if re.fullmatch(r"[\w.+-]+( (AND|OR) [\w.+-]+)*", short) else " AND ".join(classes) or short
    parts = re.split(r"\s+(?:AND|OR)\s+|[()]", re.sub(r"\s+WITH\s+[\w.-]+", "", _known(expression)))
    return {_known(part.strip()) for part in parts if part and part.strip()} or {"nothing"}


def _known(text: str) -> str:
    return WORDS.get(text.lower(), text)


def brought_by(requirements: list[str]) -> Iterator[str]:
    """Every installed package that a list of requirements resolves to, itself included."""
    waiting, seen = [(Requirement(text), "") for text in requirements], set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *sorted(requirement.extras)):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            package = found(name)
            waiting.extend((Requirement(text), wanted) for text in (package.requires or [] if package else []))
        if (name, "") in seen:
            yield name


def test_every_pinned_package_has_a_licence_on_the_list() -> None:
    unknown = {
        name: sorted(found)
        for name in pinned()
        if name not in STRONG_COPYLEFT and not (found := licences(name)) <= PERMISSIVE | WEAK_COPYLEFT
    }
    assert not unknown


@pytest.mark.parametrize("extra", sorted(extras()))
def test_what_an_extra_brings_is_pinned_and_copyleft_stays_in_its_own(extra: str) -> None:
    names = {name for name in brought_by(extras()[extra]) if not NOT_FROM_THE_INDEX.fullmatch(name)}
    assert {canonicalize_name(Requirement(text).name) for text in extras()[extra]} <= names
    assert names <= set(pinned()), "add it to constraints.txt, after reading its licence"
    if extra != "dev":
        assert not [name for name in names if STRONG_COPYLEFT.get(name, extra) != extra]


def test_the_readme_names_the_licence_of_every_part() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Model weights and their licences")[0].partition("## Licences of what is installed")[2]
    assert section
    missing = [extra for extra in extras() if extra not in ("", "dev") and f"`{extra}`" not in section]
    assert not missing
    direct = {Requirement(text).name for name, group in extras().items() if name != "dev" for text in group}
    assert not [name for name in direct if name not in section]


@pytest.mark.parametrize(
    ("text", "understood"),
    [("GPL-3.0-or-later", False), ("LGPL-3.0-only AND MIT", False), ("Apache-2.0 OR BSD-2-Clause", True), ("", False)],
)
def test_the_list_refuses_what_is_not_on_it(monkeypatch, text: str, understood: bool) -> None:
    class Package:
        from email.message import Message

        metadata = Message()

    Package.metadata["License-Expression"] = text
    monkeypatch.setitem(globals(), "found", lambda name: Package)
    assert (licences("anything") <= PERMISSIVE | WEAK_COPYLEFT) == understood
