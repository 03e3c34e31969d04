"""What is published of Zero123++ v1.2, and the UNet of Kiss3DGen that takes the place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.models.store.model import Model, Network

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings

UNET_FILE = "flexgen.ckpt"


def _check(folders: Mapping[str, Path], findings: Findings) -> None:
    from kiss3d_cli.models.zero123plus.files import check_files

    check_files(folders, findings)


NETWORK = Network(
    (
        Model(
            "zero123plus",
            "sudo-ai/zero123plus-v1.2",
            # all but the UNet's weights: flexgen takes their place
            (
                "model_index.json",
                "feature_extractor_clip/preprocessor_config.json",
                "feature_extractor_vae/preprocessor_config.json",
                "scheduler/scheduler_config.json",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "tokenizer/merges.txt",
                "tokenizer/vocab.json",
                "tokenizer/*.json",
                "unet/config.json",
                "vae/config.json",
                "vae/diffusion_pytorch_model.safetensors",
                "vision_encoder/config.json",
                "vision_encoder/model.safetensors",
            ),
            2.1,
            "CC-BY-NC-4.0",
            False,
            False,
            "four views from the picture",
        ),
        Model(
            "flexgen",
            "LTT/Kiss3DGen",
            (UNET_FILE,),
            3.5,
            "none stated; derived from CC-BY-NC-4.0 weights",
            False,
            False,
            "the UNet of the four views",
        ),
    ),
    check=_check,
)
