"""What a run can be given: a list of kinds, each with its option, its check and its name in the run folder.

Another package adds a kind through an entry point of the group `kiss3d.inputs` that leads to an `InputKind`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.methods.registry import methods

GROUP = "kiss3d.inputs"


@dataclasses.dataclass(frozen=True)
class Joined:
    """A file that was put together from several that were given; it need not outlast the making of the run folder.

    Attributes:
        path: of the file; its stem names the run.
        source: what it was put together from.
        option: by which that was given.
    """

    path: Path
    source: str
    option: str


Given = Path | str | Joined
"""A file, one put together from several, or the words of a kind that is typed."""


@dataclasses.dataclass(frozen=True)
class InputKind:
    """One kind of input.

    Attributes:
        name: by which methods read it; also the field of run.json.
        option: as on the command line.
        help: the option's sentence.
        check: opens it, so that a bad one is refused before any work (BadInput); returns the settings that it
            suggests, by section.
        suggest: the settings that it suggests beside the other inputs, by the names of their kinds; where this is
            given, those of `check` do not count.
        metavar: what the option takes.
        file: the stem of its name in the run folder; its name by default.
        starts: a run can start from it.
        excludes: names of the kinds that it can't be given beside.
        needs: name of a kind that it says something about, and is nothing without.
        pack: writes it, with what lies in files beside it, as one file with this ending; without, it is copied.
        typed: it is words on the command line, kept as a text file.
    """

    name: str
    option: str
    help: str
    check: Callable[[Any], Mapping[str, Mapping[str, Any]]]
    metavar: str = "FILE"
    file: str = ""
    starts: bool = False
    excludes: tuple[str, ...] = ()
    needs: str | None = None
    typed: bool = False
    suggest: Callable[[Mapping[str, Given]], Mapping[str, Mapping[str, Any]]] | None = None
    pack: tuple[str, Callable[[Path, Path], None]] | None = None

    @property
    def stem(self) -> str:
        return self.file or self.name

    @property
    def title(self) -> str:
        """What sentences call it."""
        return f"a {self.option}" if self.option.isupper() else self.option


SIDES = ("right", "back", "left")


def _picture(path: Path) -> Mapping[str, Mapping[str, Any]]:
    from kiss3d_cli.image.picture import load_picture

    load_picture(path)
    return {}


def _needs_no_network(given: Mapping[str, Given]) -> Mapping[str, Mapping[str, Any]]:
    """An alpha channel wins over every method: where all pictures have one, take the method that needs no weights."""
    from kiss3d_cli.image.picture import load_picture

    pictures = [given[name] for name in ("picture", *SIDES) if name in given]
    cut = [isinstance(path, Path) and load_picture(path).alpha is not None for path in pictures]
    cut[0] = cut[0] or "mask" in given
    return {"preprocess": {"method": "grabcut"}} if all(cut) else {}


def _side(name: str) -> InputKind:
    return InputKind(
        name,
        f"--{name}",
        f"A picture of the object's {name} side, at the front's height; replaces the generated view.",
        _picture,
        metavar="PICTURE",
        needs="picture",
        excludes=("bundle", "template"),
    )


def _mask(path: Path) -> Mapping[str, Mapping[str, Any]]:
    from kiss3d_cli.image.picture import load_mask

    load_mask(path)
    return {}


def _bundle(path: Path) -> Mapping[str, Mapping[str, Any]]:
    from kiss3d_cli.geometry.cameras import BUNDLE_RADIUS
    from kiss3d_cli.methods.bundle.elsewhere import check_elsewhere

    check_elsewhere(path, BUNDLE_RADIUS)
    return {"bundle": {"method": "file"}}


def _template(path: Path) -> Mapping[str, Mapping[str, Any]]:
    _bundle(path)
    off = {stage: {"method": "none"} for stage in ("multiview", "reference")}
    return {**off, "bundle": {"method": _taking("bundle", "template")}}


def _taking(stage: str, kind: str) -> str:
    """The first method of a stage that takes a kind of input, which there is."""
    return next(name for name, method in methods()[stage].items() if kind in (*method.reads, *method.takes))


def _ground_truth(path: Path) -> Mapping[str, Mapping[str, Any]]:
    from kiss3d_cli.evaluation.files import read_truth

    read_truth(path, alone=True)
    return {}


def _text(words: str) -> Mapping[str, Mapping[str, Any]]:
    if not words.strip():
        raise BadInput("there are no words", place="--text", hint='kiss3d run --text "a red fox with a scarf"')
    return {}


def _from_words(given: Mapping[str, Given]) -> Mapping[str, Mapping[str, Any]]:
    """The published route of text to 3D; beside a mesh the words are its caption."""
    caption = {"caption": {"method": "text"}}
    if "mesh" in given:
        return caption
    off = {stage: {"method": "none"} for stage in ("preprocess", "multiview", "reference")}
    return {**off, **caption, "prompt": {"method": "text"}, "bundle": {"method": "text"}}


def _mesh(path: Path) -> Mapping[str, Mapping[str, Any]]:
    from kiss3d_cli.geometry.io.load import read_mesh

    read_mesh(path, textures=True)
    return {
        "preprocess": {"method": "mesh"},
        "multiview": {"method": "none"},
        "reference": {"method": "mesh"},
        "bundle": {"strength": 0.5},
    }


def _in_one_file(source: Path, target: Path) -> None:
    """A mesh with the colours that its textures and materials give it, which lie in files beside it."""
    from kiss3d_cli.geometry.io.export import write_mesh
    from kiss3d_cli.geometry.io.load import read_mesh

    write_mesh(target, read_mesh(source, textures=True))


KINDS = (
    InputKind(
        "picture",
        "PICTURE",
        "The picture: PNG, JPEG, WebP, ...",
        _picture,
        file="input",
        starts=True,
        suggest=_needs_no_network,
    ),
    InputKind(
        "mask",
        "--mask",
        "A mask of the picture's size: the object is white, or opaque.",
        _mask,
        metavar="PNG",
        needs="picture",
    ),
    *(_side(name) for name in SIDES),
    InputKind(
        "bundle",
        "--bundle",
        "Start from a finished 2x4 bundle, or a 1x4, 1x6, 3x2 or 2x6 grid of views, instead of a picture.",
        _bundle,
        metavar="PNG",
        starts=True,
        excludes=("picture",),
    ),
    InputKind(
        "template",
        "--template",
        "Initial 2x4 bundle of a route that draws no views; black by default.",
        _template,
        metavar="PNG",
        needs="picture",
    ),
    InputKind(
        "mesh",
        "--mesh",
        "Enhance this mesh instead of starting from a picture: refined by a network, or remeshed with draft.",
        _mesh,
        metavar="MESH",
        starts=True,
        excludes=("picture", "bundle"),
        pack=(".ply", _in_one_file),
    ),
    InputKind(
        "text",
        "--text",
        "Start from a text prompt instead of a picture (needs a GPU); with --mesh, describe the mesh.",
        _text,
        metavar="TEXT",
        starts=True,
        excludes=("picture", "bundle"),
        typed=True,
        suggest=_from_words,
    ),
    InputKind("ground_truth", "--gt", "Measure the result against this mesh or scan.", _ground_truth, metavar="MESH"),
)


@cache
def kinds() -> Mapping[str, InputKind]:
    """Every kind by its name."""
    found = {kind.name: kind for kind in KINDS}
    for entry in entry_points(group=GROUP):
        kind: InputKind = entry.load()
        found[kind.name] = kind
    return found


def given(**values: Given | None) -> dict[str, Given]:
    """Inputs by the names of their kinds, without those that are None."""
    return {name: value for name, value in values.items() if value is not None}


def check_inputs(inputs: Mapping[str, Given]) -> list[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    """Check all inputs of a run; returns the settings that each suggests, with its option.

    Raises:
        BadInput: one can't be read, two can't be given together, or there is none to start from.
    """
    for name in inputs:
        kind, option = kinds()[name], option_of(name, inputs[name])
        for other in kind.excludes:
            if other in inputs:
                given_as = inputs[other]
                first = given_as.option if isinstance(given_as, Joined) else kinds()[other].title
                raise BadInput(
                    f"both {first} and {option} were given",
                    place=option,
                    hint="give one of the two",
                )
        if kind.needs is not None and kind.needs not in inputs:
            needed = kinds()[kind.needs]
            raise BadInput(f"it goes with {needed.title}, and none was given", place=kind.option, hint="give both")
    if not any(kinds()[name].starts for name in inputs):
        raise BadInput("no picture was given", place="PICTURE", hint="kiss3d run image.png")
    found = []
    for name, value in inputs.items():
        option, suggested = _checked(kinds()[name], value)
        suggest = kinds()[name].suggest
        found.append((option, suggested if suggest is None else suggest(inputs)))
    return found


def option_of(name: str, value: Given) -> str:
    """The option by which an input was given."""
    return value.option if isinstance(value, Joined) else kinds()[name].option


def _checked(kind: InputKind, value: Given) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    if not isinstance(value, Joined):
        return kind.option, kind.check(value)
    try:
        return value.option, kind.check(value.path)
    except BadInput as error:
        if error.place == str(value.path):
            error.place = value.option
        raise


def why_absent(name: str) -> str:
    """Why there is nothing to read of a kind."""
    kind = kinds().get(name)
    if kind is None:
        return f"there is no input called {name}"
    return f"no {kind.option.lower() if kind.option.isupper() else kind.option} was given"
