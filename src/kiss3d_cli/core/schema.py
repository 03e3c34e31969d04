"""Every option of a run. The sentence under a field is its documentation and its help text.

Defaults are the published setting of each method; `configs/*.yaml` choose the methods and change what a preset changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _number(default: Any, *, low: float | None = None, high: float | None = None) -> Any:
    """A field with inclusive bounds, checked by `config.load`; for a tuple they hold for every element."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Device:
    """Where the work is done."""

    name: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `auto` takes a GPU if there is one, else the CPU."""
    memory_limit: float | None = _number(None, low=1)
    """Video memory that may be used, in GiB; empty means what is free."""


@dataclass(frozen=True)
class Models:
    """Where model weights are looked up."""

    root: str | None = None
    """A folder of weights laid out as `<owner>/<repository>/<file>`; empty means the Hugging Face cache."""


@dataclass(frozen=True)
class Camera:
    """The bundle's cameras."""

    radius: float = _number(4.15, low=2.1, high=100)
    """Distance of the bundle's cameras to the origin, in world units."""


@dataclass(frozen=True)
class Preprocess:
    """From the picture to a centred object on white."""

    method: Literal["grabcut", "rembg", "none"] = "grabcut"
    """How the background is removed; an alpha channel that is already there wins over either."""
    size: int = _number(512, low=64, high=2048)
    """Side of the framed picture, in pixels."""
    foreground: float = _number(0.85, low=0.1, high=1)
    """Longer side of the object as a share of the framed picture."""


@dataclass(frozen=True)
class Caption:
    """What the picture shows, in words."""

    method: Literal["describe", "florence2", "none"] = "florence2"
    """`florence2` reads the picture with Florence-2-large, `describe` measures it without a model."""
    text: str | None = None
    """A caption to use instead of one made from the picture."""
    beams: int = _number(3, low=1, high=16)
    """Beams of Florence-2's search."""
    max_tokens: int = _number(1024, low=8, high=4096)
    """Longest caption of Florence-2, in tokens."""
    expand: bool = False
    """Let a language model expand the caption to describe four views."""
    expand_model: str = "Qwen/Qwen2-7B-Instruct"
    """The chat model that expands the caption."""


@dataclass(frozen=True)
class Multiview:
    """From the framed picture to four views."""

    method: Literal["inflate", "zero123plus", "none"] = "zero123plus"
    """`zero123plus` draws the views with Zero123++, `inflate` renders the inflated silhouette."""
    tile: int = _number(512, low=128, high=1024)
    """Side of one view, in pixels; for Zero123++ a multiple of 32."""
    steps: int = _number(50, low=1, high=1000)
    """Denoising steps of Zero123++."""
    guidance: float = _number(4.0, low=0, high=50)
    """Classifier-free guidance of Zero123++."""
    depth: float = _number(0.95, low=0.05, high=4)
    """Thickness of the inflated silhouette, relative to a surface as deep as it is wide."""


@dataclass(frozen=True)
class Reference:
    """From four views to the reference bundle: their colours over the normals of a first mesh."""

    method: Literal["surface", "lrm", "none"] = "lrm"
    """`lrm` reconstructs a mesh with the large reconstruction model, `surface` takes the inflated one."""


@dataclass(frozen=True)
class Bundle:
    """From the reference bundle to the final one."""

    method: Literal["reference", "flux", "redux", "file"] = "flux"
    """`flux` redraws the reference bundle, `reference` takes it, `redux` has none, `file` takes that of `--bundle`."""
    tile: int = _number(512, low=128, high=1024)
    """Side of one of the bundle's eight tiles, in pixels; for Flux a multiple of 8."""
    model: Literal["dev", "schnell"] = "dev"
    """`dev` is FLUX.1-dev, `schnell` its merge with FLUX.1-schnell, which needs fewer steps; both in fp8."""
    scheduler: Literal["heun", "euler"] = "heun"
    """Flow-match solver; Heun calls the transformer twice a step."""
    steps: int = _number(20, low=1, high=1000)
    """Denoising steps of the full schedule."""
    strength: float = _number(0.95, low=0, high=1)
    """Share of the schedule that is run: 1 starts from noise, 0 returns the reference."""
    guidance: float = _number(3.5, low=0, high=50)
    """Flux's distilled guidance."""
    lora_scale: float = _number(1.0, low=0, high=4)
    """Scale of the bundle LoRA."""
    controls: tuple[str, ...] = ("tile",)
    """ControlNet-Union modes acting together: canny, tile, depth, blur, gray, lq."""
    control_scales: tuple[float, ...] = _number((0.6,), low=0, high=4)
    """One scale for each control."""
    control_starts: tuple[float, ...] = _number((0.0,), low=0, high=1)
    """Where each control sets in, as a share of the schedule."""
    control_ends: tuple[float, ...] = _number((0.65,), low=0, high=1)
    """Where each control ends, as a share of the schedule."""
    redux: bool = True
    """Add the picture's Redux tokens to the prompt (the Redux weights are gated)."""
    redux_scale: float = _number(0.5, low=0, high=4)
    """Factor of the Redux tokens."""


@dataclass(frozen=True)
class Reconstruct:
    """From the bundle to a closed mesh."""

    method: Literal["hull", "lrm"] = "lrm"
    """`lrm` is the large reconstruction model, `hull` the visual hull of the four masks."""
    resolution: int = _number(128, low=32, high=256)
    """Cells along each side of the grid that the surface is taken from."""


@dataclass(frozen=True)
class Refine:
    """From a rough mesh and the bundle's normals to the final, coloured mesh (ISOMER)."""

    method: Literal["isomer"] = "isomer"
    """`isomer` moves the surface to agree with the normals."""
    start: Literal["reconstruct", "hull", "sphere"] = "reconstruct"
    """What is refined: the mesh of the reconstruct stage, the visual hull of the masks, or a sphere."""
    integrate: bool = True
    """Integrate the normals to depth maps first: normals alone do not close a step in depth."""
    size: int = _number(512, low=64, high=1024)
    """Side of the tiles that the mesh is compared with, in pixels."""
    view_weights: tuple[float, ...] = _number((1.0, 0.9, 1.0, 0.9), low=0, high=1)
    """Weight of the normals of the front, right, back and left view."""
    steps: int = _number(50, low=0, high=1000)
    """Optimisation steps towards the explicit target (stage 2)."""
    decay: float = _number(0.98, low=0.5, high=1)
    """Factor on the learning rate after each of these steps."""
    ramp: int = _number(5, low=1, high=100)
    """Steps over which the learning rate rises to its value."""
    edge_lengths: tuple[float, ...] = _number((0.02, 0.005), low=0.001, high=1)
    """Largest and smallest reference edge length of these steps, in world units."""
    renewals: int = _number(5, low=1, high=1000)
    """The explicit target is renewed in this many first steps, then at every interval."""
    renewal_interval: int = _number(20, low=1, high=1000)
    """Steps between renewals of the explicit target."""
    coarse_steps: int = _number(0, low=0, high=1000)
    """Steps of stage 1 before them, for coarse starts."""
    coarse_decay: float = _number(0.995, low=0.5, high=1)
    """Factor on the learning rate after each step of stage 1."""
    coarse_edge_lengths: tuple[float, ...] = _number((0.1, 0.02), low=0.001, high=1)
    """Largest and smallest reference edge length of stage 1, in world units."""
    expansion: float = _number(0.1, low=0, high=10)
    """Weight of the term of stage 1 that moves vertices along their normals."""
    outside: float = _number(10.0, low=0, high=1000)
    """Weight of the term of stage 1 that keeps vertices inside the box."""
    learning_rate: float = _number(0.3, low=0.001, high=10)
    """Length of a step in reference edge lengths, in both stages."""
    betas: tuple[float, ...] = _number((0.8, 0.8, 0.0), low=0, high=1)
    """Memory of the gradient, of its square and of the velocity."""
    gain: float = _number(0.05, low=0, high=1)
    """Relative change of the reference edge length for a velocity that is off its reference."""
    velocity_reference: float = _number(0.3, low=0.001, high=10)
    """Mean relative velocity at which the reference edge length stays."""
    edge_tolerance: float = _number(0.5, low=0.05, high=1)
    """Edges may be longer or shorter than the reference by this share."""
    laplacian_weight: float = _number(0.02, low=0, high=1)
    """Share of the way to its neighbours' mean that a vertex goes in every step."""
    bending_weight: float = _number(0.2, low=0, high=0.4)
    """The same for the bi-Laplacian, which takes noise off the surface without shrinking it."""
    least_gradient: float = _number(1.0, low=0, high=10)
    """Gradients below this share of the mesh's root mean square move their vertices less than the rest."""
    gradient_limit: float = _number(10.0, low=0.1, high=1000)
    """A gradient longer than this many times its running size is cut."""
    target_faces: int = _number(50_000, low=100, high=2_000_000)
    """Faces of the final mesh, at most."""
    color_weights: tuple[float, ...] = _number((1.0, 0.5, 1.0, 0.5), low=0, high=1)
    """Weight of the colours of the front, right, back and left view."""
    texture: bool = True
    """Give the mesh a texture; without it, its vertices are coloured."""
    texture_size: int = _number(2048, low=256, high=8192)
    """Side of the texture, in pixels."""
    rasterizer: Literal["torch", "nvdiffrast", "pytorch3d"] = "torch"
    """Who finds the visible faces: `torch` is built in, the others are used where they are installed and work."""


@dataclass(frozen=True)
class Eval:
    """From the mesh and a ground truth to numbers."""

    protocol: Literal["kiss3d", "kiss3dgen", "triposr", "zeroshape", "meshrcnn"] = "kiss3d"
    """How the two meshes are normalised and measured; numbers of different protocols can't be compared."""
    align: Literal["protocol", "none", "yaw", "rigid", "similarity"] = "protocol"
    """What is done to bring the mesh onto the ground truth; `protocol` leaves it to the protocol."""
    points: int | None = _number(None, low=100, high=10_000_000)
    """Points sampled on each surface; empty means as many as the protocol has."""
    render: bool = False
    """Also compare pictures of the two meshes from eight sides."""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    seed: int = _number(42, low=0, high=2**63 - 1)
    """The one seed of the run; 0 is a seed like any other."""
    device: Device = Device()
    models: Models = Models()
    camera: Camera = Camera()
    preprocess: Preprocess = Preprocess()
    caption: Caption = Caption()
    multiview: Multiview = Multiview()
    reference: Reference = Reference()
    bundle: Bundle = Bundle()
    reconstruct: Reconstruct = Reconstruct()
    refine: Refine = Refine()
    eval: Eval = Eval()
