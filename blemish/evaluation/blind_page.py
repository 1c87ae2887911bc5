"""The page on which people choose between two restorations without knowing whose they are.

Pairs come in random order. In every second one, at random again, the first arm stands on the left, so that a liking for one
side favours neither. The page holds pixels, encoded without loss, and neither names nor arms: what is
chosen is "left", "right" or "none", and what it means is found beside the pictures (:mod:`.choices`). A page is known
by the digest of its pictures where they stand, with the seed.

It is blind for people who look at it, not for those who would cheat: the page holds its seed, of which
:func:`plan_trials` makes the sides, and who has pictures of an arm knows them again.

Partners of different sizes would tell their arms apart, and are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import to_channels
from ..functional.random import generator_for
from .pages import render
from .pictures import Picture, picture

__all__ = [
    "BlindPair",
    "Trial",
    "blind_page",
    "blind_pair",
    "page_digest",
    "pair_digest",
    "plan_trials",
]


@dataclass(frozen=True)
class Trial:
    """One choice: of which pair, and which arm stands on the left.

    Attributes:
        index: The pair's number among all.
        a_left: Whether the first arm's picture is the left one.
    """

    index: int
    a_left: bool

    def arm(self, side: str) -> str:
        """Returns whose picture a side shows, "a" or "b"; "none" stays.

        Arguments:
            side: What was chosen, "left", "right" or "none".
        """
        if side == "none":
            return side
        return "a" if (side == "left") == self.a_left else "b"


@dataclass(frozen=True)
class BlindPair:
    """What the page shows for one choice.

    Attributes:
        left: The left picture.
        right: The right one.
        reference: What both were made from, or None.
        digest: What the pair is known by, see :func:`pair_digest`.
    """

    left: Picture
    right: Picture
    reference: Picture | None
    digest: str


def plan_trials(total: int, *, count: int | None = None, seed: int = 0) -> list[Trial]:
    """Returns which pairs are shown, in which order and on which sides.

    Arguments:
        total: The number of pairs there are.
        count: How many are shown at most; None shows all.
        seed: Determines all of it.
    """
    generator = generator_for("compare", seed)
    order = torch.randperm(total, generator=generator)[:count].tolist()
    sides = torch.randperm(len(order), generator=generator).tolist()
    return [Trial(index, side % 2 == 0) for index, side in zip(order, sides, strict=True)]


def blind_pair(trial: Trial, a: Tensor, b: Tensor, reference: Tensor | None = None) -> BlindPair:
    """Makes what the page shows for one choice.

    Arguments:
        trial: The choice.
        a: The first arm's picture, uint8, with shape (C, H, W), C = 1 or 3.
        b: The second arm's, of the same size.
        reference: What both were made from, uint8, of any size, or None.

    Raises:
        ValueError: If the sizes differ.
    """
    left, right = _sides(trial, a, b)
    return BlindPair(
        picture(left / 255, "Left picture"),
        picture(right / 255, "Right picture"),
        None if reference is None else picture(reference / 255, "The picture before", "before"),
        pair_digest(trial, a, b),
    )


def pair_digest(trial: Trial, a: Tensor, b: Tensor) -> str:
    """Returns what a pair is known by: a digest of both pictures where they stand.

    Arguments:
        trial: The choice.
        a: The first arm's picture, uint8, with shape (C, H, W), C = 1 or 3.
        b: The second arm's, of the same size.

    Raises:
        ValueError: If the sizes differ.
    """
    found = hashlib.sha256(f"{trial.a_left}".encode())
    for side in _sides(trial, a, b):
        found.update(f"{tuple(side.shape)}".encode())
        found.update(side.contiguous().numpy().tobytes())
    return found.hexdigest()


def page_digest(seed: int, pairs: Sequence[str]) -> str:
    """Returns what a page is known by.

    Arguments:
        seed: The seed of its order.
        pairs: The digests of its pairs, in this order.
    """
    return hashlib.sha256("\n".join((str(seed), *pairs)).encode()).hexdigest()


def blind_page(
    pairs: Sequence[BlindPair],
    *,
    seed: int,
    question: str = "Which picture is more natural, and of better quality?",
) -> str:
    """Writes the page.

    Arguments:
        pairs: What is shown, in the order of the choices.
        seed: The seed of this order, which goes into what the page hands out.
        question: What people are asked.

    Returns:
        The HTML document.
    """
    about = {
        "page": page_digest(seed, [pair.digest for pair in pairs]),
        "seed": seed,
        "count": len(pairs),
        "reference": any(pair.reference is not None for pair in pairs),
    }
    return render("blind.html.j2", title=question, pairs=pairs, about=about)


def _sides(trial: Trial, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the left and the right picture, in colour."""
    if a.shape[1:] != b.shape[1:]:
        sizes = [f"{x.shape[1]}x{x.shape[2]}" for x in (a, b)]
        raise ValueError(
            f"partners are {sizes[0]} and {sizes[1]} (height x width); they must have one size, "
            "or else it tells whose they are"
        )
    a, b = to_channels(a, 3), to_channels(b, 3)
    return (a, b) if trial.a_left else (b, a)
