"""What the simulated device refuses, notes and computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from simulated_gpu import DEVICE, SIMULATED, SimulatedGpu, gradient, simulated_gpu

pytestmark = SIMULATED


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    with simulated_gpu(memory=2**20) as device:
        device.watched = True
        yield device


@pytest.mark.parametrize(
    "mixing",
    [
        lambda there, here: there + here,
        lambda there, here: torch.cat([there, here]),
        lambda there, here: nn.Linear(4, 4)(there),
        lambda there, here: here[there.long()],
        lambda there, here: torch.stack([there[0, 0], torch.tensor(1.0)]),
        lambda there, here: nn.functional.scaled_dot_product_attention(there, here, here),
    ],
)
def test_tensors_of_two_devices_are_refused(gpu: SimulatedGpu, mixing: Callable[[Tensor, Tensor], Tensor]) -> None:
    there, here = torch.ones(4, 4, device="cuda"), torch.ones(4, 4)
    with pytest.raises(RuntimeError, match="same device"):
        mixing(there, here)


def test_what_a_real_one_takes_of_the_host_is_taken(gpu: SimulatedGpu) -> None:
    there = torch.arange(4.0, device=DEVICE)
    assert (there * torch.tensor(2.0)).tolist() == [0, 2, 4, 6], "a single number"
    assert there[torch.tensor([3, 0])].cpu().tolist() == [3, 0], "an index"
    assert there.new_tensor([1.0]).device == torch.tensor([1.0], device="cuda").device == DEVICE
    with pytest.raises(TypeError, match="to numpy"):
        there.numpy()


@pytest.mark.parametrize(
    ("work", "times"),
    [
        (lambda there: float(there.sum()), 1),
        (lambda there: there.cpu(), 1),
        (lambda there: there[there > 1], 1),
        (lambda there: there[[0, 1]], 1),
        (lambda there: there.copy_(torch.ones(4)), 1),
        (lambda there: torch.empty(4, pin_memory=True), 1),
        (lambda there: there.copy_(torch.ones(4), non_blocking=True), 0),
        (lambda there: (there[1:] * 2).bfloat16() @ torch.ones(3, dtype=torch.bfloat16, device=DEVICE), 0),
    ],
)
def test_what_the_host_waits_for_is_noted(gpu: SimulatedGpu, work: Callable[[Tensor], object], times: int) -> None:
    there = torch.zeros(4, device=DEVICE)
    work(there)
    assert len(gpu.waits) == times, gpu.waits
    assert all("test_simulated_gpu.py" in wait for wait in gpu.waits)


def test_memory_is_counted_once_for_all_views_and_ends(gpu: SimulatedGpu) -> None:
    there = torch.zeros(1000, device=DEVICE)
    view = there.view(10, 100)[1:]
    assert gpu.live == gpu.peak == 4096
    del there
    assert gpu.live == 4096
    view = view.contiguous() + 1
    assert (gpu.live, gpu.peak) == (4096, 8192)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.zeros(2**18, device=DEVICE)
    assert torch.cuda.mem_get_info()[0] == 2**20 - 4096


def test_a_network_moves_and_learns_as_on_the_cpu(gpu: SimulatedGpu) -> None:
    generator = torch.Generator().manual_seed(0)
    network, given = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)), torch.randn(3, 5, generator=generator)

    def loss(x: Tensor) -> Tensor:
        first, second = torch.unbind(network(x)[:, :2].sin(), 1)
        return (first / second.abs().clamp_min(0.1)[:1]).square().mean()

    here = given.clone().requires_grad_()
    loss(here).backward()
    (same,) = gradient(loss(here), here)
    network.to(DEVICE)
    there = given.to(DEVICE).requires_grad_()
    (found,) = torch.autograd.grad(loss(there), there)
    assert found.device == DEVICE
    assert torch.equal(found.cpu(), here.grad)
    assert torch.equal(same, here.grad)


def test_nothing_is_left_of_it() -> None:
    with simulated_gpu():
        pass
    assert not torch.cuda.is_available()
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(1).to(DEVICE)
