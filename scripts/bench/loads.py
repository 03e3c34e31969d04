"""How often each network is loaded, counted where the runs themselves load them.

    python scripts/bench/loads.py COUNTS.json run a.png b.png --preset 12gb ...    # any command of kiss3d

The command is carried out in this process, and COUNTS.json says how often each network was loaded.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOADERS: dict[str, tuple[str, str]] = {
    "IS-Net": ("kiss3d_cli.models.isnet.network", "IsNet"),
    "Florence-2": ("kiss3d_cli.models.florence2.captioner", "Captioner"),
    "language model": ("kiss3d_cli.models.chat.expander", "Expander"),
    "Zero123++ UNet": ("kiss3d_cli.models.runtime.pretrained", "load_weights"),
    "T5": ("kiss3d_cli.models.flux.loading", "load_t5"),
    "CLIP": ("kiss3d_cli.models.flux.loading", "load_clip"),
    "Redux": ("kiss3d_cli.models.flux.redux", "load_redux"),
    "Flux transformer": ("kiss3d_cli.models.flux.loading", "load_transformer"),
    "Flux ControlNet": ("kiss3d_cli.models.flux.loading", "load_controlnet"),
    "Flux VAE": ("kiss3d_cli.models.flux.loading", "load_vae"),
    "reconstruction model": ("kiss3d_cli.models.lrm.checkpoint", "read"),
    "learned prior": ("kiss3d_cli.models.prior.weights", "load"),
}
"""What loads each network with its weights."""
PARTS = ("kiss3d_cli.models.runtime.pretrained", "load_module")
"""Loads the others of Zero123++, each from a subfolder of its own."""


@contextmanager
def counted_loads() -> Iterator[Counter[str]]:
    """While it is open, every load of a network is counted by the network's name."""
    counts: Counter[str] = Counter()
    replaced: list[tuple[Any, str, Any]] = []

    def replace(place: tuple[str, str], name: Callable[[dict[str, Any]], str | None]) -> None:
        original = getattr(importlib.import_module(place[0]), place[1])

        @functools.wraps(original, updated=())
        def counting(*arguments: Any, **named: Any) -> Any:
            if (found := name(named)) is not None:
                counts[found] += 1
            return original(*arguments, **named)

        # also where it was imported by its name; modules that are imported later find it at its place
        for module in [module for key, module in sys.modules.items() if key.startswith("kiss3d_cli")]:
            for attribute in [key for key, value in vars(module).items() if value is original]:
                replaced.append((module, attribute, original))
                setattr(module, attribute, counting)

    for name, place in LOADERS.items():
        replace(place, lambda _named, name=name: name)  # type: ignore[misc]
    replace(PARTS, lambda named: f"Zero123++ {named['subfolder']}" if named.get("subfolder") else None)
    try:
        yield counts
    finally:
        for module, attribute, original in replaced:
            setattr(module, attribute, original)


def main() -> None:
    from kiss3d_cli.cli.app import app

    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    code: Any = 0
    with counted_loads() as counts:
        try:
            app(sys.argv[2:], standalone_mode=True)
        except SystemExit as end:
            code = end.code
    Path(sys.argv[1]).write_text(json.dumps(counts), encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
