"""Training: steps, checkpoints that go on where they stopped, a log, pictures.

`accelerate` does devices, mixed precision, accumulation and several processes.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kiss3d_cli.core.device import is_cuda
from kiss3d_cli.core.errors import Kiss3dError, Missing
from kiss3d_cli.training.ahead import Ahead, usual_workers
from kiss3d_cli.training.checkpoints import CHECKPOINT, Progress, resume, save
from kiss3d_cli.training.log import Log
from kiss3d_cli.training.task import Task

GIVE_UP = 20
"""Steps in a row without finite gradients after which training stops."""


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Attributes:
        batch: samples a step and process.
        accumulate: steps whose gradients are added up before the weights move.
        steps: length of the schedule; of no account if `minutes` is given.
        minutes: length of the schedule as time spent training; what a machine that is lent for an hour needs, but
            no two runs are alike.
        rate: highest learning rate. warmup: share of the schedule over which it rises.
        decay: AdamW's weight decay. clip: longest gradient.
        average: weight of the past in the averaged weights, which are what is shipped.
        seed: of the first weights and of every choice.
        share: of the data that is used, the first part.
        precision: "no", "bf16" or "fp16".
        save_minutes: between checkpoints. sheet_minutes: between pictures and held-out errors.
        held_out_views: how many of the held-out samples are measured.
        workers: processes that make batches ahead; None for none on a CPU, and nearly all cores beside a GPU.
    """

    batch: int = 16
    accumulate: int = 1
    steps: int = 20000
    minutes: float | None = None
    rate: float = 1e-3
    warmup: float = 0.02
    decay: float = 0.01
    clip: float = 1.0
    average: float = 0.999
    seed: int = 0
    share: float = 1.0
    precision: str = "no"
    save_minutes: float = 4.0
    sheet_minutes: float = 8.0
    held_out_views: int = 192
    workers: int | None = None


def train(
    task: Task[Any],
    folder: Path,
    settings: TrainSettings,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = lambda _line: None,
    stop: Callable[[int], bool] = lambda _step: False,
) -> Path:
    """Trains until the schedule's end, from the folder's checkpoint on if it has one.

    Args:
        task: what to learn, and from what.
        folder: for the checkpoint, the log and pictures.
        stop: asked after every step: leave now? The checkpoint is written first.

    Returns:
        The checkpoint.

    Raises:
        Missing: no accelerate, or no data.
        BadInput: the folder's checkpoint is of another task or configuration.
        Kiss3dError: the losses are not finite any more; the last good checkpoint is kept.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import set_seed
    except ImportError as error:
        raise Missing(
            "training needs the package accelerate",
            hint="pip install 'kiss3d[train]'; nothing that was trained is lost",
        ) from error
    AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier training in this process, on another device
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision=settings.precision, gradient_accumulation_steps=settings.accumulate
    )
    cuda = is_cuda(accelerator.device)
    if cuda:
        # TF32, which cuDNN's convolutions have anyway: products of whole float32 take several times as long
        torch.set_float32_matmul_precision("high")
    set_seed(settings.seed)
    network = task.network()
    network.to(accelerator.device)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.rate,
        weight_decay=settings.decay,
        betas=(0.9, 0.98),
        fused=cuda or None,
    )
    network, optimizer = accelerator.prepare(network, optimizer)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    state = Progress()
    if checkpoint.exists():
        state = resume(checkpoint, accelerator.unwrap_model(network), average, optimizer, task)
        say(f"going on from step {state.step}")
    data = task.batches(settings.batch, settings.seed, settings.share)
    workers = usual_workers(accelerator.device.type) if settings.workers is None else settings.workers
    ahead = Ahead(data, accelerator.process_index, workers, pinned=workers > 0 and cuda)
    log = Log(folder)
    log.cut(state.step)
    started = saved = drawn = time.monotonic()
    before = state.seconds
    bad = 0
    running: dict[str, float] = {}
    while True:
        done = _done(state, settings)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * schedule(done, settings.warmup)
        batch = data.placed(ahead.batch(state.step), accelerator.device)
        with accelerator.accumulate(network):
            losses = task.losses(network, batch)
            accelerator.backward(losses["loss"])
            norm = torch.zeros(())
            if accelerator.sync_gradients:
                norm = torch.as_tensor(accelerator.clip_grad_norm_(network.parameters(), settings.clip))
            length, found = values_of(norm, losses)
            if accelerator.sync_gradients:
                if math.isfinite(length):
                    bad = 0
                    optimizer.step()
                    _blend(
                        average,
                        accelerator.unwrap_model(network),
                        min(settings.average, (state.step + 1) / (state.step + 10)),
                    )
                else:
                    bad += 1
                optimizer.zero_grad(set_to_none=True)
        if bad >= GIVE_UP or not math.isfinite(found[task.leading]):
            raise Kiss3dError(
                f"the losses are not finite any more, at step {state.step}",
                place=str(folder),
                hint=f"the last good checkpoint is kept ({CHECKPOINT}); go on from it with a lower --rate",
            )
        state.step += 1
        now = time.monotonic()
        state.seconds = before + now - started
        for key, value in found.items():
            running[key] = value if key not in running else 0.95 * running[key] + 0.05 * value
        if accelerator.is_main_process:
            log.step(state, found, optimizer.param_groups[0]["lr"])
            if state.step % 50 == 0:
                rate = state.step * settings.batch * accelerator.num_processes / max(state.seconds, 1e-9)
                shown = f"{task.leading} {running[task.leading]:.4f}"
                say(f"step {state.step}  {100 * done:.1f} %  {shown}  {rate:.1f} samples/s")
        leave = stop(state.step)
        ends = leave or _done(state, settings) >= 1
        if accelerator.is_main_process and (ends or now - saved > 60 * settings.save_minutes):
            save(checkpoint, accelerator.unwrap_model(network), average, optimizer, task, state)
            saved = now
        looks = task.held_out is not None and (ends or now - drawn > 60 * settings.sheet_minutes)
        if accelerator.is_main_process and looks:
            measured = look(task, average, folder / f"sheet-{state.step:07}.png", settings.held_out_views)
            log.held_out(state, measured)
            keys = [key for key in (task.leading, task.baseline) if key is not None]
            say("held out: " + ", ".join(f"{key} {measured[key]:.4f}" for key in keys))
            ahead.refresh()
            drawn = now
        if leave:
            break
    accelerator.wait_for_everyone()
    log.close()
    return checkpoint


def values_of(norm: Tensor, losses: dict[str, Tensor]) -> tuple[float, dict[str, float]]:
    """The gradient's length and the losses as numbers, for which a GPU is waited for once."""
    values = [value.detach().double() for value in losses.values()]
    length, *found = torch.stack([norm.to(values[0]), *values]).tolist()
    return length, dict(zip(losses, found, strict=True))


def _done(state: Progress, settings: TrainSettings) -> float:
    if settings.minutes is not None:
        return state.seconds / (60 * settings.minutes)
    return state.step / max(1, settings.steps)


def schedule(done: float, warmup: float) -> float:
    """Factor on the learning rate: a linear rise, then half a cosine down to 0."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


@torch.no_grad()
def _blend(average: dict[str, Tensor], network: torch.nn.Module, keep: float) -> None:
    values = network.state_dict()
    names = [name for name, value in values.items() if value.is_floating_point()]
    mix = get_ema_multi_avg_fn(keep)
    mix([average[name] for name in names], [values[name].to(average[name]) for name in names], 0)
    for name in values.keys() - names:
        average[name].copy_(values[name])


def look(task: Task[Any], average: dict[str, Tensor], sheet: Path, limit: int) -> dict[str, float]:
    """Held-out figures of the averaged weights; draws a sheet."""
    assert task.held_out is not None
    with torch.random.fork_rng(devices=[]):  # the first weights of a network that takes others at once
        network = task.network()
    network.load_state_dict({name: value.cpu() for name, value in average.items()})
    return task.look(network.eval(), task.held_out, sheet, limit)


def settings_with(**changes: Any) -> TrainSettings:
    """The defaults with changes; None means the default."""
    return dataclasses.replace(TrainSettings(), **{key: value for key, value in changes.items() if value is not None})
