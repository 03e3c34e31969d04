"""The view synthesis model: its rays against geometry, its parts against what they promise, its weights on disk."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput, DamagedRun, Missing
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.models.lvsm import network as parts
from kiss3d_cli.models.lvsm.config import KINDS, LvsmConfig, look
from kiss3d_cli.models.lvsm.inference import synthesise
from kiss3d_cli.models.lvsm.network import Lvsm, query_planes, view_planes
from kiss3d_cli.models.lvsm.perceptual import Lpips, Vgg, gradient_loss, read_lpips, read_vgg
from kiss3d_cli.models.lvsm.quality import psnr, ssim
from kiss3d_cli.models.lvsm.rays import Posed, pluecker, turned_to
from kiss3d_cli.models.lvsm.weights import export, load
from kiss3d_cli.training.posed import intrinsics_of

S = 16
TINY = {
    KINDS[0]: LvsmConfig(KINDS[0], S, 8, 32, 2, 2, 2, 12),
    KINDS[1]: LvsmConfig(KINDS[1], S, 8, 32, 2, 0, 2, 0),
}


def cameras(azimuths, elevation=20.0):
    found = orbit_cameras(azimuths, elevation, 3.0, 40.0)
    return found.world_to_camera, torch.from_numpy(intrinsics_of(found))


def posed(azimuths):
    return Posed(*cameras(azimuths))


def woken(config, seed=0):
    """A network whose head does not answer nothing."""
    torch.manual_seed(seed)
    network = Lvsm(config)
    nn.init.normal_(network.head.weight, std=0.1)
    for layer in (*network.encoder, *network.decoder):
        for inner in (layer.qkv, layer.out, layer.wide, layer.narrow):
            nn.init.normal_(inner.weight, std=0.15)
    return network.eval()


def random_batch(views=2, targets=3, seed=0):
    torch.manual_seed(seed)
    rgba = torch.rand(2, views, 4, S, S)
    poses, intrinsics = cameras([0.0, 100.0, 200.0, 30.0, 50.0])
    rays = pluecker(poses, intrinsics, S)
    seen = rays[:views].expand(2, -1, -1, -1, -1)
    asked = rays[views : views + targets].expand(2, -1, -1, -1, -1)
    return view_planes(rgba, seen), query_planes(asked)


def test_rays_go_through_the_points_that_their_pixels_show():
    """A world point's distance from the ray of the pixel it projects to: |moment - point x direction|."""
    poses, intrinsics = cameras([25.0, 140.0])
    size = 64
    rays = pluecker(poses, intrinsics, size)
    assert torch.allclose(rays[:, :3].norm(dim=1), torch.ones(2, size, size), atol=1e-5)
    assert (rays[:, :3] * rays[:, 3:]).sum(1).abs().max() < 1e-5
    point = torch.tensor([0.3, -0.5, 0.4])
    for view in range(2):
        local = poses[view, :3, :3] @ point + poses[view, :3, 3]
        fx, fy, cx, cy = intrinsics[view]
        column = int((cx + fx * local[0] / -local[2]) * size)
        row = int((cy - fy * local[1] / -local[2]) * size)
        direction, moment = rays[view, :3, row, column], rays[view, 3:, row, column]
        half_pixel = 0.75 / size / float(fx) * float(-local[2])
        assert float((moment - torch.linalg.cross(point, direction)).norm()) < half_pixel
        far = rays[view, :, (row + 20) % size, column]
        assert float((far[3:] - torch.linalg.cross(point, far[:3])).norm()) > 4 * half_pixel


def test_the_world_is_turned_so_that_the_first_camera_is_in_front():
    poses, _ = cameras([70.0, 160.0, 250.0], 35.0)
    turned = turned_to(poses[None], poses[None, 0])[0]
    expected, _ = cameras([0.0, 90.0, 180.0], 35.0)
    assert torch.allclose(turned, expected, atol=1e-5)
    upright = torch.eye(4)
    upright[:3, :3] = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # its right points up
    assert torch.equal(turned_to(poses[None], upright[None])[0], poses)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_does_not_depend_on_the_order_of_views_nor_on_other_targets(kind):
    network = woken(TINY[kind])
    views, queries = random_batch()
    drawn = network(views, queries)
    assert drawn.shape == (2, 3, 4, S, S)
    assert torch.allclose(network(views.flip(1), queries), drawn, atol=1e-5)
    assert torch.allclose(network(views, queries[:, 1:2]), drawn[:, 1:2], atol=1e-5)
    assert not torch.allclose(network(views[:, :1], queries), drawn, atol=1e-3)
    assert not torch.allclose(drawn[:, 0], drawn[:, 1], atol=1e-3)
    assert network.encode(views).shape[1] == (12 if kind == KINDS[0] else 2 * 4)


def test_patches_are_put_back_where_they_were():
    planes = torch.rand(2, 3, 4, 24, 24)
    rows = parts._patches(planes, 8)
    assert rows.shape == (2, 3, 9, 4 * 64)
    first = planes[0, 0, :, 8:16, :8].flatten()
    assert torch.equal(rows[0, 0, 3], first)
    assert torch.equal(parts._pictures(rows.flatten(0, 1), 8), planes.flatten(0, 1))


def test_an_untrained_network_answers_with_the_guess_or_with_white():
    network = Lvsm(TINY[KINDS[0]]).eval()
    views, queries = random_batch()
    assert torch.equal(network(views, queries)[:, :, :3], torch.ones(2, 3, 3, S, S))
    guess = torch.rand(2, 3, 4, S, S)
    assert torch.equal(network(views, query_planes(queries[:, :, :6], guess)), guess)


def test_large_tokens_do_not_make_attention_certain():
    """With normalised queries and keys, products are at most the square root of a head's channels."""
    layer = Lvsm(TINY[KINDS[0]]).decoder[0]
    tokens = torch.randn(1, 6, 32)
    with torch.no_grad():
        layer.qkv.weight.mul_(1e4)
        layer.qkv.weight[64:].div_(1e4)
        attended = layer(tokens)
    assert attended.isfinite().all()
    with torch.no_grad():
        layer.qkv.weight[:64].mul_(10)
        assert torch.allclose(layer(tokens), attended, atol=1e-5)


def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = Lvsm(TINY[KINDS[0]], checkpointing=checkpointing)
        nn.init.normal_(network.head.weight, std=0.1)
        network(*random_batch()).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(network.parameters()))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_bfloat16_is_near_float32():
    network = woken(TINY[KINDS[0]])
    views, queries = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(views, queries)
    assert (half.float() - network(views, queries)).abs().max() < 0.05


def test_a_view_is_the_same_however_the_world_is_turned_and_on_two_threads():
    network = woken(TINY[KINDS[0]])
    rgba = torch.rand(2, 4, S, S)
    found = []
    before = torch.get_num_threads()
    try:
        for start, threads in ((0.0, 1), (0.0, 2), (77.0, 1)):
            torch.set_num_threads(threads)
            given, asked = (posed([start + a for a in angles]) for angles in ((0.0, 90.0), (180.0, 270.0)))
            found.append(synthesise(network, rgba, given, asked))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.allclose(found[0], found[2], atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"kind": "lrm"}, {"patch": 7}, {"heads": 5}, {"latents": 0}, {"encoder": 0}, {"width": -8}, {"size": 0},
     {"decoder": 0}, {"width": 10**6}, {"kind": "decoder-only"}],
)  # fmt: skip
def test_configurations_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError):  # noqa: PT011  # in words of each kind
        LvsmConfig.of({**LvsmConfig().as_dict(), **changes})


def test_weights_come_back_and_bad_ones_are_said(tmp_path):
    network, path = woken(TINY[KINDS[0]]), tmp_path / "lvsm.safetensors"
    with pytest.raises(Missing, match="not there") as caught:
        load(path)
    assert "kiss3d train lvsm" in caught.value.hint
    sha256 = export(path, network.config, network.state_dict())
    loaded = load(path)
    assert (loaded.sha256, loaded.network.config, look(path)) == (sha256, network.config, network.config)
    views, queries = random_batch()
    assert (loaded.network(views, queries) - network(views, queries)).abs().max() < 0.02
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DamagedRun):
        load(path)
    path.write_bytes(whole)
    tensors = load_file(path)
    save_file(tensors, path, {"format": "kiss3d-prior-1"})
    with pytest.raises(DamagedRun, match="format is kiss3d-prior-1"):
        look(path)


def test_psnr_and_ssim_of_known_pictures():
    truth = torch.rand(2, 3, 24, 24)
    assert psnr(truth, truth).tolist() == [pytest.approx(100)] * 2
    assert float(psnr(torch.zeros(3, 8, 8), torch.full((3, 8, 8), 0.1))) == pytest.approx(20, abs=1e-4)
    assert ssim(truth, truth).tolist() == [pytest.approx(1, abs=1e-4)] * 2
    flat, other = torch.full((3, 16, 16), 0.25), torch.full((3, 16, 16), 0.75)
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)  # no variance: the means alone
    assert float(ssim(flat, other)) == pytest.approx(expected, abs=1e-3)
    assert float(ssim(1 - truth[0], truth[0])) < 0.2


def test_gradients_see_a_blur_and_not_a_shift_of_brightness():
    truth = torch.zeros(1, 3, 16, 16)
    truth[..., 8:] = 0.5
    assert float(gradient_loss(truth + 0.3, truth)) == pytest.approx(0, abs=1e-6)
    blurred = functional.avg_pool2d(truth, 3, 1, 1)
    assert float(gradient_loss(blurred, truth)) > 0.01


def test_vgg_and_lpips_read_the_published_layouts(tmp_path):
    torch.manual_seed(0)
    state = {
        f"features.{k.removeprefix('features.')}": 0.05 * torch.randn_like(v) for k, v in Vgg().state_dict().items()
    }
    torch.save({**state, "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg19-dcbb9e9d.pth")
    vgg = read_vgg(tmp_path / "vgg19-dcbb9e9d.pth")
    assert [int(name.split(".")[1]) for name in state][-1] == 34, "torchvision's places of the convolutions"
    truth = torch.rand(1, 3, 32, 32)
    assert float(vgg(truth, truth)) == 0
    assert float(vgg(truth + 0.1, truth)) > 0
    torch.save({"features.0.weight": state["features.0.weight"]}, tmp_path / "vgg19-less.pth")
    with pytest.raises(BadInput, match=r"lacks features\.0\.bias"):
        read_vgg(tmp_path / "vgg19-less.pth")
    (tmp_path / "vgg.pth").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="can't be read"):
        read_vgg(tmp_path / "vgg.pth")

    assert read_lpips(tmp_path) is None
    places = dict(zip(range(5), (0, 3, 6, 8, 10), strict=True))
    alexnet = {}
    for number, layer in enumerate(Lpips().layers):
        alexnet[f"features.{places[number]}.weight"] = 0.1 * torch.randn_like(layer.weight)
        alexnet[f"features.{places[number]}.bias"] = 0.1 * torch.randn_like(layer.bias)
    lines = {f"lin{i}.model.1.weight": torch.rand(1, len(w), 1, 1) for i, w in enumerate(Lpips().weights)}
    torch.save(alexnet, tmp_path / "alexnet-owt-7be5be79.pth")
    torch.save(lines, tmp_path / "alex.pth")
    lpips = read_lpips(tmp_path)
    both = torch.rand(2, 3, 64, 64)
    assert lpips(both, both).tolist() == [0, 0]
    # the first layer alone, by hand: unit feature vectors, squared differences, weighted
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        for weight in lpips.weights[1:]:
            weight.zero_()
    one, two = ((x.permute(1, 2, 0) - mean) / deviation for x in both)
    features = [
        functional.relu(
            functional.conv2d(x.permute(2, 0, 1)[None], alexnet["features.0.weight"], alexnet["features.0.bias"], 4, 2)
        )[0]
        for x in (one, two)
    ]
    unit = [x / x.norm(dim=0, keepdim=True).clamp_min(1e-10) for x in features]
    expected = ((unit[0] - unit[1]) ** 2 * lines["lin0.model.1.weight"][0]).sum(0).mean()
    assert float(lpips(both[:1], both[1:])) == pytest.approx(float(expected), rel=1e-4)
    assert math.isfinite(float(lpips(both[:1, :, :16, :16], both[1:, :, :16, :16])))


@pytest.mark.gpu
def test_a_gpu_draws_what_the_cpu_draws():
    network = woken(TINY[KINDS[0]])
    rgba, guess = torch.rand(2, 4, S, S), torch.rand(2, 4, S, S)
    given, asked = posed([0.0, 90.0]), posed([180.0, 270.0])
    expected = synthesise(network, rgba, given, asked, guess)
    assert torch.allclose(synthesise(network.cuda(), rgba, given, asked, guess), expected, atol=1e-3)
