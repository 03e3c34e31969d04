"""A differentiable triangle rasteriser in plain torch, for any device.

rasterize    clip-space triangles -> which face every pixel shows, and where on it
interpolate  vertex attributes -> images
antialias    images -> images whose silhouettes have gradients
"""

from __future__ import annotations

from kiss3d_cli.geometry.rasterize.antialias import antialias
from kiss3d_cli.geometry.rasterize.fragments import Fragments, interpolate, rasterize
from kiss3d_cli.geometry.rasterize.silhouette import Edges, mesh_edges

__all__ = ["Edges", "Fragments", "antialias", "interpolate", "mesh_edges", "rasterize"]
