"""The caption that Florence-2 gives the picture, expanded by a language model where asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from kiss3d_cli.core.cache import cache_folder
from kiss3d_cli.core.files import read_bytes, write_durably
from kiss3d_cli.core.hashing import file_sha256, json_sha256
from kiss3d_cli.core.records import BadRecord, parse_json
from kiss3d_cli.methods.base import Context, Machine, Method, Opened
from kiss3d_cli.methods.caption.words import READS, WRITES, Expanded, expansion_cost, measured, write_caption
from kiss3d_cli.methods.cost import GIB, GIGA, Cost, Surroundings

WORDS = 150
"""Of a caption."""
ONE_BEAM, MORE_BEAMS = 0.02, 0.03
"""Seconds for each of them."""


class Florence2Settings(Expanded):
    beams: int = Field(3, ge=1, le=16)
    """Beam width of Florence-2."""
    max_tokens: int = Field(1024, ge=8, le=4096)
    """Maximum caption length of Florence-2, in tokens."""


class Florence2(Method[Florence2Settings]):
    """The user's own words, or those of Florence-2, expanded by a language model where asked.

    Florence-2's words are kept in `captions/` of `core.cache`, by the picture's and the weights' hashes, so that the
    same picture does not load the model again, in whatever run it comes.
    """

    stage, name, version = "caption", "florence2", 2
    settings = Florence2Settings
    reads = READS
    writes = WRITES
    packages = ("transformers", "accelerate")
    help = "runs Florence-2-large"
    default = True

    def models(self, settings: Florence2Settings) -> tuple[str, ...]:
        return (
            *(("florence2",) if settings.text is None else ()),
            *((settings.expand_model,) if settings.expand else ()),
        )

    def cost(self, settings: Florence2Settings, around: Surroundings) -> Cost:
        seen = Cost()
        if settings.text is None:
            # bound by starting kernels, not by arithmetic
            words = WORDS * (ONE_BEAM if settings.beams == 1 else MORE_BEAMS)
            seen = Cost(flops=2e12, loaded=1.6 * GIGA, host_seconds=words, video=3 * GIB, least_video=3 * GIB)
        return seen.then(expansion_cost(settings))

    @contextmanager
    def open(self, settings: Florence2Settings, machine: Machine) -> Iterator[Opened]:
        words = Words(settings, machine)

        def work(context: Context) -> None:
            given = settings.text
            record = {"caption": given, "source": "given"} if given is not None else words.seen(context)
            write_caption(context, words.expanded(context, record) if settings.expand else record)

        yield work


class Words:
    """Florence-2 and the chat model, each loaded when it is first needed."""

    def __init__(self, settings: Expanded, machine: Machine) -> None:
        self.settings, self.machine = settings, machine

    @cached_property
    def _captioner(self) -> Any:
        from kiss3d_cli.models.florence2 import captioner

        device = self.machine.device
        return captioner.Captioner(self.machine.models["florence2"], device=device.torch, dtype=device.half)

    @cached_property
    def _expander(self) -> Any:
        from kiss3d_cli.core.device import release
        from kiss3d_cli.models.chat import expander

        device, name = self.machine.device, self.settings.expand_model
        if self.machine.calls == 1:
            self.__dict__.pop("_captioner", None)  # its words are there, and there are no others to come
        release(device)
        limit = None if device.limit_bytes is None else int(0.8 * device.limit_bytes)
        return expander.Expander(
            self.machine.models[name], name=name, device=device.torch, dtype=device.half, memory_limit=limit
        )

    def _expansion(self, caption: str) -> str:
        settings = self.settings
        found: str = self._expander(
            caption,
            temperature=settings.expand_temperature,
            max_tokens=settings.expand_tokens,
            seed=settings.expand_seed,
        )
        return found

    def seen(self, context: Context) -> dict[str, Any]:
        from kiss3d_cli.models.florence2.captioner import TASK, VERSION
        from kiss3d_cli.models.store.locate import identify
        from kiss3d_cli.models.store.registry import lookup

        settings = self.settings
        assert isinstance(settings, Florence2Settings)
        picture, beams = context.inputs["preprocess/image.png"], settings.beams
        key = json_sha256(
            {
                "picture": file_sha256(picture),
                "model": identify(lookup("florence2"), self.machine.models["florence2"]),
                "task": TASK,
                "version": VERSION,
                "beams": beams,
                "max_tokens": settings.max_tokens,
                "dtype": str(self.machine.device.half),
            }
        )
        cached = cache_folder() / "captions" / f"{key}.json"
        record = _read_cached(cached)
        context.facts["cached"] = record is not None
        if record is None:
            record = self._ask(context, picture, settings)
            if record["caption"]:
                _keep(cached, record, context)
        if not record["caption"]:
            context.warnings.append("Florence-2 found no words, with either search; the caption is a template.")
            return {**measured(context), "source": "template"}
        if record["search"] == "greedy" and beams > 1:
            context.warnings.append("Florence-2's beam search found no words; the caption is that of a greedy search.")
        return {**record, "source": "florence2"}

    def _ask(self, context: Context, picture: Path, settings: Florence2Settings) -> dict[str, str]:
        from kiss3d_cli.image.png import read_png

        context.progress(0.1, "Florence-2")
        pixels = read_png(picture)
        found = self._captioner(pixels, beams=settings.beams, max_tokens=settings.max_tokens)
        return {"caption": found.text, "search": found.search}

    def expanded(self, context: Context, record: Mapping[str, Any]) -> dict[str, Any]:
        context.progress(0.5, "expanding the caption")
        before = str(record["caption"])
        after = self._expansion(before)
        if not after:
            context.warnings.append("The language model found no words; the caption is not expanded.")
            return dict(record)
        return {**record, "caption": after, "unexpanded": before}


def _read_cached(path: Path) -> dict[str, str] | None:
    """What was kept, if it is whole; anything else is made again."""
    try:
        record = parse_json(read_bytes(path, 2**20))
    except (OSError, BadRecord):
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
