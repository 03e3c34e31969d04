"""`kiss3d doctor`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from kiss3d_cli.cli.invocation import as_typed_here
from kiss3d_cli.cli.terminal import handles_errors, note, print_json, show

GIB = 2**30
GIGA = 10**9
TORCH_HINT = "install a torch with CUDA, see https://pytorch.org/get-started/locally"


@handles_errors
def doctor(
    root: Annotated[Path | None, typer.Option(help="A folder of weights instead of the Hugging Face cache.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of runs.")] = Path("outputs"),
    quick: Annotated[bool, typer.Option("--quick", help="Skip the device benchmark; times are not estimated.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what this machine has, what is missing, and what each preset needs and costs here."""
    from kiss3d_cli.core.machine import inspect_machine, measure

    machine = inspect_machine(out)
    measured = None if quick else measure(machine.device)
    packages = _packages(machine.device.name)
    models = _models(root)
    presets = [_preset(name, machine, measured, root) for name in ("draft", "fast", "12gb", "quality")]
    if json_output:
        device = {**dataclasses.asdict(machine.device), "driver": machine.driver, "capability": machine.capability}
        rest = dataclasses.asdict(machine)
        for name in ("device", "driver", "capability"):
            del rest[name]
        rates = None if measured is None else dataclasses.asdict(measured)
        print_json(
            {"device": device, **rest, "rates": rates, "packages": packages, "models": models, "presets": presets}
        )
        return
    _show_machine(machine, measured)
    show("\noptional parts")
    for row in packages:
        _show(f"{row['name']:<16} {row['version'] or 'missing':<9} {row['purpose']}", row["hint"])
    show("\nmodel weights")
    for row in models:
        state = "damaged" if row["faults"] else "here" if row["here"] else "not here"
        _show(f"{row['name']:<16} {state:<9} {row['size']:>8}", row["note"])
        for fault in row["faults"]:
            show(f"  {'':<16} {fault['file']}: {fault['what']}")
    show("\npresets")
    for row in presets:
        _show(f"{row['name']:<16} {row['verdict']}", _needs(row))
    if measured is not None:
        note("times are counted operations and bytes over the rates measured here; the first run also prepares weights")


def _show(line: str, note: str | None) -> None:
    """A line of a list, and what there is to say about it below."""
    show(as_typed_here(f"  {line}"))
    if note:
        show(f"  {'':<16} {as_typed_here(note)}")


def _show_machine(machine: Any, measured: Any) -> None:
    device = machine.device
    show(f"device    {device.model} ({device.name}; {device.why})")
    if device.is_gpu:
        capability = f", compute capability {machine.capability}" if machine.capability else ""
        show(f"driver    {machine.driver or 'unknown'}{capability}")
    elif machine.driver:
        show(f"driver    {machine.driver}: there is a GPU that this torch can't use; {TORCH_HINT}")
    if machine.free_video_bytes is not None:
        show(f"video     {machine.free_video_bytes / GIB:.1f} GiB free of {device.memory_bytes / GIB:.1f} GiB")
    show(f"memory    {machine.free_ram_bytes / GIB:.1f} GiB free of {machine.ram_bytes / GIB:.1f} GiB")
    show(f"disk      {machine.free_disk_bytes / GIGA:.0f} GB free")
    built = f"built with CUDA {machine.torch_cuda}" if machine.torch_cuda else "built without CUDA"
    show(f"torch     {machine.torch}, {built}; Python {machine.python}; {machine.system}")
    if measured is not None:
        host = f", from the host {measured.host / GIGA:.1f} GB/s" if device.is_gpu else ""
        show(f"rates     {measured.matrix / 1e12:.2f} TFLOP/s, memory {measured.memory / GIGA:.0f} GB/s{host}")


def _packages(device: str) -> list[dict[str, Any]]:
    from kiss3d_cli.core.machine import package_version
    from kiss3d_cli.core.packages import EXTRAS
    from kiss3d_cli.geometry.rasterize import NAMES, find_backend

    purposes = {"onnxruntime": "background removal", "accelerate": "loading of models"}
    rows = []
    for name, extra in EXTRAS.items():
        version = package_version(name)
        hint = None if version else f"pip install 'kiss3d[{extra}]'"
        rows.append({"name": name, "version": version, "purpose": purposes.get(name, "neural presets"), "hint": hint})
    for name in NAMES[1:]:
        # a package that is there may still not work: it is tried on a triangle
        why = find_backend(name, device).note
        version = package_version(name)
        purpose = "another rasteriser"
        rows.append({"name": name, "version": version if why is None else None, "purpose": purpose, "hint": why})
    return rows


def _models(root: Path | None) -> list[dict[str, Any]]:
    from huggingface_hub import get_token

    from kiss3d_cli.models.store import preflight
    from kiss3d_cli.models.store.locate import find_all
    from kiss3d_cli.models.store.registry import models as registered

    here = find_all(registered(), root)
    found = preflight.check(registered(), root)
    token = get_token() is not None
    rows = []
    for name, model in registered().items():
        text = None
        faults = [{"file": str(fault.path), "what": fault.what} for fault in found if name in fault.models]
        if faults:
            text = preflight.pull_command([name], root)
        elif model.gated and name not in here:
            signed = (
                "a token is set; kiss3d models pull says whether it is let in" if token else "no token: hf auth login"
            )
            text = f"gated: accept its terms at {model.page} ({signed})"
            text += f", or --set {model.without}" if model.without else ""
        row = {"name": name, "here": name in here, "size": model.size, "gated": model.gated, "note": text}
        rows.append({**row, "faults": faults})
    return rows


def _preset(name: str, machine: Any, measured: Any, root: Path | None) -> dict[str, Any]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from kiss3d_cli.core.machine import free_disk
    from kiss3d_cli.models.store import locate as store
    from kiss3d_cli.models.store import preflight
    from kiss3d_cli.pipeline import config as configuration
    from kiss3d_cli.pipeline.choices import settled
    from kiss3d_cli.pipeline.estimate import DISK, Rates, estimate
    from kiss3d_cli.pipeline.requirements import needed_models

    config = settled(configuration.load(configuration.preset_layer(name)))
    names = needed_models(config)
    unusable = preflight.check(names, root)
    broken = {name for fault in unusable for name in fault.models}
    missing = [model for model in store.missing(names, store.find_all(names, root)) if model.name not in broken]
    rates = Rates(machine.device.model, *_rates(measured), DISK)
    limit = machine.free_video_bytes
    if limit is not None:
        allowed = config["device.memory_limit"]
        tightened = min(limit / GIB, allowed) if allowed is not None else limit / GIB
        tight = configuration.Layer("this machine", {"device": {"memory_limit": max(1.0, tightened)}})
        config = settled(configuration.load(configuration.preset_layer(name), tight))
    found = estimate(config, rates)
    gpu = machine.device.is_gpu
    timed = measured is not None and (gpu or not found.least_video_bytes)
    faults = []
    if found.least_video_bytes and not gpu:
        faults.append(f"there is no GPU ({machine.device.why.removeprefix('auto: ')})")
    elif limit is not None and found.least_video_bytes > limit:
        faults.append(f"it needs {found.least_video_bytes / GIB:.1f} GiB of free video memory")
    if unusable:
        command = preflight.pull_command(sorted(broken), root)
        faults.append(f"{len(unusable)} files of models can't be used (see above): {command}")
    if missing:
        gigabytes = sum(model.gigabytes or 0 for model in missing)
        faults.append(f"{len(missing)} models are not here ({gigabytes:.0f} GB): kiss3d models pull {name}")
        prepared = found.prepared_bytes / GIGA
        room = free_disk(root or Path(HF_HUB_CACHE)) / GIGA
        if gigabytes + prepared > room:
            faults.append(
                f"they take {gigabytes + prepared:.0f} GB with what is prepared of them, and {room:.0f} GB of disk "
                "are free: HF_HOME moves them"
            )
    return {
        "name": name,
        "ready": not faults,
        "verdict": "ready" if not faults else "not ready: " + "; ".join(faults),
        "missing": [model.name for model in missing],
        "unusable": [str(fault.path) for fault in unusable],
        "seconds": round(found.seconds, 1) if timed else None,
        "stages": {stage.stage: _rounded(stage.seconds) for stage in found.stages} if timed else {},
        "video_bytes": int(found.video_bytes),
        "least_video_bytes": int(found.least_video_bytes),
        "disk_bytes": int(found.disk_bytes),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _rates(measured: Any) -> tuple[float, float, float]:
    return (1e12, 1e11, 1e10) if measured is None else (measured.matrix, measured.memory, measured.host)


def _needs(row: dict[str, Any]) -> str:
    parts = []
    if row["least_video_bytes"]:
        least, most = row["least_video_bytes"] / GIB, row["video_bytes"] / GIB
        parts.append(f"video memory {least:.1f} GiB at least, up to {most:.1f} GiB used")
    if row["disk_bytes"]:
        parts.append(f"{row['disk_bytes'] / GIGA:.0f} GB of weights read")
    if row["seconds"] is not None:
        parts.append(f"about {row['seconds']:.0f} s here")
    return "; ".join(parts)
