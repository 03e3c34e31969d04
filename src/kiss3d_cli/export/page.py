"""A minimal web page that shows a GLB."""

from __future__ import annotations

import html
from string import Template
from urllib.parse import quote

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<!-- Serve this folder (python3 -m http.server): browsers do not load a mesh into a page that is opened as a file.
     To do without the network, save the two scripts beside the page and name them here. -->
<script>
self.ModelViewerElement = {meshoptDecoderLocation: "https://cdn.jsdelivr.net/npm/meshoptimizer@0.22.0/meshopt_decoder.js"};
</script>
<script type="module" crossorigin="anonymous"
  src="https://cdn.jsdelivr.net/npm/@google/model-viewer@4.4.0/dist/model-viewer.min.js"
  integrity="sha384-wjsPzEO+lXOf7d9csIDfAQpPt2OKuUU3m0K9qsdKIuzX4N8czSF6hdh23eAbZa3p"></script>
<style>
html, body, model-viewer { margin: 0; width: 100%; height: 100%; background: #eee }
</style>
<model-viewer src="$file" alt="$title, in 3D" camera-controls auto-rotate touch-action="pan-y"
  shadow-intensity="1" tone-mapping="neutral" ar></model-viewer>
</html>
""")


def page(file: str, title: str) -> str:
    """HTML for a GLB in the same folder, by Google's <model-viewer> (Apache-2.0), which it loads from a public server.

    Args:
        file: the name of the GLB.
        title: plain text.
    """
    return _PAGE.substitute(file=html.escape(quote(file)), title=html.escape(title))
