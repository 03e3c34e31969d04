"""Florence-2 and the chat model, with the real classes on tiny random weights in the published layouts."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import chat as chat_checkpoint
from checkpoints import florence2 as checkpoint
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.models.chat import expander
from kiss3d_cli.models.florence2 import captioner

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


def picture(seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.fixture
def folder(tiny_models):
    return tiny_models / checkpoint.REPOSITORY


@pytest.fixture
def damaged(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def ask(folder, rgb=None, beams=3, max_tokens=12, **options):
    rgb = picture() if rgb is None else rgb
    return captioner.Captioner(folder, **{**CPU, **options})(rgb, beams=beams, max_tokens=max_tokens)


def test_the_words_are_those_of_the_library(folder):
    """The same classes, driven step by step: the task's prompt, then beam search."""
    from PIL import Image
    from transformers import AutoProcessor, Florence2ForConditionalGeneration

    processor = AutoProcessor.from_pretrained(str(folder))
    model = Florence2ForConditionalGeneration.from_pretrained(str(folder)).eval()
    inputs = processor(text="<MORE_DETAILED_CAPTION>", images=Image.fromarray(picture()), return_tensors="pt")
    assert processor.decode(inputs["input_ids"][0]).count("<image>") == 5
    assert "Describe with a paragraph what is shown in the image." in processor.decode(inputs["input_ids"][0])
    tokens = model.generate(**inputs, max_new_tokens=12, num_beams=3, do_sample=False)
    expected = processor.batch_decode(tokens, skip_special_tokens=True)[0]
    found = ask(folder)
    assert found.text == captioner.one_line(expected)
    assert found.search == "beam"
    assert len(found.text) > 5
    assert ask(folder) == found


def older(state):
    """The names of the code that came with microsoft/Florence-2-large."""
    names = (
        (r"^model\.language_model\.", "language_model.model."),
        (r"^model\.vision_tower\.convs\.(\d+)\.conv\.", r"vision_tower.convs.\1.proj."),
        (r"^model\.vision_tower\.", "vision_tower."),
        (r"\.(conv[12])\.", r".\1.fn.dw."),
        (r"\.spatial_block\.norm1\.", ".spatial_block.window_attn.norm."),
        (r"\.channel_block\.norm1\.", ".channel_block.channel_attn.norm."),
        (r"\.norm2\.", ".ffn.norm."),
        (r"\.(window_attn|channel_attn)\.(qkv|proj)\.", r".\1.fn.\2."),
        (r"\.ffn\.(fc[12])\.", r".ffn.fn.net.\1."),
        (r"^model\.multi_modal_projector\.image_position_embed\.", "image_pos_embed."),
        (r"^model\.multi_modal_projector\.image_projection\.weight$", "image_projection"),
        (r"^model\.multi_modal_projector\.", ""),
    )
    renamed = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in names:
            new = re.sub(pattern, replacement, new)
        renamed[new] = tensor.T.contiguous() if new == "image_projection" else tensor
    shared = renamed["language_model.model.shared.weight"]
    copies = ("language_model.lm_head.weight", "language_model.model.encoder.embed_tokens.weight")
    renamed |= {name: shared.clone() for name in (*copies, "language_model.model.decoder.embed_tokens.weight")}
    return {**renamed, "language_model.final_logits_bias": torch.zeros(1, len(shared))}


def test_weights_under_the_names_of_the_older_code_say_the_same(folder, damaged):
    path = damaged / "model.safetensors"
    state = older(load_file(path))
    assert "vision_tower.blocks.0.0.spatial_block.window_attn.fn.qkv.weight" in state
    save_file(state, path)
    assert ask(damaged) == ask(folder)
    del state["vision_tower.blocks.0.0.channel_block.channel_attn.fn.qkv.weight"]
    save_file(state, path)
    with pytest.raises(Missing, match=r"1 missing .the first is model\.vision_tower.*channel_attn\.qkv\.weight"):
        ask(damaged)


def test_picture_and_beams_matter(folder):
    assert ask(folder) != ask(folder, np.zeros((50, 70, 3), np.uint8))
    assert ask(folder, beams=1) != ask(folder, beams=3)
    assert ask(folder, beams=1).search == "greedy"


def test_no_words_lead_to_a_greedy_search(folder, monkeypatch):
    searches = []
    monkeypatch.setattr(captioner, "_generate", lambda *args: searches.append(args[3]) or ("", "seen")[args[3] == 1])
    assert ask(folder) == captioner.Caption("seen", "greedy")
    assert searches == [3, 1]
    searches.clear()
    monkeypatch.setattr(captioner, "_generate", lambda *args: searches.append(args[3]) or "")
    assert ask(folder) == captioner.Caption("", "greedy")
    assert ask(folder, beams=1) == captioner.Caption("", "greedy")
    assert searches == [3, 1, 1]


def test_an_answer_of_special_tokens_is_empty(folder):
    """Two tokens are the start and the end that the generation's settings force."""
    assert ask(folder, max_tokens=2) == captioner.Caption("", "greedy")


def test_no_more_tokens_than_positions(folder):
    assert ask(folder, beams=1, max_tokens=4096).text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  a\n red\t cup ", "a red cup"),
        ("a\u0000b\u001b[1mc", "ab[1mc"),
        ("Pand\ufffda ", "Panda"),
        ("\n \u200b", ""),
        ("eine grüne Schüssel, 碗", "eine grüne Schüssel, 碗"),
    ],
)
def test_one_line(text, line):
    assert captioner.one_line(text) == line


def half_of(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_tensor(path):
    state = load_file(path)
    del state["model.language_model.decoder.layers.1.fc1.weight"]
    save_file(state, path, metadata={"format": "pt"})


def misshapen(path):
    state = load_file(path)
    state["model.language_model.decoder.layers.1.fc1.weight"] = torch.zeros(3, 3)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "damage", "cause"),
    [
        ("model.safetensors", half_of, "can't be read"),
        ("model.safetensors", without_a_tensor, "decoder.layers.1.fc1.weight"),
        ("model.safetensors", misshapen, "decoder.layers.1.fc1.weight"),
        ("model.safetensors", lambda path: path.unlink(), "can't be read"),
        ("config.json", lambda path: path.write_text("{"), "can't be read"),
        ("tokenizer.json", lambda path: path.write_text("nonsense"), "can't be read"),
        ("preprocessor_config.json", lambda path: path.unlink(), "can't be read"),
    ],
)
def test_a_damaged_folder_is_named(damaged, name, damage, cause, capfd):
    damage(damaged / name)
    with pytest.raises(Missing) as caught:
        ask(damaged)
    assert cause in caught.value.cause
    assert caught.value.place == str(damaged)
    assert caught.value.hint == "get the files again: kiss3d models pull florence2"
    assert capfd.readouterr() == ("", "")


def test_no_code_of_the_repository_runs(damaged, capsys):
    """A folder that names classes of its own is read with those of transformers all the same."""
    config = json.loads((damaged / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (damaged / "config.json").write_text(json.dumps(config))
    (damaged / "evil.py").write_text("print('code from a model ran')")
    assert ask(damaged).text
    assert "ran" not in capsys.readouterr().out


def test_half_precision_never_runs_on_the_cpu(folder):
    with pytest.raises(BadInput, match="float32 on the CPU"):
        ask(folder, dtype=torch.float16)


def test_nothing_is_written_to_the_terminal(folder, capfd):
    ask(folder, max_tokens=4)
    assert capfd.readouterr() == ("", "")


def test_a_caption_is_expanded_in_one_line(tiny_models, capfd):
    folder = tiny_models / chat_checkpoint.REPOSITORY
    expand = expander.Expander(folder, name="some/model", **CPU)
    options = {"temperature": 0.7, "max_tokens": 64, "seed": 0}
    state = torch.get_rng_state()
    found = expand("a red cup", **options)
    assert torch.equal(torch.get_rng_state(), state), "the seed of everything else stays"
    assert found
    assert "\n" not in found
    assert found == expand("a red cup", **options)
    assert found != expand("A small toy stands in the middle.", **options)
    assert found != expand("a red cup", **{**options, "seed": 1})
    calm = [expand("a red cup", temperature=0.0, max_tokens=64, seed=seed) for seed in (0, 1)]
    assert calm[0] == calm[1], "where nothing is chosen there is no seed"
    assert capfd.readouterr() == ("", "")


def test_the_system_prompt_asks_for_what_is_needed():
    for word in ("one line", "front", "left", "back", "right"):
        assert word in expander.SYSTEM_PROMPT


def test_a_model_that_does_not_chat(tiny_models, tmp_path):
    folder = shutil.copytree(tiny_models / chat_checkpoint.REPOSITORY, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    del settings["chat_template"]
    path.write_text(json.dumps(settings))
    with pytest.raises(Missing, match="no chat template") as caught:
        expander.Expander(folder, name="some/model", **CPU)
    assert caught.value.place == "caption.expand_model"
    half_of(folder / "tokenizer.json")
    with pytest.raises(Missing, match="can't be read") as caught:
        expander.Expander(folder, name="some/model", **CPU)
    assert "kiss3d models pull some/model" in caught.value.hint
