"""The prompt as Flux reads it: T5's states of every token, and CLIP's summary of the whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kiss3d_cli.core.errors import Missing

T5_LENGTH = 512
CLIP_LENGTH = 77
T5_PADDING, CLIP_PADDING = "<pad>", "<|endoftext|>"


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A text as the numbers of its words, padded.

    Attributes:
        ids: (1, length).
        dropped: words that did not fit.
    """

    ids: Int[Tensor, "1 L"]
    dropped: int


class Tokenizer:
    """A `tokenizer.json` with a fixed length."""

    def __init__(self, path: Path, length: int, padding: str) -> None:
        """Args: padding: the word that fills up a text: T5's `<pad>`, CLIP's `<|endoftext|>`.

        Raises:
            Missing: no such file, or another kind of tokenizer.
        """
        from tokenizers import Tokenizer as Backend

        try:
            self._backend: Any = Backend.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise Missing(
                "the tokenizer is missing or damaged", place=str(path), hint="delete the file and download it again"
            ) from error
        self._pad = self._backend.token_to_id(padding)
        if self._pad is None:
            raise Missing(f"the tokenizer has no word {padding}", place=str(path), hint="download the published one")
        self._length = length
        self._backend.no_padding()
        self._backend.no_truncation()

    @property
    def most(self) -> int:
        """The largest number of a word."""
        return max(self._backend.get_vocab(with_added_tokens=True).values())

    def __call__(self, text: str) -> Tokens:
        whole = self._backend.encode(text).ids
        self._backend.enable_truncation(self._length)
        ids = self._backend.encode(text).ids
        self._backend.no_truncation()
        padded = ids + [self._pad] * (self._length - len(ids))
        return Tokens(torch.tensor([padded]), len(whole) - len(ids))


@torch.inference_mode()
def t5_states(model: nn.Module, ids: Int[Tensor, "1 L"]) -> Float[Tensor, "1 L D"]:
    """T5's last states. Padding is attended to, as Flux was trained."""
    states: Tensor = model(input_ids=ids).last_hidden_state
    return states


@torch.inference_mode()
def clip_summary(model: nn.Module, ids: Int[Tensor, "1 L"]) -> Float[Tensor, "1 D"]:
    """CLIP's state at the end of the text."""
    pooled: Tensor = model(input_ids=ids).pooler_output
    return pooled
