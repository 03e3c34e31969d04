"""What the wavelet diffusion model learns: objects from their views and visual hull."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.truncated import Grid
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.inference import Sampling, draw
from kiss3d_cli.models.wavemesh.network import Learned, WaveMesh
from kiss3d_cli.models.wavemesh.symmetry import MIRROR, QUARTER, SYMMETRIES
from kiss3d_cli.models.wavemesh.views import PatchFeatures, PosedImages
from kiss3d_cli.models.wavemesh.weights import export
from kiss3d_cli.training.fields import REMAKE, RING, Field, FieldShard, find_fields
from kiss3d_cli.training.task import Batches, Task, Tensors

HIDDEN = 0.1
"""Share of samples whose pictures are hidden, for guidance."""
ANYWHERE = 0.3
"""Share of batches that are seen from any one to eight places; the others are seen from the ring's."""
FEWER = 0.25
"""Share of the others' samples that are seen from fewer than four sides."""
NO_NORMALS = 0.15
"""Share of samples whose normals are not known."""
MEASURED = 24
"""Held-out objects that are sampled at most, while training."""
SHOWN = 6
HELD_OUT_STEPS = 4
SURFACES, CALIBRATED = (0.0, 0.05, 0.1, 0.15, 0.2), 16
"""Distances at which the surface may be, over the truncation, and objects that one of them is chosen on at most."""
FIELD, OVERLAP = 10.0, 3.0
"""Weights of the distances' error, and of the overlap's, beside that of the coefficients."""


@dataclass(frozen=True)
class Batch(Tensors):
    """B objects.

    Attributes:
        truth, hull: truncated signed distances to the object, and to the hull of the views that are given.
        images: the views. dropped: whose pictures are hidden.
        times, noise: of the diffusion; noise for every cell of the sites' grid.
    """

    truth: Float[Tensor, "B R R R"]
    hull: Float[Tensor, "B R R R"]
    images: PosedImages
    dropped: Bool[Tensor, " B"]
    times: Int[Tensor, " B"]
    noise: Float[Tensor, "B P K"]


def turned(field: Field, quarters: int) -> Field:
    """The object turned so that what the view `quarters` columns to the right showed is its front."""
    truth, hulls, poses = field.truth, field.hulls, field.poses
    for _ in range(quarters % RING):
        truth = truth.swapaxes(-1, -3)[..., ::-1, :, :]
        hulls = hulls.swapaxes(-1, -3)[..., ::-1, :, :]
        poses = poses @ QUARTER.numpy()
    order = [*np.roll(np.arange(RING), -quarters), *range(RING, len(poses))]
    return Field(truth, hulls[order], field.pictures[order], poses[order], field.focal[order])


def mirrored(field: Field) -> Field:
    """Left and right exchanged, of the world and of every picture."""
    order = [0, 3, 2, 1, *range(RING, len(field.poses))]
    pictures = field.pictures[order][:, :, ::-1].copy()
    pictures[..., 3] = 255 - pictures[..., 3]
    poses = MIRROR.numpy() @ field.poses[order] @ MIRROR.numpy()
    return Field(field.truth[::-1], field.hulls[order][:, ::-1], pictures, poses, field.focal[order])


def tensors(
    found: list[Field], views: Sequence[Sequence[int]], normals: Bool[np.ndarray, " B"]
) -> tuple[Float[Tensor, "B R R R"], Float[Tensor, "B R R R"], PosedImages]:
    """Truth, hull and pictures of some objects.

    Args:
        views: the numbers of those that are given of each object. normals: whose are known.
    """
    most = max(len(some) for some in views)
    there = torch.tensor([[place < len(some) for place in range(most)] for some in views])
    picked = [[*some, *[some[0]] * (most - len(some))] for some in views]

    def stacked(name: str) -> Tensor:
        rows = [getattr(field, name)[some] for field, some in zip(found, picked, strict=True)]
        return torch.from_numpy(np.stack(rows)).float()

    truth = torch.from_numpy(np.stack([field.truth for field in found])).float()
    hull = stacked("hulls").amax(1)
    planes = stacked("pictures").movedim(-1, 2) / 255
    planes[:, :, 3:6] = planes[:, :, 3:6] * 2 - 1
    planes[:, :, 3:6] *= torch.from_numpy(normals).float()[:, None, None, None, None]
    planes = planes * there[..., None, None, None]
    return truth, hull, PosedImages(planes, stacked("poses"), stacked("focal"), there)


class FieldBatches(Batches[Batch]):
    """Random batches of a folder of shards; the same for the same seed, step and shards."""

    def __init__(self, folder: Path, config: WaveMeshConfig, size: int, seed: int, *, share: float = 1.0) -> None:
        self.folder, self.config, self.size, self.seed, self.share = folder, config, size, seed, share
        self.opened: dict[Path, FieldShard] = {}
        self.paths: list[Path] = []
        self.refresh()

    def refresh(self) -> bool:
        before, found = self.paths, find_fields(self.folder)
        self.paths = found[: max(1, round(self.share * len(found)))]
        return self.paths != before

    def batch(self, step: int, rank: int = 0) -> Batch:
        rng = np.random.default_rng([self.seed, step, rank])
        found = []
        for _ in range(self.size):
            path = self.paths[rng.integers(len(self.paths))]
            if path not in self.opened:
                self.opened[path] = opened(path, self.config)
            field = self.opened[path].read(int(rng.integers(self.opened[path].count)))
            field = turned(field, int(rng.integers(4)))
            found.append(mirrored(field) if rng.random() < 0.5 else field)
        anywhere = rng.random() < ANYWHERE
        views = [drawn_views(rng, len(field.poses), anywhere) for field in found]
        truth, hull, images = tensors(found, views, rng.random(self.size) >= NO_NORMALS)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
        transform = self.config.transform
        return Batch(
            truth,
            hull,
            images,
            torch.from_numpy(rng.random(self.size) < HIDDEN),
            torch.randint(self.config.steps, (self.size,), generator=generator),
            torch.randn(self.size, transform.side**3, transform.channels, generator=generator),
        )


def drawn_views(rng: np.random.Generator, views: int, anywhere: bool) -> list[int]:
    """One to all of an object's views; or of the ring's, then mostly all four."""
    if anywhere:
        return rng.permutation(views)[: rng.integers(1, views + 1)].tolist()
    lacking = int(rng.integers(1, RING)) if rng.random() < FEWER else 0
    return sorted(rng.permutation(RING)[lacking:].tolist())


def opened(path: Path, config: WaveMeshConfig) -> FieldShard:
    """
    Raises:
        BadInput: the shard is damaged, or of another grid or picture size than the network's.
    """
    found = FieldShard(path)
    sizes = (found.resolution, found.truncation, found.image)
    if sizes != (config.resolution, config.truncation, config.image):
        raise BadInput(
            f"fields of {sizes[0]}^3 cells, truncated at {sizes[1]:g}, with pictures of {sizes[2]} pixels, for a "
            f"network of {config.resolution}^3, {config.truncation:g} and {config.image}",
            place=str(path),
            hint=REMAKE.replace("32", str(config.resolution)),
        )
    return found


def all_fields(folder: Path, config: WaveMeshConfig, limit: int) -> Iterator[tuple[str, Field]]:
    """The first objects of a folder, in order, unchanged, with their names."""
    left = limit
    for path in find_fields(folder):
        shard = opened(path, config)
        for number in range(min(left, shard.count)):
            yield shard.names[number], shard.read(number)
        left -= shard.count
        if left <= 0:
            return


def overlap(one: Float[Tensor, "R R R"], other: Float[Tensor, "R R R"]) -> float:
    """Intersection over union of the cells inside two volumes."""
    a, b = one < 0, other < 0
    return float((a & b).sum()) / max(1.0, float((a | b).sum()))


class WaveMeshTask(Task[Batch]):
    """The wavelet diffusion model, on objects as signed distances with posed views."""

    name = "wavemesh"
    leading, measure = "field", "Mean error of truncated distances near the surface, in truncations"
    baseline = "hull"
    others = ("overlap", "coefficients", "coarse")
    legend = "front, right, back, left; object, visual hull and sample, each seen from 35 and 215 degrees"

    def __init__(
        self,
        views: Path,
        held_out: Path | None,
        config: WaveMeshConfig | None = None,
        describe: PatchFeatures | None = None,
    ) -> None:
        """Args:
        views: shards to train on.
        held_out: shards to measure on.
        config: sizes of the network.
        describe: features of patches with `config.frozen` channels.
        """
        self.views, self.held_out, self.config = views, held_out, config or WaveMeshConfig()
        self.describe = describe
        self.scale: Tensor | None = None

    def network(self) -> nn.Module:
        network = WaveMesh(self.config)
        if self.scale is None:
            self.scale = measured_scale(network, self.views)
        network.scale.copy_(self.scale)
        return network

    def batches(self, size: int, seed: int, share: float) -> FieldBatches:
        return FieldBatches(self.views, self.config, size, seed, share=share)

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images = batch.images.described(self.describe, self.config.patches)
        found = network(batch.truth, batch.hull, images, batch.dropped, batch.times, batch.noise)
        return losses(found, batch.truth, cast(WaveMesh, _bare(network)))

    def look(self, network: nn.Module, held_out: Path, sheet: Path, limit: int) -> dict[str, float]:
        from PIL import Image

        assert isinstance(network, WaveMesh)
        rows: list[np.ndarray] = []
        total: dict[str, list[float]] = {key: [] for key in ("field", "hull", "iou", "hull_iou")}
        for _, field in all_fields(held_out, self.config, min(limit, MEASURED)):
            truth, hull, images = tensors([field], [range(RING)], np.ones(1, bool))
            images = images.described(self.describe, self.config.patches)
            sample = draw(network, hull, images, Sampling(HELD_OUT_STEPS))[0]
            near = (truth[0] < 1) | (hull[0] < 1)
            total["field"].append(float((sample - truth[0])[near].abs().mean()))
            total["hull"].append(float((hull[0] - truth[0])[near].abs().mean()))
            total["iou"].append(overlap(sample, truth[0]))
            total["hull_iou"].append(overlap(hull[0], truth[0]))
            if len(rows) < SHOWN:
                rows.append(drawn(field, [truth[0], hull[0], sample]))
        if not rows:
            raise BadInput("the held-out fields are empty", place=str(held_out), hint=REMAKE)
        Image.fromarray(np.concatenate(rows)).save(sheet)
        return {key: float(np.mean(values)) for key, values in total.items()}

    def _chosen_on(self) -> list[Field]:
        """Held-out objects that `look` does not measure, as many as there are; else training objects, which a network
        knows better than others.
        """
        found: list[tuple[str, Field]] = []
        if self.held_out is not None:
            found = list(all_fields(self.held_out, self.config, MEASURED + CALIBRATED))[MEASURED:]
        return [field for _, field in found or all_fields(self.views, self.config, CALIBRATED)]

    def export(self, path: Path, tensors: dict[str, Tensor]) -> str:
        with torch.random.fork_rng(devices=[]):  # the first weights of a network that takes others at once
            network = WaveMesh(self.config)
        network.load_state_dict({name: value.cpu() for name, value in tensors.items()})
        surface = best_surface(network.eval(), self._chosen_on(), self.describe)
        return export(path, dataclasses.replace(self.config, surface=surface), tensors)


def _bare(network: nn.Module) -> nn.Module:
    """Without what several processes put around it."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def losses(found: Learned, truth: Float[Tensor, "B R R R"], network: WaveMesh) -> dict[str, Float[Tensor, ""]]:
    """`loss`: the squared error of what is said, each channel weighted by its usual size, the absolute error of the
    distances, and what two volumes with edges of two cells lack of a full overlap (a soft Jaccard index: Rahman and
    Wang 2016). Without the last, the median of what is thin and uncertain is nothing.

    A mean over an object's own sites and cells first, then over objects: a small object counts as much as a large one.
    """
    weight = network.scale / network.scale.mean()
    sites = found.sites
    count = torch.bincount(sites.owner, minlength=sites.batch).to(found.said)
    each = 1 / (count * sites.batch).index_select(0, sites.owner)
    squared = (found.said - found.target).square()
    coefficients = ((squared * weight).mean(1) * each).sum()
    near = (truth < 1) | (found.volume < 1)
    error = ((found.volume.clamp(-1.5, 1.5) - truth).abs() * near).flatten(1).sum(1)
    field = (error / near.flatten(1).sum(1).clamp_min(1)).mean()
    inside, true = ((0.5 - volume).clamp(0, 1).flatten(1) for volume in (found.volume, truth))
    shared = torch.minimum(inside, true).sum(1) / torch.maximum(inside, true).sum(1).clamp_min(1)
    overlapping = (1 - shared).mean()
    return {
        "loss": coefficients + FIELD * field + OVERLAP * overlapping,
        "field": field,
        "overlap": overlapping,
        "coefficients": coefficients,
        "coarse": (squared[:, 0] * each).sum(),
    }


@torch.no_grad()
def measured_scale(network: WaveMesh, folder: Path, objects: int = 16) -> Float[Tensor, " K"]:
    """The standard deviation of each channel's difference to the hull's coefficients, over the first objects."""
    found = []
    for _, field in all_fields(folder, network.config, objects):
        truth, hull, _ = tensors([field], [range(RING)], np.ones(1, bool))
        where = network.occupied(hull)[0]
        found.append(network.config.transform.analyse(truth - hull)[0][where])
    return torch.cat(found).square().mean(0).sqrt().clamp_min(1e-3)


def best_surface(network: WaveMesh, objects: Sequence[Field], describe: PatchFeatures | None) -> float:
    """The one of `SURFACES` at which the samples of some objects overlap best with the truth."""
    total = np.zeros(len(SURFACES))
    for field in objects:
        truth, hull, images = tensors([field], [range(RING)], np.ones(1, bool))
        images = images.described(describe, network.config.patches)
        sample = draw(network, hull, images, Sampling(symmetries=len(SYMMETRIES)))[0]
        total += [overlap(sample - level, truth[0]) for level in SURFACES]
    return SURFACES[int(total.argmax())]


def drawn(field: Field, volumes: list[Float[Tensor, "R R R"]], size: int = 96) -> np.ndarray:
    """(H, W, 3) uint8: the four pictures, then each volume's surface from two sides."""
    colors = torch.from_numpy(field.pictures[..., :3].copy()).movedim(-1, 1).float() / 255
    tiles = list(functional.interpolate(colors, (size, size), mode="nearest").movedim(1, -1))
    for volume in volumes:
        tiles += list(shaded(surface(volume), size))
    return (torch.cat(tiles, 1) * 255).round().byte().numpy()


def surface(volume: Float[Tensor, "R R R"]) -> Mesh | None:
    """The closed surface of a volume in the world; None if nothing is inside."""
    if not bool((volume < 0).any()):
        return None
    first, last = Grid(len(volume)).ends
    return isosurface(volume.float(), (first,) * 3, (last,) * 3)


def shaded(mesh: Mesh | None, size: int, azimuths: tuple[float, ...] = (35.0, 215.0)) -> Float[Tensor, "V S S 3"]:
    """Grey pictures of a surface, lit from the camera, on white."""
    if mesh is None:
        return torch.ones(len(azimuths), size, size, 3)
    seen = render_normals(mesh, orbit_cameras(azimuths, 15.0), (size, size))
    light = 0.25 + 0.6 * seen.normals[..., 2:].clamp(0, 1)
    mask = seen.mask[..., None]
    return (light * mask + 1 - mask).clamp(0, 1).expand(-1, -1, -1, 3)
