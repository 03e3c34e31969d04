"""The prompt of a run without a picture."""

from __future__ import annotations

from kiss3d_cli.methods.bundle.flux_settings import Lora
from kiss3d_cli.methods.prompt.flux import Prompt


class Text(Prompt[Lora]):
    """T5's and CLIP's reading of the caption; no Redux tokens, as there is no picture."""

    name, version = "text", 1
    settings = Lora
    reads = ("caption/caption.json",)
    help = "encodes the caption alone"

    def redux(self, settings: Lora) -> bool:
        return False
