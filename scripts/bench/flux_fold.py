"""What folding a LoRA into fp8 weights costs, against 16-bit weights with an adapter: one call of a small transformer.

python scripts/bench/flux_fold.py [--width 512] [--threads 1]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from checkpoints.flux import kohya_lora
from kiss3d_cli.models.flux import keys, networks
from kiss3d_cli.models.flux.lora import LowRank, read_lora
from kiss3d_cli.models.runtime.fp8 import FP8, Fp8Linear, Fp8Weight, quantize, quantize_change
from kiss3d_cli.models.runtime.weights import WeightFile, fill

BLOCKS = 3
RANK = 16


def original_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The original names of a transformer of this width with heads of 64."""
    shapes: dict[str, tuple[int, ...]] = {"img_in.weight": (width, 64), "txt_in.weight": (width, 256)}
    for name, inputs in (("time_in", 256), ("vector_in", 128), ("guidance_in", 256)):
        shapes |= {f"{name}.in_layer.weight": (width, inputs), f"{name}.out_layer.weight": (width, width)}
    for block in range(BLOCKS):
        for stream in ("img", "txt"):
            start = f"double_blocks.{block}.{stream}_"
            shapes |= {f"{start}mod.lin.weight": (6 * width, width), f"{start}attn.qkv.weight": (3 * width, width)}
            shapes |= {f"{start}attn.proj.weight": (width, width), f"{start}mlp.0.weight": (4 * width, width)}
            shapes |= {f"{start}mlp.2.weight": (width, 4 * width)}
            shapes |= {f"{start}attn.norm.{kind}_norm.scale": (64,) for kind in ("query", "key")}
        start = f"single_blocks.{block}."
        shapes |= {f"{start}linear1.weight": (7 * width, width), f"{start}linear2.weight": (width, 5 * width)}
        shapes |= {f"{start}modulation.lin.weight": (3 * width, width)}
        shapes |= {f"{start}norm.{kind}_norm.scale": (64,) for kind in ("query", "key")}
    shapes |= {"final_layer.linear.weight": (64, width), "final_layer.adaLN_modulation.1.weight": (2 * width, width)}
    biases = {f"{n.removesuffix('weight')}bias": (s[0],) for n, s in shapes.items() if n.endswith("weight")}
    return {**shapes, **biases}


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=random)
        if name.endswith("scale"):
            state[name] = 1 + 0.05 * values
        else:
            state[name] = values * (shape[1] ** -0.5 if len(shape) == 2 else 0.02)
    return state


class Bench:
    def __init__(self, width: int, folder: Path) -> None:
        self.folder = folder
        self.shapes = original_shapes(width)
        self.wide = random_state(self.shapes)
        # a file in fp8 as published: cast to e4m3, without a scale
        self.narrow = {name: tensor.to(FP8).float() for name, tensor in self.wide.items()}

    def model(self, state: dict[str, Tensor]) -> Any:
        save_file(state, self.folder / "state.safetensors")
        file = WeightFile(self.folder / "state.safetensors")
        layout = keys.transformer_layout(file.shapes, "")
        model = networks.transformer(layout.shapes(file.shapes))
        fill(model, file, layout, torch.float32)
        return model

    def changes(self, strength: float) -> dict[str, list[LowRank]]:
        lora = kohya_lora(self.shapes, torch.Generator().manual_seed(1), strength, RANK)
        save_file({name: tensor.float() for name, tensor in lora.items()}, self.folder / "lora.safetensors")
        layout = keys.transformer_layout(self.shapes, "")
        return read_lora(WeightFile(self.folder / "lora.safetensors"), "transformer", layout.shapes(self.shapes))

    def call(self, model: Any) -> Tensor:
        random = torch.Generator().manual_seed(2)
        with torch.inference_mode():
            answer: Tensor = model(
                hidden_states=torch.randn(1, 128, 64, generator=random),
                encoder_hidden_states=torch.randn(1, 32, 256, generator=random),
                pooled_projections=torch.randn(1, 128, generator=random),
                timestep=torch.tensor([0.7]),
                guidance=torch.tensor([3.5]),
                txt_ids=torch.zeros(32, 3),
                img_ids=torch.randint(0, 16, (128, 3), generator=random).float(),
                return_dict=False,
            )[0]
        return answer


def changed(model: Any, changes: dict[str, list[LowRank]], how: str) -> Any:
    """Put a LoRA into a float32 model: exactly, rounded to the nearest fp8, or as kiss3d folds it."""
    cpu = torch.device("cpu")
    for name, parts in changes.items():
        linear = model.get_submodule(name)
        change = sum((part.change(cpu) for part in parts[1:]), start=parts[0].change(cpu))
        before = linear.weight.detach()
        if how == "exact":
            linear.weight.data = before + change
            continue
        weight: Fp8Weight = quantize(before + change) if how == "nearest" else quantize_change(before, change)
        model.set_submodule(name, Fp8Linear(weight, linear.bias.detach()))
    return model


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.width, Path(folder))
        plain = bench.call(bench.model(bench.narrow))
        print(f"Casting the weights to fp8 alone: {relative(plain, bench.call(bench.model(bench.wide))):.4f}\n")
        print("| LoRA / weight | its effect | nearest: error | what is left | folded: error | what is left |")
        print("|---|---|---|---|---|---|")
        for strength in (0.003, 0.01, 0.03, 0.1):
            changes = bench.changes(strength)
            exact = bench.call(changed(bench.model(bench.narrow), changes, "exact"))
            effect = exact - plain
            cells = [f"{strength:g}", f"{float(effect.norm() / exact.norm()):.4f}"]
            for how in ("nearest", "folded"):
                got = bench.call(changed(bench.model(bench.narrow), changes, how))
                gain = float(((got - plain) * effect).sum() / effect.square().sum())
                cells += [f"{relative(got, exact):.4f}", f"{gain:.2f}"]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
