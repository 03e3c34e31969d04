"""What a method is: one way of doing a stage, opened once and called for each run.

Nothing here or at the top of a method's file imports torch, so that a plan, a status or a help text needs none of it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.progress import Progress
from kiss3d_cli.methods.cost import Cost, Surroundings


class Settings(BaseModel):
    """Settings of a method: typed fields with bounds, a default and one sentence each.

    A field's dotted key is the section of the class that declares it, then its name; a class without a section of its
    own declares in that of its method's stage. Methods that share a setting inherit the class that declares it. A field
    without a default is a setting that is declared elsewhere, the `method` of another stage for example.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        protected_namespaces=(),
    )
    section: ClassVar[str | None] = None

    @classmethod
    def sentence(cls, field: str) -> str:
        """The one about a field: the string under it in the class that declares it."""
        return next((found[field] for found in map(_sentences, cls.__mro__) if field in found), "")

    def faults(self) -> Iterator[str]:
        """What is fine alone and wrong together, each as `field: sentence`."""
        yield from ()

    @classmethod
    def keys(cls, stage: str) -> dict[str, str]:
        """The dotted key of every field, by its name."""
        return dict(_keys(cls, stage))


@cache
def _sentences(owner: type) -> Mapping[str, str]:
    """Read from the source when someone asks: pydantic's `use_attribute_docstrings` would read all at every start."""
    if not (issubclass(owner, Settings) and owner is not Settings):
        return {}
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(tree.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


@cache
def _keys(cls: type[Settings], stage: str) -> Mapping[str, str]:
    found = {}
    for owner in reversed(cls.__mro__):
        section = owner.__dict__.get("section")
        for name in inspect.get_annotations(owner):
            if name in cls.model_fields:
                where = stage if section is None else section
                found[name] = f"{where}.{name}" if where else name
    return found


S = TypeVar("S", bound=Settings)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a method is opened on.

    Attributes:
        device: where to work, with the memory that is free now.
        models: path of the folder or file of every declared model, by registry name.
        calls: how many runs will call it, as far as is known.
        kept: what `once` has read. The runner hands it from stage to stage, and forgets what no later one needs.
    """

    device: DeviceInfo
    models: Mapping[str, Path]
    calls: int = 1
    kept: dict[tuple[str, Path], Any] = dataclasses.field(default_factory=dict)

    def once(self, model: str, read: Callable[[], T]) -> T:
        """What `read` makes of a declared model's files, read by the first stage that asks.

        It is kept in the host's memory until the last stage that declares the model has ended, whatever is loaded in
        between: so it should be mapped from the file, which the system may take back, and is not to be changed.
        """
        key = model, self.models[model]
        if key not in self.kept:
            self.kept[key] = read()
        found: T = self.kept[key]
        return found


@dataclasses.dataclass
class Context:
    """What an opened method is given for one run.

    Attributes:
        inputs: path of everything declared in `reads`, and of what the user gave of `takes`.
        output: the folder to write to; it becomes the stage's folder when the call returns.
        progress: tells how far the stage is; also the place where a cancelled run stops.
        scratch: a folder that outlives a failed or killed attempt, for work that can be taken up again.
        warnings: sentences for the user; the method appends to it.
        facts: what the method measured, for the manifest; JSON-able.
    """

    inputs: Mapping[str, Path]
    output: Path
    progress: Progress
    scratch: Path
    warnings: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Prospect:
    """What a method is told of the machine before any work, so that it may refuse what could not end well.

    Attributes:
        device: where the work would be done.
        size_of: bytes of a model's files, by its registry name: of those that are here, else of the published ones.
        pull: the command that gets the models of this run that are not here; None if all are.
    """

    device: DeviceInfo
    size_of: Callable[[str], float]
    pull: str | None = None


Opened = Callable[[Context], None]


def once(load: Callable[[], T]) -> Callable[[], T]:
    """What `load` returns, loaded when it is first asked for: a run that needs no network should load none."""
    return cache(load)


class Method(ABC, Generic[S]):
    """One way of doing a stage.

    Attributes:
        stage, name: which stage, and how the configuration calls this way of doing it.
        version: raised whenever the same inputs give another result.
        settings: every setting that the result depends on; the method sees no others.
        reads: what it reads, as `stage/file` or the name of an input of the run.
        takes: names of inputs of the run that it heeds where the user gave them, and does without where not.
        any_of: of these of its `takes` at least one must be there; without names, none need be.
        writes: the files that it always writes; it may write more.
        writes_for: what it also writes for each of its `takes` that is there.
        packages: optional packages that it imports; `core.packages` knows which extra installs them.
        help: what follows its name in the sentence about its stage's `method`.
        default: it does its stage unless the configuration says otherwise.
        preset: what the preset `auto` stands for where it is asked for, and why; None if the machine decides.
        alternative: what a user does who can't have its models, where the preset `draft` is no way out.
    """

    stage: ClassVar[str]
    name: ClassVar[str]
    version: ClassVar[int]
    settings: ClassVar[type[Settings]] = Settings
    reads: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()
    any_of: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]]
    writes_for: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    packages: ClassVar[tuple[str, ...]] = ()
    help: ClassVar[str] = ""
    default: ClassVar[bool] = False
    preset: ClassVar[tuple[str, str] | None] = None
    alternative: ClassVar[str | None] = None

    def all_writes(self, there: Container[str]) -> tuple[str, ...]:
        """What it writes where these of its inputs are there."""
        more = (path for reference, paths in self.writes_for.items() if reference in there for path in paths)
        return (*self.writes, *more)

    def models(self, settings: S) -> tuple[str, ...]:
        """Registry names of the models that it loads."""
        return ()

    def idle(self, settings: S) -> str | None:
        """Why it has nothing to do with these settings; None if it has."""
        return None

    def cost(self, settings: S, around: Surroundings) -> Cost | None:
        """What one run costs, for plans and `kiss3d doctor`; None if that is not known."""
        return None

    def instead(self, is_there: Callable[[str], bool]) -> str | None:
        """The method of the same stage that stands in for this one, settled before a run begins; None for itself.

        Args:
            is_there: tells of a method of the stage, by name, whether its packages and weights are on this machine.
        """
        return None

    def require(self, settings: S, prospect: Prospect) -> None:
        """Raises Missing if it can't do its work on a machine, or not within a time that anyone would wait."""
        return

    @abstractmethod
    def open(self, settings: S, machine: Machine) -> AbstractContextManager[Opened]:
        """Make ready for any number of runs with these settings.

        What is loaded is loaded once, at the latest in the first call that needs it, and let go at the end.
        """


class Weightless(Method[S]):
    """A method with nothing to load: all is done in the call."""

    @contextmanager
    def open(self, settings: S, machine: Machine) -> Iterator[Opened]:
        yield lambda context: self.work(settings, machine, context)

    @abstractmethod
    def work(self, settings: S, machine: Machine, context: Context) -> None:
        """One run."""
