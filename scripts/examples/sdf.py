"""Signed-distance modelling: shapes with a distance and a colour at every point, and what joins them.

Points are (3, N): one contiguous row per coordinate, so that every step is a whole-row operation. Distances are
negative inside. A distance may be a lower bound of the true one (ellipsoids, smooth unions), never far above it.
Primitives and the polynomial smooth minimum follow J. C. Hart, "Sphere tracing" (1996) and the usual constructions;
each is derived here from its geometry.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Points = Float[Tensor, "3 N"]
Distances = Float[Tensor, " N"]
Paints = Float[Tensor, "4 N"]
"""sRGB-encoded colour and gloss, each in [0, 1]."""
Vec = Sequence[float]
Color = Vec | Callable[[Points], Float[Tensor, "3 N"]]

GREY = (0.6, 0.6, 0.6)
SLACK = 1.25
"""How much faster than the point a distance may change, at most (1 for exact ones)."""


@dataclass(frozen=True)
class Shape:
    """A solid: `distance` to its surface and the `paint` it would have at a point.

    `focus(center, radius)` gives a shape that is the same inside that ball, with whatever can't matter there left
    out, and its distance at the center: what is evaluated often at points that lie close together is focused once.
    """

    distance: Callable[[Points], Distances]
    paint: Callable[[Points], Paints]
    focus: Callable[[Points, float], tuple[Shape, float]]

    def at(self, x: float, y: float, z: float) -> Shape:
        """Moved by (x, y, z)."""
        return Placed.of(self, torch.eye(3), torch.tensor([x, y, z], dtype=torch.float32))

    def turned(self, axis: str, degrees: float) -> Shape:
        """Turned about the x, y or z axis, counter-clockwise seen from its positive end."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        u, v = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        rotation = torch.eye(3)
        rotation[u, u], rotation[u, v], rotation[v, u], rotation[v, v] = c, -s, s, c
        return Placed.of(self, rotation, torch.zeros(3))

    def scaled(self, factor: float) -> Shape:
        def focus(c: Points, r: float) -> tuple[Shape, float]:
            inner, d = self.focus(c / factor, r / factor)
            return inner.scaled(factor), d * factor

        return Shape(lambda p: self.distance(p / factor) * factor, lambda p: self.paint(p / factor), focus)

    def mirrored(self) -> Shape:
        """The half at x > 0, and its mirror image at x < 0."""
        return self._warped(lambda p: torch.stack([p[0].abs(), p[1], p[2]]))

    def around(self, count: int) -> Shape:
        """`count` copies of what lies about +z, spread evenly about the y axis; each stays within its own sector."""

        def back(p: Points) -> Points:
            angle, radius = torch.atan2(p[0], p[2]), torch.hypot(p[0], p[2])
            step = 2 * math.pi / count
            folded = angle - step * torch.round(angle / step)
            return torch.stack([radius * folded.sin(), p[1], radius * folded.cos()])

        return _whole(lambda p: self.distance(back(p)), lambda p: self.paint(back(p)))

    def grown(self, by: float) -> Shape:
        """Offset outwards: rounds what sticks out."""
        return self.displaced(lambda _: by)

    def displaced(self, height: Callable[[Points], Distances | float]) -> Shape:
        """Pushed outwards by a gentle `height` field."""

        def focus(c: Points, r: float) -> tuple[Shape, float]:
            inner, d = self.focus(c, r)
            return inner.displaced(height), d - float(height(c))

        return Shape(lambda p: self.distance(p) - height(p), self.paint, focus)

    def painted(self, color: Color, gloss: float = 0.2) -> Shape:
        """The same solid in a colour (sRGB in [0, 1]) or a pattern of points, with a gloss in [0, 1]."""

        def paint(p: Points) -> Paints:
            rgb = color(p) if callable(color) else p.new_tensor(color)[:, None].expand(3, p.shape[1])
            return torch.cat([rgb, torch.full_like(p[:1], gloss)])

        def focus(c: Points, r: float) -> tuple[Shape, float]:
            inner, d = self.focus(c, r)
            return inner.painted(color, gloss), d

        return Shape(self.distance, paint, focus)

    def decal(self, region: Shape, soft: float = 0.002) -> Shape:
        """Painted like `region` where the surface lies inside it; `soft` is the width of the edge."""

        def paint(p: Points) -> Paints:
            inside = (0.5 - region.distance(p) / soft).clamp(0, 1)
            return torch.lerp(self.paint(p), region.paint(p), inside)

        def focus(c: Points, r: float) -> tuple[Shape, float]:
            inner, d = self.focus(c, r)
            local, away = region.focus(c, r)
            return (inner if away > SLACK * r + soft else inner.decal(local, soft)), d

        return Shape(self.distance, paint, focus)

    def cut(self, other: Shape, smooth: float = 0.01) -> Shape:
        """Without `other`; the cut takes the other's paint."""
        return intersection(self, _inverse(other), smooth=smooth)

    def _warped(self, back: Callable[[Points], Points]) -> Shape:
        """Seen through a map of space that brings no two points further apart."""

        def focus(c: Points, r: float) -> tuple[Shape, float]:
            inner, d = self.focus(back(c), r)
            return inner._warped(back), d

        return Shape(lambda p: self.distance(back(p)), lambda p: self.paint(back(p)), focus)


@dataclass(frozen=True)
class Placed(Shape):
    """A shape turned and then moved; turning or moving it again makes one step of both."""

    inner: Shape
    rotation: Float[Tensor, "3 3"]
    offset: Float[Tensor, " 3"]

    @staticmethod
    def of(shape: Shape, rotation: Float[Tensor, "3 3"], offset: Float[Tensor, " 3"]) -> Placed:
        if isinstance(shape, Placed):
            offset = rotation @ shape.offset + offset
            rotation = rotation @ shape.rotation
            shape = shape.inner
        inverse = rotation.T.contiguous()
        start = -(inverse @ offset)[:, None]

        def back(p: Points) -> Points:
            return torch.addmm(start, inverse, p)

        def focus(c: Points, r: float) -> tuple[Shape, float]:
            inner, d = shape.focus(back(c), r)
            return Placed.of(inner, rotation, offset), d

        return Placed(lambda p: shape.distance(back(p)), lambda p: shape.paint(back(p)), focus, shape, rotation, offset)


def solid(distance: Callable[[Points], Distances]) -> Shape:
    """A grey shape of a distance function."""
    return _whole(distance, lambda p: p.new_tensor([*GREY, 0.2])[:, None].expand(4, p.shape[1]))


def _whole(distance: Callable[[Points], Distances], paint: Callable[[Points], Paints]) -> Shape:
    """A shape of which nothing can be left out."""

    def focus(center: Points, _: float) -> tuple[Shape, float]:
        return shape, float(distance(center))

    shape = Shape(distance, paint, focus)
    return shape


def _inverse(shape: Shape) -> Shape:
    def focus(c: Points, _: float) -> tuple[Shape, float]:
        return inverse, -float(shape.distance(c))

    inverse = Shape(lambda p: -shape.distance(p), shape.paint, focus)
    return inverse


def union(*shapes: Shape, smooth: float = 0.0, bleed: float = 0.0) -> Shape:
    """All shapes together, joined from first to last.

    Args:
        smooth: width of the fillet where surfaces meet; 0 leaves a crease.
        bleed: width over which the colours mix; 0 keeps a sharp border.
    """

    def distance(p: Points) -> Distances:
        return functools.reduce(lambda d, shape: _smooth_min(d, shape.distance(p), smooth), shapes[1:], first(p))

    def paint(p: Points) -> Paints:
        paint, d = shapes[0].paint(p), first(p)
        for shape in shapes[1:]:
            other = shape.distance(p)
            share = (0.5 + (d - other) / max(bleed, 1e-4) / 2).clamp(0, 1)
            paint, d = torch.lerp(paint, shape.paint(p), share), torch.minimum(d, other)
        return paint

    def focus(c: Points, r: float) -> tuple[Shape, float]:
        focused = [shape.focus(c, r) for shape in shapes]
        least = min(d for _, d in focused)
        kept = [shape for shape, d in focused if d <= least + 2 * SLACK * r + 2 * max(smooth, bleed)]
        return (kept[0] if len(kept) == 1 else union(*kept, smooth=smooth, bleed=bleed)), least

    first = shapes[0].distance
    return Shape(distance, paint, focus)


def intersection(a: Shape, b: Shape, smooth: float = 0.0) -> Shape:
    """What lies in both; each part of the surface keeps its own paint."""

    def distance(p: Points) -> Distances:
        return -_smooth_min(-a.distance(p), -b.distance(p), smooth)

    def paint(p: Points) -> Paints:
        return torch.where(a.distance(p) > b.distance(p), a.paint(p), b.paint(p))

    def focus(c: Points, r: float) -> tuple[Shape, float]:
        (local_a, d_a), (local_b, d_b) = a.focus(c, r), b.focus(c, r)
        gap = 2 * SLACK * r + smooth
        if abs(d_a - d_b) > gap:
            return (local_a, d_a) if d_a > d_b else (local_b, d_b)
        return intersection(local_a, local_b, smooth), max(d_a, d_b)

    return Shape(distance, paint, focus)


def _smooth_min(a: Distances, b: Distances, width: float) -> Distances:
    """min(a, b), lowered by at most width / 4 where they are within `width` of each other (C1)."""
    if width <= 0:
        return torch.minimum(a, b)
    overlap = (width - (a - b).abs()).clamp_min(0)
    return torch.minimum(a, b) - overlap * overlap * (0.25 / width)


# Primitives, centred on the origin unless said otherwise ------------------------------------------------------------


def sphere(radius: float) -> Shape:
    return solid(lambda p: _length(p) - radius)


def ellipsoid(rx: float, ry: float, rz: float) -> Shape:
    """The implicit |p / r| - 1, divided by its gradient's length: right to first order, exact on the surface."""
    inverse = torch.tensor([[1 / rx], [1 / ry], [1 / rz]])

    def distance(p: Points) -> Distances:
        q = p * inverse
        level = _length(q)
        return level * (level - 1) / _length(q * inverse).clamp_min(1e-6)

    return solid(distance)


def box(hx: float, hy: float, hz: float, rounding: float = 0.02) -> Shape:
    """Half sides, outer size; edges rounded with radius `rounding`."""
    inner = torch.tensor([[hx], [hy], [hz]]) - rounding

    def distance(p: Points) -> Distances:
        q = p.abs() - inner
        return _length(q.clamp_min(0)) + q.amax(0).clamp_max(0) - rounding

    return solid(distance)


def cylinder(radius: float, half: float, rounding: float = 0.02) -> Shape:
    """About the y axis, from -half to half."""

    def distance(p: Points) -> Distances:
        side = torch.hypot(p[0], p[2]) - (radius - rounding)
        cap = p[1].abs() - (half - rounding)
        return torch.hypot(side.clamp_min(0), cap.clamp_min(0)) + torch.maximum(side, cap).clamp_max(0) - rounding

    return solid(distance)


def torus(major: float, minor: float) -> Shape:
    """In the xz plane."""
    return solid(lambda p: torch.hypot(torch.hypot(p[0], p[2]) - major, p[1]) - minor)


def cone(a: Vec, b: Vec, radius_a: float, radius_b: float | None = None) -> Shape:
    """The hull of two spheres (a capsule if their radii are equal).

    On the segment a + h (b - a) the sphere of radius r(h), linear in h, lies nearest to a point at (s, q), along and
    off the axis, where d/dh (sqrt((s - h)^2 + q^2) - r(h)) = 0.
    """
    radius_b = radius_a if radius_b is None else radius_b
    start, axis = torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32)
    axis = axis - start
    length = float(axis.norm())
    slope = (radius_b - radius_a) / length
    if abs(slope) >= 1:
        raise ValueError("one end sphere lies inside the other")
    lean = slope / math.sqrt(1 - slope * slope)
    start, axis = start[:, None], (axis / length)[:, None]

    def distance(p: Points) -> Distances:
        along = p - start
        s = (along * axis).sum(0)
        off = _length(along - axis * s)
        h = (s + lean * off).clamp(0, length)
        return torch.hypot(s - h, off) - (radius_a + slope * h)

    return solid(distance)


def tube(points: Sequence[Vec], radii: Sequence[float], steps: int = 6) -> Shape:
    """A round tube along a smooth curve through the points, with a radius at each of them."""
    knots = smooth_curve([[*p, r] for p, r in zip(points, radii, strict=True)], steps)
    parts = [cone(a[:3], b[:3], a[3], b[3]) for a, b in itertools.pairwise(knots)]
    return union(*parts)


def revolved(profile: Sequence[tuple[float, float]], steps: int = 4) -> Shape:
    """A profile of (radius, y) points from the axis to the axis, turned about y.

    `steps` chords between two points, each swollen by a parabola to meet the smooth curve; with 1 the profile is the
    polygon itself. Sign: parity of the crossings of a ray to larger radii.
    """
    fine = smooth_curve([list(point) for point in profile], 2 * steps) if steps > 1 else []
    chain = [(max(r, 0.0), y) for r, y in (fine[::2] if steps > 1 else profile)]
    turn = 1 if sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(chain)) > 0 else -1
    chords = []
    for k, ((ar, ay), (br, by)) in enumerate(itertools.pairwise(chain)):
        er, ey = br - ar, by - ay
        length = math.hypot(er, ey)
        if length < 1e-6:
            continue
        middle = fine[2 * k + 1] if steps > 1 else [(ar + br) / 2, (ay + by) / 2]
        swell = turn * ((middle[0] - ar) * ey - (middle[1] - ay) * er) / length
        chords.append((ar, ay, er, ey, length * length, 4 * swell))

    ar, ay, er, ey, square, swell = torch.tensor(chords).T[:, :, None]

    def distance(p: Points) -> Distances:
        r, v = torch.hypot(p[0], p[2]) - ar, p[1] - ay
        h = ((r * er + v * ey) / square).clamp(0, 1)
        square_d = (r - h * er) ** 2 + (v - h * ey) ** 2
        best = square_d.amin(0)
        bulge = ((square_d <= best) * (swell * h * (1 - h))).sum(0)  # none at a chord's ends, so ties don't count
        crosses = ((v >= 0) != (v - ey >= 0)) & ((r * ey < v * er) == (ey > 0))
        return _odd_inside(crosses, best.sqrt()) - bulge

    return solid(distance)


def prism(outline: Sequence[tuple[float, float]], half: float, rounding: float = 0.02) -> Shape:
    """A polygon in the xy plane (counter-clockwise or not), from z = -half to half, outer size grown by `rounding`."""
    a = torch.tensor(outline, dtype=torch.float32)
    e = a.roll(-1, 0) - a
    (ax, ay), (ex, ey), square = a.T[:, :, None], e.T[:, :, None], (e**2).sum(1)[:, None]

    def distance(p: Points) -> Distances:
        u, v = p[0] - ax, p[1] - ay
        h = ((u * ex + v * ey) / square).clamp(0, 1)
        best = ((u - h * ex) ** 2 + (v - h * ey) ** 2).amin(0).sqrt()
        crosses = ((v >= 0) != (v - ey >= 0)) & ((u * ey < v * ex) == (ey > 0))
        flat = _odd_inside(crosses, best)
        cap = p[2].abs() - (half - rounding)
        return torch.hypot(flat.clamp_min(0), cap.clamp_min(0)) + torch.maximum(flat, cap).clamp_max(0) - rounding

    return solid(distance)


def half_space(normal: Vec, offset: float = 0.0) -> Shape:
    """All points with normal . p < offset."""
    unit = torch.nn.functional.normalize(torch.tensor(normal, dtype=torch.float32), dim=0)[:, None]
    return solid(lambda p: (unit * p).sum(0) - offset)


def smooth_curve(points: Sequence[Sequence[float]], steps: int) -> list[list[float]]:
    """Catmull-Rom points through the given ones, `steps` for each span."""
    ends = [[2 * a - b for a, b in zip(points[0], points[1], strict=True)]]
    ends += [list(point) for point in points]
    ends += [[2 * a - b for a, b in zip(points[-1], points[-2], strict=True)]]
    curve = []
    for before, start, end, after in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for step in range(steps):
            t = step / steps
            curve.append(
                [
                    0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                    for a, b, c, d in zip(before, start, end, after, strict=True)
                ]
            )
    return [*curve, list(points[-1])]


def _length(p: Points) -> Distances:
    return (p * p).sum(0).sqrt()


def _odd_inside(crosses: Bool[Tensor, "M N"], distance: Distances) -> Distances:
    """Negative where a ray crosses the outline an odd number of times."""
    odd = crosses.view(torch.uint8).sum(0, dtype=torch.uint8) & 1
    return distance * (1 - 2 * odd.float())
