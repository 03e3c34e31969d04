"""kiss3d: one picture in, a textured 3D mesh out."""

__version__ = "0.1.0"
