"""What happens to the pictures when the tokens of a scene are edited: the latent space of the view synthesis model.

Every edit is made to the scenes of objects that were never trained on, read from four views, and measured on views that
were not given: against the truth, and against what the unedited scene draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.lvsm.network import Lvsm
from kiss3d_cli.models.lvsm.quality import psnr
from kiss3d_cli.training.lvsm import held_out_batches

DRAWS = 3
"""Random choices of tokens over which a row is averaged."""
SHOWN = 4
"""Objects on a sheet."""
LEARNING, STEPS, LEARNED_ON = 0.03, 40, 4
"""Of the search for an identity token: Adam's rate, its steps, and on how many of the objects."""
HARDLY = 1.0
"""dB: if another object's scene costs less, the network draws much the same whatever it is given."""
DIRECTIONS, DEVIATIONS = 4, (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Row:
    """One kind of edit, at one strength.

    Attributes:
        edit: in words.
        tokens: of the edited scene.
        psnr: of the views, in dB, against the truth.
        kept: the same against what the unedited scene draws; 100 is no change.
    """

    edit: str
    tokens: int
    psnr: float
    kept: float


@dataclass(frozen=True)
class Finding:
    """What one kind of edit does.

    Attributes:
        name, question: of the edit.
        rows: the table. sheet: pictures, labelled by `columns`.
        answer: in a sentence or two, from this model's figures.
    """

    name: str
    question: str
    rows: tuple[Row, ...]
    sheet: UInt8[np.ndarray, "H W 3"]
    columns: tuple[str, ...]
    answer: str


@dataclass
class Subjects:
    """Objects whose scenes are edited.

    Attributes:
        network: that reads and draws them.
        scene: (B, N, C). queries: (B, T, 11, S, S) of the views that are drawn. truth: their colours on white.
        rng: of every choice.
        plain: what the unedited scenes draw.
    """

    network: Lvsm
    scene: Float[Tensor, "B N C"]
    queries: Float[Tensor, "B T 11 S S"]
    truth: Float[Tensor, "B T 3 S S"]
    rng: torch.Generator
    plain: Float[Tensor, "B T 3 S S"] = field(init=False)

    def __post_init__(self) -> None:
        self.plain = self.draw(self.scene)

    @property
    def tokens(self) -> int:
        return self.scene.shape[1]

    def draw(self, scene: Float[Tensor, "B M C"]) -> Float[Tensor, "B T 3 S S"]:
        return self.network.decode(scene, self.queries)[:, :, :3].clamp(0, 1)

    def measure(self, edit: str, scenes: Sequence[Tensor]) -> Row:
        """The mean over some edited versions of all scenes."""
        drawn = [self.draw(scene) for scene in scenes]
        good = float(np.mean([float(psnr(one, self.truth).mean()) for one in drawn]))
        kept = float(np.mean([float(psnr(one, self.plain).mean()) for one in drawn]))
        return Row(edit, scenes[0].shape[1], good, kept)

    def order(self) -> Tensor:
        return torch.randperm(self.tokens, generator=self.rng)

    def noise(self, count: int) -> Float[Tensor, "B K C"]:
        """Tokens of the mean and spread of the scenes' own, channel by channel, but of no object."""
        flat = self.scene.flatten(0, 1)
        drawn = torch.randn(len(self.scene), count, flat.shape[1], generator=self.rng)
        return flat.mean(0) + flat.std(0) * drawn

    def fractions(self) -> list[int]:
        """Counts of tokens from one to all."""
        return sorted({1, *(max(1, self.tokens * part // 8) for part in (1, 2, 4, 6, 8))})


@torch.inference_mode()
def read_subjects(network: Lvsm, views: Path, count: int, seed: int) -> Subjects:
    """The scenes of the first objects of a folder of posed shards.

    Raises:
        BadInput: fewer than two objects. Missing: no shards.
    """
    batches = list(
        held_out_batches(views, dataclasses.replace(network.config, carved=False), [0, 1, 2, 3], False, 2 * count)
    )
    planes = [batch.planes() for batch in batches]
    scene = torch.cat([network.encode(given) for given, _ in planes]) if planes else torch.zeros(0, 0, 0)
    if len(scene) < 2:
        raise BadInput(f"{len(scene)} objects are too few to compare", place=str(views), hint="give other --views")
    truth = torch.cat([batch.asked.rgba[:, :, :3] for batch in batches])
    return Subjects(
        network, scene, torch.cat([asked for _, asked in planes]), truth, torch.Generator().manual_seed(seed)
    )


def change(of: Subjects) -> Finding:
    """Values of tokens changed: noise of the tokens' own spread, and zeros."""
    rows, shown = [of.measure("none", [of.scene])], [of.plain]
    for count in of.fractions():
        for kind in ("noise added", "set to zero"):
            scenes = []
            for _ in range(DRAWS):
                which, edited = of.order()[:count], of.scene.clone()
                spread = of.scene.flatten(0, 1).std(0)
                added = edited[:, which] + spread * torch.randn(edited[:, which].shape, generator=of.rng)
                edited[:, which] = added if kind == "noise added" else 0
                scenes.append(edited)
            rows.append(of.measure(f"{count} {kind}", scenes))
            if kind == "noise added":
                shown.append(of.draw(scenes[0]))
    one, all_ = rows[1], rows[-2]
    rows.append(of.measure("another object's scene", [of.scene.roll(1, 0)]))
    shown.append(of.draw(of.scene.roll(1, 0)))
    answer = (
        f"Noise as large as the tokens' own spread in one token of {of.tokens} costs {rows[0].psnr - one.psnr:.2f} dB, "
        f"in all of them {rows[0].psnr - all_.psnr:.2f} dB: "
        + _spread_out(rows[0].psnr - one.psnr, rows[0].psnr - rows[-1].psnr)
    )
    columns = ("true", "unedited", *(f"{count}" for count in of.fractions()), "another's")
    return Finding("change", "What do the values of single tokens do?", tuple(rows), _sheet(of, shown), columns, answer)


def _spread_out(cost: float, other: float) -> str:
    if other < HARDLY:
        return (
            f"another object's whole scene costs {other:.2f} dB. This network hardly reads its scenes yet: train it "
            "further before any of these answers is taken for one about trained networks."
        )
    return "what a scene holds is spread over its tokens." if cost < 0.5 else "single tokens matter."


def drop(of: Subjects) -> Finding:
    """Random tokens left out."""
    rows, shown = [of.measure("none", [of.scene])], [of.plain]
    counts = [of.tokens - count for count in of.fractions() if count < of.tokens]
    for left in [*counts, 1] if 1 not in counts else counts:
        scenes = [of.scene[:, of.order()[:left].sort().values] for _ in range(DRAWS)]
        rows.append(of.measure(f"{of.tokens - left} left out", scenes))
        shown.append(of.draw(scenes[0]))
    half = min(rows, key=lambda row: abs(row.tokens - of.tokens / 2))
    answer = (
        f"With {half.tokens} of {of.tokens} tokens, PSNR falls from {rows[0].psnr:.2f} to {half.psnr:.2f} dB; with "
        f"{rows[-1].tokens} it is {rows[-1].psnr:.2f} dB."
    )
    columns = ("true", *(f"{row.tokens} tokens" for row in rows))
    return Finding("drop", "What do missing tokens cost?", tuple(rows), _sheet(of, shown), columns, answer)


def add(of: Subjects) -> Finding:
    """Tokens appended: zeros, noise, and those of another object."""
    rows, shown = [of.measure("none", [of.scene])], [of.plain]
    other = of.scene.roll(1, 0)
    kinds: Mapping[str, Callable[[int], Tensor]] = {
        "zeros": lambda count: torch.zeros_like(of.scene[:, :1]).expand(-1, count, -1),
        "noise": of.noise,
        "of another object": lambda count: other[:, of.order()[:count]],
    }
    for kind, make in kinds.items():
        rows += [of.measure(f"{count} {kind}", [torch.cat([of.scene, make(count)], 1)]) for count in of.fractions()]
        shown.append(of.draw(torch.cat([of.scene, make(of.tokens)], 1)))
    last = {kind: next(row for row in rows[::-1] if row.edit.endswith(kind)) for kind in kinds}
    answer = (
        "As many again: "
        + ", ".join(f"{kind} {row.psnr - rows[0].psnr:+.2f} dB" for kind, row in last.items())
        + ". An exact identity would keep 100 dB of what was drawn; the best kept "
        + (f"{max(row.kept for row in rows[1:]):.1f} dB.")
    )
    columns = ("true", "unedited", *(f"{of.tokens} {kind}" for kind in kinds))
    return Finding("add", "What do tokens change that are added?", tuple(rows), _sheet(of, shown), columns, answer)


def repeat(of: Subjects) -> Finding:
    """Tokens given twice or more: the whole scene, and some of it."""
    rows, shown = [of.measure("none", [of.scene])], [of.plain]
    for times in (2, 3):
        rows.append(of.measure(f"all {times} times", [of.scene.repeat(1, times, 1)]))
        shown.append(of.draw(of.scene.repeat(1, times, 1)))
    for count in of.fractions()[:-1]:
        scenes = [torch.cat([of.scene, of.scene[:, of.order()[:count]]], 1) for _ in range(DRAWS)]
        rows.append(of.measure(f"{count} twice", scenes))
    answer = (
        f"A scene given twice costs {rows[0].psnr - rows[1].psnr:.2f} dB: the tokens attend among themselves "
        "as before, but a target's patches give their own tokens half the weight that they had."
    )
    columns = ("true", "unedited", "twice", "three times")
    return Finding("repeat", "What if tokens come twice?", tuple(rows), _sheet(of, shown), columns, answer)


def permute(of: Subjects) -> Finding:
    """The order of tokens changed."""
    scenes = [of.scene[:, of.order()] for _ in range(DRAWS)]
    rows = (of.measure("none", [of.scene]), of.measure("shuffled", scenes))
    worst = max(float((of.draw(scene) - of.plain).abs().max()) for scene in scenes)
    answer = (
        f"Nothing but rounding: the largest difference of a colour is {worst:.1e}. No token knows its place in "
        "the row; a scene is a set."
    )
    sheet = _sheet(of, [of.plain, of.draw(scenes[0])])
    return Finding("permute", "Does the order of tokens matter?", rows, sheet, ("true", "unedited", "shuffled"), answer)


def interpolate(of: Subjects) -> Finding:
    """From one object's scene to another's."""
    other, shares = of.scene.roll(-1, 0), np.linspace(0, 1, 7).tolist()
    ends = of.draw(other)
    rows, shown, fades = [], [], []
    for share in shares:
        drawn = of.draw(torch.lerp(of.scene, other, share))
        fade = torch.lerp(of.plain, ends, share)
        fades.append(float(psnr(drawn, fade).mean()))
        rows.append(
            Row(
                f"{share:.2f} of the way",
                of.tokens,
                float(psnr(drawn, ends).mean()),
                float(psnr(drawn, of.plain).mean()),
            )
        )
        shown.append(drawn)
    middle = fades[len(fades) // 2]
    kind = "close to" if middle > 25 else "unlike"
    answer = (
        f"Half-way, the picture is {kind} a cross-fade of the two ends ({middle:.1f} dB between them). In this table "
        "the first PSNR is against the other object's picture."
    )
    columns = ("true", *(f"{share:.2f}" for share in shares))
    return Finding(
        "interpolate", "Can one object be turned into another?", tuple(rows), _sheet(of, shown), columns, answer
    )


def directions(of: Subjects) -> Finding:
    """Along the principal directions of the scenes, from their mean."""
    flat = of.scene.flatten(1)
    mean = flat.mean(0)
    _, lengths, axes = torch.linalg.svd(flat - mean, full_matrices=False)
    share = lengths.square() / lengths.square().sum()
    rows, tiles = [], []
    for number in range(min(DIRECTIONS, len(lengths) - 1)):
        sign = torch.sign(axes[number].sum())
        step = sign * axes[number] * lengths[number] / len(flat) ** 0.5
        scenes = [(mean + deviation * step).view_as(of.scene[0])[None] for deviation in DEVIATIONS]
        drawn = [of.network.decode(scene, of.queries[:1, :1])[0, 0, :3].clamp(0, 1) for scene in scenes]
        tiles.append(torch.cat(drawn, -1))
        near = float(psnr(drawn[0], drawn[-1]))
        rows.append(Row(f"direction {number + 1}: {float(share[number]):.1%} of the variance", of.tokens, near, near))
    first = float(share[: len(rows)].sum())
    answer = (
        f"The first {len(rows)} directions hold {first:.0%} of the variance of {len(flat)} scenes. In this table "
        "PSNR is between the two ends of each direction: the lower, the more it changes."
    )
    columns = tuple(f"{deviation:+g} deviations" for deviation in DEVIATIONS)
    sheet = (torch.cat(tiles, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    return Finding("directions", "What do the principal directions show?", tuple(rows), sheet, columns, answer)


def identity(of: Subjects) -> Finding:
    """A token sought whose addition changes nothing."""
    count = min(LEARNED_ON, len(of.scene) - 1)
    mean = of.scene.mean((0, 1))
    with torch.inference_mode(False), torch.enable_grad():
        scene, queries, plain = (value[:count].clone() for value in (of.scene, of.queries, of.plain))

        def changed(token: Tensor) -> Tensor:
            """What the addition changes, once and for a quarter as many tokens again."""
            scenes = (torch.cat([scene, token.expand(count, number, -1)], 1) for number in (1, max(1, of.tokens // 4)))
            drawn = (of.network.decode(one, queries)[:, :, :3].clamp(0, 1) for one in scenes)
            return torch.stack([(one - plain).square().mean() for one in drawn]).mean()

        starts = [torch.zeros_like(scene[0, 0]), mean.clone()]
        token = min(starts, key=lambda start: float(changed(start).detach())).requires_grad_()
        optimizer = torch.optim.Adam([token], LEARNING)
        best, found = float("inf"), token.detach().clone()
        for _ in range(STEPS):
            loss = changed(token)
            if float(loss.detach()) < best:
                best, found = float(loss.detach()), token.detach().clone()
            (token.grad,) = torch.autograd.grad(loss, token)
            optimizer.step()
    unseen = Subjects(of.network, of.scene[count:], of.queries[count:], of.truth[count:], of.rng)
    rows, shown = [unseen.measure("none", [unseen.scene])], [unseen.plain]
    for kind, one in (("zero", torch.zeros_like(mean)), ("mean", mean), ("sought", found)):
        for number in (1, max(1, of.tokens // 4), of.tokens):
            extra = one.expand(len(unseen.scene), number, -1)
            rows.append(unseen.measure(f"{number} of the {kind} token", [torch.cat([unseen.scene, extra], 1)]))
        shown.append(unseen.draw(torch.cat([unseen.scene, extra], 1)))
    once, many = rows[7], rows[9]
    verdict = "For pictures of 8 bits it is one" if many.kept > 48 else "It is none for sequences of any length"
    answer = (
        f"Sought by gradient on {count} objects and tried on {len(unseen.scene)} others, one added token keeps "
        f"{once.kept:.1f} dB of what was drawn, {of.tokens} keep {many.kept:.1f} dB (100 is no change; 48 dB is half a "
        f"level of 8 bits). {verdict}. An exact one can't be: queries and keys are normalised, so every token takes "
        "some of the attention."
    )
    columns = ("true", "unedited", *(f"{of.tokens} x {kind}" for kind in ("zero", "mean", "sought")))
    question = "Is there an identity token, whose addition changes nothing?"
    return Finding("identity", question, tuple(rows), _sheet(unseen, shown), columns, answer)


EDITS: Mapping[str, Callable[[Subjects], Finding]] = {
    edit.__name__: edit for edit in (change, drop, add, repeat, permute, interpolate, directions, identity)
}


def study(of: Subjects, edits: Sequence[str]) -> list[Finding]:
    """What each of some edits does; the same for the same seed."""
    with torch.inference_mode():
        return [EDITS[name](of) for name in edits]


def _sheet(of: Subjects, drawn: Sequence[Float[Tensor, "B T 3 S S"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Of each object one row: the truth, then what each edit draws."""
    columns = [one[:SHOWN, 0] for one in (of.truth, *drawn)]
    rows = torch.cat(columns, -1).permute(0, 2, 3, 1)
    return (rows.flatten(0, 1) * 255).round().byte().numpy()
