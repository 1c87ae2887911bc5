r"""How well a universal degradation model reads and transfers damage.

Damage :math:`\theta` is drawn once and put onto two contents, :math:`y_a = d(x_a, \theta)` and
:math:`y_b = d(x_b, \theta)`. With a distance D that compares textures:

============  =======================================================  =============================================
score         distance                                                 what it says
============  =======================================================  =============================================
reproduction  :math:`D(\hat f(x_b, e(y_b), n), y_b)`                   whether the code says enough
transfer      :math:`D(\hat f(x_a, e(y_b), n), y_a)`                   whether it does so for another content
swapped       :math:`D(\hat f(x_b, e(y_c), n), y_b)`                   whether it is used: the code of other damage
identity      :math:`D(x_b, y_b)`                                      the anchor of doing nothing
random        :math:`D(d(x_b, \theta'), y_b)`                          the anchor of some damage, not this
oracle        :math:`D(d(x_b, \theta \text{ with new noise}), y_b)`    the floor: another draw of this damage
============  =======================================================  =============================================

The *skill* is the share of the way from identity to oracle, and the *gap* transfer minus reproduction.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..degradations import (
    Degradation,
    Imaging,
    ImagingParams,
    UniversalDegradation,
    UniversalParams,
    renewed,
)
from ..functional.random import generators_for, stable_hash
from ..functional.stages import to_8_bits
from ..losses import Distance, texture_distance
from ..types import Params, Shape
from .codes import ACTIVE

__all__ = ["SCORES", "Transfer", "judge_mixed", "judge_transfer", "probe", "randomness", "ratio"]

SCORES = ("reproduction", "transfer", "swapped", "identity", "random", "oracle")
"""The names of the scores."""


@dataclass(frozen=True)
class Transfer:
    """The scores of a model.

    Attributes:
        scores: Distances by the names of :data:`SCORES`, each with shape (n,).
        bits_g: What the embeddings cost, in bits, with shape (n,).
        bits_l: What the maps cost.
        codes: The embeddings, rounded, with shape (n, n_g).
        drawn: What befell the images, by name, each with shape (n,).
    """

    scores: dict[str, Tensor]
    bits_g: Tensor
    bits_l: Tensor
    codes: Tensor
    drawn: dict[str, Tensor]

    def mean(self, name: str) -> float:
        """Returns a mean score."""
        return float(self.scores[name].mean())

    @property
    def skill(self) -> float:
        """The share of the way from identity to oracle that reproduction goes."""
        return (self.mean("identity") - self.mean("reproduction")) / self.span

    @property
    def transferred(self) -> float:
        """The share of this way that transfer goes."""
        return (self.mean("identity") - self.mean("transfer")) / self.span

    @property
    def gap(self) -> float:
        """How much farther off transfer is than reproduction."""
        return self.mean("transfer") - self.mean("reproduction")

    @property
    def swap(self) -> float:
        """How much farther off a code of other damage is, in units of the way from identity to oracle."""
        return (self.mean("swapped") - self.mean("reproduction")) / self.span

    @property
    def span(self) -> float:
        """The way from identity to oracle."""
        return self.mean("identity") - self.mean("oracle")

    @property
    def active(self) -> int:
        """The number of entries of the embedding that vary: by more than a quarter of a step."""
        return int((self.codes.std(dim=0) > ACTIVE).sum())


@torch.no_grad()
def judge_transfer(
    model: UniversalDegradation,
    damage: Degradation[Any],
    contents: Tensor,
    others: Tensor,
    *,
    seed: int,
    batch: int = 64,
    distance: Distance = texture_distance,
    local: bool = True,
) -> Transfer:
    """Judges a model by damage that is known.

    Arguments:
        model: The model, in evaluation mode.
        damage: The damage that is drawn.
        contents: The contents :math:`x_b` in [0, 1], with shape (n, C, H, W).
        others: The contents :math:`x_a`, of the same shape.
        seed: The seed of the damage and of all noise.
        batch: Images at a time.
        distance: Compares images.
        local: Whether the maps e_l are used, or replaced by those on which nothing varies (*global only*).
    """
    rows: list[dict[str, Tensor]] = []
    for start in range(0, len(contents), batch):
        x_b, x_a = contents[start : start + batch], others[start : start + batch]
        rows.append(_scores(model, damage, x_b, x_a, (seed, start), distance, local=local))
    joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    drawn = {n.removeprefix("drawn "): v for n, v in joined.items() if n.startswith("drawn ")}
    return Transfer(
        {name: joined[name] for name in SCORES},
        joined["bits_g"],
        joined["bits_l"],
        joined["codes"],
        drawn,
    )


def _scores(
    model: UniversalDegradation,
    damage: Degradation[Any],
    x_b: Tensor,
    x_a: Tensor,
    key: tuple[int, int],
    distance: Distance,
    *,
    local: bool,
) -> dict[str, Tensor]:
    shape = _shape(x_b)

    def draw(name: str) -> Params:
        seed = stable_hash(key[0], name)
        rows = range(key[1], key[1] + len(x_b))
        params: Params = damage.sample(shape, generator=generators_for(seed, rows))
        return params

    theta, fresh, wrong = draw("damage"), draw("noise"), draw("other damage")
    # The other content is damaged by the same damage with noise of its own.
    y_b, y_a = to_8_bits(damage(x_b, theta)), to_8_bits(damage(x_a, renewed(theta, fresh)))
    noise = generators_for(stable_hash(key[0], "n"), range(key[1], key[1] + len(x_b)))
    code = model.encode(y_b, generator=noise)
    if not local:
        code = UniversalParams(code.e_g, model.plain_map(shape).to(code.e_l), code.noise)
    swapped = UniversalParams(code.e_g.roll(1, 0), code.e_l.roll(1, 0), code.noise)
    bits_g, bits_l = model.bits(code)
    estimates = {
        "reproduction": (model(x_b, code), y_b),
        "transfer": (model(x_a, code), y_a),
        "swapped": (model(x_b, swapped), y_b),
        "identity": (x_b, y_b),
        "random": (damage(x_b, wrong), y_b),
        "oracle": (damage(x_b, renewed(theta, draw("again"))), y_b),
    }
    # All are compared as files would be.
    scores = {n: distance(to_8_bits(a), b) for n, (a, b) in estimates.items()}
    drawn = {f"drawn {n}": v.float() for n, v in theta.summary().items()}
    return {**scores, "bits_g": bits_g, "bits_l": bits_l, "codes": code.e_g, **drawn}


@torch.no_grad()
def judge_mixed(
    model: UniversalDegradation,
    damage: Imaging,
    contents: Tensor,
    others: Tensor,
    *,
    seed: int,
    batch: int = 64,
    distance: Distance = texture_distance,
) -> dict[str, float]:
    """Judges whether what is local and what is not are told apart: the map of one image with the embedding of another.

    The map is read off an image with local damage, the embedding off another content without. What shall come out has
    the local damage of the one and the global damage of the other.

    Arguments:
        model: The model, in evaluation mode.
        damage: The damage that is drawn, local damage among it.
        contents: The contents in [0, 1] whose local damage is read, with shape (n, C, H, W).
        others: Those whose global damage is read, of the same shape.
        seed: The seed of the damage and of all noise.
        batch: Images at a time.
        distance: Compares images.

    Returns:
        The mean distances ``model``, ``identity`` and ``oracle``.
    """
    found: dict[str, list[Tensor]] = {"model": [], "identity": [], "oracle": []}
    for start in range(0, len(contents), batch):
        x, other = contents[start : start + batch], others[start : start + batch]
        shape, rows = _shape(x), range(start, start + len(x))

        def draw(name: str, shape: Shape = shape, rows: range = rows) -> ImagingParams:
            generators = generators_for(stable_hash(seed, name), rows)
            return damage.sample(shape, generator=generators)

        first, second, fresh = draw("local"), draw("global"), draw("noise")
        noise = generators_for(stable_hash(seed, "n"), rows)
        of_local = model.encode(to_8_bits(damage(x, first)), generator=noise)
        of_global = model.encode(to_8_bits(damage(other, second.without_local())), generator=noise)
        both = replace(first, overall=second.overall)
        target = to_8_bits(damage(x, renewed(both, fresh)))
        made = model(x, UniversalParams(of_global.e_g, of_local.e_l, of_global.noise))
        found["model"].append(distance(to_8_bits(made), target))
        found["identity"].append(distance(x, target))
        found["oracle"].append(distance(to_8_bits(damage(x, both)), target))
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}


@torch.no_grad()
def randomness(
    model: UniversalDegradation,
    damage: Degradation[Any],
    contents: Tensor,
    *,
    seed: int,
    batch: int = 64,
) -> float:
    """Returns how much noise a model draws, in units of that which the damage draws.

    Two redegraded images of one code differ by what two draws of n make of it, as two damaged ones by what two draws of
    the damage's noise do. A model that paints patterns in the place of noise has 0, one that draws it 1.

    Arguments:
        model: The model, in evaluation mode.
        damage: The damage that is drawn.
        contents: The contents in [0, 1], with shape (n, C, H, W).
        seed: The seed of the damage and of all noise.
        batch: Images at a time.

    Returns:
        The ratio of the two mean squares' roots.
    """
    made, true = [], []
    for start in range(0, len(contents), batch):
        x = contents[start : start + batch]
        shape, rows = _shape(x), range(start, start + len(x))
        first, second = (
            damage.sample(shape, generator=generators_for(stable_hash(seed, name), rows))
            for name in ("damage", "noise")
        )
        y = damage(x, first)
        code, other = (
            model.encode(to_8_bits(y), generator=generators_for(stable_hash(seed, name), rows))
            for name in ("n", "other n")
        )
        true.append((y - damage(x, renewed(first, second))).square().mean(dim=(1, 2, 3)))
        made.append((model(x, code) - model(x, other)).square().mean(dim=(1, 2, 3)))
    return math.sqrt(float(torch.cat(made).mean() / torch.cat(true).mean()))


def probe(codes: Tensor, target: Tensor, *, ridge: float = 1e-2) -> float:
    """Returns how much of a target a linear function of codes tells, on the half of them that it was not fitted to.

    Arguments:
        codes: Embeddings, with shape (n, n_g).
        target: Numbers, with shape (n,); where they are NaN, a code is left out.
        ridge: How much large coefficients cost.

    Returns:
        The coefficient of determination R^2; below 0 where a constant would have been better.
    """
    known = ~target.isnan()
    X, t = codes[known].double(), target[known].double()
    X = (X - X.mean(dim=0)) / X.std(dim=0).clamp_min(1e-6)
    X = torch.cat([X, torch.ones(len(X), 1, dtype=X.dtype)], dim=1)
    fit, test = slice(0, None, 2), slice(1, None, 2)
    gram = X[fit].mT @ X[fit] + ridge * len(X) * torch.eye(X.shape[1], dtype=X.dtype)
    w = torch.linalg.solve(gram, X[fit].mT @ t[fit])
    left = (X[test] @ w - t[test]).square().sum()
    return float(1 - left / (t[test] - t[fit].mean()).square().sum())


def ratio(model: UniversalDegradation, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Returns the mean distance of embeddings of equal damage, divided by that of different damage.

    Arguments:
        model: The model.
        pairs: Damaged images of two contents, of equal damage row by row, with shapes (n, C, H, W).
    """
    near, far = [], []
    for first, second in pairs:
        a = model.global_density.rounded(model.latents(first)[0])
        b = model.global_density.rounded(model.latents(second)[0])
        near.append((a - b).norm(dim=1))
        far.append((a - b.roll(1, 0)).norm(dim=1))
    return float(torch.cat(near).mean() / torch.cat(far).mean())


def _shape(x: Tensor) -> Shape:
    B, C, H, W = x.shape
    return B, C, H, W
