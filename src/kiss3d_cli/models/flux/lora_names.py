"""Where every tensor of a LoRA's file belongs, told from the file's header alone.

A LoRA's names say how it was trained: with sd-scripts and FluxGym (kohya), x-flux, diffusers and PEFT, ComfyUI, or
OneTrainer. Each names the layers of Flux in its own way, the original or diffusers', and the text encoders likewise.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.records import parse_json
from kiss3d_cli.models.flux.keys import original_layers, split_layer
from kiss3d_cli.models.runtime.weights import Shape, WeightFile

Network = Literal["transformer", "clip", "t5"]
Networks = Mapping[Network, Mapping[str, Shape]]
"""Shapes of the tensors of each network, by the names of its class."""

HINT = "--set bundle.lora_scale=0 does without it; 'kiss3d models verify' tells whether it is the published file"
NAMES: Mapping[Network, str] = {"transformer": "Flux's transformer", "clip": "CLIP", "t5": "T5"}

_SUFFIXES: tuple[tuple[str, Literal["up", "down", "alpha"]], ...] = (
    (r"\.lora_up\.weight", "up"),
    (r"\.lora_down\.weight", "down"),
    (r"\.lora_B(\.\w+)?\.weight", "up"),  # PEFT may write the adapter's name
    (r"\.lora_A(\.\w+)?\.weight", "down"),
    (r"\.lora\.up\.weight", "up"),
    (r"\.lora\.down\.weight", "down"),
    (r"\.lora_linear_layer\.up\.weight", "up"),  # diffusers before PEFT
    (r"\.lora_linear_layer\.down\.weight", "down"),
    (r"(?<=_lora)\.up\.weight|(?<=_lora[12])\.up\.weight", "up"),  # x-flux
    (r"(?<=_lora)\.down\.weight|(?<=_lora[12])\.down\.weight", "down"),
    (r"\.alpha", "alpha"),
)
_OTHER_KINDS = (
    (r"\.dora_scale$|\.lora_magnitude_vector(\.|$)", "DoRA"),
    (r"\.hada_[wt]", "LoHa"),
    (r"\.lokr_[wt]", "LoKr"),
    (r"\.oft_|\.boft_", "OFT"),
    (r"\.lora_mid\.", "LoCon"),
    (r"\.diff(_b)?$", "whole differences of weights"),
    (r"\.lora_[AB](\.\w+)?\.bias$", "LoRA with biases"),
    (r"_norm\.scale$", "control LoRA"),
)
_KOHYA: Mapping[str, Network] = {
    "lora_unet_": "transformer",
    "lora_transformer_": "transformer",  # OneTrainer and diffusers' layers
    "lycoris_": "transformer",
    "lora_te_": "clip",
    "lora_te1_": "clip",
    "lora_te2_": "t5",
    "lora_te3_": "t5",  # sd-scripts
}
_DOTTED: Mapping[str, Network] = {
    "transformer.": "transformer",
    "diffusion_model.": "transformer",
    "model.diffusion_model.": "transformer",
    "text_encoder.": "clip",
    "text_encoders.clip_l.transformer.": "clip",
    "clip_l.transformer.": "clip",
    "text_encoder_2.": "t5",
    "text_encoders.t5xxl.transformer.": "t5",
    "t5xxl.transformer.": "t5",
}
_PEFT = "base_model.model."
_X_FLUX = {
    r"(double_blocks\.\d+)\.processor\.(qkv|proj)_lora([12])",
    r"(single_blocks\.\d+)\.processor\.(qkv|proj)_lora",
}
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


@dataclasses.dataclass(frozen=True)
class Target:
    """Layers that a pair of matrices changes.

    Attributes:
        network: whose layers.
        layers: by the names of the network's class, in the order of the rows.
        halves_swapped: the rows' two halves change places.
    """

    network: Network
    layers: tuple[str, ...]
    halves_swapped: bool = False


@dataclasses.dataclass(frozen=True)
class LoraLayer:
    """One pair of matrices of a LoRA, and where it belongs.

    Attributes:
        written: the layer's name in the file.
        target: what it changes.
        rows: of each of the target's layers; none where the network is not known.
        up, down, alpha: the tensors' names; without alpha the factor is `factor`.
        rank: of the pair.
        factor: alpha over rank, as far as the file's metadata tell it.
    """

    written: str
    target: Target
    rows: tuple[int, ...]
    up: str
    down: str
    alpha: str | None
    rank: int
    factor: float


_NO_PART = Target("clip", ("text_projection",))
"""Flux reads CLIP's state before its projection, so that a change of that changes nothing."""


def place_lora(file: WeightFile, networks: Networks) -> list[LoraLayer]:
    """Find the place of every tensor; nothing but the header is read.

    Args:
        file: the LoRA.
        networks: those to check shapes against. Parts for another network are told by their names alone.

    Raises:
        BadInput: naming what is no LoRA of these networks, at most a few tensors of each kind.
    """
    place = str(file.path)
    if not file.shapes:
        raise BadInput("the file holds no LoRA", place=place, hint=HINT)
    layers: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    for name in file.shapes:
        layer, part = _part(name)
        if part is None:
            unknown.append(name)
        else:
            layers.setdefault(layer, {})[part] = name
    _refuse_other_kinds(file.shapes, place)
    index = _Index(networks)
    targets = {written: index.target(written) for written in layers}
    layers = {written: parts for written, parts in layers.items() if targets[written] != _NO_PART}
    unknown += [min(parts.values()) for written, parts in layers.items() if targets[written] is None]
    if unknown:
        raise BadInput(
            f"{_listed(unknown)} of the LoRA belong{'s' * (len(unknown) == 1)} to no layer of Flux",
            place=place,
            hint=HINT,
        )
    scaling = _Scaling(file)
    found, faults = [], []
    for written, parts in layers.items():
        target = targets[written]
        assert target is not None
        fault = _pair_fault(written, parts, file) or _shape_fault(written, parts, target, file, networks)
        if fault:
            faults.append(fault)
            continue
        rank = file.shapes[parts["down"]][0]
        rows = tuple(networks[target.network][f"{n}.weight"][0] for n in target.layers if target.network in networks)
        factor = scaling.factor(target, rank)
        found.append(LoraLayer(written, target, rows, parts["up"], parts["down"], parts.get("alpha"), rank, factor))
    if faults:
        more = f"; and {len(faults) - 3} more of the kind" if len(faults) > 3 else ""
        raise BadInput("; ".join(faults[:3]) + more, place=place, hint=HINT)
    return found


def _part(name: str) -> tuple[str, str | None]:
    """The layer of a tensor and which part of it this is."""
    for pattern, part in _SUFFIXES:
        if match := re.search(f"({pattern})$", name):
            return name[: match.start()], part
    return name, None


def _refuse_other_kinds(names: Iterable[str], place: str) -> None:
    for pattern, kind in _OTHER_KINDS:
        if example := next((name for name in names if re.search(pattern, name)), None):
            raise BadInput(
                f"the file holds {kind}, which is not read here (for example {example})", place=place, hint=HINT
            )


class _Index:
    """The layers of the networks by every name that a LoRA may have for them."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._underscored: dict[Network, dict[str, str]] = {}
        for network, shapes in networks.items():
            layers = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) == 2]
            if network == "transformer":
                layers += original_layers(*_block_counts(shapes))
            self._underscored[network] = {layer.replace(".", "_"): layer for layer in layers}

    def target(self, written: str) -> Target | None:
        """What a layer's name in a LoRA's file stands for; None if nothing."""
        for prefix, network in _KOHYA.items():
            if written.startswith(prefix):
                layer = written.removeprefix(prefix)
                if network == "clip":
                    layer = layer.removeprefix("text_model_")
                return self._resolved(network, self._underscored.get(network, {layer: layer}).get(layer, layer))
        network, layer = _without_prefixes(written)
        return self._resolved(network, layer)

    def _resolved(self, network: Network, layer: str) -> Target | None:
        if network != "transformer":
            layer = layer.removeprefix("text_model.")
        target = (_of_transformer(layer) if network == "transformer" else None) or Target(network, (layer,))
        shapes = self._networks.get(network)
        if shapes is None or target == _NO_PART:
            return target
        known = all(len(shapes.get(f"{name}.weight", ())) == 2 for name in target.layers)
        return target if known else None


def _without_prefixes(written: str) -> tuple[Network, str]:
    network: Network = "transformer"
    layer = written.removeprefix(_PEFT)
    for prefix in sorted(_DOTTED, key=len, reverse=True):
        if layer.startswith(prefix):
            return _DOTTED[prefix], layer.removeprefix(prefix).removeprefix(_PEFT)
    return network, layer


def _of_transformer(layer: str) -> Target | None:
    """A layer in the original code's names, or in x-flux's."""
    for pattern in _X_FLUX:
        if match := re.fullmatch(pattern, layer):
            block, kind, stream = (*match.groups(), "")[:3]
            if stream:
                layer = f"{block}.{'img' if stream == '1' else 'txt'}_attn.{kind}"
            else:
                layer = f"{block}.{'linear1' if kind == 'qkv' else 'linear2'}"
                if kind == "qkv":  # the rows of the MLP stay as they are
                    split = split_layer(layer)
                    assert split is not None
                    return Target("transformer", split.layers[:3])
            break
    split = split_layer(layer)
    return None if split is None else Target("transformer", split.layers, split.halves_swapped)


def _pair_fault(written: str, parts: Mapping[str, str], file: WeightFile) -> str | None:
    absent = [part for part in ("up", "down") if part not in parts]
    if absent:
        return f"the layer {written} has no {' and no '.join(absent)} part"
    wrong = [file.dtypes[name] for name in parts.values() if file.dtypes[name] not in _FLOATS]
    if wrong:
        return f"the layer {written} is stored as {wrong[0]}"
    up, down = file.shapes[parts["up"]], file.shapes[parts["down"]]
    if len(up) != 2 or len(down) != 2 or up[1] != down[0] or not down[0]:
        return f"the two parts of {written} do not fit each other ({_shape(up)} and {_shape(down)})"
    if "alpha" in parts and file.shapes[parts["alpha"]] not in ((), (1,)):
        return f"the alpha of {written} is no single number"
    return None


def _shape_fault(
    written: str, parts: Mapping[str, str], target: Target, file: WeightFile, networks: Networks
) -> str | None:
    shapes = networks.get(target.network)
    if shapes is None:
        return None
    rows = sum(shapes[f"{layer}.weight"][0] for layer in target.layers)
    columns = shapes[f"{target.layers[0]}.weight"][1]
    changed, there = (file.shapes[parts["up"]][0], file.shapes[parts["down"]][1]), (rows, columns)
    if changed != there:
        return f"the layer {written} changes {_shape(changed)} weights; {NAMES[target.network]} has {_shape(there)}"
    return None


class _Scaling:
    """Alphas that stand in the file's metadata, as diffusers writes PEFT's settings there."""

    _PREFIXES: Mapping[Network, str] = {"transformer": "transformer.", "clip": "text_encoder.", "t5": "text_encoder_2."}

    def __init__(self, file: WeightFile) -> None:
        """Raises BadInput if the settings ask for what is not read here."""
        try:
            settings = parse_json(file.metadata.get("lora_adapter_metadata", "{}"))
            assert isinstance(settings, dict)
        except (ValueError, AssertionError):
            raise BadInput("the settings in its metadata are damaged", place=str(file.path), hint=HINT) from None
        self._settings: dict[str, Any] = settings
        for key, value in settings.items():
            if value and key.rpartition(".")[2] in ("use_dora", "lora_bias"):
                kind = "DoRA" if key.endswith("use_dora") else "LoRA with biases"
                raise BadInput(f"the file holds {kind}, which is not read here", place=str(file.path), hint=HINT)

    def factor(self, target: Target, rank: int) -> float:
        """By what a pair is multiplied; 1 where the metadata say nothing."""
        prefix = self._PREFIXES[target.network]
        alpha = self._settings.get(f"{prefix}lora_alpha")
        patterns = self._settings.get(f"{prefix}alpha_pattern") or {}
        for pattern, value in patterns.items():
            # PEFT takes the first that is the end of the layer's name
            if re.search(rf"(^|\.)({pattern})$", target.layers[0]):
                alpha = value
                break
        if not isinstance(alpha, int | float):
            return 1.0
        return float(alpha) / (rank**0.5 if self._settings.get(f"{prefix}use_rslora") else rank)


def _block_counts(shapes: Mapping[str, Shape]) -> tuple[int, int]:
    def count(prefix: str) -> int:
        return len({name.split(".")[1] for name in shapes if name.startswith(prefix)})

    return count("transformer_blocks."), count("single_transformer_blocks.")


def _listed(names: Sequence[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the tensor{'s' * (len(names) > 1)} {', '.join(names[:3])}{more}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
