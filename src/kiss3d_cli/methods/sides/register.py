"""Pictures of several sides of one object, brought into the frame of the bundle's cameras."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.shared import Cameras

SIDES = ("right", "back", "left")
TAKES = tuple(f"preprocess/{side}_image_rgba.png" for side in SIDES)
HALF_EXTENT = 0.85
"""Half the object in the larger direction of the largest picture, in half sides: as a picture is framed alone."""
DISAGREEMENT = 0.15
"""Share of a silhouette outside those of the others from which it is said.

Of six objects seen by the bundle's own cameras it is about 0.12 at most, by cameras at 0.7 to 2 times their distance
too.
"""


class Register(Weightless[Cameras]):
    """Every picture scaled and moved until the planes that touch the object touch all silhouettes.

    Writes `<side>_rgba.png` for the front and each side that was given. How well the silhouettes agree is among the
    facts: the share of each that the shape carved from all of them does not fill.
    """

    stage, name, version = "sides", "register", 2
    settings = Cameras
    reads = ("preprocess/image_rgba.png",)
    takes = TAKES
    any_of = TAKES
    writes = ("front_rgba.png",)
    writes_for = {f"preprocess/{side}_image_rgba.png": (f"{side}_rgba.png",) for side in SIDES}  # noqa: RUF012
    help = "aligns the pictures of `--right`, `--back` and `--left` with the front in scale and position"
    default = True

    def cost(self, settings: Cameras, around: Surroundings) -> Cost:
        return Cost(host_seconds=5)

    def work(self, settings: Cameras, machine: Machine, context: Context) -> None:
        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.image.png import read_png, write_png
        from kiss3d_cli.image.views import VIEW_NAMES
        from kiss3d_cli.methods.sides.matching import match

        names = ["front", *(side for side, path in zip(SIDES, TAKES, strict=True) if path in context.inputs)]
        pictures = {}
        for name in names:
            prefix = "" if name == "front" else f"{name}_"
            pictures[name] = read_png(context.inputs[f"preprocess/{prefix}image_rgba.png"])
        every = bundle_cameras(settings.radius)
        cameras = every[[VIEW_NAMES.index(name) for name in names]]
        context.progress(0.1, "matching the silhouettes")
        matched = match(list(pictures.values()), cameras, every, HALF_EXTENT)
        for name, picture in zip(names, matched.pictures, strict=True):
            write_png(context.output / f"{name}_rgba.png", picture)
        context.facts["scales"] = dict(zip(names, (round(p.scale, 4) for p in matched.placements), strict=True))
        context.facts["disagreement"] = dict(zip(names, (round(x, 4) for x in matched.outside), strict=True))
        for name, share in zip(names, matched.outside, strict=True):
            if share > DISAGREEMENT:
                context.warnings.append(
                    f"{share:.0%} of the {name} picture's silhouette lies outside those of the others "
                    f"(up to {DISAGREEMENT:.0%} is usual), and is cut off: is it this object, from that side and at "
                    "the same height, and not mirrored?"
                )
