"""Whether a mesh is good enough to go without a word: limits on its check, and what to try below them."""

from __future__ import annotations

from kiss3d_cli.evaluation.front_check import FrontCheck

LIMITS = {"mask_iou": 0.95, "color_psnr": 20.0, "thin_kept": 0.9, "ragged_edges": 5.0}
"""Least intersection over union, decibels and share of thin parts; most ragged edges for each 1,000."""


def judge(found: FrontCheck) -> str | None:
    """One sentence on what is below the limits and what to try; None if nothing is."""
    faults, tries = [], []
    if found.mask_iou < LIMITS["mask_iou"]:
        faults.append(f"its front covers the picture's object to {found.mask_iou:.0%}")
        tries.append("compare mask.png of the preprocess stage with your picture")
    if found.thin_kept is not None and found.thin_kept < LIMITS["thin_kept"]:
        faults.append(f"{1 - found.thin_kept:.0%} of the thin parts are missing")
        tries.append("a larger reconstruct.resolution")
    if found.pieces < found.mask_pieces:
        faults.append(f"it has {found.pieces} of {found.mask_pieces} pieces")
        tries.append("a picture for each piece")
    if found.color_psnr is not None and found.color_psnr < LIMITS["color_psnr"]:
        faults.append(f"its colours are {found.color_psnr:.1f} dB from the picture's")
        tries.append("a larger refine.texture_size")
    if not found.watertight:
        faults.append("its surface has holes")
        tries.append("another --seed")
    if found.ragged_edges > LIMITS["ragged_edges"]:
        faults.append(f"{found.ragged_edges:.1f} of 1,000 edges are ragged")
        tries.append("a larger refine.bending_weight")
    if not faults:
        return None
    return f"The mesh differs from its picture: {', '.join(faults)}; try {' or '.join(tries[:2])}."
