"""What is published of Flux: the all-in-one file, its merge with schnell, ControlNet, Redux, LoRAs, vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.models.store.model import Model, Network

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings

ALL_IN_ONE = "flux1-dev-fp8.safetensors"
CONTROLNET_FILE = "diffusion_pytorch_model.safetensors"
LORAS = {"bundle-lora": "rgb_normal.safetensors", "redux-lora": "rgb_normal_redux.safetensors"}
"""Files of the LoRAs by the names of their models."""


def _check(folders: Mapping[str, Path], findings: Findings) -> None:
    from kiss3d_cli.models.flux.files import check_files

    check_files(folders, findings)


def _in_comfyui(name: str, folder: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    from kiss3d_cli.models.flux.comfyui import find_in_comfyui

    return find_in_comfyui(name, folder)


NETWORK = Network(
    (
        Model(
            "flux-dev",
            "Comfy-Org/flux1-dev",
            (ALL_IN_ONE,),
            17.2,
            "FLUX.1 [dev] Non-Commercial",
            False,
            False,
            "redraws the bundle",
        ),
        Model(
            "flux-schnell",
            "drbaph/FLUX.1-schnell-dev-merged-fp8",
            ("*.safetensors",),
            11.9,
            "FLUX.1 [dev] Non-Commercial",
            False,
            False,
            "redraws the bundle in few steps",
        ),
        Model(
            "flux-controlnet",
            "InstantX/FLUX.1-dev-Controlnet-Union",
            ("config.json", CONTROLNET_FILE),
            6.6,
            "FLUX.1 [dev] Non-Commercial",
            False,
            False,
            "keeps the bundle to the reference",
        ),
        Model(
            "flux-redux",
            "black-forest-labs/FLUX.1-Redux-dev",
            (
                "image_embedder/diffusion_pytorch_model.safetensors",
                "image_encoder/config.json",
                "image_encoder/model.safetensors",
            ),
            1.1,
            "FLUX.1 [dev] Non-Commercial",
            False,
            True,
            "keeps the bundle to the picture",
            without="bundle.redux=false",
        ),
        Model(
            "bundle-lora",
            "LTT/Kiss3DGen",
            (LORAS["bundle-lora"],),
            0.3,
            "none stated; for FLUX.1 [dev], Non-Commercial",
            False,
            False,
            "teaches Flux the bundle",
        ),
        Model(
            "redux-lora",
            "LTT/Kiss3DGen",
            (LORAS["redux-lora"],),
            0.3,
            "none stated; for FLUX.1 [dev], Non-Commercial",
            False,
            False,
            "teaches Flux the bundle, on the redux route",
        ),
        Model(
            "t5-tokenizer",
            "google-t5/t5-small",
            ("tokenizer.json",),
            0.001,
            "Apache-2.0",
            True,
            False,
            "T5's vocabulary, for the prompt",
        ),
        Model(
            "clip-tokenizer",
            "openai/clip-vit-large-patch14",
            ("tokenizer.json",),
            0.002,
            "MIT",
            True,
            False,
            "CLIP's vocabulary, for the prompt",
        ),
    ),
    check=_check,
    comfyui=_in_comfyui,
)
