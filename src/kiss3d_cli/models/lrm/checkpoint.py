"""The published checkpoint, read strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.records import read_json
from kiss3d_cli.models.lrm.config import CHECKPOINT_ENTRY, CHECKPOINT_PREFIX, PRM, LrmConfig
from kiss3d_cli.models.lrm.network import LargeReconstructionModel, require_memory
from kiss3d_cli.models.lrm.published import CHECKPOINT_FILE
from kiss3d_cli.models.runtime.convert import check_converted, converted
from kiss3d_cli.models.runtime.empty import unfilled
from kiss3d_cli.models.store.preflight import Findings

FETCH_HINT = "delete the file and fetch it again: kiss3d models pull prm"
HEADS = "synthesizer."
CONFIG_FILE = "lrm_config.json"
WORKING_MEMORY = 3 * 2**30
"""Bytes beside the weights that a full-size pass needs at most: docs/lrm.md."""

Shapes = Mapping[str, tuple[int, ...]]
State = Mapping[str, Tensor]


def read_config(folder: Path) -> LrmConfig:
    """Sizes of the network in this folder: the published ones, unless an `lrm_config.json` says otherwise.

    Raises:
        BadInput: that file is not a JSON object of `LrmConfig`'s numbers.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return PRM
    try:
        values = read_json(path)
        if not all(type(value) in (int, float) for value in values.values()):
            raise TypeError("each must be a number")
        return LrmConfig(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(
            f"these are not sizes of the network: {type(error).__name__}: {error}",
            place=str(path),
            hint="delete the file to use the published sizes",
        ) from error


def expected_shapes(config: LrmConfig = PRM) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the network."""
    with unfilled():
        state = LargeReconstructionModel(config).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def check_shapes(found: Shapes, expected: Shapes, place: str) -> None:
    """Raises Missing, naming the missing, extra and misshapen tensors."""
    missing = [name for name in expected if name not in found]
    if len(missing) == len(expected):
        raise Missing(
            f"these are the weights of another model: none of the LRM's {len(expected)} tensors is among them",
            place=place,
            hint="give the weights of LTT/PRM: kiss3d models pull prm",
        )
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("extra", extra), ("misshapen", misshapen))
        if names
    ]
    if faults:
        raise Missing(f"the weights are not those of the LRM: {'; '.join(faults)}", place=place, hint=FETCH_HINT)


def prepare(path: Path, config: LrmConfig = PRM) -> Path:
    """The checkpoint as safetensors: the file itself, or one beside the published pickle, written at the first call.

    Raises:
        Missing: no such file, a damaged one, one of another model, or no place to write.
    """
    if not path.is_file():
        raise Missing("no such file", place=str(path), hint="kiss3d models pull prm")
    if path.suffix == ".safetensors":
        return path
    return converted(path, entry=CHECKPOINT_ENTRY, prefix=CHECKPOINT_PREFIX, check=_fits(path, config), hint=FETCH_HINT)


def check_files(folders: Mapping[str, Path], findings: Findings) -> None:
    """For `store.preflight`: what `read_config` and `prepare` would refuse."""
    folder = folders["prm"]
    path = folder / CHECKPOINT_FILE
    config = findings.attempt(folder / CONFIG_FILE, lambda: read_config(folder))
    if config is not None:
        entry, fits = {"entry": CHECKPOINT_ENTRY, "prefix": CHECKPOINT_PREFIX}, _fits(path, config)
        findings.attempt(path, lambda: check_converted(path, **entry, check=fits, hint=FETCH_HINT))


def _fits(path: Path, config: LrmConfig) -> Callable[[Shapes], None]:
    expected = expected_shapes(config)
    return lambda found: check_shapes(found, expected, str(path))


def read(path: Path, config: LrmConfig = PRM) -> State:
    """The network's tensors, on the CPU: the file is mapped into memory, not copied.

    Args:
        path: safetensors, as `prepare` returns it.

    Raises:
        Missing: a damaged file, one of another model, or weights that are not finite.
    """
    expected = expected_shapes(config)
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            check_shapes({name: tuple(file.get_slice(name).get_shape()) for name in names}, expected, str(path))
            state = {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, OSError) as error:
        raise Missing(f"the weights can't be read: {error}", place=str(path), hint=FETCH_HINT) from error
    _require_finite(state, str(path))
    return state


def build(
    state: State,
    config: LrmConfig = PRM,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LargeReconstructionModel:
    """The network of these tensors; on the CPU it works on them as they are, for a GPU they are copied.

    Args:
        device: where it is to run.
        dtype: of the encoder and the transformer; the heads stay in float32, as the surface depends on them directly.

    Raises:
        BadInput: half precision on the CPU.
        OutOfMemory: too little memory is free.
    """
    device = torch.device(device)
    if device.type == "cpu" and dtype != torch.float32:
        raise BadInput(f"the LRM runs in float32 on the CPU, not in {dtype}", place="LRM", hint="use float32 or a GPU")
    if config == PRM:
        copied = 0 if device.type == "cpu" else sum(value.numel() for value in state.values()) * dtype.itemsize
        require_memory(device, copied + WORKING_MEMORY)
    with unfilled():
        model = LargeReconstructionModel(config)
    own = {name: value.to(device, torch.float32 if name.startswith(HEADS) else dtype) for name, value in state.items()}
    model.load_state_dict(own, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _require_finite(state: State, place: str) -> None:
    def finite(value: Tensor) -> bool:
        low, high = value.aminmax()  # one pass and no copy; both are NaN if any value is
        return bool(low.isfinite() & high.isfinite())

    broken: Sequence[str] = [name for name, value in state.items() if not finite(value)]
    if broken:
        raise Missing(
            f"{len(broken)} tensors hold values that are not finite, the first is {broken[0]}",
            place=place,
            hint=FETCH_HINT,
        )
