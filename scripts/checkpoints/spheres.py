"""Values for a few tensors with which the tiny redux route paints four views of a sphere over their normal maps.

There is no control on that route, so the picture must come out of the transformer itself. It is painted by the
attention of the first block. Redux's tokens are the brushes: the token of each patch of the picture has a key of its
own, which the rotary embedding makes likest to the image's tokens around one place, and a value that is a colour.
Around its place a brush outweighs the many tokens that say nothing, which are the white background. Five brushes whose
places differ a little make the shading of a tile of normals; one, with the colour of its patch, makes a view. The four
heads paint the four latents of each token. What the block then answers is the difference of sample and painting; its
gates are opened by the redux route's LoRA alone.

So SigLIP, the embedder, the order and strength of the tokens, the rotary embedding and the LoRA must all be right for
a sphere to come out, and it has the colours of the picture that was given.
"""

from __future__ import annotations

import dataclasses
import math
import re

import torch
from torch import Tensor

from checkpoints.wired import COLOURS, LIFT, STEADY, USED, State, both_signs, fill, pair, put, steady
from kiss3d_cli.models.flux.networks import LATENT_SCALE, LATENT_SHIFT

PATCHES = 25
"""Redux's tokens: 5 x 5 patches of the picture. The four around the middle one are the brushes of the views."""
VIEW_PATCHES = (7, 11, 13, 17)
TILE = 8
"""Image tokens along a side of a tile: the painting fits `bundle.tile=128`."""
RADIUS = 3.1
"""Of the sphere in a tile, in tokens."""
HEAD, AXIS, FLAT = 32, 14, 4
"""Channels of a head, of those the ones that turn with each of row and column, and those that do not turn."""
HEADS = 4
BRUSH, FADE = 1, 2
"""The rotary frequencies in use: 0.27 radians a token, whose cosine is the brush, and 0.07, whose cosine keeps it
from coming back 23 tokens further and whose sine is the shading."""
SHARP, BROAD, SHADE = 48.0, 12.0, 8.0
"""Their amplitudes, in nats."""
MIDDLE = 2.25
"""How much the brush of a sphere's middle is stronger than its corners', in nats."""
CORNER, CORNER_DEPTH = 1.3, 0.2
"""The normal of a corner's brush: (+-CORNER, +-CORNER, CORNER_DEPTH). They are only met mixed."""
BACKGROUND = 52.0
"""Of a token that says nothing, in nats."""
SILENT = 512 + 2 * 4 * TILE**2 + 1
"""How many of them there are: T5's words, the image's own tokens and the patch without a task."""
QUERY_SCALE, KEY_SCALE = 9.0, 5.0
SHARE = 0.5
"""The answer pulls this much less than under a control, because it does so in all steps."""
OPEN = 8.0
"""What every gate is modulated by."""
GAIN = 4.0
"""Of Redux's tokens."""
FAINT = 1 / 16
"""Of SigLIP's signal beside STEADY, so that normalising leaves it as it is: a key is a hundred nats long."""
QUIET = 1 / 4
"""The same of words. What reads them is stored in fp8, which ends at 448."""
REDUX_SCALE = 1.0
"""`bundle.redux_scale` on the redux route."""


@dataclasses.dataclass(frozen=True)
class Brush:
    """What the token of a patch paints.

    Attributes:
        row, column: of its tile.
        lean: towards which corner of the tile it leans, in rows and columns.
        bonus: in nats.
        colour: (3,) in [-1, 1]; None for the patch's own.
    """

    row: int
    column: int
    lean: tuple[int, int] = (0, 0)
    bonus: float = 0.0
    colour: tuple[float, float, float] | None = None


def brushes() -> dict[int, Brush]:
    """What each patch paints."""
    views = {patch: Brush(0, column) for column, patch in enumerate(VIEW_PATCHES)}
    corners = [(down, right) for down in (-1, 1) for right in (-1, 1)]
    normals = [
        brush
        for column in range(4)
        for brush in (
            Brush(1, column, bonus=MIDDLE, colour=(0, 0, 1)),
            *(Brush(1, column, (d, r), colour=(-CORNER * r, -CORNER * d, CORNER_DEPTH)) for d, r in corners),
        )
    ]
    others = [patch for patch in range(PATCHES) if patch not in views]
    return views | dict(zip(others, normals, strict=False))


def wire_painting(state: State, prefix: str, t5: str) -> None:
    """Let the first double block paint, once its gates are open.

    Args:
        t5: prefix of T5's names.
    """
    width = state[f"{prefix}img_in.bias"].shape[0]
    signals = PATCHES + COLOURS
    for part in ("time_in", "guidance_in", "vector_in"):
        put(state, f"{prefix}{part}.out_layer.weight", 0)
        put(state, f"{prefix}{part}.out_layer.bias", OPEN if part == "time_in" else 0)
    # words say nothing: only Redux's tokens have anything in the channels that are looked at
    state[f"{t5}encoder.final_layer_norm.weight"][:signals] = 0
    words = torch.zeros_like(state[f"{prefix}txt_in.weight"], dtype=torch.float32)
    words[pair(0, width, signals), :signals] = both_signs(torch.eye(signals)) * (QUIET * STEADY / (GAIN * REDUX_SCALE))
    fill(state, f"{prefix}txt_in.weight", words)
    fill(state, f"{prefix}txt_in.bias", steady(width))

    block = f"{prefix}double_blocks.0."
    silent = torch.zeros(HEAD)
    silent[0], silent[3] = BACKGROUND, _rest(torch.tensor([BACKGROUND]))
    keys, values = torch.zeros(HEAD, signals), torch.zeros(HEAD, signals)
    for patch, brush in brushes().items():
        keys[:, patch] = _key(brush) - silent
        values[:COLOURS, patch] = LATENT_SCALE * (torch.tensor(brush.colour or (0.0, 0.0, 0.0)) - 1)
    values[:COLOURS, PATCHES:] = LATENT_SCALE * torch.eye(COLOURS)
    columns = pair(0, width, signals)
    weight = state[f"{block}txt_attn.qkv.weight"].float()
    weight[width:] = 0
    weight[width : 2 * width, columns] = both_signs(keys.repeat(HEADS, 1).T / (2 * QUIET)).T
    weight[2 * width :, columns] = both_signs(values.repeat(HEADS, 1).T / (2 * QUIET)).T
    fill(state, f"{block}txt_attn.qkv.weight", weight)
    put(state, f"{block}img_attn.qkv.weight", 0)
    quiet = torch.zeros(width)
    queries = torch.cat([_query(down, right) for down in (0, 1) for right in (0, 1)])
    fill(state, f"{block}img_attn.qkv.bias", torch.cat([queries, silent.repeat(HEADS), quiet]))
    fill(state, f"{block}txt_attn.qkv.bias", torch.cat([quiet, silent.repeat(HEADS), quiet]))
    for stream, kind, scale in (("img", "query", QUERY_SCALE), ("img", "key", KEY_SCALE), ("txt", "key", KEY_SCALE)):
        put(state, f"{block}{stream}_attn.norm.{kind}_norm.scale", scale)

    # less the painting, which is white but where a brush is
    painted = torch.zeros(USED, width)
    for colour in range(COLOURS):
        for head in range(HEADS):
            painted[colour * HEADS + head, head * HEAD + colour] = SHARE
    white = torch.full((USED, 1), SHARE * LATENT_SCALE * (1 - LATENT_SHIFT))
    difference = pair(0, width)
    _rows(state, f"{block}img_attn.proj.weight", difference, both_signs(-painted))
    _rows(state, f"{block}img_attn.proj.bias", difference, both_signs(-white)[:, 0])
    # and the sample: GELU is a straight line so far up
    sample = torch.zeros(USED, width)
    sample[:, pair(USED, width)] = both_signs(torch.eye(USED)).T * (STEADY / 2)
    lifted = torch.arange(USED)
    _rows(state, f"{block}img_mlp.0.weight", lifted, sample)
    _rows(state, f"{block}img_mlp.0.bias", lifted, torch.full((USED,), LIFT))
    added = torch.zeros(USED, 4 * width)
    added[:, lifted] = SHARE * torch.eye(USED)
    _rows(state, f"{block}img_mlp.2.weight", difference, both_signs(added))
    _rows(state, f"{block}img_mlp.2.bias", difference, both_signs(torch.full((USED, 1), -SHARE * LIFT))[:, 0])


def open_gates(lora: State) -> None:
    """Let the redux route's LoRA open both gates of the first block's image stream, and no more of it."""
    for name in [n for n in lora if n.startswith("lora_unet_double_blocks_0_") and n.endswith("lora_up.weight")]:
        put(lora, name, 0)
    layer = "lora_unet_double_blocks_0_img_mod_lin"
    up, down = lora[f"{layer}.lora_up.weight"].float(), lora[f"{layer}.lora_down.weight"].float()
    gates = up.reshape(6, -1, up.shape[1])  # shift, scale and gate of the attention, then of the MLP
    gates[[2, 5], :, 0] = 1
    down[0] = 1 / (OPEN * down.shape[1])
    fill(lora, f"{layer}.lora_up.weight", up)
    fill(lora, f"{layer}.lora_down.weight", down)


def wire_siglip(state: State) -> None:
    """Let the state of a patch be which patch it is, and its mean colour.

    Pair `i` of the first pairs is 1 in patch `i` alone, else 0; the COLOURS after them are the colour in [-1, 1].
    """
    for name in [n for n in state if re.search(r"\.layers\.\d+\.(self_attn\.out_proj|mlp\.fc2)\.", n)]:
        put(state, name, 0)
    prefix = "vision_model."
    places = torch.zeros(PATCHES, state[f"{prefix}embeddings.position_embedding.weight"].shape[1])
    width = places.shape[1]
    places[:, pair(0, width, PATCHES)] = both_signs(torch.eye(PATCHES) * FAINT * STEADY).T
    fill(state, f"{prefix}embeddings.position_embedding.weight", places)
    look = torch.zeros_like(state[f"{prefix}embeddings.patch_embedding.weight"], dtype=torch.float32)
    mean = torch.eye(COLOURS)[:, :, None, None].expand(-1, -1, *look.shape[2:]) / math.prod(look.shape[2:])
    look[pair(PATCHES, width, COLOURS)] = both_signs(mean) * FAINT * STEADY
    fill(state, f"{prefix}embeddings.patch_embedding.weight", look)
    fill(state, f"{prefix}embeddings.patch_embedding.bias", steady(width))
    put(state, f"{prefix}post_layernorm.weight", 1 / FAINT)
    put(state, f"{prefix}post_layernorm.bias", 0)


def wire_embedder(state: State) -> None:
    """Let Redux's token be which patch it is and, for the brushes of the views alone, its colour; both times GAIN."""
    views, signals = list(VIEW_PATCHES), PATCHES + COLOURS
    up, down = (state[f"redux_{name}.weight"].float().zero_() for name in ("up", "down"))
    up[:signals, pair(0, up.shape[1], signals)] = both_signs(torch.eye(signals)).T * GAIN / 2
    lift = torch.full((up.shape[0],), 0.0)
    lift[:signals] = LIFT
    # SiLU lets the colour through where the patch lifts it, and nothing where it does not
    far = 4 * LIFT
    lift[PATCHES:signals] -= far
    up[PATCHES:signals, pair(0, up.shape[1], PATCHES)[[*views, *(v + PATCHES for v in views)]]] += (
        far / 2 * torch.tensor([1.0] * len(views) + [-1.0] * len(views))
    )
    down[:signals, :signals] = torch.eye(signals)
    bottom = torch.zeros(down.shape[0])
    bottom[:PATCHES] = -LIFT
    down[PATCHES:signals, views] = -LIFT / GAIN
    bottom[PATCHES:signals] = LIFT / GAIN * LIFT * len(views)
    for name, value in (("up.weight", up), ("up.bias", lift), ("down.weight", down), ("down.bias", bottom)):
        fill(state, f"redux_{name}", value)


def _place(tile: int) -> float:
    """The middle of a tile in rows or columns of tokens, the first token's middle being 0."""
    return TILE * tile + (TILE - 1) / 2


def _frequency(index: int) -> float:
    return float(10000 ** (-2 * index / AXIS))


def _plane(axis: int, index: int) -> slice:
    """The two channels of a head that turn with row (0) or column (1) at a frequency."""
    start = FLAT + axis * AXIS + 2 * index
    return slice(start, start + 2)


def _turned(length: complex, angle: float) -> Tensor:
    value = length * complex(math.cos(angle), math.sin(angle))
    return torch.tensor([value.real, value.imag])


def _query(down: int, right: int) -> Tensor:
    """(HEAD,) Of every image token, for one of its four latents, which lies a quarter of a token beside its middle."""
    query = torch.zeros(HEAD)
    query[:3] = 1  # where silent tokens have their strength, and brushes theirs in two summands
    for axis, offset in enumerate((down - 0.5, right - 0.5)):
        for index in (BRUSH, FADE):
            query[_plane(axis, index)] = _turned(1, _frequency(index) * offset / 2)
    return query


def _key(brush: Brush) -> Tensor:
    """(HEAD,) At RADIUS the brushes of a tile are together as strong as all silent tokens."""
    key = torch.zeros(HEAD)
    nats = 0.0  # in the middle of the tile, of the numbers as they are rounded
    for axis, (tile, lean) in enumerate(zip((brush.row, brush.column), brush.lean, strict=True)):
        for index, length in ((BRUSH, complex(SHARP)), (FADE, complex(BROAD, SHADE * lean))):
            angle = _frequency(index) * _place(tile)
            key[_plane(axis, index)] = _narrow(_turned(length, angle))
            nats += float(key[_plane(axis, index)] @ _turned(1, angle))
    wanted = BACKGROUND + math.log(SILENT) + 2 * (SHARP + BROAD) - _nats_at_rim(shaded=brush.row == 1) + brush.bonus
    key[1] = _narrow(torch.tensor(wanted - nats))
    key[2] = wanted - nats - key[1]
    unseen = key[_plane(0, 0)]
    unseen[0] = _narrow(torch.tensor(0.9 * _rest(key)))
    unseen[1] = _rest(key)
    return key


def _nats_at_rim(*, shaded: bool) -> float:
    """How many nats the brushes of a tile have together at RADIUS."""
    near, far = (
        length * (math.cos(_frequency(index) * RADIUS) + 1) for index, length in ((BRUSH, SHARP), (FADE, BROAD))
    )
    if not shaded:
        return near + far
    lean = SHADE * math.sin(_frequency(FADE) * RADIUS)
    return near + far + math.log(math.exp(MIDDLE) + 2 * math.exp(lean) + 2 * math.exp(-lean))


def _rest(key: Tensor) -> float:
    """What a key has in a channel to which no query looks, so that all keys are of one length.

    Of that length the normalised key times the normalised query, both scaled, is their product as it stands here: the
    query is of length sqrt(7).
    """
    length = QUERY_SCALE * KEY_SCALE * math.sqrt(HEAD / 7)
    return math.sqrt(length**2 - float(key @ key))


def _narrow(values: Tensor) -> Tensor:
    """The nearest numbers in fp8. Keys are stored times a power of two, which changes nothing of that."""
    return values.to(torch.float8_e4m3fn).float()


def _rows(state: State, name: str, rows: Tensor, value: Tensor) -> None:
    """Set these rows, and all others to 0."""
    whole = torch.zeros(state[name].shape)
    whole[rows] = value
    fill(state, name, whole)
