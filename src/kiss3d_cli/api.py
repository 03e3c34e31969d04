"""What notebooks and programs call: the same work as on the command line, with errors instead of exit codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiss3d_cli.core.progress import Reporter
from kiss3d_cli.evaluation.compare import Evaluation
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.inputs import Given, kinds
from kiss3d_cli.pipeline.measure import MeasureOptions, measure_pair
from kiss3d_cli.pipeline.run_folder import RunFolder
from kiss3d_cli.pipeline.status import read_status

if TYPE_CHECKING:
    from PIL.Image import Image

Settings = Mapping[str, object]
"""Settings by their dotted keys, as `--set` takes them."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        folder: the run folder.
    """

    folder: Path

    @property
    def mesh(self) -> Path | None:
        """The textured mesh, as GLB; None while there is none."""
        return launch.mesh_of(RunFolder(self.folder))

    @property
    def stages(self) -> dict[str, str]:
        """Every stage with its status: done, stale, damaged, missing, failed or off."""
        return {row.stage: row.status for row in read_status(RunFolder(self.folder)).rows}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, in sentences."""
        return tuple(text for row in read_status(RunFolder(self.folder)).rows for text in row.warnings)

    def file(self, reference: str) -> Path:
        """The path of a stage's file, for example `bundle/bundle.png`, whether it is there or not."""
        stage, _, path = reference.partition("/")
        return RunFolder(self.folder).folder(stage) / path

    def draw(self, azimuths: Sequence[float] = (0, 90, 180, 270), elevation: float = 5, size: int = 256) -> Image:
        """The most finished mesh that there is, from several sides, for a look at it: no stage is run.

        Args:
            azimuths: degrees about the vertical axis; 0 is the front, 90 the side that a viewer of it has at the right.
            elevation: degrees, within (-90, 90).
            size: pixels along the side of each view.

        Returns:
            The views side by side, RGBA.

        Raises:
            BadInput: there is no mesh yet, or its file can't be read.
        """
        import PIL.Image

        from kiss3d_cli.report.drawings import draw_run
        from kiss3d_cli.report.run_view import read_run

        return PIL.Image.fromarray(draw_run(read_run(RunFolder(self.folder)), azimuths, elevation, size))


def run(
    picture: str | Path | None = None,
    *,
    preset: str = "auto",
    settings: Settings | None = None,
    seed: int | None = None,
    out: str | Path = "outputs",
    name: str | None = None,
    until: str | None = None,
    reporter: Reporter | None = None,
    **inputs: str | Path,
) -> Run:
    """Turn a picture into a textured mesh.

    Args:
        picture: the picture.
        preset: `auto`, `draft`, `12gb`, `fast`, `quality`, or one of another package.
        settings: by dotted key, for example `{"refine.steps": 80}`.
        seed: the one seed of the run.
        out: the folder in which the run folder is made.
        name: the run's name; the picture's by default.
        until: the last stage to run.
        reporter: who is told how far it is.
        inputs: what else is given, by the name of its kind: `right`, `back`, `left`, `text`, `mesh`, `bundle`,
            `ground_truth` and those of other packages.

    Raises:
        Kiss3dError: as `kiss3d run`; its `hint` says what to do, and the run folder is kept.
        TypeError: there is no such kind of input.
    """
    known = kinds()
    given: dict[str, Given] = {} if picture is None else {"picture": Path(picture)}
    for kind, value in inputs.items():
        if kind not in known:
            raise TypeError(f"run() has no input called {kind!r}; there are {', '.join(known)}")
        given[kind] = str(value) if known[kind].typed else Path(value)
    request = launch.Request(
        given,
        preset=preset,
        settings=_assignments(settings),
        seed=seed,
        out=Path(out),
        name=name,
        until=until,
        command="kiss3d_cli.run()",
    )
    return Run(launch.start(launch.prepare(request), reporter).folder.path)


def resume(
    run: Run | str | Path,
    *,
    settings: Settings | None = None,
    force_from: str | None = None,
    until: str | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Do what is missing, stale or damaged in a run.

    Args:
        run: the run, or its folder.
        settings: changes by dotted key; kept in the run.
        force_from: the first stage to run again even if it is done.
        until: the last stage to run.
        reporter: who is told how far it is.

    Raises:
        Kiss3dError: as `kiss3d resume`.
    """
    finished = launch.resume(
        _folder(run), _assignments(settings), force_from, until, "kiss3d_cli.resume()", reporter=reporter
    )
    return Run(finished.folder.path)


def evaluate(
    result: Run | str | Path,
    ground_truth: str | Path,
    *,
    protocol: str = "kiss3d",
    align: str | None = None,
    points: int | None = None,
    seed: int = 0,
    render: bool = False,
) -> Evaluation:
    """Compare a mesh, or the mesh of a run, with its ground truth.

    Args:
        result: a run, its folder, or a mesh.
        ground_truth: the mesh to measure against.
        protocol: how both are normalised and measured.
        align: none, yaw, rigid or similarity; None leaves it to the protocol.
        points: on each surface; None for the protocol's.
        seed: of the sampling.
        render: also compare pictures from eight sides.

    Raises:
        Kiss3dError: as `kiss3d eval`.
    """
    from kiss3d_cli.core.errors import BadInput

    path = _folder(result)
    mesh = launch.mesh_of(RunFolder(path)) if path.is_dir() else path
    if mesh is None:
        raise BadInput("this run has no mesh yet", place=str(path), hint="resume it first")
    return measure_pair(mesh, Path(ground_truth), MeasureOptions(protocol, align, points, seed, render))


def _folder(run: Run | str | Path) -> Path:
    return run.folder if isinstance(run, Run) else Path(run)


def _assignments(settings: Settings | None) -> tuple[str, ...]:
    return tuple(f"{key}={_typed(value)}" for key, value in (settings or {}).items())


def _typed(value: Any) -> str:
    """A value as `--set` takes it: texts as they are, all else as JSON, which is YAML too."""
    import json

    return value if isinstance(value, str) else json.dumps(value)
