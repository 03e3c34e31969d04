"""Tokenizers made from scratch: byte-level BPE over a few sentences of our own."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from checkpoints.tensors import write_json

SENTENCES = (
    "A small toy stands in the middle of a white background.",
    "The figure has round ears, two short arms and a wide body.",
    "Its front is light, its back is dark, and its left and right sides are alike.",
    "Describe with a paragraph what is shown in the image.",
    "The object is made of painted wood with a smooth, glossy surface.",
)
CLIP_START, CLIP_END, CLIP_PAD = "<|startoftext|>", "<|endoftext|>", "!"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_clip(folder: Path) -> int:
    """The four files of a CLIP tokenizer that knows single bytes; returns how many tokens it has."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{sign}</w>" for sign in alphabet), CLIP_START, CLIP_END]
    write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")

    def token(text: str) -> dict[str, object]:
        return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    def added(text: str, normalized: bool) -> dict[str, object]:
        return {**token(text), "normalized": normalized, "special": True}

    # these two are as published, 460 and 855 bytes, but for the numbers of the two ends: there are fewer words
    start, end = token(CLIP_START), token(CLIP_END)
    named = {"bos_token": start, "eos_token": end, "pad_token": CLIP_PAD, "unk_token": end}
    write_json(folder / "special_tokens_map.json", named)
    last = len(tokens) - 1
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                "0": added(CLIP_PAD, False),
                str(last - 1): added(CLIP_START, True),
                str(last): added(CLIP_END, True),
            },
            "bos_token": CLIP_START,
            "clean_up_tokenization_spaces": True,
            "do_lower_case": True,
            "eos_token": CLIP_END,
            "errors": "replace",
            "model_max_length": 77,
            "pad_token": CLIP_PAD,
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": CLIP_END,
        },
    )
    return len(tokens)


def write_florence(folder: Path, size: int, image_token: str = "<image>") -> int:
    """A BART tokenizer with Florence-2's own tokens, filled up to `size` tokens; returns the id of the image token."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = _train(specials, most=size - 1)
    _fill(tokenizer, size - 1002)  # a mask, 1,000 places and a picture come behind
    roberta = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    tokenizer.post_processor = roberta
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    count = tokenizer.get_vocab_size()
    # the real one has 1,000 places here, and words before them
    tokenizer.add_special_tokens([AddedToken(f"<loc_{index}>") for index in range(min(1000, size - 1 - count))])
    tokenizer.add_special_tokens([AddedToken(image_token)])
    _save(tokenizer, folder)
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    named |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    write_json(folder / "special_tokens_map.json", {**named, "image_token": image_token})
    write_json(
        folder / "tokenizer_config.json",
        {
            **named,
            "add_prefix_space": False,
            "extra_special_tokens": {"image_token": image_token},
            "model_max_length": 1024,
            "processor_class": "Florence2Processor",
            "tokenizer_class": "BartTokenizer",
        },
    )
    return int(tokenizer.token_to_id(image_token))


def _fill(tokenizer: Tokenizer, size: int) -> None:
    """Give a byte-pair tokenizer so many words, by words that no text has."""
    state = json.loads(tokenizer.to_str())["model"]
    vocabulary = {**state["vocab"], **{f"<unused{index}>": index for index in range(len(state["vocab"]), size)}}
    tokenizer.model = models.BPE(vocab=vocabulary, merges=[tuple(pair) for pair in state["merges"]])


def write_chat(folder: Path) -> int:
    """A tokenizer of a chat model with its template; returns how many tokens it has."""
    tokenizer = _train(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], most=512)
    _save(tokenizer, folder)
    write_json(
        folder / "tokenizer_config.json",
        {
            "chat_template": CHAT_TEMPLATE,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 1024,
            "tokenizer_class": "Qwen2Tokenizer",
        },
    )
    return int(tokenizer.get_vocab_size())


def _train(specials: list[str], most: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _save(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
