"""A model prepared for a slicer: in millimetres, z up, closed, on the bed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.export import solid, walls
from kiss3d_cli.export.model import placed, welded
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.printability import THIN, examine, volume_of
from kiss3d_cli.geometry.mesh import Mesh

WALL = 2e-3
"""Metres: a hollow print's walls where none are asked for."""


def printable(
    mesh: Mesh, options: Options, scale: Callable[[Mesh], float], doing: Callable[[float, str], None]
) -> tuple[Mesh, dict[str, Any], list[str]]:
    """The solid, what was measured of it, and sentences for the user.

    Args:
        mesh: y up.
        scale: millimetres in a unit of a mesh.

    Raises:
        BadInput: it can't be closed, encloses nothing, or leaves no room to be hollow.
        Missing: manifold3d.
    """
    doing(0.55, "closing the mesh")
    factor = scale(mesh)
    whole = solid.closed(placed(welded(Mesh(mesh.vertices.double(), mesh.faces)), "z", "floor", factor))
    notes = whole.notes
    current = whole.mesh
    if options.stable:
        turned = current.vertices @ solid.most_stable(current).T
        current = Mesh(turned, current.faces)
        if options.height is not None:  # the height is that of the object as it stands
            tall = float(turned[:, 2].max() - turned[:, 2].min())
            current = Mesh(turned * (options.height * 1000 / tall), current.faces)
        current = solid.on_the_bed(current)
    if options.wall is None and solid.has_empty_layers(current):
        doing(0.65, "thickening walls")
        with contextlib.suppress(BadInput):  # too tangled: it is sliced as it is, then
            thick, thin = walls.thickened(current, THIN)
            if thin:
                current = solid.on_the_bed(solid.settled(thick))
                notes.append(f"Parts too thin to be printed at all were made {THIN} mm thick; --wall sets how thick.")
    if options.wall is not None:
        doing(0.65, "thickening walls")
        current, thin = walls.thickened(current, options.wall * 1000)
        notes.append("Thin walls were thickened." if thin else "No wall was thinner.")
        current = solid.on_the_bed(current)
    if options.base:
        doing(0.75, "cutting the base")
        current = solid.on_the_bed(solid.flat_base(current))
    if options.hollow:
        doing(0.8, "making it hollow")
        current = walls.hollowed(current, (options.wall or WALL) * 1000)
    current, cut = solid.footed(solid.on_the_bed(solid.settled(current)))
    if cut is None:
        notes.append("Where it stands it is thinner than a line of a 0.4 mm nozzle: slicers may refuse it.")
    elif cut > 0:
        notes.append(f"It stood on a point: {cut:.2g} mm are cut off, so that its first layer holds.")
        current = solid.on_the_bed(solid.settled(current))
    current, pinned = solid.tipped(current)
    if pinned > 0:
        notes.append(f"It ended in a point: the last {pinned:.2g} mm are made thicker, so that they are printed.")
        current = solid.on_the_bed(solid.settled(current))
    doing(0.9, "examining")
    found = examine(current)
    facts = {**dataclasses.asdict(found), "volume_mm3": volume_of(current), "closed": True}
    return Mesh(current.vertices.float(), current.faces), facts, [*notes, *found.notes()]
