"""Every model that a method may load: where it is published, how large it is and what its licence allows."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Model:
    """One published model.

    Attributes:
        name: how kiss3d calls it.
        repository: owner and name on the Hugging Face hub.
        files: the files or patterns (as in `fnmatch`) that are needed of it.
        gigabytes: size of the download, in 10^9 bytes.
        licence: the licence of the weights, not of any code.
        commercial: whether the licence allows commercial use.
        gated: whether its terms must be accepted on the hub first.
        purpose: what kiss3d uses it for.
    """

    name: str
    repository: str
    files: tuple[str, ...]
    gigabytes: float
    licence: str
    commercial: bool
    gated: bool
    purpose: str


_FOLDER = ("*.json", "*.txt", "*.model")

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "florence2",
            "florence-community/Florence-2-large",
            ("*.safetensors", *_FOLDER),
            1.6,
            "MIT",
            True,
            False,
            "caption of the picture",
        ),
        Model(
            "zero123plus",
            "sudo-ai/zero123plus-v1.2",
            ("*/*.safetensors", "*/*.bin", "*.json", "*/*.json", "*/*.txt"),
            5.6,
            "OpenRAIL (code Apache-2.0, weights CC-BY-NC-4.0)",
            False,
            False,
            "four views from the picture",
        ),
        Model(
            "flexgen",
            "LTT/Kiss3DGen",
            ("flexgen.ckpt",),
            3.5,
            "MIT (derived from CC-BY-NC-4.0 weights)",
            False,
            False,
            "the UNet of the four views",
        ),
        Model("prm", "LTT/PRM", ("final_ckpt.ckpt",), 1.6, "Apache-2.0", True, False, "reconstruction from four views"),
        Model(
            "flux-dev",
            "Comfy-Org/flux1-dev",
            ("flux1-dev-fp8.safetensors",),
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
            ("config.json", "diffusion_pytorch_model.safetensors"),
            6.6,
            "FLUX.1 [dev] Non-Commercial",
            False,
            False,
            "keeps the bundle to the reference",
        ),
        Model(
            "flux-redux",
            "black-forest-labs/FLUX.1-Redux-dev",
            ("*/*.safetensors", "*/*.json", "*.json"),
            1.1,
            "FLUX.1 [dev] Non-Commercial",
            False,
            True,
            "keeps the bundle to the picture",
        ),
        Model(
            "bundle-lora",
            "LTT/Kiss3DGen",
            ("rgb_normal.safetensors",),
            0.3,
            "MIT (for FLUX.1 [dev], Non-Commercial)",
            False,
            False,
            "teaches Flux the bundle",
        ),
    )
}
