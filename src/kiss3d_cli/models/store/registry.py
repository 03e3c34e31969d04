"""Every model that a method may load: where it is published, how large it is and what its licence allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kiss3d_cli.core.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Model:
    """One published model.

    Attributes:
        name: how kiss3d calls it.
        repository: owner and name on the Hugging Face hub, or on GitHub if `url` is set.
        files: the files or patterns (as in `fnmatch`) that are needed of it.
        gigabytes: size of the download, in 10^9 bytes; None if it is not known before the hub is asked.
        licence: the licence of the weights, not of any code.
        commercial: whether the licence allows commercial use.
        gated: whether its terms must be accepted on the hub first.
        purpose: what kiss3d uses it for.
        url: where the files are if not on the hub; the file's name is appended.
        sha256: content hash of files that are not on the hub, by name.
        without: the setting under which a run does without it, if there is one.
    """

    name: str
    repository: str
    files: tuple[str, ...]
    gigabytes: float | None
    licence: str
    commercial: bool
    gated: bool
    purpose: str
    url: str | None = None
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    without: str | None = None

    @property
    def size(self) -> str:
        if self.gigabytes is None:
            return "size unknown"
        return f"{self.gigabytes:g} GB" if self.gigabytes >= 0.1 else f"{1000 * self.gigabytes:g} MB"

    @property
    def page(self) -> str:
        host = "https://huggingface.co" if self.url is None else "https://github.com"
        return f"{host}/{self.repository}"


_FOLDER = ("*.json", "*.txt", "*.model")

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "isnet",
            "danielgatis/rembg",
            ("isnet-general-use.onnx",),
            0.18,
            "Apache-2.0",
            True,
            False,
            "cuts the object out",
            url="https://github.com/danielgatis/rembg/releases/download/v0.0.0/",
            sha256={"isnet-general-use.onnx": "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a"},
        ),
        Model(
            "florence2",
            "florence-community/Florence-2-large",
            ("config.json", "model.safetensors", "tokenizer.json", *_FOLDER),
            1.6,
            "MIT",
            True,
            False,
            "caption of the picture",
        ),
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
            ("flexgen.ckpt",),
            3.5,
            "none stated; derived from CC-BY-NC-4.0 weights",
            False,
            False,
            "the UNet of the four views",
        ),
        Model(
            "prm",
            "LTT/PRM",
            ("final_ckpt.ckpt",),
            1.6,
            "none stated; derived from InstantMesh, Apache-2.0",
            False,
            False,
            "reconstruction from four views",
        ),
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
            ("rgb_normal.safetensors",),
            0.3,
            "none stated; for FLUX.1 [dev], Non-Commercial",
            False,
            False,
            "teaches Flux the bundle",
        ),
        Model(
            "redux-lora",
            "LTT/Kiss3DGen",
            ("rgb_normal_redux.safetensors",),
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
    )
}


def lookup(name: str) -> Model:
    """The model of this name; `owner/name` is any chat model of the hub.

    Raises:
        BadInput: there is no such model.
    """
    if name in MODELS:
        return MODELS[name]
    owner, _, repository = name.partition("/")
    if not owner or not repository or "/" in repository:
        raise BadInput(
            f"there is no model '{name}'", place="models", hint=f"choose of: {', '.join(MODELS)}, or owner/name"
        )
    files = ("config.json", "*.safetensors", "*.jinja", *_FOLDER)
    return Model(name, name, files, None, "see its page", False, False, "expands the caption")
