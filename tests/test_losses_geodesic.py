"""The cross loss against angles known by hand, and against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, randn
from blemish.losses import geodesic_cross


def styles(*shape: int) -> Tensor:
    return randn(shape, generator_for("geodesic", *shape)).double()


def test_18_styles_of_512_numbers_have_the_published_value() -> None:
    w = styles(2, 18, 512)
    sums = 0
    for i in range(18):
        for j in range(18):
            apart = ((w[:, i] - w[:, j]).square().sum(-1) + 1e-9).sqrt()
            about = ((w[:, i] + w[:, j]).square().sum(-1) + 1e-9).sqrt()
            sums = sums + (2 * torch.atan2(apart, about)).square()
    assert_close(geodesic_cross(w), sums * 512 / 18**2 / 8)
    # Independent normal vectors are orthogonal, nearly: (17 / 18) (pi / 2)^2 512 / 8.
    value = 17 / 18 * (math.pi / 2) ** 2 * 64
    assert_close(geodesic_cross(w), torch.full((2,), value).double(), rtol=5e-3, atol=0)


@pytest.mark.parametrize("angle", [1e-3, 0.3, math.pi / 2, 3.0, math.pi])
@pytest.mark.parametrize("radius", [1.5, 22.6])
def test_two_styles_of_one_length_have_their_angle(angle: float, radius: float) -> None:
    w = radius * torch.tensor([[1.0, 0, 0], [math.cos(angle), math.sin(angle), 0]])[None].double()
    # Two of four ordered pairs have the angle.
    expected = angle**2 / 2 * 3 / 8
    assert geodesic_cross(w).item() == pytest.approx(expected, rel=1e-3)
    assert geodesic_cross(w.float()).item() == pytest.approx(expected, rel=1e-3)


def test_equal_styles_have_none_and_a_finite_gradient() -> None:
    w = styles(2, 1, 64).repeat(1, 5, 1).requires_grad_()
    loss = geodesic_cross(w)
    assert_close(loss, torch.zeros(2).double(), rtol=0, atol=1e-8)
    (gradient,) = torch.autograd.grad(loss.sum(), w)
    assert_close(gradient, torch.zeros(2, 5, 64).double(), rtol=0, atol=1e-9)
    # Opposite ones, and none at all.
    for x in (torch.cat([w, -w], dim=1).detach(), torch.zeros(2, 3, 64)):
        x.requires_grad_()
        assert torch.autograd.grad(geodesic_cross(x).sum(), x)[0].isfinite().all()


def test_a_single_style_crosses_nothing() -> None:
    w = styles(3, 1, 8).requires_grad_()
    loss = geodesic_cross(w)
    assert torch.equal(loss, torch.zeros(3).double())
    assert torch.equal(torch.autograd.grad(loss.sum(), w)[0], torch.zeros(3, 1, 8).double())


def test_it_knows_no_order_no_rotation_no_length_and_no_other_image() -> None:
    w = 30 * styles(3, 4, 8)
    loss = geodesic_cross(w)
    turn = torch.linalg.qr(styles(8, 8)).Q
    assert_close(geodesic_cross(w.flip(1)), loss)
    assert_close(geodesic_cross(w @ turn), loss)
    assert_close(geodesic_cross(7 * w), loss, rtol=1e-9, atol=0)
    assert_close(torch.cat([geodesic_cross(x[None]) for x in w]), loss)


def test_the_gradient_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(geodesic_cross, styles(2, 3, 4).requires_grad_())


def test_descent_brings_styles_together() -> None:
    w = styles(1, 4, 8).requires_grad_()
    for _ in range(50):
        (gradient,) = torch.autograd.grad(geodesic_cross(w).sum(), w)
        w = (w - 0.5 * gradient).detach().requires_grad_()
    assert geodesic_cross(w).item() < 0.01 * geodesic_cross(styles(1, 4, 8)).item()


@pytest.mark.parametrize("shape", [(3, 8), (2, 0, 8)])
def test_it_needs_styles(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"got styles of shape .*; give \(B, k, d\)"):
        geodesic_cross(torch.zeros(shape))
