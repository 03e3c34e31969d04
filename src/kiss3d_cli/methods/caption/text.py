"""The caption that the user starts from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Context, Machine, Method, Opened
from kiss3d_cli.methods.caption.words import WRITES, Expanded, expansion_cost, write_caption
from kiss3d_cli.methods.cost import Cost, Surroundings


class Text(Method[Expanded]):
    """The words of `--text`, expanded by a language model where asked."""

    stage, name, version = "caption", "text", 1
    settings = Expanded
    reads = ("text",)
    writes = WRITES
    help = "takes `--text`"

    def models(self, settings: Expanded) -> tuple[str, ...]:
        return (settings.expand_model,) if settings.expand else ()

    def cost(self, settings: Expanded, around: Surroundings) -> Cost:
        return expansion_cost(settings)

    @contextmanager
    def open(self, settings: Expanded, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.caption.florence2 import Words

        words = Words(settings, machine)

        def work(context: Context) -> None:
            text = settings.text if settings.text is not None else context.inputs["text"].read_text(encoding="utf-8")
            record = {"caption": " ".join(text.split()), "source": "given"}
            write_caption(context, words.expanded(context, record) if settings.expand else record)

        yield work
