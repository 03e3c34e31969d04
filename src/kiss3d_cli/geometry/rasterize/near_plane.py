"""Cutting triangles at the near plane (z = -w in OpenGL clip space), so that nothing behind the camera is projected."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class FrontPart:
    """The part of one view's triangles in front of the near plane.

    Attributes:
        clip: the given vertices, then those made on the near plane.
        faces: triangles that lie wholly in front.
        owner: the given face that each of them is part of.
    """

    clip: Float[Tensor, "N 4"]
    faces: Int[Tensor, "F 3"]
    owner: Int[Tensor, " F"]


def cut_at_near_plane(clip: Float[Tensor, "N 4"], faces: Int[Tensor, "F 3"]) -> FrontPart:
    """One triangle is left of a face with one vertex in front, two of a face with two. Not differentiable."""
    owner = torch.arange(faces.shape[0], device=faces.device)
    in_front = clip[:, 2] + clip[:, 3] >= 0
    if bool((in_front & (clip[:, 3] > 0)).all()):
        return FrontPart(clip, faces, owner)
    inside = in_front[faces]
    count = inside.sum(1)
    vertices = [clip]
    parts = [faces[count == 3]]
    owners = [owner[count == 3]]
    total = clip.shape[0]
    for kept in (1, 2):
        cut = count == kept
        # The vertex that stands alone on its side comes first; the order of the corners, hence the winding, stays.
        alone = (inside[cut] if kept == 1 else ~inside[cut]).long().argmax(1)
        turned = faces[cut].gather(1, (alone[:, None] + torch.arange(3, device=faces.device)) % 3)
        ab = _on_near_plane(clip, turned[:, [0, 1]])
        ac = _on_near_plane(clip, turned[:, [0, 2]])
        new = torch.arange(turned.shape[0], device=faces.device)
        p, q = total + new, total + turned.shape[0] + new
        vertices += [ab, ac]
        total += 2 * turned.shape[0]
        a, b, c = turned.unbind(1)
        parts += [torch.stack([a, p, q], 1)] if kept == 1 else [torch.stack([p, b, c], 1), torch.stack([p, c, q], 1)]
        owners += [owner[cut]] * kept
    every, front, whose = torch.cat(vertices), torch.cat(parts), torch.cat(owners)
    # No camera puts a point in front of the near plane and behind itself, but a caller's own matrix might.
    real = (every[:, 3] > 0)[front].all(1)
    return FrontPart(every, front[real], whose[real])


def _on_near_plane(clip: Float[Tensor, "N 4"], ends: Int[Tensor, "E 2"]) -> Float[Tensor, "E 4"]:
    """Where edges pass the near plane; the same for both faces at an edge, whichever way they run along it."""
    first, second = clip[ends.amin(1)], clip[ends.amax(1)]
    before, after = first[:, 2] + first[:, 3], second[:, 2] + second[:, 3]
    return first + (before / (before - after))[:, None] * (second - first)
