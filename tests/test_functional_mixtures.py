"""Discretised mixtures: laws over 256 values that sum to one, whose draws and logarithms agree."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.mixtures import FLOOR, STEP, Family, log_prob, parameters_per_pixel, sample
from blemish.functional.random import generator_for, rand, randn

FAMILIES: tuple[Family, ...] = ("logistic", "gaussian")


def grid(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.arange(256, dtype=dtype) * STEP - 1


def laws(components: int, channels: int, *, coupled: bool = True, seed: int = 0) -> Tensor:
    m = parameters_per_pixel(components, channels, coupled)
    parameters = randn((2, m, 3, 4), generator_for("laws", seed)).double()
    parameters[:, components * (1 + channels) : components * (1 + 2 * channels)] -= 3
    return parameters


def values(channels: int) -> Tensor:
    return (rand((2, channels, 3, 4), generator_for("values")).double() * 255).round() * STEP - 1


def distribution(family: Family, t: Tensor) -> Tensor:
    return torch.sigmoid(t) if family == "logistic" else torch.special.ndtr(t)


@pytest.mark.parametrize(
    ("components", "channels", "coupled", "count"),
    [(10, 3, True, 100), (10, 3, False, 70), (10, 1, True, 30), (5, 2, True, 30)],
)
def test_how_many_numbers_describe_a_pixel(
    components: int, channels: int, *, coupled: bool, count: int
) -> None:
    assert parameters_per_pixel(components, channels, coupled) == count


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_sum_to_one_and_gradients_are_finite(
    family: Family, dtype: torch.dtype
) -> None:
    means = [0.0, 0.3, -1.0, 1.0, 5.0, -300.0, 1e4, STEP / 2]
    log_scales = [-20.0, -7.0, -5.0, -2.0, 0.0, 0.4, 0.46, 1.0, 5.0, 15.0]
    extreme = torch.tensor(
        [(0.0, m, s) for m, s in itertools.product(means, log_scales)], dtype=dtype
    )
    parameters = extreme[:, :, None, None].expand(-1, -1, 1, 256).clone().requires_grad_()
    x = grid(dtype).expand(len(extreme), 1, 1, 256)
    logs = log_prob(parameters, x, components=1, family=family)
    (gradient,) = torch.autograd.grad(logs.sum(), parameters)
    assert logs.isfinite().all()
    assert gradient.isfinite().all()
    assert logs.max() <= 1e-6
    error = (logs.exp().sum(dim=2) - 1).abs().max()
    assert error < (1e-7 if dtype == torch.float64 else 2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_logarithms_are_those_of_differences_of_the_distribution_function(family: Family) -> None:
    parameters = torch.tensor([0.2, -0.3, -2.0], dtype=torch.float64)[None, :, None, None]
    x = grid()[None, None, None]
    t = (grid() + 0.3) * math.exp(2)
    reach = STEP / 2 * math.exp(2)
    above, below = distribution(family, t + reach), distribution(family, t - reach)
    above[-1], below[0] = 1.0, 0.0
    expected = torch.log(above - below)
    actual = log_prob(parameters.expand(-1, -1, 1, 256), x, components=1, family=family)
    # Where the difference itself is not exact, right of the mean, only the left half can be a reference.
    assert_close(actual[0, 0, :120], expected[:120], rtol=1e-8, atol=1e-9)
    assert_close(actual[0, 0].exp(), expected.exp(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_far_values_have_the_tails_probability_and_slope(family: Family) -> None:
    # 2 away at the least scale: a thousand scales and more, where no probability is left in float32.
    s = math.exp(FLOOR)
    parameters = torch.tensor([0.0, -1.0, FLOOR])[None, :, None, None].requires_grad_()
    x = torch.tensor(0.5).view(1, 1, 1, 1)
    (log_p,) = log_prob(parameters, x, components=1, family=family).flatten()
    (gradient,) = torch.autograd.grad(log_p, parameters)
    t = (1.5 - STEP / 2) / s
    if family == "logistic":
        expected, slope = -t + math.log1p(-math.exp(-STEP / s)), 1 / s
    else:
        expected, slope = -(t**2) / 2 - math.log(t * math.sqrt(2 * math.pi)), t / s
    assert_close(log_p.item(), expected, rtol=1e-5, atol=0)
    assert_close(gradient[0, 1, 0, 0].item(), slope, rtol=1e-4, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("channels", "coupled", "based"), [(1, True, False), (3, True, True), (2, False, False)]
)
def test_a_pixels_law_is_a_sum_over_components(
    family: Family, channels: int, *, coupled: bool, based: bool
) -> None:
    k = 3
    p = laws(k, channels, coupled=coupled)
    x = values(channels)
    base = 0.5 * randn(tuple(x.shape), generator_for("base")).double() if based else None
    b = torch.zeros_like(x) if base is None else base
    weights = p[:, :k].softmax(dim=1)
    total = torch.zeros(2, 3, 4, dtype=torch.float64)
    for i in range(k):
        product = weights[:, i].clone()
        for c in range(channels):
            mean = b[:, c] + p[:, k * (1 + c) + i]
            pairs = [(to, of) for to in range(channels) for of in range(to)]
            for n, (to, of) in enumerate(pairs):
                if coupled and to == c:
                    t = p[:, k * (1 + 2 * channels + n) + i]
                    mean = mean + torch.tanh(t) * (x[:, of] - b[:, of])
            s = p[:, k * (1 + channels + c) + i].clamp(min=FLOOR).exp()
            above = distribution(family, (x[:, c] - mean + STEP / 2) / s)
            below = distribution(family, (x[:, c] - mean - STEP / 2) / s)
            above = torch.where(x[:, c] > 0.999, 1.0, above)
            below = torch.where(x[:, c] < -0.999, 0.0, below)
            product = product * (above - below)
        total += product
    actual = log_prob(p, x, components=k, family=family, coupled=coupled, base=base)
    assert_close(actual.exp(), total, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_finite_differences(family: Family) -> None:
    parameters = laws(2, 3)[:1, :, :1, :2].clone().requires_grad_()
    base = 0.1 * randn((1, 3, 1, 2), generator_for("base")).double()
    x = torch.tensor([[-1.0, 1.0], [0.2, 0.1], [-0.4, 1.0]]).double()[None, :, None]
    x = ((x + 1) / STEP).round() * STEP - 1
    base.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, b: log_prob(p, x, components=2, family=family, base=b), (parameters, base)
    )


def test_the_second_channels_law_depends_on_the_first() -> None:
    p = laws(1, 2)[:1, :, :1, :1]
    joint = torch.cartesian_prod(grid()[::15], grid()).T[None, :, None]
    logs = log_prob(
        p.expand(-1, -1, 1, joint.shape[-1]), joint, components=1, family="logistic"
    ).view(18, 256)
    # Summed over the second channel, what is left is the law of the first alone.
    first = torch.stack([p[:, 0], p[:, 1], p[:, 3]], dim=1).expand(-1, -1, 1, 18)
    alone = log_prob(first, grid()[::15][None, None, None], components=1, family="logistic")
    assert_close(logs.logsumexp(dim=1), alone.flatten(), rtol=0, atol=1e-9)
    conditional = logs - logs.logsumexp(dim=1, keepdim=True)
    assert (conditional[0] - conditional[-1]).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("based", [False, True])
def test_draws_follow_the_law(family: Family, *, based: bool) -> None:
    k, n = 3, 200_000
    # Weights, means and scales of two channels, some of it beyond the range: the edges are drawn, too.
    p = torch.tensor(
        [
            *(0.3, -0.5, 0.1),
            *(-0.9, 0.1, 0.7, 0.3, -0.2, 1.3),
            *(-2.0, -3.5, -1.0, -2.5, -1.0, -4.0),
            *(1.0, -2.0, 0.5),
        ]
    ).double()[None, :, None, None]
    base = torch.tensor([0.1, -0.3]).double()[None, :, None, None] if based else None
    draws = rand((1, 3, 1, n), generator_for("draws", family)).double()
    wide = None if base is None else base.expand(-1, -1, 1, n)
    x = sample(p.expand(-1, -1, 1, n), draws, components=k, family=family, base=wide)
    levels = (x + 1) / STEP
    assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    level = levels.round().long()[0, :, 0]
    assert level.min() == 0
    assert level.max() == 255
    counts = torch.bincount(level[0] * 256 + level[1], minlength=65536).double()
    joint = torch.cartesian_prod(grid(), grid()).T[None, :, None]
    wide = None if base is None else base.expand(-1, -1, 1, 65536)
    expected = log_prob(
        p.expand(-1, -1, 1, 65536), joint, components=k, family=family, base=wide
    ).exp()
    expected = n * expected.flatten()
    order = expected.argsort(descending=True)
    expected, counts = expected[order], counts[order]
    often = expected >= 10
    # What is expected seldom is one class together.
    e = torch.cat([expected[often], expected[~often].sum()[None]])
    o = torch.cat([counts[often], counts[~often].sum()[None]])
    chi, freedom = ((o - e).square() / e).sum().item(), len(e) - 1
    assert freedom > 1000
    assert abs(chi - freedom) < 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("family", FAMILIES)
def test_extreme_draws_are_on_the_grid(family: Family) -> None:
    p = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, -30.0])[None, :, None, None]
    for u in (0.0, 1 - 2.0**-24):
        x = sample(p, torch.full((1, 2, 1, 1), u), components=2, family=family)
        assert x.abs().max() <= 1
        assert x.isfinite().all()


def test_wrong_numbers_of_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got 9 parameters for a pixel; 1 components of 3"):
        log_prob(torch.zeros(1, 9, 1, 1), torch.zeros(1, 3, 1, 1), components=1, family="logistic")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_scale_below_its_floor_is_the_floor_and_has_no_gradient(family: Family) -> None:
    x = torch.tensor(0.4).view(1, 1, 1, 1)

    def found(log_scale: float) -> tuple[Tensor, Tensor]:
        parameters = torch.tensor([0.0, 0.1, log_scale])[None, :, None, None].requires_grad_()
        log_p = log_prob(parameters, x, components=1, family=family).sum()
        (gradient,) = torch.autograd.grad(log_p, parameters)
        return log_p.detach(), gradient.flatten()

    (below, none), (floor, _), (_, some) = found(-8.0), found(FLOOR), found(FLOOR + 0.1)
    assert below == floor
    # The mean still moves, and above the floor a wider law would be likelier.
    assert none[2] == 0 < some[2]
    assert none[1] > 0
