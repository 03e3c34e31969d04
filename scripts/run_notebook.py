"""Executes a notebook and keeps its outputs.

pip install nbclient ipykernel
python scripts/run_notebook.py [docs/quickstart.ipynb]

The file stays as it was if a cell fails. It keeps no times and no paths of the machine.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"
LARGEST = 300_000
"""Bytes of a notebook that is kept in the repository."""


def execute(path: Path) -> None:
    """Run all cells in a kernel of this environment, in the notebook's folder, and write it with their outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if "outputs" in cell:
            cell.outputs = _joined(cell.outputs)
    notebook.metadata.language_info = {"name": "python"}
    scratch = re.escape(tempfile.gettempdir())
    text = re.sub(rf"{scratch}/[^/\s'\"]+/", "", nbformat.writes(notebook)) + "\n"
    if len(text) > LARGEST:
        sys.exit(f"{path} would have {len(text):,} bytes, more than {LARGEST:,}: show smaller pictures")
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(text):,} bytes")


def _joined(outputs: list[Any]) -> list[Any]:
    """How often a stream is flushed differs from run to run."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == "stream" and output.get("name") == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


if __name__ == "__main__":
    execute(Path(sys.argv[1]) if len(sys.argv) > 1 else QUICKSTART)
