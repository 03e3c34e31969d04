"""Convex decomposition of a shape, for collision detection."""

from __future__ import annotations

import contextlib
from importlib.util import find_spec

import numpy as np
import torch

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.export.model import welded
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.surface.topology import report

MOST_HULLS = 16
MOST_CORNERS = 64
"""Of one hull. Unreal and Unity cook up to 255; PhysX on a GPU takes 64."""
_CONCAVITY = 0.05
_FACES = 1500
"""A hull does not see more of a shape, and the search's time grows with them."""
_SEARCHES, _AHEAD = 30, 2
"""Of the tree search for each cut, and cuts that it looks ahead. With 60 and CoACD's own 3, four examples took twice
as long; the volume of the hulls together is the same to 2 %."""


def convex_hulls(mesh: Mesh) -> list[Mesh]:
    """Convex bodies that cover the shape, by CoACD (Wei et al. 2022); the same for the same mesh.

    Args:
        mesh: in any frame, open or closed.

    Returns:
        1 to `MOST_HULLS` closed meshes of at most `MOST_CORNERS` vertices, in the frame of the mesh.

    Raises:
        Missing: CoACD is not installed.
    """
    if find_spec("coacd") is None:
        raise Missing("CoACD is not installed", place="--collision", hint="pip install 'kiss3d[export]'")
    import coacd

    coacd.set_log_level("error")
    simple = decimate(welded(mesh), _FACES)
    given = coacd.Mesh(simple.vertices.double().numpy(), simple.faces.numpy())
    with _one_thread():
        parts = coacd.run_coacd(
            given,
            threshold=_CONCAVITY,
            max_convex_hull=MOST_HULLS,
            decimate=True,
            max_ch_vertex=MOST_CORNERS,
            mcts_iterations=_SEARCHES,
            mcts_max_depth=_AHEAD,
            preprocess_mode="off" if _is_closed(simple) else "auto",
            seed=0,
        )
    return [
        Mesh(torch.from_numpy(np.array(points, np.float32)), torch.from_numpy(np.array(faces, np.int64)))
        for points, faces in parts
    ]


def _is_closed(mesh: Mesh) -> bool:
    """CoACD remeshes, into many times the faces, also what is closed and touches itself; its cuts need it closed."""
    return report(mesh.vertices.double().numpy(), mesh.faces.numpy()).watertight


def _one_thread() -> contextlib.AbstractContextManager[object]:
    """CoACD's threads wait for each other by spinning, thousands of times: beside other work that takes ten times as
    long. The hulls are the same. An installation of before threadpoolctl was asked for goes on with all threads."""
    if find_spec("threadpoolctl") is None:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")
