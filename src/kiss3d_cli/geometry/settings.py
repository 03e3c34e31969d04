"""How a mesh is refined, and the defaults of it; nothing here imports torch, so that a help text has them at once."""

from __future__ import annotations

from dataclasses import dataclass

VIEW_WEIGHTS = (1.0, 0.9, 1.0, 0.9)
"""Of the front's, right's, back's and left's normals."""
COLOR_WEIGHTS = (1.0, 0.5, 1.0, 0.5)
"""The same of their colours."""


@dataclass(frozen=True)
class IntegrationSettings:
    """How the terms weigh against the slopes that the normals ask for. A term of length L balances them where an error
    of its own size spreads over L.

    Attributes:
        sizes: sides of the images worked on, coarse to fine.
        rounds: reweightings at each size.
        iterations: conjugate gradient steps at most in each round.
        sharpness: of the choice between two neighbours (k of Cao et al. 2022).
        hull_length: of the bounds by the visual hull.
        hull_slack: distances beyond a bound over this count only in proportion.
        agreement_length: of the agreement between views.
        pull: slope with which every surface is drawn towards its start (an L1 term).
        reach: distances between two views' surfaces up to which they are taken for the same, at the start and at the
            end, where the first lies in front of what the second sees.
        reach_behind: the same where it lies behind, which the second view may simply not see.
        gaps_from: share of the rounds after which surfaces must leave the hull's gaps.
    """

    sizes: tuple[int, ...] = (64, 128, 256)
    rounds: tuple[int, ...] = (8, 6, 4)
    iterations: int = 100
    sharpness: float = 8.0
    hull_length: float = 0.08
    hull_slack: float = 0.01
    agreement_length: float = 0.2
    pull: float = 0.01
    reach: tuple[float, float] = (0.3, 0.03)
    reach_behind: tuple[float, float] = (0.1, 0.03)
    gaps_from: float = 0.7


@dataclass(frozen=True)
class RemeshSettings:
    """
    Attributes:
        learning_rate: length of a step in reference edge lengths.
        decay: factor on the learning rate after every step.
        betas: memory of the gradient, of its square, and of the velocity.
        ramp: steps over which the learning rate rises to its value.
        edge_lengths: largest and smallest reference edge length, in world units; begins with the largest.
        gain: relative change of the reference edge length for a velocity off by `velocity_reference`.
        velocity_reference: mean relative velocity at which the edge length stays; below it edges get shorter.
        edge_tolerance: edges may be shorter or longer than the reference by this share.
        laplacian_weight: share of the way to its neighbours' mean that a vertex goes in every step.
        bending_weight: the same for the bi-Laplacian, which takes noise away and leaves curved surfaces where they are.
        gradient_limit: a gradient longer than this many times its running size is cut.
        interval: steps from one remeshing to the next, once the learning rate has risen to its value.
        least_gradient: gradients below this share of their root mean square over the mesh move their vertices less
            than the rest.
    """

    learning_rate: float = 0.3
    decay: float = 0.98
    betas: tuple[float, float, float] = (0.8, 0.8, 0.0)
    ramp: int = 5
    edge_lengths: tuple[float, float] = (0.02, 0.005)
    gain: float = 0.05
    velocity_reference: float = 0.3
    edge_tolerance: float = 0.5
    laplacian_weight: float = 0.02
    bending_weight: float = 0.2
    gradient_limit: float = 10.0
    least_gradient: float = 1.0
    interval: int = 2


@dataclass(frozen=True)
class IsomerSettings:
    """
    Attributes:
        size: side of the pictures that the mesh is compared with, in pixels.
        integrate: begin with the surface through the integrated normal maps, unless the start shows these normals
            already.
        integration: how they are integrated.
        coarse_steps: steps of stage 1, for coarse starts such as a sphere.
        coarse: stage 1's step and edge lengths.
        fine_steps: steps of stage 2.
        fine: stage 2's step and edge lengths.
        view_weights: weight of each view's normals.
        expansion: weight of the term that moves vertices along their normals in stage 1.
        outside: weight of the share of vertices outside the box in stage 1.
        renewals: stage 2 renews the explicit target in so many first steps, and then every `renewal_interval`.
        renewal_interval: see `renewals`.
        full_support: sum of the views' weights from which on a vertex goes its own way.
        filling: share of the way to its neighbours' mean that a vertex which no view shows goes in every step.
        target_faces: faces of the result, about; edge lengths do not fall below what this many faces have.
    """

    size: int = 512
    integrate: bool = True
    integration: IntegrationSettings = IntegrationSettings()
    coarse_steps: int = 0
    coarse: RemeshSettings = RemeshSettings(
        decay=0.995, ramp=1, edge_lengths=(0.1, 0.02), bending_weight=0.05, least_gradient=0.3
    )
    fine_steps: int = 50
    fine: RemeshSettings = RemeshSettings()
    view_weights: tuple[float, ...] = VIEW_WEIGHTS
    expansion: float = 0.1
    outside: float = 10.0
    renewals: int = 5
    renewal_interval: int = 20
    full_support: float = 0.3
    filling: float = 0.3
    target_faces: int = 50_000
