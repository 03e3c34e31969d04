"""As many different pictures as are asked for, for batches: the examples, mirrored, turned and in other colours."""

from __future__ import annotations

import itertools
from pathlib import Path

from PIL import Image, ImageOps

EXAMPLES = Path(__file__).parents[1] / "data" / "examples"


def draw_pictures(folder: Path, count: int = 20, side: int | None = None) -> list[Path]:
    """PNGs with alpha, `00-cactus.png`, ..., no two of the same content.

    Args:
        side: pixels; the examples' own by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    examples = sorted(path for path in EXAMPLES.iterdir() if (path / "picture.png").is_file())
    made = []
    for number, example in zip(range(count), itertools.cycle(examples)):
        image = Image.open(example / "picture.png").convert("RGBA")
        round_ = number // len(examples)
        if side is not None:
            image = image.resize((side, side), Image.Resampling.LANCZOS)
        if round_ % 2:
            image = ImageOps.mirror(image)
        red, green, blue, alpha = image.split()
        channels = [(red, green, blue), (green, blue, red), (blue, red, green)][round_ // 2 % 3]
        image = Image.merge("RGBA", (*channels, alpha))
        if round_ >= 6:
            image = image.resize((image.width + round_, image.height + round_), Image.Resampling.LANCZOS)
        made.append(folder / f"{number:02d}-{example.name}.png")
        image.save(made[-1])
    return made
