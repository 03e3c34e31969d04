"""Gradient descent on the vertices of a closed mesh that is remeshed as it moves (Palfinger 2022)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.geometry.mesh import Mesh, steady_sum
from kiss3d_cli.geometry.settings import RemeshSettings
from kiss3d_cli.geometry.surface.manifold import find_edges, vertex_laplacian
from kiss3d_cli.geometry.surface.remesh import remesh


class RemeshOptimizer:
    """Adam-like steps of the vertices, each scaled by one reference edge length for the whole mesh, and remeshing.

    Ask for `vertices` (a leaf), compute a loss, call `backward`, then `step`. Vertices and faces are new after that.

    Args:
        mesh: a closed manifold.
        settings: step lengths, edge lengths, weights.

    Attributes:
        edges: of the mesh.
        carried: (N, C) whatever else belongs to the vertices. A vertex made by a split or a collapse has the mean of
            the two that it stems from.
    """

    def __init__(self, mesh: Mesh, settings: RemeshSettings | None = None) -> None:
        self.settings = settings or RemeshSettings()
        self.edge_length = self.settings.edge_lengths[0]
        self._steps = 0
        self._set(mesh.vertices.detach(), mesh.faces)
        count = len(mesh.vertices)
        self._gradient = mesh.vertices.new_zeros(count, 3)
        self._square = mesh.vertices.new_zeros(count, 1)
        self._velocity = mesh.vertices.new_zeros(count, 3)
        self.carried: Float[Tensor, "N C"] = mesh.vertices.new_zeros(count, 0)

    def _set(self, vertices: Float[Tensor, "N 3"], faces: Int[Tensor, "F 3"]) -> None:
        self.vertices = vertices.clone().requires_grad_()
        self.faces = faces
        self.edges = find_edges(faces)

    @property
    def mesh(self) -> Mesh:
        return Mesh(self.vertices.detach(), self.faces)

    @torch.no_grad()
    def step(self, smoothing: Float[Tensor, " N"] | None = None) -> None:
        """One step along the gradient of `vertices`, then, every `interval` steps, one round of remeshing.

        Args:
            smoothing: share of the way to its neighbours' mean that each vertex goes, if not `laplacian_weight`.
        """
        assert self.vertices.grad is not None, "call backward() before step()"
        self._move(torch.nan_to_num(self.vertices.grad), smoothing)
        if self._steps <= self.settings.ramp or self._steps % self.settings.interval == 0:
            self._remesh()
        else:
            self._adapt()
            self.vertices.grad = None

    def _move(self, gradient: Float[Tensor, "N 3"], smoothing: Float[Tensor, " N"] | None) -> None:
        s = self.settings
        self._steps += 1
        if self._steps > 1:
            limit = s.gradient_limit * self._square.sqrt()
            size = gradient.norm(dim=-1, keepdim=True)
            gradient = torch.where((size > limit) & (limit > 0), gradient * (limit / size.clamp_min(1e-30)), gradient)
        beta_gradient, beta_square, beta_velocity = s.betas
        self._gradient = beta_gradient * self._gradient + (1 - beta_gradient) * gradient
        square = (gradient**2).sum(-1, keepdim=True)
        self._square = beta_square * self._square + (1 - beta_square) * square
        first = self._gradient / (1 - beta_gradient**self._steps)
        second = self._square / (1 - beta_square**self._steps)
        # Without a floor the smallest gradient moves its vertex as fast as the largest: what no view shows trembles.
        floor = s.least_gradient * (steady_sum(second) / max(1, second.numel())).sqrt()
        velocity = first / (second.sqrt() + floor).clamp_min(1e-30)
        self._velocity = beta_velocity * self._velocity + (1 - beta_velocity) * velocity

        rate = s.learning_rate * s.decay ** (self._steps - 1) * min(1.0, self._steps / s.ramp)
        share = s.laplacian_weight if smoothing is None else smoothing[:, None]
        to_mean = vertex_laplacian(self.vertices.detach(), self.edges)
        bend = vertex_laplacian(to_mean, self.edges)
        self.vertices -= rate * self.edge_length * velocity - share * to_mean + s.bending_weight * bend

    def _adapt(self) -> None:
        """The reference edge length, from how fast the vertices move."""
        s = self.settings
        largest, smallest = s.edge_lengths
        moving = self._square[:, 0] > 0
        speed = float(steady_sum(self._velocity.norm(dim=-1)[moving])) / max(1, int(moving.sum()))
        self.edge_length *= math.exp(s.gain * (speed - s.velocity_reference) / s.velocity_reference)
        self.edge_length = min(largest, max(smallest, self.edge_length))

    def _remesh(self) -> None:
        self._adapt()
        s = self.settings
        rows = torch.cat([self.vertices.detach(), self._gradient, self._square, self._velocity, self.carried], 1)
        shortest = self.edge_length * (1 - s.edge_tolerance)
        longest = self.edge_length * (1 + s.edge_tolerance)
        result = remesh(rows, self.faces, shortest, longest, self.edges)
        widths = [3, 3, 1, 3, self.carried.shape[1]]
        position, self._gradient, self._square, self._velocity, self.carried = torch.split(result.rows, widths, 1)
        self._set(position, result.faces)
