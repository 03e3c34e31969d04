"""cli -> pipeline -> methods -> {models | evaluation -> geometry | image} -> core; nothing imports backwards."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "kiss3d_cli"
ALLOWED = {
    "core": set(),
    "models": {"core"},
    "geometry": {"core"},
    "image": {"core"},
    "evaluation": {"core", "geometry"},
    "methods": {"core", "models", "geometry", "image", "evaluation"},
    "report": {"core", "geometry", "image", "evaluation", "methods", "pipeline"},
    "pipeline": {"core", "models", "geometry", "image", "evaluation", "methods", "report"},
    "training": {"core", "models", "geometry"},
    "web": {"core", "geometry", "image", "evaluation", "methods", "pipeline", "report"},
    "serve": {"core", "pipeline", "report"},
    "cli": {
        *("core", "models", "geometry", "image", "evaluation", "methods", "pipeline", "report", "training", "web"),
        "serve",
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


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_layer(path):
    layer = path.relative_to(PACKAGE).parts[0]
    if layer != "__init__.py":
        assert imported_layers(path) <= ALLOWED[layer] | {layer}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_small_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_check_sees_an_import_inside_a_function(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("def f():\n    from kiss3d_cli.geometry.mesh import Mesh\n")
    assert imported_layers(module) == {"geometry"}
