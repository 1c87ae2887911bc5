from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.kernels import anisotropic_gaussian, centroid, delta, gaussian, rms_radius
from blemish.functional.wide_kernels import (
    cut,
    generalised_gaussian,
    plateau,
    shifted_gaussian,
    sinc,
)

FAMILIES: dict[str, tuple[Callable[..., Tensor], Callable[[float], float]]] = {
    "generalised": (generalised_gaussian, lambda power: math.exp(-power / 2)),
    "plateau": (plateau, lambda power: 1 / (1 + power)),
}
family = pytest.mark.parametrize("name", FAMILIES)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _by_loops(
    value: Callable[[float], float], a: float, b: float, angle: float, beta: float, size: int
) -> Tensor:
    """Pixel by pixel, with the covariance inverted as a matrix."""
    turn = doubles(math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)).view(2, 2)
    inverse = torch.linalg.inv(turn @ torch.diag(doubles(a * a, b * b)) @ turn.T)
    kernel = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            p = doubles(j - size // 2, i - size // 2)
            kernel[i, j] = value(float(p @ inverse @ p) ** beta)
    return kernel / kernel.sum()


@family
def test_families_follow_their_formula(name: str) -> None:
    make, value = FAMILIES[name]
    rows = [(1.0, 2.5, 0.4, 0.5), (0.7, 0.9, -2.0, 1.0), (3.0, 1.2, 1.3, 2.7), (2.0, 2.0, 0.0, 4.0)]
    kernel = make(*doubles(*sum(rows, ())).view(4, 4).T, 9)
    assert kernel.shape == (4, 1, 9, 9)
    assert_close(kernel[:, 0], torch.stack([_by_loops(value, *row, 9) for row in rows]))


@family
def test_families_have_the_middle_and_the_sum(name: str) -> None:
    make = FAMILIES[name][0]
    sigma, beta = torch.rand(40, 2) * 3 + 0.2, torch.rand(40) * 3.5 + 0.5
    kernel = make(sigma[:, 0], sigma[:, 1], torch.rand(40) * 6 - 3, beta, 21)
    assert kernel.dtype == torch.float32
    assert_close(kernel.sum((1, 2, 3)), torch.ones(40))
    assert_close(kernel, kernel.flip(-2, -1), rtol=0, atol=1e-6)
    assert torch.equal(kernel.flatten(1).argmax(1), torch.full((40,), 220))


def test_shape_one_is_the_gaussian() -> None:
    given = doubles(0.4, 2.0, 3.0), doubles(1.0, 2.0, 0.5), doubles(0.0, 1.0, -2.0)
    kernel = generalised_gaussian(*given, torch.ones(3, dtype=torch.float64), 15)
    assert_close(kernel, anisotropic_gaussian(*given, 15))


@family
def test_large_shapes_tend_to_an_even_disk(name: str) -> None:
    sigma = doubles(3.3)
    kernel = FAMILIES[name][0](sigma, sigma, doubles(0.0), doubles(400.0), 11)
    p = torch.arange(11) - 5
    disk = (p.square() + p.square()[:, None] < 3.3**2).double()
    assert_close(kernel[0, 0], disk / disk.sum(), rtol=0, atol=1e-9)


@family
def test_smaller_shapes_have_heavier_tails(name: str) -> None:
    one, beta = torch.ones(4), torch.tensor([0.5, 1.0, 2.0, 4.0])
    radius = rms_radius(FAMILIES[name][0](2 * one, 2 * one, 0 * one, beta, 21))
    assert (radius.diff() < 0).all()


@family
def test_gradients_are_finite_where_a_power_has_none(name: str) -> None:
    leaves = [doubles(1.0).requires_grad_(), doubles(2.0).requires_grad_()]
    angle, beta = doubles(0.3).requires_grad_(), doubles(0.5).requires_grad_()
    kernel = FAMILIES[name][0](*leaves, angle, beta, 7)
    gradients = torch.autograd.grad(kernel.square().sum(), [*leaves, angle, beta])
    assert all(g.isfinite().all() and g.abs() > 0 for g in gradients)


# Sinc

CUTOFFS = doubles(math.pi / 5, math.pi / 3, 1.7, 2.5, math.pi)


def test_sinc_is_the_transform_of_a_disk() -> None:
    p = torch.arange(13, dtype=torch.float64) - 6
    r = torch.hypot(p, p[:, None])
    for cutoff in CUTOFFS.tolist():
        # h(r) = int_0^cutoff J0(omega r) omega d omega / (2 pi), by the midpoint rule.
        step = cutoff / 4000
        omega = (torch.arange(4000, dtype=torch.float64)[:, None, None] + 0.5) * step
        slow = (torch.special.bessel_j0(omega * r) * omega).sum(0) * step / (2 * math.pi)
        assert_close(sinc(doubles(cutoff), 13)[0, 0], slow / slow.sum(), rtol=1e-5, atol=1e-7)


def test_sinc_passes_what_lies_below_its_cutoff_only() -> None:
    size, cutoffs = 121, CUTOFFS[:4]
    kernel = sinc(cutoffs, size)
    omega = torch.linspace(0, math.pi, 80, dtype=torch.float64)
    p = torch.arange(size, dtype=torch.float64) - size // 2
    for direction in (0.0, math.pi / 4, 1.1):
        phase = math.cos(direction) * p + math.sin(direction) * p[:, None]
        wave = torch.cos(omega[:, None, None] * phase)
        response = (kernel * wave).sum((-2, -1))
        below, above = omega < 0.85 * cutoffs[:, None], omega > 1.15 * cutoffs[:, None]
        assert_close(response[:, 0], torch.ones(4, dtype=torch.float64))
        # The overshoot of Gibbs, about 9 % of the step.
        assert (response[below] - 1).abs().max() < 0.1
        assert response[above].abs().max() < 0.1
        assert above.sum() > 50


def test_sinc_rings_round_its_middle() -> None:
    kernel = sinc(CUTOFFS.float(), 21)
    assert_close(kernel.sum((1, 2, 3)), torch.ones(5))
    assert_close(kernel, kernel.mT, rtol=0, atol=1e-7)
    assert_close(kernel, kernel.flip(-1), rtol=0, atol=1e-7)
    assert (kernel.flatten(1).min(1).values < 0).all()
    assert_close(kernel, torch.cat([sinc(c[None], 21) for c in CUTOFFS.float()]))


# Shifts and supports


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.4])
def test_shifted_gaussians_lie_beside_the_middle(sigma: float) -> None:
    shift = doubles(-1.5, -0.5, 0.0, 1.0)
    kernel = shifted_gaussian(doubles(sigma).expand(4), shift, 25)
    assert_close(centroid(kernel), shift[:, None].expand(4, 2), rtol=0, atol=2e-3)
    assert_close(kernel[2:3], gaussian(doubles(sigma), 25))
    assert_close(kernel[3, 0, 1:, 1:], kernel[2, 0, :-1, :-1], rtol=0, atol=1e-6)


def test_a_narrow_gaussian_between_pixels_is_shared_by_them() -> None:
    kernel = shifted_gaussian(torch.tensor([0.02]), torch.tensor([-1.5]), 7)
    expected = torch.zeros(7, 7)
    expected[1:3, 1:3] = 0.25
    assert_close(kernel[0, 0], expected)


def test_cutting_leaves_the_kernel_of_the_smaller_size() -> None:
    side = doubles(7, 9, 13, 21, 1)
    kernel = cut(sinc(CUTOFFS, 21), side)
    assert_close(kernel.sum((1, 2, 3)), torch.ones(5, dtype=torch.float64))
    for row, cutoff, k in zip(kernel, CUTOFFS, side.int().tolist(), strict=True):
        m = 10 - k // 2
        inner = row[:, m : m + k, m : m + k]
        assert_close(inner, sinc(cutoff[None], k)[0])
        assert_close(inner.abs().sum(), row.abs().sum())
    assert_close(kernel[4:], delta(21).double())
