"""kiss3d: one picture in, a textured 3D mesh out.

    from kiss3d_cli import run
    print(run("image.png").mesh)

`run`, `resume`, `evaluate` and `Run` are in `kiss3d_cli.api`; they are loaded when they are first asked for, so that
importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kiss3d_cli.api import Run, evaluate, resume, run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "evaluate", "resume", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kiss3d_cli import api

    return getattr(api, name)
