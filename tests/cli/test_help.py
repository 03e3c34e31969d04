from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

LIST_MODULES = (
    "import sys; sys.argv = ['kiss3d', *sys.argv[1:]]\n"
    "from kiss3d_cli.cli.app import main\n"
    "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    "print('MODULES', *sys.modules)"
)
BOTH = """
import sys
from kiss3d_cli.cli.app import main
for arguments in {}:
    sys.argv = ["kiss3d", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    print("THEN")
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["run", "--help-settings"]])
def test_help_loads_nothing_heavy(arguments):
    done = subprocess.run([sys.executable, "-c", LIST_MODULES, *arguments], capture_output=True, text=True, check=True)
    modules = done.stdout.rpartition("MODULES")[2].split()
    assert "kiss3d_cli.cli.run" in modules
    assert not {"torch", "cv2", "scipy", "trimesh", "numpy", "pymeshlab", "transformers"} & set(modules)


def test_it_can_be_called_as_a_module():
    done = subprocess.run([sys.executable, "-m", "kiss3d_cli", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: kiss3d " in done.stdout


def test_help_names_every_command():
    done = subprocess.run([sys.executable, "-c", LIST_MODULES, "--help"], capture_output=True, text=True, check=True)
    assert all(f" {name} " in done.stdout for name in ("run", "resume", "status", "eval", "models"))


@pytest.mark.parametrize("encoding", ["cp1252", pytest.param("ascii", marks=pytest.mark.slow), "utf-8"])
def test_a_pipe_that_lacks_letters_gets_them_escaped(encoding, tmp_path, finished_run):
    """A pipe on Windows has an old code page; a run must not fail for that after its work."""
    folder = tmp_path / "\u65e5\u672c \u00e4"
    shutil.copytree(finished_run["run_dir"], folder)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    asked = [["status", "--json", str(folder)], ["report", str(folder)]]  # of one process: imports are half of each
    done = subprocess.run([sys.executable, "-c", BOTH.format(asked)], capture_output=True, env=environment, check=True)
    status, report, _nothing = done.stdout.decode(encoding).split("THEN")
    assert json.loads(status)["run_dir"] == str(folder)
    assert str(folder).encode(encoding, "backslashreplace").decode(encoding) in report
