from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch.testing import assert_close

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.extract.dual_tables import dual_tables
from kiss3d_cli.geometry.extract.flexicubes import CubeWeights, dual_grid, flexicubes, grid_places, isosurface
from kiss3d_cli.geometry.mesh import Mesh


def grid_points(*sizes: int, side: float = 2.0, dtype=torch.float32) -> torch.Tensor:
    axes = [torch.linspace(-side / 2, side / 2, size, dtype=dtype) for size in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def random_weights(cells: int, seed: int, dtype=torch.float32) -> CubeWeights:
    raw = torch.randn(cells, 21, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return CubeWeights(alpha=raw[:, :8], beta=raw[:, 8:20], gamma=raw[:, 20])


def triangles(faces: torch.Tensor) -> set[tuple[int, ...]]:
    """Faces up to their first corner: two are equal if their winding is."""
    first = faces.argmin(1, keepdim=True)
    return {tuple(face) for face in faces.gather(1, (first + torch.arange(3)) % 3).tolist()}


def assert_same_mesh(mesh: Mesh, vertices: torch.Tensor, faces: torch.Tensor, tolerance: float) -> None:
    distance, match = cKDTree(vertices.numpy()).query(mesh.vertices.numpy())
    assert sorted(match.tolist()) == list(range(len(vertices)))
    assert distance.max() <= tolerance
    assert len(mesh.faces) == len(faces)
    assert triangles(torch.from_numpy(match)[mesh.faces]) == triangles(faces.long())


def assert_closed_manifold(mesh: Mesh) -> None:
    faces = mesh.faces.numpy()
    assert (np.sort(np.unique(faces)) == np.arange(len(mesh.vertices))).all(), "a vertex has no face"
    halves = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    assert len(np.unique(halves, axis=0)) == len(halves), "an edge has two faces on one side"
    order = np.lexsort((halves[:, 0] < halves[:, 1], halves.max(1), halves.min(1)))
    pairs = order.reshape(-1, 2)
    assert (halves[pairs[:, 0]] == halves[pairs[:, 1], ::-1]).all(), "an edge has one face"
    corner = np.arange(faces.size)  # half edge i starts at corner i and ends at the next corner of its face
    following = corner.reshape(-1, 3)[:, [1, 2, 0]].ravel()
    a = np.concatenate([pairs[:, 0], following[pairs[:, 0]]])
    b = np.concatenate([following[pairs[:, 1]], pairs[:, 1]])
    links = coo_array((np.ones(len(a)), (a, b)), shape=(faces.size, faces.size))
    fans, _ = connected_components(links, directed=False)
    assert fans == len(mesh.vertices), "a vertex has more than one fan of faces"


def euler_characteristic(mesh: Mesh) -> int:
    return len(mesh.vertices) - len(mesh.faces) // 2


def signed_volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    return float((a * torch.linalg.cross(b, c, dim=-1)).sum() / 6)


def closed_noise(seed: int, *, smooth: float = 0.0, size: int = 14) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal((size, size + 1, size + 3)).astype(np.float32)
    field = torch.from_numpy(gaussian_filter(values, smooth) if smooth else values)
    outside = torch.ones_like(field, dtype=torch.bool)
    outside[1:-1, 1:-1, 1:-1] = False
    return torch.where(outside, field.abs() + 0.1, field)


@pytest.mark.parametrize("name", ["noise", "torus"])
def test_extraction_is_the_published_one(parity_dir, name):
    case = load_file(parity_dir / "flexicubes" / "cases.safetensors")
    points, sdf = case[f"{name}.grid_vertices"], case[f"{name}.sdf"]
    size = round(len(points) ** (1 / 3))
    weights = CubeWeights(case["noise.alpha"], case["noise.beta"], case["noise.gamma"]) if name == "noise" else None
    mesh = flexicubes(points, sdf.reshape(size, size, size), weights, weight_scale=0.5)
    assert_same_mesh(mesh, case[f"{name}.vertices"], case[f"{name}.faces"], 1e-5)


def test_the_noise_fixture_sees_every_case(parity_dir):
    case = load_file(parity_dir / "flexicubes" / "cases.safetensors")
    inside = (case["noise.sdf"][case["noise.cubes"].long()] < 0).long()
    assert len((inside << torch.arange(8)).sum(1).unique()) == 256


def test_one_inside_point_becomes_a_drawn_cube():
    field = torch.ones(3, 3, 3)
    field[1, 1, 1] = -1.0
    mesh = isosurface(field, (0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    corner = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=torch.float32)
    assert_close(mesh.vertices, 1 + (corner - 0.5) / 3)  # the mean of three crossings half a step from the centre
    x = [[0, 1, 2], [2, 1, 3], [6, 7, 4], [4, 7, 5]]
    y = [[4, 5, 0], [0, 5, 1], [2, 3, 6], [6, 3, 7]]
    z = [[0, 2, 4], [4, 2, 6], [5, 7, 1], [1, 7, 3]]
    assert triangles(mesh.faces) == triangles(torch.tensor([*x, *y, *z]))
    assert len(mesh.faces) == 12
    assert_closed_manifold(mesh)
    assert signed_volume(mesh) == pytest.approx(1 / 27)


def test_numbers_of_points_are_their_places():
    numbers, shape = torch.arange(4 * 3 * 5).reshape(6, 10), (4, 3, 5)
    assert torch.equal(grid_places(numbers, shape), torch.stack(torch.unravel_index(numbers, shape), -1))


@pytest.mark.parametrize("seed", range(8))
def test_noise_makes_closed_manifolds(seed):
    field = closed_noise(seed)
    points = grid_points(*field.shape).reshape(-1, 3)
    cells = math.prod(size - 1 for size in field.shape)
    assert_closed_manifold(flexicubes(points, field, random_weights(cells, seed)))
    assert_closed_manifold(isosurface(field))


def test_saddles_that_share_a_face_are_resolved():
    tables = dual_tables()
    found = 0
    for seed in range(8):
        inside = closed_noise(seed) < 0
        bits = [
            inside[x : inside.shape[0] - 1 + x, y : inside.shape[1] - 1 + y, z : inside.shape[2] - 1 + z].long()
            for z in (0, 1)
            for y in (0, 1)
            for x in (0, 1)
        ]
        face = tables.saddle_face[sum(bit << number for number, bit in enumerate(bits))]
        found += int(((face[:-1] == 1) & (face[1:] == 0)).sum())
    assert found > 10, "the noise above must hold pairs of saddles, or it tests nothing"


@pytest.mark.parametrize("seed", range(4))
def test_smooth_fields_make_closed_manifolds_that_face_outwards(seed):
    field = closed_noise(seed, smooth=2.0, size=24)
    mesh = isosurface(field, (-1.0, -2.0, 0.0), (1.0, 2.0, 3.0))
    assert_closed_manifold(mesh)
    step = torch.tensor([2.0, 4.0, 3.0]) / (torch.tensor(field.shape) - 1)
    cells = float((field < 0).sum()) * float(step.prod())
    assert signed_volume(mesh) == pytest.approx(cells, rel=0.35)
    gradient = torch.stack(torch.gradient(field), -1) / step
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    normal = torch.linalg.cross(b - a, c - a, dim=-1)
    place = (((a + b + c) / 3 - torch.tensor([-1.0, -2.0, 0.0])) / step).round().long()
    outwards = (gradient[tuple(place.T)] * normal).sum(-1)
    assert (outwards > 0).float().mean() > 0.97


def sphere(points: torch.Tensor) -> torch.Tensor:
    return (points - torch.tensor([0.05, -0.1, 0.02], dtype=points.dtype)).norm(dim=-1) - 0.7


def torus(points: torch.Tensor) -> torch.Tensor:
    x, y, z = points.unbind(-1)
    return torch.hypot(torch.hypot(x, z) - 0.6, y - 0.03) - 0.25


@pytest.mark.parametrize(
    ("sdf", "euler", "volume"),
    [(sphere, 2, 4 / 3 * math.pi * 0.7**3), (torus, 0, 2 * math.pi**2 * 0.6 * 0.25**2)],
)
def test_exact_distance_fields(sdf, euler, volume):
    points = grid_points(33, 33, 33)
    for mesh in (isosurface(sdf(points)), flexicubes(points.reshape(-1, 3), sdf(points), random_weights(32**3, 0))):
        assert_closed_manifold(mesh)
        assert euler_characteristic(mesh) == euler
        assert sdf(mesh.vertices).abs().max() < 0.5 * 2 / 32
        assert signed_volume(mesh) == pytest.approx(volume, rel=0.05)


def test_the_border_is_closed_half_a_cell_beyond_the_grid():
    points = grid_points(9, 10, 11)
    mesh = isosurface((points - torch.tensor([1.0, 0.2, 0.1])).norm(dim=-1) - 0.6)
    assert_closed_manifold(mesh)
    assert mesh.vertices[:, 0].max() == pytest.approx(1 + 0.5 * 2 / 8, abs=1e-6)
    full = isosurface(-torch.ones(2, 3, 4), (0.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    assert_closed_manifold(full)
    assert euler_characteristic(full) == 2
    assert_close(full.vertices.amin(0), torch.full((3,), -0.5))
    assert_close(full.vertices.amax(0), torch.tensor([1.5, 2.5, 3.5]))


def test_bounds_and_orders_of_axes_hold_on_an_asymmetric_field():
    def ellipsoid(points):
        return ((points - torch.tensor([0.1, 0.5, -1.0])) / torch.tensor([0.3, 0.8, 1.5])).norm(dim=-1) - 1

    axes = [torch.linspace(-1, 1, 21), torch.linspace(-1, 2, 31), torch.linspace(-3, 1, 25)]
    field = ellipsoid(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1))
    mesh = isosurface(field, (-1.0, -1.0, -3.0), (1.0, 2.0, 1.0))
    assert_close(mesh.vertices.amax(0), torch.tensor([0.4, 1.3, 0.5]), atol=0.06, rtol=0)
    assert_close(mesh.vertices.amin(0), torch.tensor([-0.2, -0.3, -2.5]), atol=0.06, rtol=0)


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    size = (3, 4, 3)
    cells = 2 * 3 * 2
    points = grid_points(*size, dtype=torch.float64).reshape(-1, 3)
    points = points + 0.05 * torch.randn(points.shape, generator=generator, dtype=torch.float64)
    sdf = torch.randn(size, generator=generator, dtype=torch.float64)
    sdf = sdf.sign() * sdf.abs().clamp_min(0.1)  # signs must not change under the differences
    weights = random_weights(cells, 4, torch.float64)

    def place(points, sdf, alpha, beta):
        return flexicubes(points, sdf, CubeWeights(alpha, beta, weights.gamma)).vertices

    inputs = [value.clone().requires_grad_() for value in (points, sdf, weights.alpha, weights.beta)]
    assert torch.autograd.gradcheck(place, inputs, eps=1e-6, atol=1e-6)


def test_threads_do_not_change_a_byte():
    field = closed_noise(0, smooth=1.0, size=40)
    points = grid_points(*field.shape).reshape(-1, 3)
    weights = random_weights(math.prod(size - 1 for size in field.shape), 0)
    threads = torch.get_num_threads()
    meshes = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            meshes.append(flexicubes(points, field, weights))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(meshes[0].vertices, meshes[1].vertices)
    assert torch.equal(meshes[0].faces, meshes[1].faces)


def test_larger_gamma_products_take_the_split():
    field = torch.ones(4, 3, 3)
    field[1:3, 1, 1] = -1
    points = grid_points(4, 3, 3).reshape(-1, 3)
    quads = dual_grid(field).quads
    gamma = torch.zeros(12)
    weights = CubeWeights(torch.zeros(12, 8), torch.zeros(12, 12), gamma)
    for corners in ((0, 2), (1, 3)):
        chosen = gamma.clone()
        chosen[quads[0, list(corners)]] = 3.0  # here vertex and cell have the same number
        faces = flexicubes(points, field, CubeWeights(weights.alpha, weights.beta, chosen)).faces
        diagonal = set(quads[0, list(corners)].tolist())
        assert sum(diagonal <= set(face) for face in faces.tolist()) == 2


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (torch.ones(4, 4, 4), "no surface: the whole grid is outside"),
        (torch.full((4, 4, 4), math.nan), "not finite"),
        (torch.ones(4, 1, 4), "no cell"),
    ],
)
def test_fields_without_a_surface_are_refused(field, says):
    with pytest.raises(BadInput, match=says) as caught:
        isosurface(field)
    assert caught.value.hint
    with pytest.raises(BadInput, match=says):
        flexicubes(torch.zeros(field.numel(), 3), field)


def test_all_inside_is_no_surface_on_an_open_grid():
    with pytest.raises(BadInput, match="no surface: the whole grid is inside"):
        flexicubes(torch.zeros(27, 3), -torch.ones(3, 3, 3))


def test_sizes_that_do_not_fit_are_refused():
    field = closed_noise(0, size=5)
    with pytest.raises(BadInput, match="10 grid points for a field of 240"):
        flexicubes(torch.zeros(10, 3), field)
    with pytest.raises(BadInput, match="weights of 7 cells for 140"):
        flexicubes(torch.zeros(240, 3), field, random_weights(7, 0))


@pytest.mark.gpu
def test_the_gpu_gives_the_same_mesh():
    field = closed_noise(0, smooth=1.0, size=30)
    points = grid_points(*field.shape).reshape(-1, 3)
    weights = random_weights(math.prod(size - 1 for size in field.shape), 0)
    there = [value.cuda() for value in vars(weights).values()]
    mesh = flexicubes(points.cuda(), field.cuda(), CubeWeights(*there)).to("cpu")
    here = flexicubes(points, field, weights)
    assert_same_mesh(mesh, here.vertices, here.faces, 1e-5)
