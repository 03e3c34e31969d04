"""Sizes of the network; the defaults are those of the published checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LrmConfig:
    """Sizes of the network.

    Attributes:
        views: pictures of one object.
        image_size: side of a picture, in pixels.
        patch_size: side of the patch that becomes a token.
        position_size: side of the pictures that the position embeddings were made for.
        encoder_width, encoder_layers, encoder_heads, encoder_hidden: of the vision transformer.
        width, layers, heads: of the triplane transformer.
        plane_tokens: side of a plane of the triplane, in tokens; the plane itself is twice as fine.
        plane_channels: of one plane; a point's feature has those of all three.
        grid_resolution: cells of the FlexiCubes grid along a side.
        grid_side: side of that grid, in LRM units; the planes cover [-1, 1].
    """

    views: int = 4
    image_size: int = 512
    patch_size: int = 16
    position_size: int = 224
    encoder_width: int = 768
    encoder_layers: int = 12
    encoder_heads: int = 12
    encoder_hidden: int = 3072
    width: int = 1024
    layers: int = 16
    heads: int = 16
    plane_tokens: int = 32
    plane_channels: int = 80
    grid_resolution: int = 128
    grid_side: float = 2.1


PRM = LrmConfig()
CHECKPOINT_ENTRY = "state_dict"
CHECKPOINT_PREFIX = "lrm_generator."
