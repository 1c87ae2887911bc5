"""The discrepancy from a prior, against sums over pairs, closed forms and the energy distance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, randn
from blemish.losses import MMD

Power = Literal[1, 2]


def draws(*shape: int, name: str = "draws") -> Tensor:
    return randn(shape, generator_for("mmd", name, *shape)).double()


def by_pairs(
    w: Tensor, s: Tensor, power: int, gammas: Sequence[float], unbiased: bool = False
) -> float:
    """Eq. 7 as it stands, pair after pair."""

    def kernel(a: Tensor, b: Tensor) -> float:
        r = math.sqrt(math.fsum(x * x for x in (a - b).tolist()))
        return math.fsum(math.exp(-(r**power) / gamma) for gamma in gammas) / len(gammas)

    def within(x: Tensor) -> float:
        rows = range(len(x))
        pairs = [(i, j) for i, j in itertools.product(rows, rows) if i != j or not unbiased]
        return math.fsum(kernel(x[i], x[j]) for i, j in pairs) / len(pairs)

    between = math.fsum(kernel(a, b) for a, b in itertools.product(w, s)) / (len(w) * len(s))
    return within(w) + within(s) - 2 * between


@pytest.mark.parametrize("unbiased", [False, True], ids=["V", "U"])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("gammas", [(3.0,), (0.5, 2.0, 90.0)], ids=["one", "three"])
def test_it_is_the_sum_over_all_pairs(
    power: Power, gammas: tuple[float, ...], unbiased: bool
) -> None:
    w, s = 1.5 * draws(3, 5, 4) + 0.3, draws(11, 4)
    loss = MMD(s, gammas, power=power, unbiased=unbiased)
    values = [by_pairs(x, s, power, gammas, unbiased) for x in w]
    expected = torch.tensor(values, dtype=torch.float64)
    assert_close(loss(w), expected, rtol=0, atol=1e-13)
    assert loss(w.float()).dtype == torch.float32
    assert_close(loss(w.float()).double(), expected, rtol=0, atol=1e-6)
    assert_close(loss(w.half()), loss(w.half().float()))


@pytest.mark.parametrize("power", [1, 2])
def test_two_points_by_hand(power: Power) -> None:
    loss = MMD.of(torch.tensor([[3.0, 4.0]]), gamma=2.0, power=power)
    # One style at a distance of 5 from one draw: 1 + 1 - 2 K.
    value = 2 - 2 * math.exp(-(5**power) / 2)
    assert loss(torch.zeros(1, 1, 2)).item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("power", [1, 2])
def test_equal_sets_have_none_and_others_some(power: Power) -> None:
    s = draws(18, 32).float()
    loss = MMD.of(s, power=power)
    shuffled = torch.stack([s, s.flip(0), s + 0.1, s + 0.5, s + 2.0, 1.5 * s])
    values = loss(shuffled).tolist()
    assert values[:2] == pytest.approx([0, 0], abs=1e-6)
    # It grows with a shift, and sees the spread.
    assert 1e-5 < values[2] < values[3] < values[4]
    assert values[5] > 1e-3


def test_it_is_symmetric() -> None:
    a, b = draws(7, 3), 2 * draws(5, 3)
    for power in (1, 2):
        for unbiased in (False, True):
            there = MMD.of(a, gamma=3.0, power=power, unbiased=unbiased)(b[None])
            back = MMD.of(b, gamma=3.0, power=power, unbiased=unbiased)(a[None])
            assert_close(there, back)


@pytest.mark.parametrize("power", [1, 2])
def test_moving_both_sets_together_changes_nothing(power: Power) -> None:
    w, s = draws(2, 5, 4), draws(9, 4)
    turn = torch.linalg.qr(draws(4, 4)).Q
    before = MMD.of(s, power=power)(w)
    assert_close(MMD.of(s @ turn + 5, power=power)(w @ turn + 5), before)
    # With the median for a bandwidth the unit of length is of no account, either.
    assert_close(MMD.of(1e3 * s, power=power)(1e3 * w), before)


@pytest.mark.parametrize("power", [1, 2])
def test_without_diagonals_it_is_0_on_average_where_the_laws_are_one(power: Power) -> None:
    runs, k, n, d = 400, 4, 30, 6
    # A new set of draws for each value, or else what is particular to one set would stay in the mean.
    values = {
        unbiased: torch.cat(
            [
                MMD.of(s, gamma=3.0, power=power, unbiased=unbiased)(w[None])
                for w, s in zip(draws(runs, k, d, name="w"), draws(runs, n, d), strict=True)
            ]
        )
        for unbiased in (True, False)
    }
    fair, raised = values[True], values[False]
    error = fair.std() / math.sqrt(runs)
    assert abs(fair.mean()) < 3 * error
    assert (fair < 0).any()
    # What the diagonals add: E(1 - K) / k + E(1 - K) / n.
    pairs = torch.pdist(draws(2000, d, name="pairs")) ** power
    expected = -torch.expm1(-pairs / 3).mean() * (1 / k + 1 / n)
    assert raised.mean().item() == pytest.approx(expected.item(), abs=0.01)
    assert (raised > 0).all()


def test_it_tends_to_the_energy_distance() -> None:
    w, s = draws(1, 6, 5) + 1, draws(8, 5)
    gamma = 1e6
    energy = 2 * torch.cdist(w[0], s).mean() - torch.cdist(w[0], w[0]).mean()
    energy = energy - torch.cdist(s, s).mean()
    assert_close((gamma * MMD.of(s, gamma=gamma)(w)).squeeze(), energy, rtol=1e-5, atol=0)
    # So flat a kernel leaves no digit of a plain sum in single precision; this one keeps five.
    flat = gamma * MMD.of(s.float(), gamma=gamma)(w.float())
    assert_close(flat.squeeze(), energy.float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("unbiased", [False, True], ids=["V", "U"])
def test_the_gradient_is_that_of_finite_differences(power: Power, unbiased: bool) -> None:
    s = draws(9, 3)
    loss = MMD.of(s, gamma=(0.5, 2.0), power=power, unbiased=unbiased, chunk=4)
    assert torch.autograd.gradcheck(loss, draws(2, 4, 3).requires_grad_())


@pytest.mark.parametrize("power", [1, 2])
def test_styles_that_coincide_have_a_finite_gradient_and_part(power: Power) -> None:
    s = draws(200, 8).float() + 0.2
    loss = MMD.of(s, power=power)
    # All at the mean, and one at a draw.
    w = s.mean(dim=0).repeat(1, 6, 1)
    w[0, -1] = s[3]
    w.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(w).sum(), w)
    assert gradient.isfinite().all()
    assert gradient[0, -1].norm() > 0
    # From nearly the mean a descent goes to the spread of the prior, which a density's top would not let it.
    w = (s.mean(dim=0) + 1e-3 * draws(1, 6, 8)).float().requires_grad_()
    adam = torch.optim.Adam([w], lr=0.05)
    first = loss(w.detach())
    for _ in range(80):
        adam.zero_grad()
        loss(w).sum().backward()
        adam.step()
    assert loss(w.detach()) < 0.5 * first
    spread = (w.detach() - s.mean(dim=0)).norm(dim=-1)
    assert spread.min() > 1


def test_a_single_style_seeks_the_mode() -> None:
    loss = MMD.of(draws(500, 16).float(), power=2)
    z = torch.nn.functional.normalize(draws(16), dim=0).float() * torch.tensor([[0.0], [2], [4]])
    values = loss(z[:, None])
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("unbiased", [False, True], ids=["V", "U"])
def test_blocks_of_draws_change_nothing(unbiased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    s = draws(11, 4)
    whole = MMD(s, [2.0], unbiased=unbiased).within
    monkeypatch.setattr("blemish.losses.mmd._ENOUGH", 4)
    assert MMD(s, [2.0], unbiased=unbiased).within == pytest.approx(whole, rel=1e-14)
    # The median is that of the first ones.
    assert MMD.of(s).gammas == MMD.of(s[:4]).gammas


@pytest.mark.parametrize("chunk", [1, 4, 11, 12])
def test_chunks_change_nothing(chunk: int) -> None:
    w, s = draws(2, 3, 4).requires_grad_(), draws(11, 4)
    whole, cut = MMD.of(s, power=2), MMD.of(s, power=2, chunk=chunk)
    assert_close(cut(w), whole(w))
    of = [torch.autograd.grad(loss(w).sum(), w)[0] for loss in (cut, whole)]
    assert_close(of[0], of[1])


def test_memory_does_not_grow_with_the_draws() -> None:
    w, s = draws(2, 3, 4).requires_grad_(), draws(4096, 4)

    def kept() -> int:
        """Returns the numbers that are kept for the gradient beside the styles and the draws."""
        sizes: list[int] = []
        ours = {w.data_ptr(), loss.samples.data_ptr()}

        def pack(x: Tensor) -> Tensor:
            if x.untyped_storage().data_ptr() not in ours:
                sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss(w).sum()
        return sum(sizes)

    loss = MMD.of(s, gamma=1.0)
    at_once = kept()
    loss = MMD.of(s, gamma=1.0, chunk=16)
    assert kept() < 1000 < 2 * 3 * 4096 <= at_once


def test_an_images_value_does_not_depend_on_its_batch() -> None:
    w, loss = draws(5, 4, 8).float(), MMD.of(draws(50, 8).float())
    assert torch.equal(loss(w), torch.cat([loss(x[None]) for x in w]))
    assert loss(w[:0]).shape == (0,)


def test_the_median_is_that_of_the_draws_distances() -> None:
    s = torch.tensor([[0.0], [1.0], [4.0]])  # distances 1, 3, 4
    assert MMD.of(s).gammas == (3.0,)
    assert MMD.of(s, power=2).gammas == (9.0,)
    assert MMD.of(s, power=2, gamma=(0.5, 2)).gammas == (4.5, 18.0)
    assert MMD.of(s, gamma=512).gammas == (512.0,)


def test_the_draws_are_its_own_and_no_weights() -> None:
    s = draws(9, 3)
    loss = MMD.of(s)
    before = loss(draws(1, 4, 3))
    s.zero_()
    assert_close(loss(draws(1, 4, 3)), before)
    assert not loss.state_dict()
    assert "9 draws of 3 numbers, power=1" in repr(loss)


def test_what_it_cannot_use_is_refused() -> None:
    s = draws(5, 3)
    for samples, match in (
        (s[0], r"shape \(3,\); give at least 2"),
        (s[:1], r"at least 2, with shape"),
        (s.log(), "no finite numbers"),
        (torch.ones(5, 3), "the median of the draws' distances is 0"),
    ):
        with pytest.raises(ValueError, match=match):
            MMD.of(samples)
    with pytest.raises(ValueError, match="power=3 is not known"):
        MMD(s, [1.0], power=3)  # type: ignore[arg-type]
    for gamma in (0.0, -1.0, math.nan, math.inf, []):
        with pytest.raises(ValueError, match="give numbers above 0"):
            MMD.of(s, gamma=gamma)
    with pytest.raises(ValueError, match="gamma='mean' is not known"):
        MMD.of(s, gamma="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chunk=0"):
        MMD.of(s, chunk=0)
    with pytest.raises(ValueError, match=r"\(2, 4, 2\) and draws of 3"):
        MMD.of(s)(draws(2, 4, 2))
    with pytest.raises(ValueError, match="one style for each image; without the diagonals"):
        MMD.of(s, unbiased=True)(draws(2, 1, 3))
