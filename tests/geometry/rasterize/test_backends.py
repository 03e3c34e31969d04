"""The choice of a backend, with stand-ins that follow the documented conventions of nvdiffrast and pytorch3d."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.rasterize import BUILT_IN, NAMES, find_backend, rasterize


def install(monkeypatch: pytest.MonkeyPatch, **modules: dict[str, Any]) -> None:
    for name, contents in modules.items():
        path = name.replace("__", ".")
        for depth in range(1, path.count(".") + 2):
            part = ".".join(path.split(".")[:depth])
            if part not in sys.modules:
                monkeypatch.setitem(sys.modules, part, ModuleType(part))
        module = sys.modules[path]
        for key, value in contents.items():
            monkeypatch.setattr(module, key, value, raising=False)
        parent, _, child = path.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], child, module, raising=False)


def fake_nvdiffrast(flip: bool = True) -> dict[str, Any]:
    def draw(context: object, pos: Tensor, tri: Tensor, resolution: list[int], grad_db: bool) -> tuple[Tensor, Tensor]:
        assert pos.dtype == torch.float32
        assert tri.dtype == torch.int32
        found = BUILT_IN.find(pos, tri.long(), (resolution[0], resolution[1]))
        found = found.flip(1) if flip else found  # row 0 at the bottom
        return torch.stack([torch.zeros_like(found)] * 3 + [found + 1], -1).float(), torch.empty(0)

    return {"RasterizeCudaContext": lambda device: object(), "rasterize": draw}


def fake_pytorch3d() -> dict[str, dict[str, Any]]:
    def draw(meshes: SimpleNamespace, image_size: tuple[int, int], **options: Any) -> tuple[Tensor, ...]:
        assert options["faces_per_pixel"] == 1
        shorter = min(image_size)
        found, offset = [], 0
        for points, faces in zip(meshes.verts, meshes.faces, strict=True):
            x, y, z = points.unbind(1)
            x, y = -x * shorter / image_size[1], y * shorter / image_size[0]
            one = BUILT_IN.find(torch.stack([x * z, y * z, 0 * z, z], 1)[None], faces, image_size)[0]
            found.append(torch.where(one < 0, -1, one + offset))
            offset += faces.shape[0]
        return (torch.stack(found)[..., None],) + (torch.empty(0),) * 3

    return {
        "pytorch3d__renderer__mesh__rasterize_meshes": {"rasterize_meshes": draw},
        "pytorch3d__structures": {"Meshes": SimpleNamespace},
    }


@pytest.mark.parametrize("name", ["nvdiffrast", "pytorch3d"])
def test_an_absent_backend_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    backend = find_backend(name, "cpu")
    assert backend.name == "torch"
    assert backend.find is BUILT_IN.find
    assert backend.note is not None
    assert backend.note.startswith(f"{name} is not installed. The built-in rasteriser is used instead. Install")
    with pytest.raises(Missing, match=f"{name} is not installed") as caught:
        find_backend(name, "cpu", fall_back=False)
    assert caught.value.hint is not None


def test_a_backend_built_without_cuda_falls_back_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("Not compiled with GPU support")

    modules = fake_pytorch3d()
    modules["pytorch3d__renderer__mesh__rasterize_meshes"]["rasterize_meshes"] = refuse
    install(monkeypatch, **modules)
    note = find_backend("pytorch3d", "cpu").note
    assert note is not None
    assert "does not work on cpu (Not compiled with GPU support)" in note


def test_a_backend_that_draws_upside_down_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, nvdiffrast__torch=fake_nvdiffrast(flip=False))
    note = find_backend("nvdiffrast", "cpu").note
    assert note is not None
    assert "draws something else" in note


@pytest.mark.parametrize("name", ["nvdiffrast", "pytorch3d"])
def test_a_working_backend_gives_the_same_fragments(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "nvdiffrast":
        install(monkeypatch, nvdiffrast__torch=fake_nvdiffrast())
    else:
        install(monkeypatch, **fake_pytorch3d())
    backend = find_backend(name, "cpu", fall_back=False)
    assert (backend.name, backend.note) == (name, None)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 30, 4, generator=generator) * 4 - torch.tensor([2.0, 2, 0, 0.5])
    points[..., 2] = points[..., 3] - 0.4  # the near plane is at the distance 0.2, and some vertices are behind it
    faces = torch.arange(30).reshape(10, 3)
    ours, theirs = rasterize(points, faces, (30, 44)), rasterize(points, faces, (30, 44), backend)
    assert bool(ours.mask.any())
    assert torch.equal(ours.face_id, theirs.face_id)
    assert torch.equal(ours.barycentric, theirs.barycentric)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["nvdiffrast", "pytorch3d"])
def test_the_real_backend_agrees_on_a_gpu(name: str) -> None:
    """Tolerance: one pixel centre in a thousand, where centres lie on edges and rounding differs."""
    pytest.importorskip(name)
    backend = find_backend(name, "cuda", fall_back=False)
    generator = torch.Generator().manual_seed(1)
    points = (torch.rand(4, 3000, 4, generator=generator) * 4 + torch.tensor([-2.0, -2, -1, 1])).to("cuda")
    faces = torch.arange(3000, device="cuda").reshape(1000, 3)
    ours, theirs = rasterize(points, faces, (256, 320)), rasterize(points, faces, (256, 320), backend)
    assert float((ours.face_id == theirs.face_id).float().mean()) > 0.999


def test_the_built_in_is_the_default_and_other_names_are_refused() -> None:
    assert find_backend("torch", "cpu") is BUILT_IN
    with pytest.raises(BadInput, match="no rasteriser 'opengl'") as caught:
        find_backend("opengl", "cpu")
    assert all(name in str(caught.value.hint) for name in NAMES)
