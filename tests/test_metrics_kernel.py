from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from blemish.functional.random import generator_for, rand, randn
from blemish.metrics import SubsetScore, kernel, kernel_sum, kernel_title, kid, kid_subsets


def features(n: int, d: int = 6, name: str = "a") -> Tensor:
    g = generator_for("kernel", name, n, d)
    return randn((n, d), g) + rand((1, d), g)


def slow_kid(a: Tensor, b: Tensor) -> float:
    def k(x: Tensor, y: Tensor) -> float:
        return (math.fsum((x * y).tolist()) / len(x) + 1) ** 3

    def within(s: Tensor) -> float:
        pairs = [k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]
        return math.fsum(pairs) / len(pairs)

    between = [k(x, y) for x in a for y in b]
    return within(a) + within(b) - 2 * math.fsum(between) / len(between)


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (9, 9, 5), (12, 7, 40)])
@pytest.mark.parametrize("block", [3, 2048])
def test_agrees_with_loops(
    n: int, m: int, d: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_BLOCK", block)
    a, b = features(n, d).double(), 1.5 * features(m, d, "b").double()
    assert kid(a, b) == pytest.approx(slow_kid(a, b), rel=1e-10, abs=1e-12)
    assert kid(a, b) == pytest.approx(kid(b, a), rel=1e-10, abs=1e-12)


def test_two_points_have_the_closed_form() -> None:
    # In one dimension with x = 0, 0 and y = 1, 1 the kernel is 1 within x and between, 8 within y.
    assert kid(torch.zeros(2, 1), torch.ones(2, 1)) == 1 + 8 - 2


def test_is_unbiased_where_both_sets_are_small() -> None:
    # Of sets of 4 the plain average over all pairs (i = j as well) would be far above zero.
    values = torch.tensor([kid(*features(8, 3, f"draw-{i}").split(4)) for i in range(400)])
    error = float(values.std() / len(values) ** 0.5)
    assert abs(float(values.mean())) < 3 * error
    assert 0.3 < float((values < 0).float().mean()) < 0.8


def test_is_linear_in_the_kernel_of_a_mixture() -> None:
    # The population value of N(0, 1) against N(m, 1) in one dimension, from Gaussian moments:
    # E k(x, x') = E (x x' + 1)^3 = 1 + 3 E[x]^2 + 3 E[x^2]^2 + E[x^3]^2 and alike for the others.
    m = 0.8
    p, q = (0.0, 1.0, 0.0), (m, 1 + m * m, m**3 + 3 * m)

    def mean_kernel(u: tuple[float, ...], v: tuple[float, ...]) -> float:
        return 1 + 3 * u[0] * v[0] + 3 * u[1] * v[1] + u[2] * v[2]

    expected = mean_kernel(p, p) + mean_kernel(q, q) - 2 * mean_kernel(p, q)
    x, y = randn((2, 4000, 1), generator_for("population"))
    assert kid(x, y + m) == pytest.approx(expected, rel=0.1)


def test_rotations_leave_it_and_precision_does_not_depend_on_the_type() -> None:
    a, b = features(50, 8), 1.3 * features(40, 8, "b")
    q = torch.linalg.qr(randn((8, 8), generator_for("rotation")).double()).Q
    assert kid(a.double() @ q, b.double() @ q) == pytest.approx(kid(a, b), rel=1e-10)
    assert kid(a, b) == kid(a.double(), b.double())


def test_subsets_of_everything_are_everything() -> None:
    a, b = features(20), 1.3 * features(20, 6, "b")
    score = kid_subsets(a, b, subsets=3, subset_size=20)
    assert score.mean == pytest.approx(kid(a, b), rel=1e-10)
    assert score.std == pytest.approx(0, abs=1e-12)


def test_subsets_estimate_the_same_with_more_spread() -> None:
    a, b = features(300), 1.1 * features(300, 6, "b") + 0.3
    coarse, fine = (kid_subsets(a, b, subsets=60, subset_size=size) for size in (30, 120))
    for score in (coarse, fine):
        assert abs(score.mean - kid(a, b)) < 4 * score.std / 60**0.5
    assert coarse.std > 1.5 * fine.std > 0


def test_subsets_are_a_function_of_the_seed() -> None:
    a, b = features(40), features(40, 6, "b")
    state = torch.get_rng_state()
    one, same, other = (
        kid_subsets(a, b, subsets=4, subset_size=10, seed=seed) for seed in (0, 0, 1)
    )
    assert isinstance(one, SubsetScore)
    assert one == same
    assert one != other
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: kid(a[:1], a), "sets of 1 and 9 features; each must have at least 2"),
        (lambda a: kid(a, a[:, :2]), "dimension 6 and 2"),
        (lambda a: kid(a, a * torch.nan), "9 of 9 feature vectors are not finite"),
        (lambda a: kid(a[0], a), r"\(N, D\)"),
        (lambda a: kid_subsets(a, a), "each must have at least 1000"),
        (lambda a: kid_subsets(a, a, subset_size=1), "subset_size is 1"),
        (lambda a: kid_subsets(a, a, subsets=0), "subsets is 0"),
    ],
)
def test_refuses_what_has_no_distance(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(features(9))


def test_only_inception_makes_it_kid() -> None:
    assert kernel_title("inception@299") == "KID"
    assert kernel_title("inception@96") == "kernel distance (inception@96)"


def test_known_sums_change_nothing_and_have_the_closed_form() -> None:
    a, b = features(9), features(7, name="b")
    assert kid(a, b, sums=(kernel_sum(a), kernel_sum(b))) == kid(a, b)
    # Equal features: every one of the N (N - 1) pairs has (|x|^2 / D + 1)^3.
    x = torch.full((5, 2), 3.0)
    assert float(kernel_sum(x)) == 5 * 4 * (9 + 1) ** 3
    with pytest.raises(ValueError, match="not finite"):
        kernel_sum(a / 0)
