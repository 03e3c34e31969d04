"""Novel view synthesis from a few posed pictures."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.threads import one_thread
from kiss3d_cli.models.lvsm.network import Lvsm, query_planes, view_planes
from kiss3d_cli.models.lvsm.rays import Posed, pluecker, turned_to


@torch.inference_mode()
def encode(
    network: Lvsm,
    rgba: Float[Tensor, "B V 4 S S"],
    world_to_camera: Float[Tensor, "B V 4 4"],
    intrinsics: Float[Tensor, "B V 4"],
) -> Float[Tensor, "B N C"]:
    """The scene of given pictures; the first is the one whose azimuth is called 0.

    Args:
        rgba: colours on white and masks, in [0, 1], of the network's size.
        world_to_camera: rigid, OpenGL axes, y up. intrinsics: as of `rays.pluecker`.
    """
    turned = turned_to(world_to_camera, world_to_camera[:, 0])
    return network.encode(view_planes(rgba, pluecker(turned, intrinsics, network.config.size)))


@torch.inference_mode()
def decode(
    network: Lvsm,
    scene: Float[Tensor, "B N C"],
    world_to_camera: Float[Tensor, "B T 4 4"],
    intrinsics: Float[Tensor, "B T 4"],
    reference: Float[Tensor, "B 4 4"],
    guess: Float[Tensor, "B T 4 S S"] | None = None,
) -> Float[Tensor, "B T 4 S S"]:
    """Colours on white and masks, in [0, 1], as other cameras see a scene.

    Args:
        reference: world to camera of the scene's first picture.
        guess: what is guessed of each already.
    """
    turned = turned_to(world_to_camera, reference)
    return network.decode(scene, query_planes(pluecker(turned, intrinsics, network.config.size), guess)).clamp(0, 1)


def synthesise(
    network: Lvsm,
    rgba: Float[Tensor, "V 4 S S"],
    given: Posed,
    asked: Posed,
    guess: Float[Tensor, "T 4 S S"] | None = None,
) -> Float[Tensor, "T 4 S S"]:
    """What some cameras see of one object; the same bytes on any number of threads.

    Args:
        rgba: colours on white and masks of the given views, in [0, 1].
        given, asked: the cameras.
        guess: as of `decode`.
    """
    device = next(network.parameters()).device
    with one_thread():
        cameras = (given.poses, given.intrinsics, asked.poses, asked.intrinsics)
        rgba, own, intrinsics, other, others = (found[None].to(device) for found in (rgba, *cameras))
        scene = encode(network, rgba, own, intrinsics)
        # one after the other: a batch of two need not give each what it gives alone
        drawn = [
            decode(
                network,
                scene,
                other[:, [view]],
                others[:, [view]],
                own[:, 0],
                None if guess is None else guess[None, [view]].to(device),
            )
            for view in range(other.shape[1])
        ]
    return torch.cat(drawn, 1)[0].float().cpu()
