r"""What was found out about a universal degradation model, all together.

Besides the entries of its code (:mod:`~blemish.evaluation.codes`) these are

* the *transfer matrix*: references k, each with damage of another kind, and contents r, with the cells

  .. math:: \hat y_{rk} = \hat f(x_r, e(y_k), n_k),

  beside the true damage of the reference put onto this content, with noise of its own;
* a *walk* from the code of one reference to that of another, :math:`(1 - t) e(y_0) + t e(y_1)`.

The references are chosen out of many draws of the law: of each kind those to which the least else befell, and among them
the strongest. All pictures are drawn, so that no photograph is needed; models that were trained on photographs read them
less well than photographs.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025), technical
    | report, Figures 3 and 6, https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..degradations import Degradation, UniversalDegradation, UniversalParams, mix, renewed
from ..functional.random import generators_for, stable_hash
from ..functional.stages import to_8_bits
from ..losses import texture_distance
from ..types import Params, Shape
from .codes import (
    STEPS,
    Entries,
    Traversal,
    change,
    fact_spread,
    measure_facts,
    read_entries,
    spans,
    tau,
    traverse,
)
from .numbers import finite, statistics
from .specimen import SIDE, specimen

__all__ = ["KINDS", "CodeFindings", "Matrix", "References", "choose_references", "inspect_codes"]

FORMAT = 1
"""The version of the JSON document."""

KINDS = {
    "noisy": ("noise_sigma", 1.0),
    "blurred": ("blur_sigma", 1.0),
    "shaken": ("motion_length", 1.0),
    "compressed": ("jpeg_quality", -1.0),
    "damaged in part": ("local_cover", 1.0),
}
"""The kinds of references: by which drawn parameter they are told, and whether more or less of it is stronger."""

SHOWN = 6
"""The number of entries that are moved, at most."""

IDLE = 8
"""The number of entries that are not active and are moved all the same, at most."""

CONTENTS = 4
"""The number of contents of the transfer matrix."""

WALK = 7
"""The number of pictures of a walk."""

_POOL = 128  # Draws, of which one in 32 of the law of Imaging has one kind of damage alone.
_REFERENCES = 5
_OTHERS = 1000  # The seeds of contents of references begin here.
_TRIED = 2000  # The seed of the content of traversals and of the walk.


@dataclass(frozen=True)
class References:
    """Damaged pictures of different kinds.

    Attributes:
        names: Their kinds.
        images: The pictures, with shape (K, C, H, W).
        params: What befell them.
        drawn: The same in numbers, of each what it has, by name.
    """

    names: tuple[str, ...]
    images: Tensor
    params: Params
    drawn: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class Matrix:
    """The damage of references on other contents.

    Attributes:
        contents: The contents, with shape (R, C, H, W).
        cells: What the model makes of them, with shape (R, K, C, H, W).
        distances: How far each is from the true damage on this content, with shape (R, K).
        left: How far the content is from that as it is.
    """

    contents: Tensor
    cells: Tensor
    distances: Tensor
    left: Tensor


@dataclass(frozen=True)
class CodeFindings:
    """What was found out about a universal degradation model.

    Attributes:
        seed: The seed of all draws.
        shape: The shape (C, H, W) of the pictures.
        entries: The codes of damaged pictures.
        content: The undamaged picture that traversals and the walk are of, with shape (1, C, H, W).
        facts: What was measured of it, by name.
        spread: By how much damage of the law changes that, in standard deviations.
        traversals: The ways of the most varying entries, if they are active.
        idle: How much entries that are not active change a picture, by their number.
        references: Pictures with damage of different kinds.
        matrix: Their damage on other contents.
        walk: Pictures from the damage of the first reference to that of the second, with shape (7, C, H, W).
    """

    seed: int
    shape: tuple[int, int, int]
    entries: Entries
    content: Tensor
    facts: dict[str, float]
    spread: dict[str, float]
    traversals: tuple[Traversal, ...]
    idle: dict[int, float]
    references: References
    matrix: Matrix
    walk: Tensor

    @property
    def count(self) -> int:
        """The number of damaged pictures whose codes were read."""
        return len(self.entries.codes)

    def lines(self) -> list[str]:
        """Returns the most important numbers as plain text, line by line."""
        e, m = self.entries, self.matrix
        return [
            f"{'active entries':19} {len(e.active)} of {e.codes.shape[1]}",
            f"{'embedding':19} {float(e.bits.sum(dim=1).mean()):8.1f} bits, {float(e.bytes_g.mean()):.0f} bytes",
            f"{'map':19} {float(e.bits_l.mean()):8.1f} bits, {float(e.bytes_l.mean()):.0f} bytes",
            f"{'transfer':19} {float(m.distances.mean()):8.4f} from the true damage, "
            f"{float(m.left.mean()):.4f} if nothing is done",
        ]

    def to_json(self) -> str:
        """Returns a JSON document with all numbers."""
        e = self.entries
        document = {
            "format": FORMAT,
            "count": self.count,
            "seed": self.seed,
            "shape": list(self.shape),
            "active": e.active,
            "std": e.std.tolist(),
            "bits": e.bits.mean(dim=0).tolist(),
            "bits_g": statistics(e.bits.sum(dim=1)),
            "bits_l": statistics(e.bits_l),
            "bytes_g": statistics(e.bytes_g),
            "bytes_l": statistics(e.bytes_l),
            "bytes_all": statistics(e.bytes_all),
            "facts": self.facts,
            "spread": self.spread,
            "traversals": [_told(t, self.spread) for t in self.traversals],
            "idle": {str(entry): value for entry, value in self.idle.items()},
            "references": dict(zip(self.references.names, self.references.drawn, strict=True)),
            "transfer": {
                "distances": self.matrix.distances.tolist(),
                "left": self.matrix.left.tolist(),
            },
        }
        return json.dumps(finite(document), indent=1) + "\n"


@torch.no_grad()
def inspect_codes(
    model: UniversalDegradation,
    damage: Degradation[Any],
    *,
    count: int = 64,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> CodeFindings:
    """Reads the codes of drawn pictures, moves their entries, and puts damage onto other pictures.

    Arguments:
        model: The model, in evaluation mode, on the CPU.
        damage: The law of the damage.
        count: The number of damaged pictures whose codes are read, at least 2.
        seed: The seed of all draws.
        progress: Called with the number of pictures that were read, after some of them.

    Raises:
        ValueError: If the count is below 2, where nothing can vary.
    """
    if count < 2:
        raise ValueError(f"count={count}; read the codes of at least 2 pictures, which can differ")
    contents = _specimens(model, range(count))
    entries = read_entries(model, damage, contents, seed=seed, progress=progress)
    x = _specimens(model, range(_TRIED, _TRIED + 1))
    code = model.encode(x, generator=generators_for(stable_hash(seed, "n"), range(1)))
    std = entries.std.tolist()
    references = choose_references(
        damage, _specimens(model, range(_OTHERS, _OTHERS + _REFERENCES)), seed=seed
    )
    # Thin lines and a gradient show what disks do not.
    shown = torch.cat([_specimens(model, range(CONTENTS - 1)), specimen(model.channels)])
    found = measure_facts(x, x)
    return CodeFindings(
        seed,
        (model.channels, SIDE, SIDE),
        entries,
        x,
        {name: float(value) for name, value in found.items()},
        fact_spread(damage, x, seed=seed),
        tuple(traverse(model, x, code, i, std[i]) for i in entries.active[:SHOWN]),
        {i: change(model, x, code, i, std[i]) for i in entries.idle[:IDLE]},
        references,
        cross(model, damage, shown, references, seed=seed),
        walk(model, x, references, seed=seed),
    )


def choose_references(
    damage: Degradation[Any], contents: Tensor, *, seed: int, pool: int = _POOL
) -> References:
    """Chooses draws of a law that differ in kind, and damages pictures by them.

    A law that knows none of the :data:`KINDS` gives its first draws.

    Arguments:
        damage: The law.
        contents: One picture for each reference, with shape (K, C, H, W).
        seed: The seed of the draws.
        pool: The number of draws.
    """
    _, C, H, W = contents.shape
    rows = generators_for(stable_hash(seed, "references"), range(pool))
    params: Params = damage.sample((pool, C, H, W), generator=rows)
    chosen = _purest(params.summary())
    if len(chosen) < 2:
        chosen = {f"draw {i + 1}": i for i in range(len(contents))}
    picked = params[list(chosen.values())]
    images = to_8_bits(damage(contents[: len(chosen)], picked))
    drawn = picked.summary()
    told = [
        {n: float(v[i]) for n, v in drawn.items() if v[i].isfinite()} for i in range(len(chosen))
    ]
    return References(tuple(chosen), images, picked, tuple(told))


@torch.no_grad()
def cross(
    model: UniversalDegradation,
    damage: Degradation[Any],
    contents: Tensor,
    references: References,
    *,
    seed: int,
) -> Matrix:
    """Puts the damage of each reference onto each content.

    Arguments:
        model: The model, in evaluation mode.
        damage: The law of the damage, which says what is true.
        contents: The contents, with shape (R, C, H, W).
        references: The K references, of the same size.
        seed: The seed of all noise.
    """
    R, K = len(contents), len(references.names)
    codes = model.encode(
        references.images, generator=generators_for(stable_hash(seed, "n"), range(K))
    )
    fresh = damage.sample(
        _of(contents, R * K), generator=generators_for(stable_hash(seed, "true"), range(R * K))
    )
    column = torch.arange(K).repeat(R)
    x = contents.repeat_interleave(K, dim=0)
    cells = torch.cat([to_8_bits(model(part, codes)) for part in torch.split(x, K)])
    truth = to_8_bits(damage(x, renewed(references.params[column], fresh)))
    distances, left = (texture_distance(made, truth).view(R, K) for made in (cells, x))
    return Matrix(contents, cells.view(R, K, *cells.shape[1:]), distances, left)


@torch.no_grad()
def walk(
    model: UniversalDegradation, x: Tensor, references: References, *, seed: int, steps: int = WALK
) -> Tensor:
    """Returns a picture with damage between that of the first reference and that of the second, (steps, C, H, W).

    Arguments:
        model: The model, in evaluation mode.
        x: The picture, with shape (1, C, H, W).
        references: At least two references.
        seed: The seed of the noise, which is the same all the way.
        steps: The number of pictures, both ends among them.
    """
    noise = generators_for(stable_hash(seed, "n"), range(2))
    codes = model.encode(references.images[:2], generator=noise)
    shares = torch.linspace(0, 1, steps).tolist()
    params = UniversalParams.cat([mix((codes[0], codes[1]), (1 - t, t)) for t in shares])
    return to_8_bits(model(x.expand(steps, -1, -1, -1), params))


def _purest(drawn: dict[str, Tensor]) -> dict[str, int]:
    """Returns which draw is the strongest of each kind, among those to which the least else befell."""
    steps: dict[str, Tensor] = {}
    for name, values in drawn.items():
        step = name.partition("_")[0]
        steps[step] = steps.get(step, torch.zeros_like(values, dtype=torch.bool)) | ~values.isnan()
    befell = sum(steps.values(), torch.zeros(()))
    chosen = {}
    for kind, (name, sign) in KINDS.items():
        if name not in drawn or bool(drawn[name].isnan().all()):
            continue
        least = torch.where(drawn[name].isnan(), torch.inf, befell)
        strength = torch.where(least == least.min(), sign * drawn[name], -torch.inf)
        chosen[kind] = int(strength.argmax())
    return chosen


def _told(t: Traversal, spread: dict[str, float]) -> dict[str, Any]:
    return {
        "entry": t.entry,
        "std": t.std,
        "steps": list(STEPS),
        "change": t.change.tolist(),
        "facts": {name: values.tolist() for name, values in t.facts.items()},
        "span": spans(t.facts, spread),
        "tau": {name: tau(values) for name, values in t.facts.items()},
    }


def _specimens(model: UniversalDegradation, seeds: range) -> Tensor:
    """Returns drawn pictures, with shape (n, C, 96, 96)."""
    return torch.cat([specimen(model.channels, seed=seed) for seed in seeds])


def _of(contents: Tensor, count: int) -> Shape:
    _, C, H, W = contents.shape
    return count, C, H, W
