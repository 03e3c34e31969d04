"""The published ways to compare two surfaces; a number means nothing without one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from kiss3d_cli.core.errors import BadInput

ProtocolName = Literal["kiss3d", "kiss3dgen", "triposr", "zeroshape", "meshrcnn"]
Normalisation = Literal["ground-truth-box", "ground-truth-box-10", "own-box", "centroid-radius", "view-box"]
AlignmentKind = Literal["none", "yaw", "rigid", "similarity", "view-grid"]

NORMALISATIONS: dict[Normalisation, str] = {
    "ground-truth-box": "both moved and scaled by the ground truth's box: centre 0, longest side 1",
    "ground-truth-box-10": "both moved and scaled by the ground truth's box: centre 0, longest side 10",
    "own-box": "each moved and scaled by its own box into [-1, 1]^3: centre 0, longest side 2",
    "centroid-radius": "each moved and scaled by itself: area-weighted centroid 0, farthest surface point at 1",
    "view-box": "each moved and scaled by its samples: mean 0, the larger of width (x) and height (y) 1; again after "
    "each rotation of the prediction",
}
"""What each normalisation does, in the words that metrics.json carries."""


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a number, apart from the two meshes and the seed.

    Attributes:
        name: what a user types.
        version: raised whenever the same meshes and seed would give another number.
        normalisation: a key of `NORMALISATIONS`; lengths are in units of the normalised frame.
        alignment: what is done unless another kind is asked for.
        points: surface samples on each mesh.
        thresholds: of precision, recall and F-score.
        unit: what a length of 1 is.
        source: where the protocol was published.
    """

    name: ProtocolName
    version: int
    normalisation: Normalisation
    alignment: AlignmentKind
    points: int
    thresholds: tuple[float, ...]
    unit: str
    source: str


PROTOCOLS: dict[str, Protocol] = {
    "kiss3d": Protocol(
        name="kiss3d",
        version=1,
        normalisation="ground-truth-box",
        alignment="none",
        points=100_000,
        thresholds=(0.01, 0.02, 0.05),
        unit="longest side of the ground truth's box",
        source="this project",
    ),
    "kiss3dgen": Protocol(
        name="kiss3dgen",
        version=1,
        normalisation="own-box",
        alignment="none",
        points=16_000,
        thresholds=(0.1,),
        unit="half the longest side of each mesh's own box",
        source="Kiss3DGen, arXiv 2503.01370, section 5",
    ),
    "triposr": Protocol(
        name="triposr",
        version=1,
        normalisation="centroid-radius",
        alignment="rigid",
        points=10_000,
        thresholds=(0.1, 0.2, 0.5),
        unit="distance from each mesh's centroid to its farthest point",
        source="TripoSR, arXiv 2403.02151, section 3; SF3D, arXiv 2408.00653, section 4",
    ),
    "zeroshape": Protocol(
        name="zeroshape",
        version=1,
        normalisation="view-box",
        alignment="view-grid",
        points=10_000,
        thresholds=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
        unit="larger of width and height, seen from the front, of each mesh",
        source="ZeroShape, arXiv 2312.14198, section 4",
    ),
    "meshrcnn": Protocol(
        name="meshrcnn",
        version=1,
        normalisation="ground-truth-box-10",
        alignment="none",
        points=10_000,
        thresholds=(0.1, 0.3, 0.5),
        unit="a tenth of the longest side of the ground truth's box",
        source="Mesh R-CNN, arXiv 1906.02739, section 4.1 (its Chamfer distance is chamfer_l2)",
    ),
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        BadInput: no such protocol.
    """
    if name not in PROTOCOLS:
        hint = "use one of: " + ", ".join(PROTOCOLS)
        raise BadInput(f"there is no evaluation protocol '{name}'", place="--protocol", hint=hint)
    return PROTOCOLS[name]


def get_alignment(name: str) -> AlignmentKind:
    """The alignment of that name, as a checked literal.

    Raises:
        BadInput: no such alignment.
    """
    for kind in get_args(AlignmentKind):
        if kind == name:
            return kind
    hint = "use one of: " + ", ".join(get_args(AlignmentKind))
    raise BadInput(f"there is no alignment '{name}'", place="--align", hint=hint)
