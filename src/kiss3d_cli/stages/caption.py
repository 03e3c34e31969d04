"""What the picture shows, in words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.cache import cache_folder
from kiss3d_cli.core.files import write_durably
from kiss3d_cli.core.hashing import file_sha256, json_sha256
from kiss3d_cli.core.stage import Context
from kiss3d_cli.image.describe import describe as describe_picture
from kiss3d_cli.image.png import read_png


def describe(context: Context) -> None:
    """The user's own words, or a description measured from the picture."""
    given = context.settings["caption.text"]
    _write(context, {"caption": given, "source": "given"} if given is not None else _measured(context))


def florence2(context: Context) -> None:
    """The user's own words, or those of Florence-2, expanded by a language model where asked.

    Florence-2's words are kept in `captions/` of `core.cache`, by the picture's and the weights' hashes, so that the
    same picture does not load the model again, in whatever run it comes.
    """
    given = context.settings["caption.text"]
    record: Mapping[str, Any] = {"caption": given, "source": "given"} if given is not None else _seen(context)
    if context.settings["caption.expand"]:
        record = _expanded(context, record)
    _write(context, record)


def _seen(context: Context) -> dict[str, Any]:
    from kiss3d_cli.models.florence2 import TASK, VERSION
    from kiss3d_cli.models.store.locate import identify
    from kiss3d_cli.models.store.registry import lookup

    picture, folder = context.inputs["preprocess/image.png"], context.models["florence2"]
    beams, longest = context.settings["caption.beams"], context.settings["caption.max_tokens"]
    key = json_sha256(
        {
            "picture": file_sha256(picture),
            "model": identify(lookup("florence2"), folder),
            "task": TASK,
            "version": VERSION,
            "beams": beams,
            "max_tokens": longest,
            "dtype": str(context.device.half),
        }
    )
    cached = cache_folder() / "captions" / f"{key}.json"
    record = _read_cached(cached)
    context.facts["cached"] = record is not None
    if record is None:
        record = _ask(context, folder, picture, beams, longest)
        if record["caption"]:
            _keep(cached, record, context)
    if not record["caption"]:
        context.warnings.append("Florence-2 found no words, with either search; the caption is a template.")
        return {**_measured(context), "source": "template"}
    if record["search"] == "greedy" and beams > 1:
        context.warnings.append("Florence-2's beam search found no words; the caption is that of a greedy search.")
    return {**record, "source": "florence2"}


def _ask(context: Context, folder: Path, picture: Path, beams: int, longest: int) -> dict[str, str]:
    from kiss3d_cli.models.florence2 import caption

    context.progress(0.1, "Florence-2")
    device = context.device
    found = caption(folder, read_png(picture), beams=beams, max_tokens=longest, device=device.torch, dtype=device.half)
    return {"caption": found.text, "search": found.search}


def _read_cached(path: Path) -> dict[str, str] | None:
    """What was kept, if it is whole; anything else is made again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.keys() != {"caption", "search"}:
        return None
    return record if all(isinstance(value, str) and value for value in record.values()) else None


def _keep(path: Path, record: Mapping[str, str], context: Context) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(record, ensure_ascii=False).encode())
    except OSError as error:
        context.warnings.append(f"The caption could not be kept for later runs in {path.parent}: {error.strerror}.")


def _expanded(context: Context, record: Mapping[str, Any]) -> dict[str, Any]:
    from kiss3d_cli.core.device import release
    from kiss3d_cli.models.chat import expand

    context.progress(0.5, "expanding the caption")
    release(context.device)
    device, before = context.device, str(record["caption"])
    limit = None if device.limit_bytes is None else int(0.8 * device.limit_bytes)
    after = expand(
        context.models[context.settings["caption.expand_model"]],
        before,
        name=context.settings["caption.expand_model"],
        device=device.torch,
        dtype=device.half,
        memory_limit=limit,
    )
    if not after:
        context.warnings.append("The language model found no words; the caption is not expanded.")
        return dict(record)
    return {**record, "caption": after, "unexpanded": before}


def _measured(context: Context) -> dict[str, Any]:
    rgb = read_png(context.inputs["preprocess/image.png"])
    mask = read_png(context.inputs["preprocess/mask.png"]) > 127
    return {"source": "describe", **dataclasses.asdict(describe_picture(rgb, mask))}


def _write(context: Context, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (context.output / "caption.json").write_text(text, encoding="utf-8")
