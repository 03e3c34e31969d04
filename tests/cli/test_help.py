from __future__ import annotations

import subprocess
import sys

import pytest

LIST_MODULES = (
    "import sys; sys.argv = ['kiss3d', *sys.argv[1:]]\n"
    "from kiss3d_cli.cli.app import main\n"
    "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    "print('MODULES', *sys.modules)"
)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["run", "--help-settings"]])
def test_help_loads_nothing_heavy(arguments):
    done = subprocess.run([sys.executable, "-c", LIST_MODULES, *arguments], capture_output=True, text=True, check=True)
    modules = done.stdout.rpartition("MODULES")[2].split()
    assert "kiss3d_cli.cli.run" in modules
    assert not {"torch", "cv2", "scipy", "trimesh", "numpy", "pymeshlab", "transformers"} & set(modules)


def test_help_names_every_command():
    done = subprocess.run([sys.executable, "-c", LIST_MODULES, "--help"], capture_output=True, text=True, check=True)
    assert all(f" {name} " in done.stdout for name in ("run", "resume", "status", "eval", "models"))
