"""Readers of others, asked what they think of an exported file; "fine" where they find nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

_VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""
_REPAIRS = ("open_edges", "degenerate_facets", "edges_fixed", "facets_removed", "facets_reversed", "backwards_edges")
SLICER = "prusa-slicer"


def check(path: Path) -> str:
    """What the reader of this format says of a file."""
    return {".glb": _khronos, ".usdz": _openusd}.get(path.suffix, _trimesh)(path)


def slice_print(path: Path, *, layers: str = "0.3") -> str:
    """PrusaSlicer's repairs and complaints; the G-code must have layers up to the object's top."""
    if shutil.which(SLICER) is None:
        return "not run: PrusaSlicer is not installed"
    told = subprocess.run([SLICER, "--info", str(path)], capture_output=True, text=True, check=False)
    numbers = dict(re.findall(r"^(\w+) *= *(\S+)", told.stdout, re.MULTILINE))
    if numbers.get("manifold") != "yes":
        return f"PrusaSlicer: not manifold, {numbers.get('open_edges')} open edges"
    if repaired := [name for name in _REPAIRS if float(numbers.get(name, 0)) > 0]:
        return f"PrusaSlicer repaired: {', '.join(repaired)}"
    if not float(numbers.get("volume", 0)) > 0:
        return f"PrusaSlicer: a volume of {numbers.get('volume')}"
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "mesh.gcode"
        command = [SLICER, "--loglevel", "2", "--export-gcode", "--layer-height", layers, "--fill-density", "5%"]
        ran = subprocess.run([*command, "--output", str(code), str(path)], capture_output=True, text=True, check=False)
        said = " ".join((ran.stdout + ran.stderr).split())
        if ran.returncode or not code.exists():
            return f"PrusaSlicer: {said[-200:]}"
        if complaint := re.search(r"(?i)[^.>]*(repair|auto-?fix|manifold|open edge)[^.]*", said):
            return f"PrusaSlicer: {complaint[0].strip()[:200]}"
        heights = [float(height) for height in re.findall(r"^;Z:([\d.]+)", code.read_text(), re.MULTILINE)]
    if not heights or max(heights) < float(numbers["size_z"]) - 0.7:
        return f"PrusaSlicer: layers up to {max(heights, default=0)} of {numbers['size_z']} mm"
    return "PrusaSlicer: fine"


def _khronos(path: Path) -> str:
    node = shutil.which("node")
    if node is None:
        return "not run: node is not installed"
    ran = subprocess.run(
        [node, "-e", _VALIDATE, str(path)], capture_output=True, text=True, env=os.environ, check=False
    )
    if ran.returncode:
        return "not run: npm's gltf-validator is not on NODE_PATH"
    issues = json.loads(ran.stdout)
    if issues["numErrors"] or issues["numWarnings"]:
        codes = sorted({message["code"] for message in issues["messages"] if message["severity"] < 2})
        return f"Khronos' validator: {', '.join(codes)}"
    return "Khronos' validator: fine"


def _openusd(path: Path) -> str:
    from pxr import Usd, UsdValidation

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    said = sorted({error.GetMessage() for error in found})
    return f"OpenUSD's validators: {'; '.join(said)[:300] or 'fine'}"


def _trimesh(path: Path) -> str:
    import trimesh

    mesh = trimesh.load(path, force="mesh", process=False)
    return "trimesh: fine" if len(mesh.faces) else "trimesh: no faces"
