"""A hook of mkdocs: every notebook below docs/ becomes a page of the site, with the outputs that it was kept with.

The site's own plug-ins for this load scripts from elsewhere; nothing on this site does.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def on_files(files: Any, config: Any, **_more: Any) -> Any:
    """Put a page of Markdown beside each notebook."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = as_markdown(json.loads(Path(file.abs_src_path).read_text(encoding="utf-8")))
        files.append(File.generated(config, page_of(file.src_uri), content=text))
    return files


def on_page_markdown(markdown: str, **_more: Any) -> str:
    """Let links to a notebook lead to its page."""
    return re.sub(r"\]\(([^)#:\s]+\.ipynb)\)", lambda found: f"]({page_of(found[1])})", markdown)


def page_of(notebook: str) -> str:
    return notebook.removesuffix(".ipynb") + ".md"


def as_markdown(notebook: dict[str, Any]) -> str:
    """Cells and outputs (texts and PNGs) in their order."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else _block("python", source))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})")
            else:
                parts.append(_block("text", "".join(output.get("text", data.get("text/plain", "")))))
    return "\n\n".join(parts) + "\n"


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
