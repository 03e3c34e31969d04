"""A picture to run on: an asymmetric figure, drawn here so that every pixel is known."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

SMALL = (
    "preprocess.size=128",
    "multiview.tile=128",
    "reconstruct.resolution=48",
    "refine.size=128",
    "refine.target_faces=2000",
    "refine.texture_size=256",
)
"""Settings under which the draft preset takes a few seconds."""

QUICK = (*SMALL, "refine.integrate=false")
"""A third of that, for tests that don't look at the shape."""


def draw_figure(path: Path, mode: str = "RGBA") -> Path:
    """A body with a head to the left, one arm to the right and a red button, on nothing or on a pale ground."""
    scale = 4
    image = Image.new("RGBA", (160 * scale, 192 * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    for shape, box, color in (
        ("ellipse", (40, 70, 120, 180), (40, 90, 170)),
        ("ellipse", (35, 15, 95, 80), (235, 200, 60)),
        ("rectangle", (110, 95, 150, 112), (40, 90, 170)),
        ("ellipse", (72, 110, 90, 128), (200, 30, 30)),
        ("ellipse", (50, 35, 60, 47), (20, 20, 20)),
    ):
        getattr(draw, shape)([value * scale for value in box], fill=(*color, 255))
    image = image.resize((320, 384), Image.Resampling.LANCZOS)
    if mode == "RGB":
        ground = Image.new("RGBA", image.size, (226, 224, 219, 255))
        image = Image.alpha_composite(ground, image).convert("RGB")
    image.save(path)
    return path
