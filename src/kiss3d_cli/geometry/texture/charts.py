"""A mesh cut into charts by the way its faces look, each laid flat by the projection along which it is seen best.

The texture comes from a few views: a chart that is a view's own projection has one texel for each of its pixels, in
the same places, and nothing is lost by resampling. What faces none of them is projected from above or below. Charts
do not overlap, nor do faces inside one: where a part hides another of the same chart, the hidden one becomes a chart
of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh, face_normals
from kiss3d_cli.geometry.rasterize import BUILT_IN
from kiss3d_cli.geometry.surface.sorting import distinct, stable_order
from kiss3d_cli.geometry.texture.packing import pack

FRONT = 0.25
"""Cosine from which a face belongs to the first view, whose picture is the user's own."""
GRAZING = 0.15
"""A face is never laid along a direction from which it is seen at less than this cosine, if there is another."""
_EVEN = 0.15
"""What a neighbour with the same direction adds to a face's cosine: charts get smooth borders."""
_ROUNDS = 6
_SMALL = 24
"""Faces; smaller charts are given to their neighbours."""
_LAYERS = 12
_LAYER_SIZE = 512
"""Pixels a side at which faces that hide each other are found."""


@dataclass(frozen=True)
class Atlas:
    """A mesh's faces laid out flat without overlap.

    Attributes:
        uv: (M, 2) in [0, 1], u to the right, v down.
        corners: (F, 3) int64, rows of `uv`.
        charts: the number of pieces.
    """

    uv: Float[Tensor, "M 2"]
    corners: Int[Tensor, "F 3"]
    charts: int


def unwrap(mesh: Mesh, cameras: Cameras, size: int = 2048) -> Atlas:
    """Cut a mesh into charts and pack them.

    Args:
        mesh: on the CPU.
        cameras: of the views that the texture will be painted from, the most important first; they look at the origin.
        size: pixels a side of the picture that is to come; charts keep `packing.PADDING` of them between each other.

    Raises:
        BadInput: a mesh without faces, or with more charts than the picture has room for.
    """
    if mesh.faces.shape[0] == 0:
        raise BadInput("The mesh has no faces to unwrap.", hint="Check the stage before.")
    flat = _projections(mesh, cameras)
    faces = mesh.faces.numpy()
    pairs = _pairs(faces)
    label = _labels(flat, pairs)
    layer = np.zeros(len(label), np.int64)

    def find_layers(direction: int) -> None:
        chosen = np.flatnonzero(label == direction)
        layer[chosen] = _layers(flat.places[direction], flat.depths[direction], mesh.faces[chosen])

    side_by_side(find_layers, range(len(flat.places)))
    chart = _components(pairs, label * (_LAYERS + 1) + layer)
    # what is left after the last layer lies in too many: each of its faces is a chart of its own
    lost = np.flatnonzero(layer == _LAYERS)
    chart[lost] = chart.max() + 1 + np.arange(len(lost))
    _, first, chart = distinct(chart, int(chart.max()) + 1)
    key = chart[:, None] * len(mesh.vertices) + faces
    rows, _, corners = distinct(key.reshape(-1), len(first) * len(mesh.vertices))
    of_row, vertex = rows // len(mesh.vertices), rows % len(mesh.vertices)
    places = np.stack([place.double().numpy() for place in flat.places])[label[first][of_row], vertex]
    placed = pack(places, of_row, label[first] == 0, size)
    uv = torch.from_numpy((placed / size).astype(np.float32))
    return Atlas(uv, torch.from_numpy(corners.reshape(-1, 3).astype(np.int64)), len(first))


@dataclass(frozen=True)
class _Projections:
    """The mesh as each of D directions sees it: the views, from above, from below.

    Attributes:
        places: D x (N, 2) column and row, in shares of the picture's side.
        depths: D x (N,) positive, larger further away.
        cosines: (D, F) between each face's normal and the way to the eye.
    """

    places: list[Float[Tensor, "N 2"]]
    depths: list[Float[Tensor, " N"]]
    cosines: Float[Tensor, "D F"]


def _projections(mesh: Mesh, cameras: Cameras) -> _Projections:
    vertices = mesh.vertices.detach()
    clip = cameras.clip(vertices)
    places = list((clip[..., :2] / clip[..., 3:] * clip.new_tensor([0.5, -0.5]) + 0.5).unbind(0))
    depths = list(clip[..., 3].unbind(0))
    middle = vertices[mesh.faces].mean(1)
    normal = torch.nn.functional.normalize(face_normals(vertices, mesh.faces), dim=-1)
    towards = list(torch.nn.functional.normalize(cameras.centers[:, None] - middle, dim=-1).unbind(0))
    # pixels as large as the first view's at the origin
    share = float(cameras.projection[0, 0, 0]) / (2 * float(cameras.centers[0].norm()))
    span = float(vertices.abs().max()) + 1
    for sign in (1.0, -1.0):
        places.append(vertices[:, [0, 2]] * share * vertices.new_tensor([1.0, sign]) + 0.5)
        depths.append(2 * span - sign * vertices[:, 1])
        towards.append(vertices.new_tensor([0.0, sign, 0.0]).expand_as(middle))
    return _Projections(places, depths, torch.stack([(normal * way).sum(-1) for way in towards]))


def _pairs(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "P 2"]:
    """Faces on the two sides of every edge."""
    start, end = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
    key = np.minimum(start, end) * (int(faces.max()) + 1) + np.maximum(start, end)
    order = stable_order(key, (int(faces.max()) + 1) ** 2)
    same = key[order][1:] == key[order][:-1]
    return np.stack([order[:-1][same] // 3, order[1:][same] // 3], 1)


def _labels(flat: _Projections, pairs: Int[np.ndarray, "P 2"]) -> Int[np.ndarray, " F"]:
    """The direction of each face: the one that sees it best, evened out over neighbours.

    Args:
        pairs: the neighbours.
    """
    cosines = flat.cosines.double().numpy().T
    score = cosines.copy()
    score[:, 0] += np.where(cosines[:, 0] > FRONT, 1.0, 0.0)
    usable = cosines > GRAZING
    score = np.where(usable | ~usable.any(1, keepdims=True), score, -np.inf)
    label = score.argmax(1)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    count, kinds = score.shape
    for _ in range(_ROUNDS):
        votes = np.bincount(both[:, 0] * kinds + label[both[:, 1]], minlength=count * kinds).reshape(count, kinds)
        label = (score + _EVEN * votes).argmax(1)
    for _ in range(3):
        chart = _components(pairs, label)
        small = np.bincount(chart)[chart] < _SMALL
        if not small.any():
            break
        # votes of faces in large charts alone; a face that no neighbour's direction sees stays
        heard = both[~small[both[:, 1]] & small[both[:, 0]]]
        votes = np.bincount(heard[:, 0] * kinds + label[heard[:, 1]], minlength=count * kinds).reshape(count, kinds)
        allowed = np.where(cosines > GRAZING / 3, votes, 0)
        label = np.where(allowed.any(1), allowed.argmax(1), label)
    return label


def _components(pairs: Int[np.ndarray, "P 2"], label: Int[np.ndarray, " F"]) -> Int[np.ndarray, " F"]:
    """A number for each face, the same for neighbours with the same label."""
    same = pairs[label[pairs[:, 0]] == label[pairs[:, 1]]]
    graph = coo_array((np.ones(len(same), bool), (same[:, 0], same[:, 1])), shape=(len(label), len(label)))
    return np.asarray(connected_components(graph, directed=False)[1])


def _layers(
    places: Float[Tensor, "N 2"], depths: Float[Tensor, " N"], faces: Int[Tensor, "F 3"]
) -> Int[np.ndarray, " F"]:
    """How many faces of the same direction lie before each face, at most `_LAYERS`.

    The nearest and the farthest face of every pixel are drawn; where they differ the farthest goes to the next layer.
    """
    layer = np.zeros(len(faces), np.int64)
    if not len(faces):
        return layer
    places, depths = places.double(), depths.double()
    flat = places * places.new_tensor([2.0, -2.0]) + places.new_tensor([-1.0, 1.0])
    behind = float(depths.max()) + float(depths.min())

    def drawn(numbers: Int[np.ndarray, " K"], depth: Float[Tensor, " N"]) -> Int[np.ndarray, "S S"]:
        clip = torch.cat([flat * depth[:, None], torch.zeros_like(depth)[:, None], depth[:, None]], 1)
        picture = BUILT_IN.find(clip[None], faces[numbers], (_LAYER_SIZE, _LAYER_SIZE))[0].numpy()
        return np.where(picture < 0, -1, numbers[picture])

    boxes = _pixel_boxes(places.numpy()[faces.numpy()] * _LAYER_SIZE)
    here = np.arange(len(faces))
    for number in range(_LAYERS):
        kept, contested = here, np.ones((_LAYER_SIZE, _LAYER_SIZE), bool)
        while True:
            farthest, nearest = drawn(kept, behind - depths), drawn(kept, depths)
            # the two depths may put a pixel at the rim in or out
            contested &= (nearest != farthest) & (farthest >= 0)
            hidden = np.flatnonzero(np.bincount(farthest[contested], minlength=len(faces)))
            if not len(hidden):
                break
            layer[hidden] = number + 1
            # where one face is left, none is hidden any more: only the others are drawn again
            kept = kept[layer[kept] == number]
            kept = kept[_touch(boxes[kept], contested)]
            if not len(kept):
                break
        here = here[layer[here] == number + 1]
        if not len(here):
            break
    return layer


def _pixel_boxes(corners: Float[np.ndarray, "F 3 2"]) -> Int[np.ndarray, "F 2 2"]:
    """First pixel and the one after the last of each triangle's box in a picture of `_LAYER_SIZE`, column and row."""
    low, high = np.floor(corners.min(1)), np.floor(corners.max(1)) + 1
    return np.stack([low, high], 1).clip(0, _LAYER_SIZE).astype(np.int64)


def _touch(boxes: Int[np.ndarray, "F 2 2"], pixels: Bool[np.ndarray, "S S"]) -> Bool[np.ndarray, " F"]:
    """Which boxes hold any of these pixels."""
    before = np.zeros((len(pixels) + 1, len(pixels) + 1), np.int64)
    before[1:, 1:] = pixels.cumsum(0).cumsum(1)
    (left, top), (right, bottom) = boxes[:, 0].T, boxes[:, 1].T
    inside = before[bottom, right] - before[top, right] - before[bottom, left] + before[top, left]
    return np.asarray(inside > 0)
