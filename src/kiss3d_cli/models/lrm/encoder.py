"""DINO ViT-B/16 with one modulation per block from the camera: a picture and its camera to tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kiss3d_cli.models.lrm.config import LrmConfig

NORM_EPS = 1e-12
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, for RGB in [0, 1]."""


class Patches(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch, stride=patch)


class Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)


class Heads(nn.Module):
    """Multi-head attention of each view's tokens to themselves, without the last linear layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "V T C"]) -> Float[Tensor, "V T C"]:
        query, key, value = (
            layer(tokens).reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Heads(width, heads)
        self.output = Dense(width, width)

    def forward(self, tokens: Float[Tensor, "V T C"]) -> Float[Tensor, "V T C"]:
        return self.output.dense(self.attention(tokens))


class Embeddings(nn.Module):
    """Patches to tokens, after a class token, with position embeddings resampled to the picture's size."""

    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        width, patch = config.encoder_width, config.patch_size
        self.native = config.position_size // patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, self.native**2 + 1, width))
        self.patch_embeddings = Patches(width, patch)

    def forward(self, images: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V T C"]:
        patches = self.patch_embeddings.projection(images)
        positions = self.positions(patches.shape[2], patches.shape[3])
        start = (self.cls_token + self.position_embeddings[:, :1]).expand(len(images), -1, -1)
        return torch.cat([start, patches.flatten(2).transpose(1, 2) + positions], 1)

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 P C"]:
        """Bicubic resampling. The network was trained with a scale of (size + 0.1) / native, not size / native."""
        learnt = self.position_embeddings[:, 1:]
        if rows == columns == self.native:
            return learnt
        square = learnt.reshape(1, self.native, self.native, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / self.native, (columns + 0.1) / self.native)
        # Not in half precision: the resampled embeddings would lose digits that the weights have.
        resampled = F.interpolate(square.float(), scale_factor=scale, mode="bicubic", align_corners=False)
        return resampled.to(learnt.dtype).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm attention and MLP; shift and scale of both norms come from the camera."""

    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        width, hidden = config.encoder_width, config.encoder_hidden
        self.attention = Attention(width, config.encoder_heads)
        self.intermediate = Dense(width, hidden)
        self.output = Dense(hidden, width)
        self.layernorm_before = nn.LayerNorm(width, eps=NORM_EPS)
        self.layernorm_after = nn.LayerNorm(width, eps=NORM_EPS)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * width))

    def forward(self, tokens: Float[Tensor, "V T C"], camera: Float[Tensor, "V C"]) -> Float[Tensor, "V T C"]:
        shift_1, scale_1, shift_2, scale_2 = self.adaLN_modulation(camera)[:, None].chunk(4, -1)
        tokens = tokens + self.attention(self.layernorm_before(tokens) * (1 + scale_1) + shift_1)
        hidden = self.intermediate.dense(self.layernorm_after(tokens) * (1 + scale_2) + shift_2)
        return tokens + self.output.dense(F.gelu(hidden))


class Blocks(nn.Module):
    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.encoder_layers))

    def forward(self, tokens: Float[Tensor, "V T C"], camera: Float[Tensor, "V C"]) -> Float[Tensor, "V T C"]:
        for block in self.layer:
            tokens = block(tokens, camera)
        return tokens


class VisionTransformer(nn.Module):
    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Blocks(config)
        self.layernorm = nn.LayerNorm(config.encoder_width, eps=NORM_EPS)

    def forward(self, images: Float[Tensor, "V 3 H W"], camera: Float[Tensor, "V C"]) -> Float[Tensor, "V T C"]:
        return self.layernorm(self.encoder(self.embeddings(images), camera))


class Encoder(nn.Module):
    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.model = VisionTransformer(config)
        self.camera_embedder = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, images: Float[Tensor, "V 3 H W"], cameras: Float[Tensor, "V 16"]) -> Float[Tensor, "V T C"]:
        """Tokens of each view: the class token, then the patches row by row.

        Args:
            images: RGB in [0, 1].
            cameras: as `cameras.camera_vectors` makes them.
        """
        dtype = self.model.embeddings.cls_token.dtype
        mean, deviation = (images.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
        return self.model(((images - mean) / deviation).to(dtype), self.camera_embedder(cameras.to(dtype)))
