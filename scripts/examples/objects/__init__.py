"""The example objects, by name. Each module's `build` gives a shape in its own units, y up, front +z."""

from __future__ import annotations

from collections.abc import Callable

from ..sdf import Shape
from . import cactus, chair, fox, mushroom, robot, rocket, teapot

OBJECTS: dict[str, Callable[[], Shape]] = {
    "mushroom": mushroom.build,
    "robot": robot.build,
    "teapot": teapot.build,
    "chair": chair.build,
    "rocket": rocket.build,
    "fox": fox.build,
    "cactus": cactus.build,
}
