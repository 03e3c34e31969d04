"""Another package adds a method, a stage, a kind of input, a model and a preset: one file each, by entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

FILES = {
    "method.py": """
        from pydantic import Field

        from kiss3d_cli.methods.base import Settings, Weightless
        from kiss3d_cli.methods.cost import Cost


        class LoudSettings(Settings):
            marks: int = Field(2, ge=1, le=9)
            \"\"\"Exclamation marks.\"\"\"


        class Loud(Weightless):
            \"\"\"A caption that shouts.\"\"\"

            stage, name, version = "caption", "loud", 1
            settings = LoudSettings
            reads = ("preprocess/image.png",)
            takes = ("note",)
            writes = ("caption.json",)

            def cost(self, settings, around):
                return Cost(host_seconds=100 * settings.marks, loaded=4e9, memory=2e9, video=3e9, least_video=1e9)

            def work(self, settings, machine, context):
                import json

                note = context.inputs["note"].read_text(encoding="utf-8") if "note" in context.inputs else "a thing"
                text = note + "!" * settings.marks
                (context.output / "caption.json").write_text(json.dumps({"caption": text}))
        """,
    "stage.py": """
        from kiss3d_cli.methods.base import Settings, Weightless
        from kiss3d_cli.pipeline.stages import Stage

        WEIGH = Stage("weigh", "weighing the words", "scales", after="caption")


        class Scales(Weightless):
            stage, name, version = "weigh", "scales", 1
            reads = ("caption/caption.json",)
            writes = ("weight.txt",)

            def work(self, settings, machine, context):
                length = len(context.inputs["caption/caption.json"].read_text(encoding="utf-8"))
                (context.output / "weight.txt").write_text(str(length))


        class Balance(Scales):
            name = "balance"

            def models(self, settings):
                return ("acme-scales",)

            def work(self, settings, machine, context):
                unit = (machine.models["acme-scales"] / "scales.json").read_text(encoding="utf-8")
                (context.output / "weight.txt").write_text(unit)
        """,
    "model.py": """
        from kiss3d_cli.models.store.model import Model, Network


        def check(folders, findings):
            path = folders["acme-scales"] / "scales.json"
            if "pounds" in path.read_text(encoding="utf-8"):
                findings.add(path, "it weighs in pounds")


        SCALES = Network(
            (Model("acme-scales", "acme/scales", ("scales.json",), 0.5, "Acme-1.0", False, False, "weighs words"),),
            check=check,
        )
        """,
    "kind.py": """
        from kiss3d_cli.core.errors import BadInput
        from kiss3d_cli.pipeline.inputs import InputKind


        def check(text):
            if not text.strip():
                raise BadInput("the note is empty", place="--note", hint="write one")
            return {}


        NOTE = InputKind("note", "--note", "What is said of it.", check, metavar="TEXT", needs="picture", typed=True)
        """,
    "shouting.yaml": """
        preprocess: {method: grabcut, size: 64}
        caption: {method: loud, marks: 3}
        multiview: {method: inflate, tile: 128}
        reference: {method: surface}
        bundle: {method: reference}
        reconstruct: {method: hull}
        """,
    "__init__.py": "",
}
ENTRY_POINTS = """
[kiss3d.methods]
loud = outside.method:Loud
scales = outside.stage:Scales
balance = outside.stage:Balance
[kiss3d.models]
scales = outside.model:SCALES
[kiss3d.stages]
weigh = outside.stage:WEIGH
[kiss3d.inputs]
note = outside.kind:NOTE
[kiss3d.presets]
shouting = outside
"""


@pytest.fixture
def kiss3d(tmp_path):
    """The command where a package is installed that adds one of each."""
    for name, text in FILES.items():
        path = tmp_path / "site" / "outside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    info = tmp_path / "site" / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])

    def call(*arguments):
        command = [sys.executable, "-m", "kiss3d_cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})

    return call


def test_one_file_adds_each(kiss3d, tmp_path, picture):
    asked = kiss3d(
        "run", picture, "--preset", "shouting", "--note", "a cup", "--until", "weigh", "--out", tmp_path, "--json"
    )
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    done = {stage["name"]: (stage["method"], stage["status"]) for stage in answer["stages"]}
    assert list(done)[1:4] == ["caption", "weigh", "sides"]
    assert done["caption"] == ("loud", "done")
    assert done["weigh"] == ("scales", "done")
    (folder,) = (path.parent for path in tmp_path.glob("*/run.json"))
    assert json.loads((folder / "caption" / "caption.json").read_text(encoding="utf-8"))["caption"] == "a cup!!!"
    assert (folder / "weigh" / "weight.txt").read_text(encoding="utf-8") == str(len('{"caption": "a cup!!!"}'))
    assert (folder / "note.txt").read_text(encoding="utf-8") == "a cup"
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["caption"]["marks"] == 3
    again = json.loads(kiss3d("resume", folder, "--until", "weigh", "--json").stdout)
    assert [stage["status"] for stage in again["stages"][:3]] == ["skipped"] * 3


def test_its_cost_is_in_the_plan(kiss3d, tmp_path, picture):
    asked = ("run", picture, "--preset", "shouting", "--until", "weigh", "--out", tmp_path, "--dry-run", "--json")
    answer = json.loads(kiss3d(*asked).stdout)
    seconds = {stage["name"]: stage["seconds"] for stage in answer["stages"]}
    assert seconds["caption"] == 302, "three marks, and 4 GB read at 2 GB/s"
    assert seconds["weigh"] is None
    told = answer["estimate"]
    assert told["seconds"] == pytest.approx(6 + seconds["preprocess"] + 302)
    assert told["unknown"] == ["weigh"], "which declares none"
    assert (told["disk_bytes"], told["video_bytes"], told["least_video_bytes"]) == (4e9, 3e9, 1e9)
    assert told["memory_bytes"] > 3e9


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--note", " "], "the note is empty"),
        (["--set", "caption.marks=10"], "caption.marks (--set): 10 is not a whole number from 1 to 9"),
        (["--set", "caption.method=lout"], "not one of: describe, florence2, text, loud, none"),
    ],
)
def test_its_faults_are_told_like_ours(kiss3d, tmp_path, picture, arguments, cause):
    asked = kiss3d("run", picture, "--preset", "shouting", "--out", tmp_path / "out", *arguments)
    assert asked.returncode == 2
    assert cause in asked.stderr


def test_its_option_and_settings_are_in_the_help(kiss3d):
    assert "--note" in kiss3d("run", "--help").stdout
    assert "caption.marks=2\n    Exclamation marks." in kiss3d("run", "--help-settings").stdout


def test_its_model_is_listed_looked_up_and_checked_like_ours(kiss3d, tmp_path, picture):
    listed = json.loads(kiss3d("models", "list", "--json").stdout)["models"]
    (row,) = [row for row in listed if row["name"] == "acme-scales"]
    assert (row["licence"], row["commercial"], row["here"]) == ("Acme-1.0", False, None)

    weighed = ("--set", "weigh.method=balance", "--set", f"models.root={tmp_path}", "--until", "weigh")
    asked = ("run", picture, "--preset", "shouting", *weighed, "--out", tmp_path / "out")
    absent = kiss3d(*asked)
    assert absent.returncode == 3
    assert "acme-scales: scales.json of acme/scales (0.5 GB; Acme-1.0)" in absent.stderr
    assert " models pull acme-scales --root" in absent.stderr

    path = tmp_path / "acme" / "scales" / "scales.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"unit": "pounds"}', encoding="utf-8")
    refused = kiss3d(*asked)
    assert refused.returncode == 3
    assert f"{path} (acme-scales): it weighs in pounds" in refused.stderr

    path.write_text('{"unit": "grams"}', encoding="utf-8")
    done = kiss3d(*asked)
    assert done.returncode == 0, done.stderr
    (folder,) = (found.parent for found in (tmp_path / "out").glob("*/run.json"))
    assert (folder / "weigh" / "weight.txt").read_text(encoding="utf-8") == '{"unit": "grams"}'
    assert set(json.loads((folder / "weigh" / "manifest.json").read_text(encoding="utf-8"))["models"]) == {
        "acme-scales"
    }
    path.write_text('{"unit": "kilograms"}', encoding="utf-8")
    stale = next(line for line in kiss3d("status", folder).stdout.splitlines() if "weigh" in line)
    assert "the weights of acme-scales changed" in stale
