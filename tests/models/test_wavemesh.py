"""The wavelet diffusion model's parts: transform, sparse convolutions, diffusion, views."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from kiss3d_cli.core.errors import BadInput, DamagedRun, Missing
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.diffusion import PREDICTIONS, SCHEDULES, Diffusion
from kiss3d_cli.models.wavemesh.inference import Sampling, draw, planes_of
from kiss3d_cli.models.wavemesh.network import WaveMesh
from kiss3d_cli.models.wavemesh.sites import Down, SiteConvolution, Up, pyramid
from kiss3d_cli.models.wavemesh.symmetry import SYMMETRIES, Symmetry
from kiss3d_cli.models.wavemesh.views import check_views
from kiss3d_cli.models.wavemesh.wavelets import BUILT_IN, Wavelet, filters, sparse
from kiss3d_cli.models.wavemesh.weights import export, load, read_config
from wavemesh_objects import TINY, awake, ball, random_views


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [*BUILT_IN, "db3"])
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.filterwarnings("ignore:Level value")
def test_the_transform_is_that_of_pywavelets(name, level):
    pywt = pytest.importorskip("pywt")
    volume = noise(1, 8, 8, 8)
    wanted, _ = pywt.coeffs_to_array(pywt.wavedecn(volume[0].numpy(), name, mode="periodization", level=level))
    wavelet = Wavelet(name, 8, level)
    packed = wavelet.transform(volume)
    assert np.abs(packed[0].numpy() - wanted).max() < 2e-5
    assert torch.allclose(wavelet.inverse(packed), volume, atol=1e-5)
    sites = wavelet.analyse(volume)
    assert sites.shape == (1, wavelet.side, wavelet.side, wavelet.side, 8**level)
    assert torch.equal(wavelet.from_sites(sites), packed)


def test_a_site_holds_the_details_of_its_own_place():
    """Haar's: a change in one cell changes the site that the cell is in, and no other."""
    wavelet = Wavelet("haar", 16, 2)
    volume = noise(1, 16, 16, 16)
    other = volume.clone()
    other[0, 13, 6, 1] += 1
    changed = (wavelet.analyse(other) - wavelet.analyse(volume)).abs().amax(-1)[0] > 1e-6
    assert changed.nonzero().tolist() == [[3, 1, 0]]
    detail = (wavelet.analyse(other) - wavelet.analyse(volume))[0, 3, 1, 0].abs() > 1e-6
    assert int(detail.sum()) == 1 + 7 + 7  # one coarse, seven of its level, seven of the finer one


def test_sparse_coefficients_are_perfect_at_threshold_0_and_fewer_above():
    volume = ball(0.6, 32)
    wavelet = Wavelet("bior4.4", 32, 2)
    kept = [sparse(volume, wavelet, threshold=threshold) for threshold in (0.0, 0.1, 0.5)]
    assert (kept[0].volume() - volume).abs().max() < 1e-5
    sizes = [found.bytes for found in kept]
    assert sizes[0] > sizes[1] > sizes[2] > 0
    errors = [float((found.volume() - volume).square().mean()) for found in kept]
    assert errors[0] < errors[1] < errors[2] < 0.05
    best = sparse(volume, wavelet, most=100)
    assert len(best.values) == 100
    rest = wavelet.transform(volume[None] - 1)[0].abs().flatten().sort(descending=True).values
    assert float(best.values.abs().min()) >= float(rest[100])


def test_coefficients_that_make_no_volume_are_refused():
    wavelet = Wavelet("haar", 8, 1)
    empty = sparse(torch.ones(8, 8, 8), wavelet)
    with pytest.raises(BadInput, match="no coefficients"):
        empty.volume()
    outside = dataclasses.replace(empty, places=torch.tensor([[9, 0, 0]]), values=torch.ones(1))
    with pytest.raises(BadInput, match="outside the grid"):
        outside.volume()
    with pytest.raises(BadInput, match="can't be split 3 times"):
        Wavelet("haar", 12, 3)
    with pytest.raises(BadInput, match="too large"):
        Wavelet("haar", 512, 1)


def test_a_wavelet_that_nobody_knows_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pywt", None)
    with pytest.raises(Missing, match="PyWavelets is not installed"):
        filters("db3")


def occupied(batch=2, side=8, share=0.3, seed=0):
    return torch.rand(batch, side, side, side, generator=torch.Generator().manual_seed(seed)) < share


def test_a_sparse_convolution_is_the_dense_one_where_all_is_occupied():
    full = torch.ones(2, 4, 4, 4, dtype=torch.bool)
    sites = pyramid(full, 1)[0]
    layer = SiteConvolution(3, 5)
    grid = noise(2, 4, 4, 4, 3)
    kernel = layer.weight.reshape(3, 3, 3, 3, 5).permute(4, 3, 0, 1, 2)
    wanted = torch.nn.functional.conv3d(grid.permute(0, 4, 1, 2, 3), kernel, layer.bias, padding=1)
    layer.way = "gather"
    found = sites.to_grid(layer(sites.of_grid(grid), sites))
    assert torch.allclose(found.permute(0, 4, 1, 2, 3), wanted, atol=1e-5)


def test_gathering_and_the_dense_twin_agree_with_gradients_on_any_sites():
    sites = pyramid(occupied(), 1)[0]
    layer = awake(SiteConvolution(3, 5))
    given = noise(len(sites), 3)
    found = []
    for way in ("gather", "dense"):
        layer.way = way
        layer.zero_grad()
        features = given.clone().requires_grad_()
        answer = layer(features, sites)
        answer.square().sum().backward()
        found.append((answer.detach(), features.grad, layer.weight.grad.clone()))
    assert all(torch.allclose(a, b, atol=1e-3, rtol=1e-4) for a, b in zip(*found, strict=True))


def test_a_site_sees_its_neighbours_and_nothing_else():
    one = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    one[0, 1, 1, 1] = one[0, 1, 1, 2] = one[0, 3, 3, 3] = True
    sites = pyramid(one, 1)[0]
    layer = SiteConvolution(1, 1)
    layer.way = "gather"
    features = torch.tensor([[1.0], [10], [100]])
    weight = layer.weight[:, 0, 0]
    middle, ahead, behind = weight[13], weight[14], weight[12]
    wanted = torch.stack([middle + 10 * ahead, 10 * middle + behind, 100 * middle])
    assert torch.allclose(layer(features, sites)[:, 0], wanted)


def test_going_down_and_up_is_a_strided_convolution_where_all_is_occupied():
    levels = pyramid(torch.ones(1, 4, 4, 4, dtype=torch.bool), 2)
    down, up = Down(3, 5), Up(5, 2)
    grid = noise(1, 4, 4, 4, 3)
    kernel = down.weight.reshape(2, 2, 2, 3, 5).permute(4, 3, 0, 1, 2)
    wanted = torch.nn.functional.conv3d(grid.permute(0, 4, 1, 2, 3), kernel, down.bias, stride=2)
    coarse = down(levels[0].of_grid(grid), levels[0], levels[1])
    assert torch.allclose(levels[1].to_grid(coarse).permute(0, 4, 1, 2, 3), wanted, atol=1e-5)
    kernel = up.linear.weight.reshape(2, 2, 2, 2, 5).permute(4, 3, 0, 1, 2)
    bias = up.linear.bias.reshape(2, 2, 2, 2)
    wanted = torch.nn.functional.conv_transpose3d(wanted, kernel, stride=2)
    wanted = wanted + bias.permute(3, 0, 1, 2).repeat(1, 2, 2, 2)
    found = levels[0].to_grid(up(coarse, levels[0])).permute(0, 4, 1, 2, 3)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_an_empty_volume_has_no_sites():
    with pytest.raises(BadInput, match="nothing is occupied"):
        pyramid(torch.zeros(1, 4, 4, 4, dtype=torch.bool), 1)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_network_that_is_right_leads_back_to_the_truth(schedule, prediction):
    diffusion = Diffusion(schedule, prediction, 100)
    truth, start = noise(6, 3), noise(6, 3, seed=1)
    signal = diffusion.signal()

    def right(x, time):
        level, rest = (torch.tensor([[math.sqrt(value)]]).float() for value in (signal[time], 1 - signal[time]))
        return diffusion.target(truth, (x - level * truth) / rest, level, rest)

    for sampler in ("ddim", "ddpm"):
        found = diffusion.sample(start, right, 7, lambda: noise(6, 3, seed=2), sampler=sampler)
        assert torch.allclose(found, truth, atol=1e-2)
    level, rest = torch.tensor([[0.6]]), torch.tensor([[0.8]])
    noised = diffusion.noised(truth, start, level, rest)
    said = diffusion.target(truth, start, level, rest)
    assert torch.allclose(diffusion.origin(said, noised, level, rest), truth, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_signal_falls_from_all_to_nothing(schedule):
    share = Diffusion(schedule).signal()
    assert share[0] > 0.999
    assert share[-1] < 1e-3
    assert bool((share[1:] < share[:-1]).all())


def test_names_and_numbers_of_a_diffusion_that_can_not_be():
    with pytest.raises(BadInput, match="no schedule quadratic"):
        Diffusion("quadratic")
    with pytest.raises(BadInput, match="no prediction y"):
        Diffusion(prediction="y")
    with pytest.raises(BadInput, match="101 sampling steps"):
        Diffusion(steps=100).times(101)
    with pytest.raises(BadInput, match="can't be halved"):
        WaveMeshConfig(resolution=24, widths=(16, 16, 16, 16))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return awake(WaveMesh(TINY)).eval()


def test_coefficients_at_the_sites_give_the_volume_back(network):
    hull = torch.stack([ball(0.5), ball(0.8)])
    sites = pyramid(network.occupied(hull), 2)[0]
    assert 0 < len(sites) < sites.batch * sites.side**3
    again = network.volume(network.coefficients(hull, sites), sites)
    assert (again - hull).abs().max() < 0.05
    assert torch.equal(again < 0, hull < 0)


def test_two_objects_at_once_are_each_alone(network):
    hull, images = torch.stack([ball(0.5), ball(0.8)]), random_views(2)
    with torch.no_grad():
        both = network.condition(hull, images)
        sites = both.levels[0]
        x = noise(len(sites), 8)
        together = network.denoise(x, torch.tensor([3, 90]), both)
        for number, time in enumerate((3, 90)):
            mine = sites.owner == number
            alone = network.condition(hull[[number]], images.rows([number]))
            assert torch.allclose(network.denoise(x[mine], torch.tensor([time]), alone), together[mine], atol=1e-4)


def test_views_that_are_not_given_do_not_matter(network):
    images = random_views(1)
    given = torch.tensor([[True, False, True, False]])
    some = dataclasses.replace(images, given=given)
    other = dataclasses.replace(some, planes=torch.where(given[..., None, None, None], images.planes, 0.3))
    with torch.no_grad():
        first, second = (network.condition(ball(0.6)[None], views) for views in (some, other))
        third = network.condition(ball(0.6)[None], images)
    assert torch.allclose(first.lifted, second.lifted, atol=1e-5)
    assert torch.allclose(first.seen.pooled, second.seen.pooled, atol=1e-5)
    assert not torch.allclose(first.lifted, third.lifted, atol=1e-3)


def test_a_point_is_lifted_from_the_pixel_that_shows_it():
    images = random_views(1)
    where = images.seen_at(torch.tensor([[0.4, 0.0, 0.0], [0.0, 0.3, 0.0]]))[0]
    assert where[0, 0, 0] > 0.3  # to the right in the front view, to the left in the back view
    assert where[2, 0, 0] < -0.3
    assert abs(float(where[1, 0, 0])) < 1e-5  # straight ahead of the right view, and nearer
    assert where[1, 0, 2] < where[3, 0, 2]
    assert bool((where[:, 1, 1] < -0.2).all())  # rows run downwards
    rays = images.rays[0]
    assert torch.allclose(rays[:, :3].norm(dim=1), torch.ones(()), atol=1e-5)
    assert (rays[:, :3] * rays[:, 3:]).sum(1).abs().max() < 1e-5
    origin = torch.linalg.cross(rays[:, :3], rays[:, 3:], dim=1)[:, :, 31:33, 31:33].mean((2, 3))
    assert torch.allclose(origin, torch.zeros(()), atol=0.02)  # the rays through the middle pass the origin


def test_places_in_the_pictures_are_exact_in_half_precision():
    images, points = random_views(2), torch.rand(5, 3)
    exact = images.rays, images.seen_at(points)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(images.rays, exact[0])
        assert torch.equal(images.seen_at(points), exact[1])


def test_samples_differ_by_seed_and_are_the_same_on_two_threads(network):
    hull, images = ball(0.6)[None], random_views(1)
    sampling = Sampling(steps=2, samples=2, guidance=2.0, seed=3)
    first = draw(network, hull, images, sampling)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = draw(network, hull, images, dataclasses.replace(sampling, seed=4, samples=1))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(first[1], again[0])
    assert not torch.equal(first[0], first[1])
    shown, hidden = (
        draw(network, hull, images, dataclasses.replace(sampling, samples=1, guidance=g)) for g in (1.0, 0.0)
    )
    assert not torch.equal(shown, hidden)
    other = dataclasses.replace(images, planes=1 - images.planes)
    assert torch.equal(hidden, draw(network, hull, other, dataclasses.replace(sampling, samples=1, guidance=0.0)))


def bent(poses):
    poses = poses.clone()
    poses[:, 1, 0, 0] += 0.1
    return poses


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda v: dataclasses.replace(v, world_to_camera=bent(v.world_to_camera)), "view 1 is not rigid"),
        (lambda v: dataclasses.replace(v, planes=v.planes[..., :32, :32]), "32 x 32 pixels, not 64 x 64"),
        (lambda v: dataclasses.replace(v, planes=v.planes * torch.nan), "not finite"),
        (lambda v: dataclasses.replace(v, given=torch.zeros_like(v.given)), "views were given"),
        (lambda v: dataclasses.replace(v, focal=0 * v.focal), "focal length"),
        (lambda v: dataclasses.replace(v, world_to_camera=torch.eye(4).expand(1, 4, 4, 4)), "stands in the object"),
    ],
)
def test_views_that_can_not_be_are_refused_before_any_work(change, cause):
    with pytest.raises(BadInput, match=cause):
        check_views(change(random_views(1)), 64, "views")


def test_an_empty_hull_and_a_hull_of_another_grid_are_refused(network):
    images = random_views(1)
    with pytest.raises(BadInput, match="no common volume"):
        draw(network, torch.ones(1, 16, 16, 16), images, Sampling())
    with pytest.raises(BadInput, match="not of 16"):
        draw(network, ball(0.6, 32)[None], images, Sampling())


def test_pictures_of_any_size_are_averaged_over_the_networks_pixels():
    rgb, mask = torch.rand(4, 128, 128, 3), torch.ones(4, 128, 128)
    planes = planes_of(rgb, None, mask, 64)
    assert planes.shape == (1, 4, 7, 64, 64)
    assert torch.allclose(planes[0, 2, :3, 5, 7], rgb[2, 10:12, 14:16].mean((0, 1)), atol=1e-6)
    assert float(planes[:, :, 3:6].abs().max()) == 0


def test_weights_keep_their_sizes_and_damage_is_said(network, tmp_path):
    path = tmp_path / "wavemesh.safetensors"
    digest = export(path, TINY, network.state_dict())
    found = load(path)
    assert found.network.config == TINY
    assert found.sha256 == digest
    assert read_config(path) == TINY
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(DamagedRun, match="can't be read"):
        load(path)
    with pytest.raises(Missing, match="no weights"):
        load(tmp_path / "nowhere.safetensors")


@pytest.mark.gpu
def test_spconv_agrees_with_gathering_on_a_gpu():
    pytest.importorskip("spconv.pytorch")
    device = torch.device("cuda")
    sites = pyramid(occupied().to(device), 1)[0]
    layer = awake(SiteConvolution(16, 16)).to(device)
    features = noise(len(sites), 16).to(device)
    answers = []
    for way in ("gather", "spconv"):
        layer.way = way
        answers.append(layer(features, sites))
    assert torch.allclose(*answers, atol=1e-2)


def test_a_changed_world_is_seen_as_the_world_was():
    """Points of a changed volume are seen where they were; what is changed back is what it was."""
    images = random_views(2)
    volume = torch.randn(2, 8, 8, 8)
    points = torch.stack(torch.meshgrid(*[torch.linspace(-0.7, 0.7, 8)] * 3, indexing="ij"), -1)
    for world in SYMMETRIES:
        changed = world.volume(volume)
        assert torch.equal(world.back(changed), volume)
        # where the middle of every cell went
        moved = torch.stack([world.back(points[..., axis]) for axis in range(3)], -1)
        before = images.seen_at(points.reshape(-1, 3))
        after = world.images(images).seen_at(moved.reshape(-1, 3))
        flip = torch.tensor([-1.0 if world.mirrored else 1.0, 1, 1])
        assert torch.allclose(after * flip, before, atol=1e-5)
    assert len({(world.quarters, world.mirrored) for world in SYMMETRIES}) == 8


def test_a_mirrored_world_has_mirrored_pictures_normals_and_features():
    images = random_views(2)
    images = dataclasses.replace(images, features=torch.randn(2, images.planes.shape[1], 4, 3))
    found = Symmetry(0, mirrored=True).images(images)
    assert torch.equal(found.planes[:, :, :3], images.planes[:, :, :3].flip(-1))
    assert torch.equal(found.planes[:, :, 3], -images.planes[:, :, 3].flip(-1))
    assert torch.equal(found.features[:, :, 0], images.features[:, :, 1])
    twice = Symmetry(0, mirrored=True).images(found)
    assert torch.allclose(twice.world_to_camera, images.world_to_camera)
    assert torch.equal(twice.planes, images.planes)


def test_a_sample_is_the_mean_of_changed_worlds_moved_to_the_surface(network):
    hull, images = ball(0.6)[None], random_views(1)
    plain = Sampling(steps=2, seed=3)
    found = draw(network, hull, images, dataclasses.replace(plain, symmetries=2))
    world = SYMMETRIES[1]
    other = draw(network, world.volume(hull), world.images(images), dataclasses.replace(plain, seed=1003))
    assert torch.allclose(found, (draw(network, hull, images, plain) + world.back(other)) / 2, atol=1e-6)
    network.config = dataclasses.replace(network.config, surface=0.2)
    try:
        moved = draw(network, hull, images, dataclasses.replace(plain, symmetries=2))
    finally:
        network.config = dataclasses.replace(network.config, surface=0.0)
    assert torch.allclose(moved, (found - 0.2).clamp(-1, 1), atol=0.11)  # what had been cut off at -1 is not known
    with pytest.raises(BadInput, match="9 symmetries"):
        draw(network, hull, images, dataclasses.replace(plain, symmetries=9))
