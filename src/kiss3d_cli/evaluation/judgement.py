"""Limits on the check of a mesh, and advice for a mesh that misses them."""

from __future__ import annotations

from dataclasses import dataclass

from kiss3d_cli.evaluation.front_check import FrontCheck

LIMITS = {"mask_iou": 0.95, "color_psnr": 20.0, "thin_kept": 0.9, "ragged_edges": 5.0}
"""Least intersection over union, decibels and share of thin parts; most ragged edges for each 1,000."""
_FINEST_GRID, _LARGEST_TEXTURE = 256, 4096


@dataclass(frozen=True)
class Route:
    """How a mesh was made, as far as there is something to try: a setting without effect is none.

    Attributes:
        drawn: a network made the shape of views that networks drew, and not of the picture alone.
        resolution: of the grid that the surface was taken from; None if it was taken from none.
        integrate: where there was a grid, the normals were integrated to another surface before that was refined.
        steps: of the refinement.
        texture: pixels a side; None if the vertices carry the colours.
    """

    drawn: bool
    resolution: int | None
    integrate: bool
    steps: int
    texture: int | None


def judge(found: FrontCheck, route: Route) -> str | None:
    """One sentence on what is below the limits and what to try; None if nothing is."""
    faults: list[str] = []
    tries: list[str] = []
    if found.mask_iou < LIMITS["mask_iou"]:
        faults.append(f"its front covers the picture's object to {found.mask_iou:.0%}")
        tries.append("compare mask.png of the preprocess stage with your picture")
    if found.lost_parts:
        places = ", ".join(found.lost_parts)
        parts = "a part is" if len(found.lost_parts) == 1 else f"{len(found.lost_parts)} parts are"
        faults.append(f"{parts} missing ({places})")
        tries += _for_lost_parts(route)
    if found.thin_kept is not None and found.thin_kept < LIMITS["thin_kept"]:
        faults.append(f"{1 - found.thin_kept:.0%} of the thin parts are missing")
        tries += _for_lost_parts(route)
    if found.pieces < found.mask_pieces:
        faults.append(f"it has {found.pieces} of {found.mask_pieces} pieces")
        tries += ["--preset draft, which keeps pieces apart"] if route.drawn else []
        tries.append("a picture for each piece")
    if found.color_psnr is not None and found.color_psnr < LIMITS["color_psnr"]:
        faults.append(f"its colours are {found.color_psnr:.1f} dB from the picture's")
        tries.append(_for_colors(route))
    if not found.watertight:
        faults.append("its surface has holes")
        tries.append("--set refine.start=hull")
    if found.ragged_edges > LIMITS["ragged_edges"]:
        faults.append(f"{found.ragged_edges:.1f} of 1,000 edges are ragged")
        tries.append("a larger refine.bending_weight" if route.steps else "--set refine.steps=50")
    if not faults:
        return None
    chosen = list(dict.fromkeys(tries))[:2]
    return f"The mesh differs from its picture: {', '.join(faults)}; try {' or '.join(chosen)}."


def _for_lost_parts(route: Route) -> list[str]:
    if route.resolution is None:
        return ["a larger refine.target_faces", "a picture in which the object is larger"]
    # the grid of the integrated surface is coarser than the one that the mesh before is taken from
    finer = [f"reconstruct.resolution={_FINEST_GRID}"] if route.resolution < _FINEST_GRID else []
    finer += ["refine.integrate=false"] if route.integrate else []
    first = ["--preset draft, which keeps what the picture shows"] if route.drawn else []
    return [*first, *([f"--set {' --set '.join(finer)}"] if finer else [])]


def _for_colors(route: Route) -> str:
    if route.drawn:
        return "compare bundle.png of the bundle stage with your picture"
    if route.texture is None:
        return "--set refine.texture=true"
    if route.texture < _LARGEST_TEXTURE:
        return f"--set refine.texture_size={2 * route.texture}"
    return "a picture with less detail"
