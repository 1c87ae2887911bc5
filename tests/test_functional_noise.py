import math

import pytest
import torch
from torch.testing import assert_close

from blemish.functional.noise import (
    gaussian_noise,
    normal_counts,
    poisson_of_levels,
    poisson_quantile,
    read_shot,
    read_shot_levels,
)

N = 250_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("read", "shot"), [(0.02, 0.0), (0.0, 0.1), (0.05, 0.08)])
def test_read_shot_moments(level: float, read: float, shot: float) -> None:
    x = torch.full((1, 1, 500, 500), level, dtype=torch.float64)
    sigma = torch.tensor([read]), torch.tensor([shot])
    y = read_shot(x, *sigma, normal(*x.shape), normal(*x.shape, seed=1))
    variance = level * shot**2 + read**2
    # Standard errors of a mean and of a variance of N normal numbers.
    assert abs(y.mean() - level) <= 5 * math.sqrt(variance / N)
    assert abs(y.var() - variance) <= 5 * variance * math.sqrt(2 / N) + 1e-9


def test_read_shot_of_negative_pixels_is_read_noise_alone() -> None:
    x = -torch.rand(1, 1, 8, 8, generator=generator(), dtype=torch.float64)
    eps = normal(1, 1, 8, 8)
    y = read_shot(x, torch.tensor([0.1]), torch.tensor([0.3]), eps, normal(1, 1, 8, 8, seed=1))
    assert_close(y, x + 0.1 * eps, check_dtype=False, rtol=1e-6, atol=1e-7)


def test_levels_by_sample_equal_level_maps() -> None:
    x, read, shot = torch.rand(3, 2, 4, 4, generator=generator()), torch.rand(3), torch.rand(3)
    eps = torch.randn(2, *x.shape, generator=generator(1))
    maps = [s.reshape(3, 1, 1, 1).expand_as(x) for s in (read, shot)]
    assert_close(read_shot(x, read, shot, *eps), read_shot(x, *maps, *eps))
    assert_close(gaussian_noise(x, read, eps[0]), gaussian_noise(x, maps[0], eps[0]))


@pytest.mark.parametrize("signal_gradient", [False, True])
def test_read_shot_gradient(signal_gradient: bool) -> None:
    x = torch.tensor([0.25, 1.0, 0.0, -0.5], dtype=torch.float64).reshape(1, 1, 1, 4)
    x.requires_grad_()
    eps, shot = torch.ones_like(x), torch.tensor([0.1], dtype=torch.float64)
    y = read_shot(x, shot, shot, eps, eps, signal_gradient=signal_gradient)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    # d/dx (x + 0.1 sqrt(x)) = 1 + 0.05 / sqrt(x)
    slope = [1.1, 1.05, 1.0, 1.0] if signal_gradient else [1.0, 1.0, 1.0, 1.0]
    assert_close(gradient.flatten(), torch.tensor(slope, dtype=torch.float64))


def test_read_shot_gradient_to_the_levels() -> None:
    x = torch.rand(2, 1, 3, 3, dtype=torch.float64, generator=generator())
    levels = [torch.rand(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    eps = normal(2, 2, 1, 3, 3)
    assert torch.autograd.gradcheck(lambda r, s: read_shot(x, r, s, *eps), levels)


def test_gaussian_noise_moments() -> None:
    x = torch.full((2, 1, 500, 500), 0.5, dtype=torch.float64)
    residual = gaussian_noise(x, torch.tensor([0.1, 0.2]), normal(*x.shape)) - x
    assert_close(residual.std((1, 2, 3)), torch.tensor([0.1, 0.2]).double(), rtol=5e-3, atol=0)
    assert residual.mean().abs() < 1e-3


def test_levels_follow_the_law() -> None:
    u = torch.rand(N, generator=generator(), dtype=torch.float64)
    read, shot = read_shot_levels(u, normal(N, seed=1))
    log_shot, log_read = shot.square().log(), read.square().log()
    # A uniform law has the quantiles of a line; what is left of log_read is normal.
    expected = torch.linspace(math.log(1e-4), math.log(0.012), 11, dtype=torch.float64)
    quantiles = torch.tensor([log_shot.quantile(q / 10) for q in range(11)], dtype=torch.float64)
    assert_close(quantiles, expected, rtol=0, atol=0.03)
    rest = log_read - 2.18 * log_shot - 1.20
    assert abs(rest.mean()) < 0.003
    assert abs(rest.std() - 0.26) < 0.002
    assert abs(torch.corrcoef(torch.stack([rest, log_shot]))[0, 1]) < 0.01


def test_levels_at_the_ends_of_the_law() -> None:
    read, shot = read_shot_levels(torch.tensor([0.0, 1.0]), torch.zeros(2))
    assert_close(shot, torch.tensor([0.01, math.sqrt(0.012)]))
    assert_close(read, torch.tensor([1e-4, 0.012]).pow(1.09) * math.exp(0.6))


@pytest.mark.parametrize("highest", [1e-3, 1.0, 30.0, 3e3, 1e6])
def test_poisson_quantile_agrees_with_scipy(highest: float) -> None:
    from scipy.stats import poisson

    u = torch.rand(4000, generator=generator(), dtype=torch.float64)
    u[:4] = torch.tensor([1e-300, 1e-12, 0.5, 1 - 2**-40], dtype=torch.float64)
    rate = highest * torch.rand(4000, generator=generator(1), dtype=torch.float64)
    rate[:4] = highest
    assert (poisson_quantile(u, rate).numpy() == poisson.ppf(u.numpy(), rate.numpy())).all()


@pytest.mark.parametrize("rate", [0.3, 2.0, 30.0])
def test_poisson_quantile_steps_where_the_summed_distribution_does(rate: float) -> None:
    n = torch.arange(60, dtype=torch.float64)
    cdf = torch.exp(n * math.log(rate) - rate - torch.lgamma(n + 1)).cumsum(0)
    steps = (cdf > 1e-6) & (cdf < 1 - 1e-6)
    assert steps.sum() > 3
    mean = torch.full_like(n[steps], rate)
    assert_close(poisson_quantile(cdf[steps] - 1e-9, mean), n[steps])
    assert_close(poisson_quantile(cdf[steps] + 1e-9, mean), n[steps] + 1)


def test_poisson_quantile_of_no_light_and_of_no_probability() -> None:
    u = torch.tensor([0.0, 0.5, 0.999])
    assert_close(poisson_quantile(u, torch.zeros(3)), torch.zeros(3))
    assert_close(poisson_quantile(torch.zeros(3), torch.tensor([0.0, 3.0, 500.0])), torch.zeros(3))
    assert poisson_quantile(torch.zeros(0), torch.zeros(0)).shape == (0,)


def test_poisson_quantile_broadcasts_and_keeps_the_dtype() -> None:
    u = torch.rand(2, 3, 4, 4, generator=generator())
    n = poisson_quantile(u, torch.tensor([5.0, 50.0]).reshape(2, 1, 1, 1))
    assert n.dtype == torch.float32
    assert n.shape == u.shape
    assert (n == n.round()).all()
    assert_close(poisson_quantile(u.flip(-1), torch.full((), 5.0))[0], n.flip(-1)[0])


@pytest.mark.parametrize("peak", [1, 2, 16, 128, 256])
def test_poisson_of_levels_is_the_quantile(peak: int) -> None:
    u = torch.rand(2, 3, 40, generator=generator())
    u[0, 0, :3] = torch.tensor([0.0, 1e-6, 1 - 2**-24])
    level = torch.randint(256, u.shape, generator=generator(1)).float()
    level[:, 1, :2] = torch.tensor([0.0, 255.0])
    count = poisson_of_levels(u, level, peak)
    assert (count.dtype, count.shape) == (u.dtype, u.shape)
    assert torch.equal(count, poisson_quantile(u, level.double() * peak / 255))


@pytest.mark.parametrize("gain", [6.0, 24.0, 96.0])
@pytest.mark.parametrize("level", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_normal_counts_have_the_moments_of_clipped_normal_numbers(
    gain: float, level: float
) -> None:
    # Evenly spaced numbers instead of random ones: the mean over them is an integral.
    u = ((torch.arange(N, dtype=torch.float64) + 0.5) / N).reshape(1, 1, 1, N)
    y = normal_counts(torch.full_like(u, level), torch.tensor([gain]), u)
    s = math.sqrt(level / gain) or 1e-12
    low, high = (0 - level) / s, (1 - level) / s
    normal_law = torch.distributions.Normal(0.0, 1.0)

    def cdf(t: float) -> float:
        return float(normal_law.cdf(torch.tensor(t, dtype=torch.float64)))

    def pdf(t: float) -> float:
        return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)

    inside = cdf(high) - cdf(low)
    # E clip(x + s z) = x P(inside) + s (phi(low) - phi(high)) + P(above)
    mean = level * inside + s * (pdf(low) - pdf(high)) + 1 - cdf(high)
    assert_close(float(y.mean()), mean, rtol=0, atol=1e-5)
    assert y.min() >= 0
    assert y.max() <= 1


@pytest.mark.parametrize("gain", [6.0, 24.0, 400.0])
def test_normal_counts_are_near_the_counts_of_the_same_numbers(gain: float) -> None:
    shape = (1, 1, 200, 200)
    x = 0.1 + 0.4 * torch.rand(shape, generator=generator(), dtype=torch.float64)
    u = torch.rand(shape, generator=generator(1), dtype=torch.float64)
    counts = (poisson_quantile(u, gain * x) / gain).clamp(max=1)
    normal_ones = normal_counts(x, torch.tensor([gain]), u)
    # Half a step of a count in the middle, a bit more in the tails.
    assert (counts - normal_ones).abs().quantile(0.95) < 1.2 / gain
    assert abs(counts.mean() - normal_ones.mean()) < 0.1 / gain
    errors = torch.stack([(counts - x).flatten(), (normal_ones - x).flatten()])
    assert torch.corrcoef(errors)[0, 1] > 0.95


@pytest.mark.parametrize("signal_gradient", [False, True])
def test_normal_counts_hand_gradients_on_where_they_clip(signal_gradient: bool) -> None:
    x = torch.tensor([1.0, 0.01, 0.25, 0.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    u = torch.tensor([0.99, 0.01, 0.9, 0.3], dtype=torch.float64).reshape(1, 1, 1, 4)
    x.requires_grad_()
    y = normal_counts(x, torch.tensor([4.0]), u, signal_gradient=signal_gradient)
    assert y.flatten()[[0, 1, 3]].tolist() == [1.0, 0.0, 0.0]
    # No clamp of a chain behind it takes the gradient away.
    (gradient,) = torch.autograd.grad(y.clamp(0, 1).sum(), x)
    slope = torch.ones(4, dtype=torch.float64)
    if signal_gradient:
        # d/dx (x + sqrt(x / g) z) = 1 + z / (2 sqrt(x g)), and 1 in the dark.
        lit = x.detach().flatten()[:3]
        slope[:3] += torch.special.ndtri(u.flatten()[:3]) / (2 * (4 * lit).sqrt())
    assert_close(gradient.flatten(), slope)


def test_normal_counts_of_no_probability_are_finite() -> None:
    u = torch.tensor([0.0, 1 - 2.0**-24]).reshape(1, 1, 1, 2).requires_grad_()
    x = torch.full((1, 1, 1, 2), 0.5, requires_grad=True)
    y = normal_counts(x, torch.tensor([1e4]), u)
    # The 2^-24 quantiles of a normal number are 5.3 deviations away.
    assert_close(y.flatten(), torch.tensor([0.5 - 0.0379, 0.5 + 0.0378]), rtol=0, atol=1e-3)
    assert all(g.isfinite().all() for g in torch.autograd.grad(y.sum(), (x, u)))
