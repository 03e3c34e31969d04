"""The stages, in the order in which they run. Data only: a stage's module is imported when it runs."""

from __future__ import annotations

import dataclasses

from kiss3d_cli.core.schema import Config, Refine
from kiss3d_cli.core.stage import Method, Stage

VIEW_FILES = ("front.png", "right.png", "back.png", "left.png")
"""The multiview stage's pictures, in the order of the bundle's columns."""

REFINE_SETTINGS = tuple(f"refine.{entry.name}" for entry in dataclasses.fields(Refine) if entry.name != "method")
_FLUX_PACKAGES = ("diffusers", "transformers")
_FLUX_SETTINGS = (
    "bundle.tile",
    "bundle.model",
    "bundle.scheduler",
    "bundle.steps",
    "bundle.guidance",
    "bundle.lora_scale",
    "bundle.redux_scale",
    "seed",
)


def _prompt_models(config: Config) -> tuple[str, ...]:
    redux = ("flux-redux",) if config.bundle.redux else ()
    return ("flux-dev", "t5-tokenizer", "clip-tokenizer", *redux, *_lora(config))


def _lora(config: Config) -> tuple[str, ...]:
    """It may have parts for the text encoders, so that the prompt depends on it too."""
    if config.bundle.lora_scale == 0:
        return ()
    return ("redux-lora",) if config.bundle.method == "redux" else ("bundle-lora",)


def _flux_models(config: Config) -> tuple[str, ...]:
    """The all-in-one file has the VAE, so that it is there beside another transformer too."""
    bundle = config.bundle
    from_noise = bundle.method == "redux"
    return (
        "flux-dev",
        *(("flux-schnell",) if bundle.model == "schnell" else ()),
        *_lora(config),
        *(("flux-controlnet",) if bundle.controls and not from_noise else ()),
    )


STAGES: tuple[Stage, ...] = (
    Stage(
        "preprocess",
        1,
        "cutting the object out",
        {
            "grabcut": Method(
                "stages.preprocess:grabcut",
                version=1,
                reads=("picture",),
                writes=("image.png", "image_rgba.png", "mask.png"),
                settings=("preprocess.size", "preprocess.foreground", "seed"),
            ),
            "rembg": Method(
                "stages.preprocess:rembg",
                version=1,
                reads=("picture",),
                writes=("image.png", "image_rgba.png", "mask.png"),
                settings=("preprocess.size", "preprocess.foreground"),
                models=lambda _config: ("isnet",),
                packages=("onnxruntime",),
            ),
        },
    ),
    Stage(
        "caption",
        2,
        "describing the picture",
        {
            "describe": Method(
                "stages.caption:describe",
                version=1,
                reads=("preprocess/image.png", "preprocess/mask.png"),
                writes=("caption.json",),
                settings=("caption.text",),
            ),
            "florence2": Method(
                "stages.caption:florence2",
                version=1,
                reads=("preprocess/image.png", "preprocess/mask.png"),
                writes=("caption.json",),
                settings=(
                    "caption.text",
                    "caption.beams",
                    "caption.max_tokens",
                    "caption.expand",
                    "caption.expand_model",
                ),
                models=lambda config: (
                    *(("florence2",) if config.caption.text is None else ()),
                    *((config.caption.expand_model,) if config.caption.expand else ()),
                ),
                packages=("transformers", "accelerate"),
            ),
        },
    ),
    Stage(
        "multiview",
        3,
        "making four views",
        {
            "inflate": Method(
                "stages.multiview:inflate",
                version=1,
                reads=("preprocess/image_rgba.png",),
                writes=("grid.png", *VIEW_FILES, "surface.ply"),
                settings=("multiview.tile", "multiview.depth", "camera.radius"),
            ),
            "zero123plus": Method(
                "stages.multiview:zero123plus",
                version=1,
                reads=("preprocess/image.png",),
                writes=("grid.png", *VIEW_FILES),
                settings=("multiview.tile", "multiview.steps", "multiview.guidance", "seed"),
                models=lambda _config: ("zero123plus", "flexgen"),
                packages=("diffusers", "transformers", "accelerate"),
            ),
        },
    ),
    Stage(
        "reference",
        4,
        "putting the reference bundle together",
        {
            "surface": Method(
                "stages.reference:surface",
                version=1,
                reads=(*(f"multiview/{name}" for name in VIEW_FILES), "multiview/surface.ply"),
                writes=("reference_bundle.png", "mesh.ply"),
                settings=("camera.radius",),
            ),
            "lrm": Method(
                "stages.lrm:reference",
                version=1,
                reads=tuple(f"multiview/{name}" for name in VIEW_FILES),
                writes=("reference_bundle.png", "mesh.ply"),
                settings=("camera.radius", "reconstruct.resolution"),
                models=lambda _config: ("prm",),
            ),
        },
    ),
    Stage(
        "prompt",
        4,  # beside the reference: neither reads the other
        "reading the prompt",
        {
            "flux": Method(
                "stages.prompt:flux",
                version=1,
                reads=("caption/caption.json", "preprocess/image.png"),
                writes=("prompt.safetensors", "redux.safetensors"),
                settings=("bundle.redux", "bundle.lora_scale"),
                models=_prompt_models,
                packages=_FLUX_PACKAGES,
            ),
        },
        off=lambda config: None if config.bundle.method in ("flux", "redux") else "the bundle needs no prompt",
    ),
    Stage(
        "bundle",
        5,
        "making the bundle",
        {
            "reference": Method(
                "stages.bundle:reference",
                version=1,
                reads=("reference/reference_bundle.png",),
                writes=("bundle.png",),
            ),
            "flux": Method(
                "stages.flux:from_reference",
                version=2,
                reads=("reference/reference_bundle.png", "prompt/prompt.safetensors", "prompt/redux.safetensors"),
                writes=("bundle.png",),
                settings=(
                    *_FLUX_SETTINGS,
                    "bundle.strength",
                    "bundle.controls",
                    "bundle.control_scales",
                    "bundle.control_starts",
                    "bundle.control_ends",
                ),
                models=_flux_models,
                packages=_FLUX_PACKAGES,
            ),
            "redux": Method(
                "stages.flux:from_redux",
                version=2,
                reads=("prompt/prompt.safetensors", "prompt/redux.safetensors"),
                writes=("bundle.png",),
                settings=_FLUX_SETTINGS,
                models=_flux_models,
                packages=_FLUX_PACKAGES,
            ),
            "file": Method("stages.bundle:file", version=1, reads=("bundle",), writes=("bundle.png",)),
        },
    ),
    Stage(
        "reconstruct",
        6,
        "reconstructing the mesh",
        {
            "hull": Method(
                "stages.reconstruct:hull",
                version=1,
                reads=("bundle/bundle.png",),
                writes=("mesh.ply",),
                settings=("camera.radius", "reconstruct.resolution"),
            ),
            "lrm": Method(
                "stages.lrm:reconstruct",
                version=2,
                reads=("bundle/bundle.png",),
                writes=("mesh.ply",),
                settings=("camera.radius", "reconstruct.resolution"),
                models=lambda _config: ("prm",),
            ),
        },
    ),
    Stage(
        "refine",
        7,
        "refining the mesh",
        {
            "isomer": Method(
                "stages.refine:isomer",
                version=2,
                reads=("bundle/bundle.png", "reconstruct/mesh.ply"),
                writes=("mesh.glb", "mesh.obj", "mesh.ply"),
                settings=("camera.radius", *REFINE_SETTINGS),
            ),
        },
    ),
    Stage(
        "eval",
        8,
        "measuring the mesh",
        {
            "surface": Method(
                "stages.evaluate:surface",
                version=1,
                reads=("refine/mesh.ply", "ground_truth"),
                writes=("metrics.json",),
                settings=("eval.protocol", "eval.align", "eval.points", "eval.render", "seed"),
            ),
        },
    ),
)
