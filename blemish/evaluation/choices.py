r"""What people chose on a blind page (:mod:`.blind_page`), and whether it can be chance.

Of n decided choices, a went to the first arm. Its share :math:`\hat p = a / n` has Wilson's interval, which stays within
[0, 1] and is right for few choices, too, with z = 1.96 for 95 %:

.. math::
    \frac{\hat p + \frac{z^2}{2 n} \pm z \sqrt{\frac{\hat p (1 - \hat p)}{n} + \frac{z^2}{4 n^2}}}{1 + \frac{z^2}{n}}

and the p-value is the exact chance, where nobody can tell the arms apart, of a split at least as uneven:
:math:`\min(1, 2 \, P(X \le \min(a, n - a)))` with :math:`X \sim B(n, \tfrac12)`. Pairs where neither was preferred do not enter
either, as in the sign test; their number stands beside.

Both take choices for independent. Several choices of one picture by different people are not quite: with few
pictures they say less than it seems.

References:
    | Probable Inference, the Law of Succession, and Statistical Inference (Wilson, 1927)
    | https://doi.org/10.1080/01621459.1927.10502953
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021), Table 3
    | https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .blind_page import Trial

__all__ = ["Choices", "Preference", "preference", "read_choices", "sign_test", "wilson"]

_SIDES = ("left", "right", "none")


@dataclass(frozen=True)
class Choices:
    """What one person chose.

    Attributes:
        source: The file, for messages.
        page: The digest of the page.
        seed: The seed of its order.
        count: The choices that it asks for.
        sides: What was chosen, "left", "right" or "none", by the number of the choice, from 0.
        seconds: How long each took.
    """

    source: str
    page: str
    seed: int
    count: int
    sides: Mapping[int, str]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Preference:
    """How often each arm was preferred.

    Attributes:
        a: The choices of the first arm.
        b: Those of the second.
        none: Those of neither.
        left: Those of the left side, whoever stood there.
        raters: How many people chose.
        missing: Choices that were not made.
        seconds: The median time that a choice took, or None without any.
        pictures: The choices of "a", "b" and "none" by the number of the pair.
    """

    a: int
    b: int
    none: int
    left: int
    raters: int
    missing: int
    seconds: float | None
    pictures: Mapping[int, Mapping[str, int]]

    @property
    def share(self) -> float:
        """The part of decided choices that went to the first arm; NaN where none was decided."""
        decided = self.a + self.b
        return self.a / decided if decided else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share."""
        return wilson(self.a, self.a + self.b)

    @property
    def p_value(self) -> float:
        """The chance of a split at least as uneven where the arms cannot be told apart."""
        return sign_test(self.a, self.a + self.b)

    def lines(self, a: str, b: str) -> list[str]:
        """Returns all of it as text.

        Arguments:
            a: The name of the first arm.
            b: The name of the second.
        """
        decided, (low, high) = self.a + self.b, self.interval
        lines = [f"{a}: {self.a}, {b}: {self.b}, neither: {self.none}"]
        if decided:
            lines += [
                f"{a} was preferred in {100 * self.share:.1f} % of {decided} decided choices, 95 % interval "
                f"{100 * low:.1f} to {100 * high:.1f} %",
                f"two-sided binomial p-value: {self.p_value:.3g}",
                f"the left picture was chosen in {100 * self.left / decided:.1f} %",
            ]
        if self.seconds is not None:
            lines.append(f"median time of a choice: {self.seconds:.1f} s")
        if self.missing:
            lines.append(f"note: {self.missing} choices were not made")
        if self.raters > 1:
            lines.append(
                f"note: {self.raters} people's choices are counted as if they were of different pictures"
            )
        return lines

    def to_json(self, a: str, b: str, names: Sequence[str]) -> str:
        """Returns a JSON document.

        Arguments:
            a: The name of the first arm.
            b: The name of the second.
            names: The names of all pairs.
        """
        decided = self.a + self.b
        document = {
            "format": 1,
            "arms": {"a": a, "b": b},
            "choices": {"a": self.a, "b": self.b, "none": self.none, "missing": self.missing},
            "share_a": self.share if decided else None,
            "interval": self.interval if decided else None,
            "p_value": self.p_value,
            "left": self.left,
            "raters": self.raters,
            "median_seconds": self.seconds,
            "pictures": {names[i]: dict(counts) for i, counts in sorted(self.pictures.items())},
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"


def wilson(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's interval of a share; (0, 1) where there is nothing to tell it by.

    Arguments:
        successes: How often it happened.
        total: How often it could have.
        confidence: The chance that the interval holds the share.
    """
    if not total:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    p, n = successes / total, total
    # Wilson (1927), both roots.
    middle = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def sign_test(successes: int, total: int) -> float:
    """Returns the exact two-sided p-value of a share of one half.

    Arguments:
        successes: How often it happened.
        total: How often it could have.
    """
    fewer = min(successes, total - successes)
    tail = outcomes = 1
    for i in range(fewer):
        outcomes = outcomes * (total - i) // (i + 1)
        tail += outcomes
    # A quotient of whole numbers is rounded once, however large they are.
    return min(1.0, float(2 * tail / 2**total))


def read_choices(path: Path | str) -> Choices:
    """Reads what a blind page handed out.

    Arguments:
        path: The file, ``choices.json``.

    Raises:
        ValueError: If it is no such file.
        OSError: If it cannot be read.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
        version, page = document["format"], document["page"]
        seed, count = document["seed"], document["count"]
        rows = [(row["trial"], row["chosen"], row["seconds"]) for row in document["choices"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not what a page of blemish compare hands out ({error})"
        ) from error
    _check(path, version, page, seed, count)
    sides: dict[int, str] = {}
    for trial, chosen, _ in rows:
        if not _whole(trial) or not 1 <= trial <= count or trial - 1 in sides:
            raise ValueError(
                f"{path}: there is no choice {trial!r} of {count}, or it is made twice"
            )
        if chosen not in _SIDES:
            raise ValueError(f"{path}: choice {trial} is {chosen!r}, none of {', '.join(_SIDES)}")
        sides[trial - 1] = chosen
    seconds = [s for _, _, s in rows if isinstance(s, (int, float)) and 0 <= s < math.inf]
    return Choices(str(path), page, seed, count, sides, tuple(map(float, seconds)))


def preference(choices: Sequence[Choices], trials: Sequence[Trial]) -> Preference:
    """Counts what people chose on one page.

    Arguments:
        choices: What each of them chose.
        trials: The page's choices.
    """
    pictures: dict[int, Counter[str]] = {}
    left = 0
    for one in choices:
        for number, side in one.sides.items():
            trial = trials[number]
            pictures.setdefault(trial.index, Counter(a=0, b=0, none=0))[trial.arm(side)] += 1
            left += side == "left"
    counts: Counter[str] = sum(pictures.values(), Counter())
    seconds = [s for one in choices for s in one.seconds]
    return Preference(
        counts["a"],
        counts["b"],
        counts["none"],
        left,
        len(choices),
        len(choices) * len(trials) - counts.total(),
        statistics.median(seconds) if seconds else None,
        pictures,
    )


def _check(path: Path, version: Any, page: Any, seed: Any, count: Any) -> None:
    if version != 1 or not isinstance(page, str) or not _whole(seed) or not _whole(count):
        raise ValueError(
            f"{path} is not what a page of blemish compare hands out, or of another version"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
