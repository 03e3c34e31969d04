"""A bundle that is given as single pictures: joined for as long as it takes to make the run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.shell import typed
from kiss3d_cli.pipeline.inputs import Joined

VIEWS, NORMALS = "--views", "--normals"


@contextmanager
def joined_views(views: Mapping[str, Path], normals: Mapping[str, Path]) -> Iterator[Joined]:
    """The `bundle` input of a run that single views are given for.

    Args:
        views: pictures by the name of the view (`image.single_views.AZIMUTHS`) or its azimuth in degrees.
        normals: normal maps, likewise; empty if there are none.

    Raises:
        BadInput: as `join_views`; a name that is no view's, or two for the same view.
    """
    from kiss3d_cli.image.png import write_png
    from kiss3d_cli.image.single_views import join_views

    pixels = join_views(_by_azimuth(views, VIEWS), _by_azimuth(normals, NORMALS))
    first = next(iter(views.values()))
    said = [f"{option} " + " ".join(f"{name}={path}" for name, path in given.items())
            for option, given in ((VIEWS, views), (NORMALS, normals)) if given]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="kiss3d-views-") as folder:
        path = Path(folder) / f"{first.stem}.png"
        write_png(path, pixels)
        yield Joined(path, " ".join(said), VIEWS)


def _by_azimuth(files: Mapping[str, Path], option: str) -> dict[float, Path]:
    from kiss3d_cli.image.single_views import AZIMUTHS, azimuth_of

    found: dict[float, Path] = {}
    for name, path in files.items():
        azimuth = azimuth_of(name)
        if azimuth is None:
            names = ", ".join(AZIMUTHS)
            raise BadInput(f"'{name}' is no view", place=option, hint=f"{names}, or an azimuth in degrees")
        if azimuth in found:
            raise BadInput(
                f"'{name}' is given twice", place=option, hint=typed("kiss3d", "run", option, f"front={path}", "...")
            )
        found[azimuth] = path
    return found
