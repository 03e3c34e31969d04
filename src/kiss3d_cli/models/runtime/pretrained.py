"""Reading published model folders with the classes of transformers and diffusers: offline, quiet, strict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open

from kiss3d_cli.core import records
from kiss3d_cli.core.errors import BadInput, Kiss3dError, Missing
from kiss3d_cli.models.runtime.blocks import SHOWN, deep
from kiss3d_cli.models.runtime.empty import unfilled
from kiss3d_cli.models.store.headers import Header, check_floats, read_header, read_object


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """A JSON object of a model folder. Raises Missing if it is not there or damaged."""
    try:
        value = records.read_json(path)
    except FileNotFoundError:
        raise Missing("no such file", place=str(path), hint=hint) from None
    except (OSError, ValueError) as error:
        raise Missing(f"the file is damaged: {error}", place=str(path), hint=hint) from error
    if not isinstance(value, dict):
        raise Missing("the file is damaged: it holds no JSON object", place=str(path), hint=hint)
    return value


def load_module(
    kind: Any,
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    hint: str,
    subfolder: str = "",
    memory_limit: int | None = None,
) -> Any:
    """A network with its weights, ready to run.

    Args:
        kind: a model class of transformers or diffusers.
        folder: the model's folder on disk; nothing is ever downloaded here.
        hint: what the user can do if the folder is of no use.
        memory_limit: bytes of video memory for the weights of a model of transformers; layers that do not fit stay in
            host memory. None: no limit.

    Raises:
        BadInput: half precision on the CPU.
        Missing: a file is not there or damaged, or a tensor is missing or has another shape.
    """
    require_precision(device, dtype)
    place = str(folder / subfolder) if subfolder else str(folder)
    options: dict[str, Any] = {"subfolder": subfolder, "torch_dtype": dtype}
    if kind.__module__.startswith("transformers"):
        # each tensor goes to the device as it is read; diffusers can't do that and report a missing tensor too
        # and a tensor of another shape is to be told by name below
        options = {"subfolder": subfolder, "dtype": dtype, "device_map": {"": str(device)}}
        options["ignore_mismatched_sizes"] = True
        if memory_limit is not None and device.type != "cpu":
            limits = {device.index or 0: memory_limit, "cpu": psutil.virtual_memory().available}
            options |= {"device_map": "auto", "max_memory": limits}
    with damage_as_missing(place, hint), quiet():
        module, found = kind.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    faults = _misfits(found.get("missing_keys"), found.get("mismatched_keys"))
    if faults:
        raise Missing(f"the weights are not those of the model: {faults}", place=place, hint=hint)
    if not hasattr(module, "hf_device_map"):
        module.to(device)
    return module.eval().requires_grad_(False)


def check_module(kind: Any, folder: Path, *, subfolder: str = "", stacked: bool = False) -> Any:
    """What `load_module` would refuse, found without reading a tensor; the network, without memory.

    Args:
        stacked: the blocks of its lists are alike (`runtime.blocks`), so that two of each tell the rest.

    Raises:
        Missing: a file is not there or damaged, or a tensor is missing, has another shape or is no float. The place is
            the file.
    """
    home = folder / subfolder
    config = read_object(home / "config.json")
    require_kind(kind, config, home / "config.json")
    header = read_weights(home)
    check_floats(header, {name: name for name in header.shapes if not name.endswith("position_ids")})
    with damage_as_missing(str(home / "config.json"), "", Exception), quiet():
        if kind.__module__.startswith("transformers"):
            module = _all_there(kind, config, header.shapes, stacked)
            if module is not None:
                return module
            # the loader itself: it reads no tensor that goes nowhere, and knows all names that were ever published
            module, found = kind.from_pretrained(
                str(folder),
                subfolder=subfolder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                device_map={"": "meta"},
            )
            missing, mismatched = found["missing_keys"], found["mismatched_keys"]
        else:
            with unfilled():
                module = kind.from_config(config)
            wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
            shapes = module._fix_state_dict_keys_on_load(dict(header.shapes))
            missing = [name for name in wanted if name not in shapes]
            mismatched = [name for name in wanted if name in shapes and shapes[name] != wanted[name]]
    faults = _misfits(missing, mismatched)
    if faults:
        place = header.file_of(_name(mismatched)) if mismatched else header.path
        if missing and not mismatched and not set(module.state_dict()) - {*map(str, missing)}:
            first = ", ".join(list(header.shapes)[:2])
            cause = f"it is another model's: it holds none of the tensors of {type(module).__name__}, but {first}, ..."
            raise Missing(cause, place=str(place))
        raise Missing(f"the weights are not those of the model: {faults}", place=str(place))
    return module


def _all_there(kind: Any, config: Mapping[str, Any], found: Mapping[str, tuple[int, ...]], stacked: bool) -> Any:
    """A network of transformers, without memory, if each of its tensors is among those found; else None.

    Under its own name, that is, or with or without a prefix: the library's loader knows more names, and takes longer.
    """
    if not hasattr(kind, "config_class") or kind.config_class is None:
        return None
    values, depths = _with_few_blocks(config) if stacked else (dict(config), {})
    with unfilled():
        module = kind(kind.config_class.from_dict(values))
    lists = {name: part for name, part in module.named_modules() if isinstance(part, torch.nn.ModuleList)}
    stacks = {f"{name}.": depth for name in lists for end, depth in depths.items() if name.endswith(end)}
    tied = getattr(module, "all_tied_weights_keys", None) or {}
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name, shape in deep(wanted, stacks).items():
        names = [name, *(f"{prefix}{name}" for prefix in _PREFIXES)]
        names += [name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)]
        stored = next((found[other] for other in names if other in found), None)
        if stored != shape and not (stored is None and name in tied):
            return None
    return module.eval()


_DEPTHS = {
    "num_hidden_layers": "encoder.layers",
    "encoder_layers": "encoder.layers",
    "decoder_layers": "decoder.layers",
}
"""The list of blocks that a setting of a configuration gives the length of."""


def _with_few_blocks(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """A configuration with two blocks in each list, and how many there are, by the end of the list's name."""
    values = dict(config)
    depths: dict[str, int] = {}
    if isinstance(values.get("text_config"), dict):
        values["text_config"] = dict(values["text_config"])
    part = values.get("text_config", values)
    for key, name in _DEPTHS.items():
        if isinstance(part.get(key), int) and part[key] > SHOWN:
            depths[name] = part[key]
            part[key] = SHOWN
    return values, depths


_PREFIXES = ("text_model.", "vision_model.", "model.")


def require_kind(kind: Any, config: Mapping[str, Any], path: Path) -> None:
    """Raises Missing if a configuration is not one of this class of transformers or diffusers."""
    if kind.__module__.startswith("transformers"):
        wanted, found = getattr(getattr(kind, "config_class", None), "model_type", ""), config.get("model_type")
        fits = isinstance(found, str) and found.split("_")[0].startswith(wanted.split("_")[0])
    else:
        wanted, found = kind.__name__, config.get("_class_name")
        fits = found == wanted
    if not fits:
        raise Missing(f"the file configures {found or 'no network'}, not {wanted or 'one'}", place=str(path))


WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")


def read_weights(folder: Path) -> Header:
    """The header of a folder's weights, be they in one file or in several. Raises Missing, naming the file."""
    path = next((folder / name for name in WEIGHTS if (folder / name).exists()), folder / WEIGHTS[0])
    index = folder / f"{path.name}.index.json"
    if path.exists() or not index.exists():
        return read_header(path)
    parts = read_object(index).get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(part, str) and "/" not in part for part in parts.values()):
        raise Missing("the file is damaged: it does not say where the weights are", place=str(index))
    headers = [read_header(folder / part) for part in sorted(set(parts.values()))]
    for header in headers:
        lost = sorted(name for name, part in parts.items() if part == header.path.name and name not in header.shapes)
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise Missing(f"it lacks {lost[0]}{more}, which the index says it has", place=str(header.path))
    shapes = {name: shape for header in headers for name, shape in header.shapes.items()}
    dtypes = {name: dtype for header in headers for name, dtype in header.dtypes.items()}
    return Header(index, shapes, dtypes, {name: header.path for header in headers for name in header.shapes})


def load_weights(module: torch.nn.Module, path: Path, *, device: torch.device, dtype: torch.dtype, hint: str) -> None:
    """Fill a network that was made on the meta device from one safetensors file, tensor by tensor.

    On the CPU in the file's own dtype the file is mapped into memory and not copied.

    Raises:
        BadInput: half precision on the CPU.
        Missing: the file is not there or damaged, or its tensors are not the network's.
    """
    require_precision(device, dtype)
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    with damage_as_missing(str(path), hint), safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
        check_shapes(found, expected, place=str(path), hint=hint)
        state = {}
        for name in expected:
            stored = file.get_tensor(name).to(device)
            if not bool(stored.isfinite().all()):  # as stored: what a narrower dtype can't hold is no damage
                cause = f"the weights are damaged: {name} holds values that are not finite"
                raise Missing(cause, place=str(path), hint=hint)
            state[name] = stored.to(dtype)
    module.load_state_dict(state, strict=True, assign=True)
    module.eval().requires_grad_(False)


def check_shapes(
    found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], *, place: str, hint: str
) -> None:
    """Raises Missing, naming the first missing, extra or misshapen tensors."""
    kinds = {
        "missing": [name for name in expected if name not in found],
        "extra": [name for name in found if name not in expected],
        "of another shape": [name for name in expected if name in found and found[name] != expected[name]],
    }
    faults = [f"{len(names)} {what} (the first is {names[0]})" for what, names in kinds.items() if names]
    if faults:
        raise Missing(f"the weights are not those of the model: {'; '.join(faults)}", place=place, hint=hint)


def require_precision(device: torch.device, dtype: torch.dtype) -> None:
    if device.type == "cpu" and dtype != torch.float32:
        raise BadInput(f"networks run in float32 on the CPU, not in {dtype}", hint="use float32 or a GPU")


def _misfits(missing: Any, mismatched: Any) -> str:
    kinds = ((missing, "missing"), (mismatched, "of another shape"))
    return "; ".join(f"{len(names)} {what} (the first is {_name(names)})" for names, what in kinds if names)


def _name(keys: Any) -> str:
    first = sorted(keys, key=str)[0]
    return str(first[0] if isinstance(first, tuple) else first)


_DAMAGE: tuple[type[Exception], ...] = (OSError, SafetensorError, ValueError, KeyError, RuntimeError)


@contextmanager
def damage_as_missing(place: str, hint: str, *kinds: type[Exception]) -> Iterator[None]:
    """What the libraries raise for files that are not there or damaged, as Missing.

    Args:
        kinds: of errors that mean damage too; those of a fault in the code may not be among them where work is done.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, Kiss3dError):
        raise
    except (*_DAMAGE, *kinds) as error:
        text = " ".join(str(error).split())[:200]
        raise Missing(f"the model can't be read: {text}", place=place, hint=hint) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no advice of the two libraries: kiss3d has its own bar, and stdout is for results."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    levels = [(library, library.get_verbosity()) for library in (diffusers_logging, transformers_logging)]
    bars = transformers_logging.is_progress_bar_enabled()
    try:
        for library, _level in levels:
            library.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        yield
    finally:
        for library, level in levels:
            library.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
