"""Three stages of file copying: the real runner, without the cost of the real work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless
from kiss3d_cli.methods.shared import Seeded
from kiss3d_cli.pipeline.batch import execute
from kiss3d_cli.pipeline.config import Layer, load
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.run_folder import RunFolder, RunRecord
from kiss3d_cli.pipeline.runner import Task
from kiss3d_cli.pipeline.stages import Stage

CPU = DeviceInfo("cpu", "CPU", "test")


def upper(context: Context) -> None:
    text = context.inputs["picture"].read_text(encoding="utf-8")
    (context.output / "a.txt").write_text(text.upper())
    (context.output / "length.txt").write_text(str(len(text)))


def repeat(context: Context, settings: RepeatSettings) -> None:
    text = context.inputs["preprocess/a.txt"].read_text(encoding="utf-8")
    if settings.seed == 13:
        (context.output / "half.txt").write_text(text)
        raise BadInput("13 brings bad luck")
    if settings.seed == 14:
        raise ZeroDivisionError("a fault")
    (context.output / "b.txt").write_text(text * settings.steps)


def join(context: Context) -> None:
    parts = [context.inputs[name].read_text(encoding="utf-8") for name in ("preprocess/length.txt", "caption/b.txt")]
    (context.output / "c.txt").write_text("\n".join(parts))
    context.facts["parts"] = len(parts)
    context.warnings.append("A toy.")


class Upper(Weightless[Settings]):
    stage, name, version = "preprocess", "grabcut", 1
    reads = ("picture",)
    writes = ("a.txt", "length.txt")

    def work(self, settings: Settings, machine: Machine, context: Context) -> None:
        seen.append(machine)
        upper(context)


class RepeatSettings(Seeded):
    section = "refine"

    steps: int = 2


class Repeat(Weightless[RepeatSettings]):
    stage, name, version = "caption", "florence2", 1
    settings = RepeatSettings
    reads = ("preprocess/a.txt",)
    writes = ("b.txt",)

    def work(self, settings: RepeatSettings, machine: Machine, context: Context) -> None:
        seen.append(machine)
        repeat(context, settings)


class Join(Weightless[Settings]):
    stage, name, version = "multiview", "zero123plus", 1
    reads = ("preprocess/length.txt", "caption/b.txt")
    writes = ("c.txt",)

    def work(self, settings: Settings, machine: Machine, context: Context) -> None:
        seen.append(machine)
        join(context)


STAGES = (
    Stage("preprocess", "", "grabcut", methods={"grabcut": Upper()}),
    Stage("caption", "", "florence2", methods={"florence2": Repeat()}),
    Stage("multiview", "", "zero123plus", methods={"zero123plus": Join()}),
)
seen: list[Machine] = []
"""What the methods were opened on."""


def create(
    parent: Path, text: str = "panda", runs: Path | None = None, picture: Path | None = None, **settings: object
) -> RunFolder:
    if picture is None:
        picture = parent / "given.txt"
        picture.write_text(text)
    values: dict = {"refine": {"steps": 2}, **settings}
    record = RunRecord("toy", "draft", "test", load(Layer("test", values)), {}, "now", "0", {}, {}, ("kiss3d run",))
    return RunFolder.create(parent / "runs" if runs is None else runs, record, {"picture": picture})


def run(folder: RunFolder, stages=STAGES, **options):
    with locked(folder.path):
        return execute(Task(folder, folder.record(), {}, CPU, **options), stages)


def configure(folder: RunFolder, **settings: object) -> None:
    record = folder.record()
    folder.rewrite(dataclasses.replace(record, config=load(Layer("test", {"refine": {"steps": 2}, **settings}))))


def artifacts(folder: RunFolder, stages=STAGES) -> dict[str, str]:
    found = {}
    for stage in stages:
        state = folder.inspect(stage)
        manifest = state.manifest  # a KeyError or AttributeError here is a failed test: the stage is not complete
        found.update({f"{stage.name}/{artifact.path}": artifact.sha256 for artifact in manifest.artifacts})
    return found


def statuses(outcomes) -> list[str]:
    return [outcome.status for outcome in outcomes]
