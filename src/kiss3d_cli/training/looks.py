"""How an object looks in a picture: its colours, its material and the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

GAMMA = 2.2


@dataclass(frozen=True)
class Look:
    """Directions are in the camera's axes, colours sRGB-encoded.

    Attributes:
        paint: what becomes of the object's own colours: "own", "one" (a single colour), "clay" (a grey), "random" (a
            colour for each of its colours).
        color: the single colour.
        unlit: no shading at all.
        smooth: normals are smooth over the faces.
        crease: least cosine between a smooth normal and its face's.
        sun, sun_strength, sun_tint: direction to the first light, its share, its colour.
        second: direction to a weak second light.
        ambient: light from everywhere, top and bottom.
        gloss: strength and exponent of highlights; 0 is matt.
        shadow: how much of the sun a shadow takes.
        waves: (K, 3) frequencies of a solid texture, and its phases and strength.
        outline: darkness of surfaces seen at a grazing angle.
        exposure: factor on everything.
    """

    paint: str
    color: np.ndarray
    unlit: bool
    smooth: bool
    crease: float
    sun: np.ndarray
    sun_strength: float
    sun_tint: np.ndarray
    second: np.ndarray
    ambient: tuple[float, float]
    gloss: tuple[float, float]
    shadow: float
    waves: np.ndarray
    phases: np.ndarray
    texture: float
    outline: float
    exposure: float

    def recolored(
        self, colors: Float[Tensor, "N 3"], points: Float[Tensor, "N 3"], rng: np.random.Generator
    ) -> Float[Tensor, "N 3"]:
        if self.paint == "own":
            return colors
        if self.paint == "random":
            _, which = torch.unique((colors * 31).round().long(), dim=0, return_inverse=True)
            count = int(which.max()) + 1
            return torch.tensor(rng.beta(1.5, 1.5, (count, 3))).float()[which]
        return torch.tensor(self.color).float().expand(len(points), 3)

    def textured(self, colors: Float[Tensor, "H W 3"], where: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
        if self.texture == 0:
            return colors
        waves, phases = torch.tensor(self.waves).float(), torch.tensor(self.phases).float()
        pattern = torch.sin(where @ waves.T + phases).mean(-1, keepdim=True)
        return (colors * (1 + self.texture * pattern)).clamp(0, 1)


def draw_look(rng: np.random.Generator) -> Look:
    paint = str(rng.choice(["own", "one", "clay", "random"], p=[0.62, 0.08, 0.2, 0.1]))
    grey = rng.uniform(0.25, 0.95)
    color = np.full(3, grey) * rng.uniform(0.93, 1, 3) if paint == "clay" else rng.uniform(0.05, 0.95, 3)
    sun = rng.normal([0, 0.7, 0.6], 0.7)
    # a headlight, as previews of models and our own pictures have it
    if rng.random() < 0.2:
        sun = rng.normal([0, 0.1, 1], 0.1)
    second = rng.normal(0, 1, 3)
    ambient = rng.uniform(0.1, 0.7)
    return Look(
        paint=paint,
        color=color,
        unlit=bool(rng.random() < (0.03 if paint in ("one", "clay") else 0.15)),
        smooth=bool(rng.random() < 0.7),
        crease=float(rng.uniform(0.6, 0.9)),
        sun=sun / np.linalg.norm(sun),
        sun_strength=float(rng.uniform(0.3, 1.1)),
        sun_tint=1 - rng.uniform(0, 0.25, 3) * (rng.random() < 0.4),
        second=second / np.linalg.norm(second),
        ambient=(ambient, ambient * rng.uniform(0.4, 1)),
        gloss=(float(rng.uniform(0.1, 0.8)) if rng.random() < 0.35 else 0.0, float(rng.uniform(5, 60))),
        shadow=float(rng.uniform(0.4, 1)) if rng.random() < 0.4 else 0.0,
        waves=rng.normal(0, rng.uniform(2, 18), (5, 3)),
        phases=rng.uniform(0, 6.3, 5),
        texture=float(rng.uniform(0.2, 1.2)) if rng.random() < 0.25 else 0.0,
        outline=float(rng.uniform(0.4, 1)) if rng.random() < 0.07 else 0.0,
        exposure=float(np.exp(rng.normal(0, 0.15))),
    )


def shade(
    albedo: Float[Tensor, "H W 3"], normals: Float[Tensor, "H W 3"], shadow: Float[Tensor, "H W"], look: Look
) -> Float[Tensor, "H W 3"]:
    """sRGB-encoded colours under the look's light (Lambert's law, Blinn's highlights).

    Args:
        albedo: sRGB-encoded.
        normals: unit, in the camera's axes.
        shadow: share of the sun that arrives.
    """
    if look.unlit:
        return albedo
    linear = albedo.clamp(0, 1) ** GAMMA
    sun = torch.tensor(look.sun).float()
    second = torch.tensor(look.second).float()
    top, bottom = look.ambient
    light = (bottom + (top - bottom) * (normals[..., 1] + 1) / 2)[..., None]
    direct = (normals @ sun).clamp_min(0) * shadow
    light = light + look.sun_strength * direct[..., None] * torch.tensor(look.sun_tint).float()
    light = light + 0.2 * (normals @ second).clamp_min(0)[..., None]
    color = linear * light
    strength, exponent = look.gloss
    if strength > 0:
        half = sun + torch.tensor([0.0, 0.0, 1.0])
        half = half / half.norm().clamp_min(1e-6)
        color = color + strength * ((normals @ half).clamp_min(0) ** exponent * shadow)[..., None]
    if look.outline > 0:
        color = color * (1 - look.outline * (normals[..., 2:] < 0.25).float())
    return (color * look.exposure).clamp(0, 1) ** (1 / GAMMA)
