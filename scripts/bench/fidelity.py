"""How far the ControlNet in fp8 is off, as a share of what it adds: against the same weights in the published bfloat16.

python scripts/bench/fidelity.py        # random weights, as scripts/make_checkpoints.py writes them
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from checkpoints import flux
from kiss3d_cli.models.flux.denoise import MODES
from kiss3d_cli.models.flux.latents import token_places
from kiss3d_cli.models.flux.loading import load_controlnet
from kiss3d_cli.models.flux.networks import controlnet as empty_controlnet

ROWS, COLUMNS, WORDS = 16, 32, 64


@torch.inference_mode()
def main() -> None:
    warnings.simplefilter("ignore")
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            flux.write(root, "tiny", seed, wired=False)
            path = root / "InstantX" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors"
            state = {name: tensor.float() for name, tensor in load_file(path).items()}
            wide = empty_controlnet({name: tuple(tensor.shape) for name, tensor in state.items()})
            wide.load_state_dict(state, assign=True)
            answers = [_added(network, seed) for network in (wide.eval(), load_controlnet(path, torch.float32))]
        shares = [float((b - a).norm() / a.norm()) for a, b in zip(*answers, strict=True)]
        print(f"seed {seed}: off by {100 * min(shares):.1f} to {100 * max(shares):.1f} % of what a block adds")


def _added(network: torch.nn.Module, seed: int) -> list[torch.Tensor]:
    """What the ControlNet adds to each block, for random tokens."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=random)

    tokens = ROWS * COLUMNS // 4
    blocks, single = network(
        hidden_states=draw(tokens, 64),
        controlnet_cond=draw(tokens, 64),
        controlnet_mode=torch.tensor([[MODES["tile"]]]),
        conditioning_scale=1.0,
        encoder_hidden_states=draw(WORDS, flux.T5_WIDTH),
        pooled_projections=draw(flux.CLIP_WIDTH),
        timestep=torch.tensor([0.5]),
        guidance=torch.tensor([3.5]),
        txt_ids=torch.zeros(WORDS, 3),
        img_ids=token_places(ROWS, COLUMNS, torch.device("cpu")),
        return_dict=False,
    )
    return [*blocks, *(single or ())]


if __name__ == "__main__":
    main()
