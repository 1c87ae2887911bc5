"""The price of a number: a distribution, whatever its weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.coding import Tables, encode
from blemish.functional.random import generator_for, randn
from blemish.networks import FactorisedDensity

D = FactorisedDensity.Config


def _made(channels: int = 4, *, scale: float = 3.0, wild: float = 0.5) -> FactorisedDensity:
    with torch.random.fork_rng():
        torch.manual_seed(channels)
        density = D(channels=channels, scale=scale).build()
        with torch.no_grad():
            for p in density.parameters():
                p.add_(wild * torch.randn_like(p))
    return density.double()


def _numbers(*shape: int) -> Tensor:
    return 4 * randn(shape, generator_for("numbers", *shape)).double()


def test_probabilities_of_all_symbols_sum_to_one() -> None:
    masses = _made().masses(500)
    assert masses.shape == (4, 1001)
    assert (masses >= 0).all()
    assert_close(masses.sum(dim=1), torch.ones(4).double(), rtol=0, atol=1e-5)


def test_probability_is_the_difference_of_the_distribution() -> None:
    density, e = _made(), _numbers(50, 4, 3)
    F_low, F_high = density.logits(e - 0.5).sigmoid(), density.logits(e + 0.5).sigmoid()
    assert (F_high > F_low).all()
    assert_close(density.probability(e), F_high - F_low)
    single = _made().float()
    assert (single.probability(torch.full((1, 4), 500.0)) >= 0).all()


def test_far_tails_do_not_cancel_in_single_precision() -> None:
    density = _made(wild=0.0)
    far = torch.tensor([[30.0] * 4, [-30.0] * 4])
    exact = density.probability(far.double())
    assert (exact < 1e-4).all()
    assert_close(density.float().probability(far).double(), exact, rtol=1e-3, atol=0)


def test_medians_halve_the_mass_and_steps_are_whole() -> None:
    density, e = _made(), _numbers(20, 4, 2, 2)
    m = density.medians()
    assert_close(
        density.logits(m[None]).sigmoid(), torch.full((1, 4), 0.5).double(), atol=1e-5, rtol=0
    )
    symbols = density.symbols(e)
    assert symbols.dtype == torch.long
    assert_close(density.numbers(symbols), density.rounded(e))
    assert (density.rounded(e) - e).abs().max() <= 0.5 + 1e-9
    assert (density.symbols(m[None]) == 0).all()


def test_a_price_has_a_gradient_and_a_limit() -> None:
    density = _made()
    e = torch.full((1, 4), 1e6).double().requires_grad_()
    bits = density.bits(e)
    assert_close(bits, torch.full((1, 4), -math.log2(1e-9)).double())
    near = (density.medians()[None] + 20).requires_grad_()
    gradients = torch.autograd.grad(density.bits(near).sum(), [near, *density.parameters()])
    assert all(g.isfinite().all() for g in gradients)
    # Away from the middle, numbers are dearer.
    assert (gradients[0] > 0).all()


def test_a_density_learns_the_entropy_of_what_it_sees() -> None:
    density = D(channels=2, scale=10.0).build()
    optimizer = torch.optim.Adam(density.parameters(), 3e-2)
    sigma = torch.tensor([0.1, 4.0])
    for i in range(300):
        g = generator_for("entropy", i)
        e = (randn((256, 2), g) * sigma + torch.tensor([2.4, -7.0])).round()
        loss = density.bits(e + torch.rand(e.shape, generator=g) - 0.5).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    e = (
        randn((4096, 2), generator_for("entropy", "test")) * sigma + torch.tensor([2.4, -7.0])
    ).round()
    found = density.bits(e).mean(dim=0)
    # What is always 2 comes towards 0 bits; a wide Gaussian has log2(sigma sqrt(2 pi e)).
    assert found[0] < 1
    assert found[1].item() == pytest.approx(
        math.log2(4 * math.sqrt(2 * math.pi * math.e)), abs=0.15
    )
    tables = Tables.of(density.masses(64))
    size = len(encode(density.symbols(e).T, tables))
    rate = density.bits(density.rounded(e)).sum().item() / 8
    assert abs(size - rate) <= 0.02 * rate + 8
