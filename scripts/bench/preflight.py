"""How long a look at every file of a preset takes, and what it finds.

python scripts/make_checkpoints.py --size hollow --out ROOT     # the published sizes, in a few megabytes
python scripts/bench/preflight.py --root ROOT [--preset 12gb]

The libraries are imported before the clock starts: a run needs them anyway. The headers are read from the disk: the
system is asked to forget them first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from kiss3d_cli.models.store import preflight
from kiss3d_cli.models.store.locate import needed_files
from kiss3d_cli.models.store.registry import lookup
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.requirements import needed_models


def files(names: list[str], root: Path) -> Iterator[Path]:
    for name in names:
        model = lookup(name)
        yield from (root / model.repository / file for file in needed_files(model, root / model.repository))


def forget(path: Path) -> None:
    """Let the next read of a file come from the disk."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{what:<10} {wall:6.2f} s, {processor:6.2f} s of processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--preset", default="12gb")
    options = parser.parse_args()
    names = needed_models(configuration.load(configuration.preset_layer(options.preset)))
    with timed("imports"):
        import_libraries()
    found = list(files(names, options.root))
    for path in found:
        forget(path)
    with timed("preflight"):
        faults = preflight.check(names, options.root)
    print(f"{len(found)} files, {sum(path.stat().st_size for path in found) / 1e9:.1f} GB")
    with timed("once more"):
        preflight.check(names, options.root)
    for fault in faults:
        print(f"{fault.path}: {fault.what}")


def import_libraries() -> None:
    from diffusers import AutoencoderKL, FluxControlNetModel, FluxTransformer2DModel, UNet2DConditionModel
    from transformers import (
        AutoProcessor,
        CLIPTextModel,
        CLIPVisionModelWithProjection,
        Florence2ForConditionalGeneration,
        SiglipVisionModel,
        T5EncoderModel,
    )

    del AutoencoderKL, FluxControlNetModel, FluxTransformer2DModel, UNet2DConditionModel, AutoProcessor
    del CLIPTextModel, CLIPVisionModelWithProjection, Florence2ForConditionalGeneration, SiglipVisionModel
    del T5EncoderModel


if __name__ == "__main__":
    main()
