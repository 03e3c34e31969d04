"""Meshes whose shape is known, and bundles of them by ray casting, for the benchmarks in this folder.

The meshes and the ray caster are read from a folder that is not part of this repository: `--shared`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import trimesh

from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.image.bundle import Bundle, split_bundle

MESHES = ("spot", "stanford-bunny", "teapot", "rocker-arm", "cow")
SHARED = Path(__file__).parents[2] / ".." / "shared"


def add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shared", type=Path, default=SHARED, help="has data/meshes and tools/raycast_bundle.py")


def load_caster(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("raycast_bundle", shared / "tools" / "raycast_bundle.py")
    if spec is None or spec.loader is None or not Path(spec.origin or "").exists():
        sys.exit(f"{shared} has no tools/raycast_bundle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_source(shared: Path, name: str, caster: ModuleType) -> trimesh.Trimesh:
    """A mesh with equal vertices joined, its longest side 1.9, in the middle."""
    return caster.normalise(trimesh.load(shared / "data" / "meshes" / f"{name}.obj", force="mesh", process=True))


def to_mesh(source: trimesh.Trimesh) -> Mesh:
    vertices = torch.tensor(np.asarray(source.vertices), dtype=torch.float32)
    return Mesh(vertices, torch.tensor(np.asarray(source.faces), dtype=torch.int64))


@dataclass(frozen=True)
class Case:
    """A mesh and its bundle: four views of 512 px from radius 4.15, in 8 bits as a file would hold them."""

    name: str
    truth: Mesh
    bundle: Bundle


def load_case(shared: Path, name: str) -> Case:
    caster = load_caster(shared)
    source = load_source(shared, name, caster)
    picture, _ = caster.bundle(source)
    return Case(name, to_mesh(source), split_bundle((picture * 255).round().astype(np.uint8), place=name))
