"""What the picture shows, in words."""

from __future__ import annotations

import dataclasses
import json

from kiss3d_cli.core.stage import Context
from kiss3d_cli.imaging.describe import describe as describe_picture
from kiss3d_cli.imaging.png import read_png


def describe(context: Context) -> None:
    """The user's own words, or a description measured from the picture."""
    given = context.settings["caption.text"]
    if given is not None:
        record = {"caption": given, "source": "given"}
    else:
        rgb = read_png(context.inputs["preprocess/image.png"])
        mask = read_png(context.inputs["preprocess/mask.png"]) > 127
        record = {"source": "describe", **dataclasses.asdict(describe_picture(rgb, mask))}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (context.output / "caption.json").write_text(text, encoding="utf-8")
