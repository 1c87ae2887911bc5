"""Why the cheapest code says nothing of the content, and where what varies is told apart: on sets small enough to count."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable

import pytest

from blemish.systems import Universal

Outcome = tuple[int, int]
CONTENTS, DAMAGES = range(4), range(8)
EVERY: list[Outcome] = list(itertools.product(CONTENTS, DAMAGES))


def _entropy(values: Iterable[Hashable]) -> float:
    counts = Counter(values)
    n = sum(counts.values())
    return sum(count / n * math.log2(n / count) for count in counts.values())


def _facts(code: Callable[[int, int], Hashable]) -> tuple[float, float, float, float]:
    """Returns H(e), I(e; x), H(d | x, e) and H(e) - I(e; x) - H(d), where x and d are uniform and independent."""
    e = _entropy(code(x, d) for x, d in EVERY)
    together = _entropy((code(x, d), x) for x, d in EVERY)
    about_content = e + math.log2(4) - together
    left = _entropy((x, d, code(x, d)) for x, d in EVERY) - together
    return e, about_content, left, e - about_content - math.log2(8)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (lambda x, d: d, (3, 0, 0, 0)),
        (lambda x, d: (d, x % 2), (4, 1, 0, 0)),
        (lambda x, d: (x, d), (5, 2, 0, 0)),
        (lambda x, d: (d + x) % 8, (3, 0, 0, 0)),
        (lambda x, d: d // 2, (2, 0, 1, -1)),
    ],
    ids=["damage", "and-a-bit-of-content", "everything", "one-time-pad", "lossy"],
)
def test_a_code_costs_the_damage_and_what_it_says_of_the_content(
    code: Callable[[int, int], Hashable], expected: tuple[float, ...]
) -> None:
    # H(e) = I(e; x) + H(d), if the damage can be told from code and content.
    assert _facts(code) == pytest.approx(expected, abs=1e-12)


def test_the_cheapest_code_need_not_be_one_that_can_be_transferred() -> None:
    # A one-time pad costs as little and says nothing of the content, but with another content it is another damage.
    def damage_for(other: int, e: int) -> int:
        return (e - other) % 8

    wrong = [
        damage_for(other, (d + x) % 8) != d for x, d in EVERY for other in CONTENTS if other != x
    ]
    assert all(wrong)


def test_prices_of_entries_are_dearer_than_the_code_by_what_they_share() -> None:
    # sum H(e_i) = H(e) + KL(joint || product of the entries')
    joint = {(0, 0): 0.5, (0, 1): 0.125, (1, 0): 0.125, (1, 1): 0.25}
    marginals = [
        {v: sum(p for e, p in joint.items() if e[i] == v) for v in (0, 1)} for i in range(2)
    ]
    entropies = [-sum(p * math.log2(p) for p in m.values()) for m in (joint, *marginals)]
    kl = sum(p * math.log2(p / (marginals[0][a] * marginals[1][b])) for (a, b), p in joint.items())
    assert entropies[1] + entropies[2] == pytest.approx(entropies[0] + kl)
    assert kl > 0.05


# One bit that holds for the image, and one for each of four places: in which code is it cheapest?
N = 4
PLANS: dict[str, tuple[Callable[..., Hashable], Callable[..., Hashable]]] = {
    "apart": (lambda g, *local: g, lambda i, g, *local: local[i]),
    "copied": (lambda g, *local: 0, lambda i, g, *local: (g, local[i])),
    "all in e_g": (lambda g, *local: (g, local), lambda i, g, *local: 0),
    "one in e_g": (lambda g, *local: (g, local[0]), lambda i, g, *local: local[i] if i else 0),
    "both": (lambda g, *local: g, lambda i, g, *local: (g, local[i])),
}


def _cost(plan: str, k: float) -> float:
    """Returns k H(e_g) + sum H(e_l at a place), by counting."""
    e_g, e_l = PLANS[plan]
    outcomes = list(itertools.product((0, 1), repeat=1 + N))
    places = [_entropy(e_l(i, *bits) for bits in outcomes) for i in range(N)]
    return k * _entropy(e_g(*bits) for bits in outcomes) + sum(places)


@pytest.mark.parametrize("k", [0.5, 1.0, 1.5, 2.0, 3.0, 3.9, 4.0, 4.5])
def test_costs_are_the_closed_forms(k: float) -> None:
    found = [_cost(plan, k) for plan in PLANS]
    assert found == pytest.approx([k + 4, 8, 5 * k, 2 * k + 3, k + 8])


@pytest.mark.parametrize(
    ("k", "best"),
    [
        (0.5, {"all in e_g"}),
        (1.0, {"apart", "all in e_g", "one in e_g"}),
        (1.5, {"apart"}),
        (2.0, {"apart"}),
        (3.0, {"apart"}),
        (3.9, {"apart"}),
        (4.0, {"apart", "copied"}),
        (4.5, {"copied"}),
    ],
)
def test_both_ends_of_the_price_are_sharp(k: float, best: set[str]) -> None:
    costs = {plan: round(_cost(plan, k), 9) for plan in PLANS}
    assert {plan for plan, cost in costs.items() if cost == min(costs.values())} == best


@pytest.mark.parametrize("k", [None, 1.01, 8.0, 63.9])
def test_prices_between_the_ends_are_taken(k: float | None) -> None:
    g, local = _weights(k)
    assert local == 0.5 / 1024
    # k = N lambda_g / lambda_l, by default the root of the number of cells
    assert g / local == pytest.approx(8.0 if k is None else k)


@pytest.mark.parametrize("k", [0.3, 1.0, 64.0, 192.0])
def test_prices_beyond_the_ends_are_refused(k: float) -> None:
    with pytest.raises(ValueError, match="does not lie between 1 and the 64 cells"):
        _weights(k)


def _weights(k: float | None) -> tuple[float, float]:
    return Universal.Config(rate=0.5, k=k).prices(cells=64, pixels=1024)
