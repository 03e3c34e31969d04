"""cli -> pipeline -> methods -> {models | {evaluation, export} -> geometry | image} -> core; none backwards."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kiss3d_cli.models.store.registry import NETWORKS, models

PACKAGE = Path(__file__).parents[1] / "src" / "kiss3d_cli"
ALLOWED = {
    "core": set(),
    "models": {"core"},
    "geometry": {"core"},
    "image": {"core"},
    "evaluation": {"core", "geometry"},
    "export": {"core", "geometry", "image", "evaluation"},
    "methods": {"core", "models", "geometry", "image", "evaluation", "export"},
    "report": {"core", "geometry", "image", "evaluation", "methods", "pipeline"},
    "pipeline": {"core", "models", "geometry", "image", "evaluation", "export", "methods", "report"},
    "training": {"core", "models", "geometry"},
    "web": {"core", "geometry", "image", "evaluation", "methods", "pipeline", "report", "serve"},
    "serve": {"core", "pipeline", "report"},
    "cli": {
        *("core", "models", "geometry", "image", "evaluation", "methods", "pipeline", "report", "training", "web"),
        *("export", "serve"),
    },
    "api.py": {"core", "evaluation", "pipeline", "report"},
    "__main__.py": {"cli"},
}


def imported_layers(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "kiss3d_cli":
                names = [f"kiss3d_cli.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("kiss3d_cli.")}
    return found - {"__version__"}


def modules(folder: Path) -> list[Path]:
    return [folder] if folder.is_file() else sorted(folder.rglob("*.py"))


def test_every_module_is_in_a_layer():
    found = {path.relative_to(PACKAGE).parts[0] for path in modules(PACKAGE)}
    assert found == {*ALLOWED, "__init__.py"}


@pytest.mark.parametrize("layer", ALLOWED)
def test_layer(layer):
    found = {path.relative_to(PACKAGE): imported_layers(path) for path in modules(PACKAGE / layer)}
    assert {path: wrong for path, names in found.items() if (wrong := names - ALLOWED[layer] - {layer})} == {}


def test_modules_are_small_enough_to_read():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(PACKAGE)}
    assert {path: count for path, count in lines.items() if count > 400} == {}


def test_the_check_sees_an_import_inside_a_function(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("def f():\n    from kiss3d_cli.geometry.mesh import Mesh\n")
    assert imported_layers(module) == {"geometry"}


GENERIC = (
    *("core", "image", "geometry", "evaluation", "pipeline", "report", "serve", "web", "training", "cli", "api.py"),
    *("models/store", "models/runtime"),
    *("methods/base.py", "methods/cost.py", "methods/registry.py", "methods/shared.py"),
)
"""What any model can do without: what is particular to one stands in its own package, or in its method's file."""
NAMES_A_MODEL = {
    "methods/registry.py": "the one list of methods",
    "models/store/registry.py": "the one list of networks",
    "core/packages.py": "the extra that users install is called flux",
    "image/grids.py": "pictures that other programs made are known by the layouts that their models publish",
    "geometry/depth/fuse.py": "the flux of a vector field",
}
"""Modules that may, and why."""
SPELLED = ("flux", "zero123", "florence", "is-net", "rembg", "redux", "LRM", "large reconstruction model", "T5", "CLIP")


def named_models(text: str) -> list[str]:
    """Every name of a model in a text: as kiss3d calls it, as its package is called, and as it is spelled in prose."""
    listed = {*models(), *(name for name in NETWORKS if name != "chat")}
    names = sorted({*SPELLED, *listed}, key=len, reverse=True)
    exact = [name for name in names if name.isupper()]  # clip-space is none
    loose = "|".join(re.escape(name) for name in names if name not in exact)
    return re.findall(rf"(?i:\b(?:{loose}))|\b(?:{'|'.join(exact)})\b", text)


def test_generic_modules_name_no_model():
    files = [path for name in GENERIC for path in [PACKAGE / name, *(PACKAGE / name).rglob("*.py")] if path.is_file()]
    assert len(files) > 200
    found = {path.relative_to(PACKAGE).as_posix(): named_models(path.read_text(encoding="utf-8")) for path in files}
    named = {name: words for name, words in found.items() if words}
    assert {name: words for name, words in named.items() if name not in NAMES_A_MODEL} == {}
    assert named.keys() == NAMES_A_MODEL.keys(), "an exception that is none any more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('if method == "flux":', ["flux"]),
        ("the networks of Zero123++ and T5", ["Zero123", "T5"]),
        ('NAMES = ("flux-dev", "prm")', ["flux-dev", "prm"]),
        ("clip-space vertices, influx of a model", []),
    ],
)
def test_names_of_models_are_seen(text, expected):
    assert named_models(text) == expected
