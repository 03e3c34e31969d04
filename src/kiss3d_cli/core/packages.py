"""Packages: which extra installs the optional ones, and what is there, without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from kiss3d_cli.core.errors import Missing

EXTRAS = {"onnxruntime": "matting", "diffusers": "flux", "transformers": "flux", "accelerate": "flux"}


def require_packages(names: Iterable[str], place: str) -> None:
    """Raises Missing, naming every package that is not installed and the command that installs it."""
    absent = [name for name in dict.fromkeys(names) if find_spec(name) is None]
    if not absent:
        return
    extras = ",".join(sorted({EXTRAS[name] for name in absent if name in EXTRAS}))
    others = [name for name in absent if name not in EXTRAS]  # of methods of other packages
    wanted = " ".join([*([f"'kiss3d[{extras}]'"] if extras else []), *others])
    verb = "is" if len(absent) == 1 else "are"
    raise Missing(
        f"{', '.join(absent)} {verb} not installed",
        place=place,
        hint=f"pip install {wanted}, or use --preset draft, which needs none",
    )


def library_versions() -> dict[str, str]:
    """Versions of what the results depend on, without importing any of it."""
    return dict(_library_versions())


@cache  # each reads and parses a whole file: 20 ms, for every run of a data set
def _library_versions() -> Mapping[str, str]:
    found = {}
    for name in (
        "torch",
        "numpy",
        "scipy",
        "trimesh",
        "fast-simplification",
        "pymeshlab",
        "opencv-python-headless",
        "pillow",
        "diffusers",
        "transformers",
    ):
        try:
            written = distribution(name).read_text("METADATA") or ""
        except PackageNotFoundError:
            continue
        # `importlib.metadata.version` parses the whole file, of which the first lines are wanted
        if line := re.search(r"^Version: *(\S+)", written, re.MULTILINE):
            found[name] = line[1]
    return found
