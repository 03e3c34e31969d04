"""Links of the pages lead somewhere; commands, settings, options and files that they name are there.

Nothing is run: a command line is read by the command's own parser, the options of a script are found in its source.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from doc_pages import ROOT, anchors, blocks, inline_code, links, pages
from kiss3d_cli.cli.app import app
from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.pipeline import config

PROGRAM = re.compile(r"^(?:\.venv[/\\](?:bin|Scripts)[/\\])?(kiss3d|python|pytest|make|pip|py)(?:\.exe)?$")
SETTING = re.compile(r"^([a-z]+\.[a-z_0-9]+)(?:=(\S+))?$")
PLACEHOLDER = re.compile(r"^(\.\.\.|\[[^=]*|[^=]*\](\.\.\.)?|\|)$")
PUBLISHED = {"pipeline/kiss3d_wrapper.py", "pipeline/utils.py", "pipeline_config/default.yaml", "plan.yaml"}
"""Files of the published code and of examples, which are not here."""
NAMES = [str(path.relative_to(ROOT)) for path in pages()]


def test_there_are_pages() -> None:
    assert len(NAMES) > 15
    assert {"README.md", "docs/index.md", "docs/reference/settings.md"} <= set(NAMES)


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    assert broken_links(ROOT / name) == []


def broken_links(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        outside = ROOT / "docs" in page.parents and ROOT / "docs" not in target.parents
        there = target.exists() and target.is_relative_to(ROOT)
        if there and not outside and anchor:  # what is not below docs/ is not on the site
            there = target.suffix == ".md" and anchor in anchors(target.read_text(encoding="utf-8"))
        if not there or outside:
            broken.append(link)
    return broken


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    (tmp_path / "other.md").write_text("# Here it is\n", encoding="utf-8")
    page.write_text(
        "# A *title*, twice\n# A title twice\n[`a`](gone.md) [b](#a-title-twice-1) [c](#nowhere) [d](../other.md)\n"
        "[e](https://example.org/#x) `[f](f.md)`\n```\n[g](g.md)\n```\n",
        encoding="utf-8",
    )
    assert broken_links(page) == ["gone.md", "#nowhere", "../other.md"]


def test_every_page_is_on_the_map() -> None:
    """docs/index.md leads to every page, at the first step."""
    index = ROOT / "docs" / "index.md"
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in links(index.read_text(encoding="utf-8"))}
    assert [name for name in NAMES if name.startswith("docs/") and ROOT / name not in {*reached, index}] == []


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_commands_can_be_typed(name: str) -> None:
    if name == "docs/reference/commands.md":
        return  # it is made of the parser itself, and shows usages
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [f"{line}: {fault}" for line in commands_of(text) if (fault := fault_of(line))] == []


def commands_of(text: str) -> Iterator[str]:
    """Every line of a code block and every piece of inline code that begins with a program."""
    for block in blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            if _words(line):
                yield line.strip()
    for code in inline_code(text):
        if _words(code) and (" " in code or code.startswith("kiss3d")):
            yield code


def _words(line: str) -> list[str]:
    """The words of a command line from its program on; none if it is no command."""
    try:
        words = shlex.split(line.replace("\\", "\\\\"), comments=True)
    except ValueError:
        return []
    while words and re.match(r"^[A-Z_0-9]+=", words[0]):
        del words[0]
    found = PROGRAM.match(words[0]) if words else None
    return [found[1], *words[1:]] if found else []


def fault_of(line: str) -> str | None:
    program, *words = _words(line)
    if program == "kiss3d":
        return _fault_of_kiss3d(words)
    if program in ("python", "py") and words and words[0].endswith(".py"):
        return _fault_of_script(words[0], words[1:])
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return next((f"no target {word}" for word in words if "=" not in word and word not in targets), None)
    if program == "pip":
        asked = re.findall(r"(?:kiss3d|\.)\[([\w,]+)\]", line)
        extras = {extra for group in asked for extra in group.split(",")}
        return f"no extra {extras - set(_project()['optional-dependencies'])}" if extras - _extras() else None
    if program == "pytest":
        return _fault_of_pytest(words)
    return None


def _fault_of_kiss3d(words: list[str]) -> str | None:
    command, name = _program(), "kiss3d"
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return None
        if words[0] not in command.commands:
            return f"{name} has no command {words[0]}"
        command, name, words = command.commands[words[0]], f"{name} {words[0]}", words[1:]
    given = [word for word in words if not PLACEHOLDER.match(word)]
    if not words or "|" in words:
        return None  # it is only named, or a choice is shown
    try:
        params = command.make_context(name, [*given]).params  # it takes the list apart
        config.load(*_layers(params))
    except Kiss3dError as error:
        return str(error)
    except RuntimeError as error:
        return None if type(error).__name__ == "Exit" else repr(error)
    except Exception as error:  # typer's own class of wrong usage
        if "Missing argument" in _told(error) and not [word for word in given if not word.startswith("-")]:
            return None
        if given and f"'{given[-1]}' requires an argument" in _told(error):
            return None  # the option is only named
        return _told(error)
    return None


@cache
def _program() -> Any:
    return get_command(app)


def _layers(params: dict[str, Any]) -> Iterator[config.Layer]:
    if params.get("preset") not in (None, "auto"):
        yield config.preset_layer(params["preset"])
    assignments = [text for text in params.get("assignments") or () if not text.isupper()]
    yield config.settings_layer(assignments)


def _told(error: Exception) -> str:
    message = getattr(error, "format_message", None)
    return str(message() if message else error)


def _fault_of_script(script: str, words: list[str]) -> str | None:
    path = ROOT / script.replace("\\", "/")
    if not path.is_file():
        return f"no {script}"
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in _options_of(path)]
    return f"{script} has no {unknown[0]}" if unknown else None


@cache
def _options_of(script: Path) -> set[str]:
    """Options that a script's source, or that of a module beside it which it imports, adds to a parser."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    found = {"--help"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            found |= {
                part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
        if isinstance(node, ast.ImportFrom) and node.module:
            beside = script.parent / f"{node.module.replace('.', '/')}.py"
            if beside.is_file() and beside != script:
                found |= _options_of(beside)
    return found


def _fault_of_pytest(words: list[str]) -> str | None:
    paths = [word for word in words if word.startswith("tests/")]
    gone = [word for word in paths if not (ROOT / word.partition("::")[0]).exists()]
    if gone:
        return f"no {gone[0]}"
    marks = {mark.partition(":")[0] for mark in _pytest()["markers"]}
    asked = {word for before, word in pairwise(words) if before == "-m"} - {"pytest"}
    return f"no marker {asked - marks}" if asked - marks else None


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _extras() -> set[str]:
    return set(_project()["optional-dependencies"])


def _pytest() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]


@pytest.mark.parametrize(
    "line",
    [
        "kiss3d fly",
        "kiss3d run a.png --fast",
        "kiss3d run a.png --preset slow",
        "kiss3d run a.png --set refine.step=3   # a comment",
        "kiss3d run a.png --set refine.steps=-3",
        ".venv/bin/kiss3d ui --port none",
        "kiss3d models push",
        "python scripts/gone.py",
        "python scripts/make_gallery.py --sizes 3",
        "make coffee",
        ".venv/bin/pip install -e '.[flux,coffee]'",
        "pytest tests/gone.py",
        "pytest -m coffee",
    ],
)
def test_a_command_that_fails_is_found(line: str) -> None:
    text = f"# A page\n\n```\n{line}\n```\n\nAnd `{line.partition('  #')[0]}` too.\n"
    assert len(list(commands_of(text))) == 2
    assert all(fault_of(found) for found in commands_of(text))


# -- what sentences name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_settings_options_and_files_are_there(name: str) -> None:
    if name == "CHANGELOG.md":
        return  # it tells of what was
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [code for code in inline_code(text) if is_wrong(code)] == []


def is_wrong(code: str) -> bool:
    """A setting, an option or a file of the project that is not there."""
    found = SETTING.match(code)
    if (
        found
        and found[1].partition(".")[0] in _sections()
        and not re.search(r"\.(py|json|png|ply|md|safetensors)$", found[1])
    ):
        if found[1] not in config.settings():
            return True
        try:
            config.load(config.settings_layer([code] if found[2] else []))
        except Kiss3dError:
            return True
        return False
    if re.match(r"^--[a-z-]+", code):
        return re.split(r"[ =,]", code)[0] not in _all_options()
    if re.match(r"^[\w./]+\.(py|yaml)$", code) and code not in PUBLISHED:
        return not any(f"/{path}".endswith(f"/{code}") for path in _tracked())
    return False


@cache
def _sections() -> set[str]:
    return {key.partition(".")[0] for key in config.settings() if "." in key}


@cache
def _all_options() -> set[str]:
    scripts = [path for path in (ROOT / "scripts").rglob("*.py") if path.name != "__init__.py"]
    found = set().union(*(_options_of(path) for path in scripts))

    def collect(command: Any) -> None:
        for inner in getattr(command, "commands", {}).values():
            collect(inner)
        for part in command.params:
            found.update(part.opts, part.secondary_opts)

    collect(_program())
    return found


@cache
def _tracked() -> tuple[str, ...]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return tuple(listed.stdout.splitlines())
    kinds = ("*.py", "*.yaml")
    return tuple(path.relative_to(ROOT).as_posix() for kind in kinds for path in ROOT.rglob(kind))


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("refine.step", True),
        ("refine.steps", False),
        ("refine.steps=-1", True),
        ("bundle.model=schnell", False),
        ("--stricter", True),
        ("--strict", False),
        ("--only quality", False),
        ("geometry/gone.py", True),
        ("geometry/mesh.py", False),
    ],
)
def test_a_name_that_is_not_there_is_found(code: str, wrong: bool) -> None:
    assert is_wrong(code) == wrong
