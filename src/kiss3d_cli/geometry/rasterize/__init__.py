"""A differentiable triangle rasteriser in plain torch, for any device.

    rasterize    clip-space triangles -> which face every pixel shows, and where on it
    interpolate  vertex attributes -> images
    antialias    images -> images whose silhouettes have gradients

nvdiffrast and pytorch3d can take the first part over: `find_backend`.
"""

from __future__ import annotations

from kiss3d_cli.geometry.rasterize.antialias import antialias
from kiss3d_cli.geometry.rasterize.backends import BUILT_IN, NAMES, Backend, find_backend
from kiss3d_cli.geometry.rasterize.fragments import Fragments, interpolate, rasterize
from kiss3d_cli.geometry.rasterize.silhouette import Edges, mesh_edges

__all__ = [
    "BUILT_IN",
    "NAMES",
    "Backend",
    "Edges",
    "Fragments",
    "antialias",
    "find_backend",
    "interpolate",
    "mesh_edges",
    "rasterize",
]
