"""Steps of a search: their lengths, directions and limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.descent import (
    finite,
    normalised_step,
    one_cycle_drop,
    onto_sphere,
    standardised,
)
from blemish.functional.random import generator_for, randn


def numbers(*shape: int) -> Tensor:
    return randn(shape, generator_for("descent", *shape))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("scale", [1e-42, 1e-25, 1.0, 1e30])
def test_a_step_has_its_length_and_goes_against_the_gradient(
    shape: tuple[int, ...], scale: float
) -> None:
    p, g = numbers(*shape), numbers(*shape, 1)[..., 0]
    moved = normalised_step(p, scale * g, 0.3) - p
    length = g.norm(dim=-1, keepdim=True)
    # Subnormal numbers keep few digits.
    assert_close(moved, -0.3 * g / length, rtol=0, atol=1e-3 if scale < 1e-38 else 1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_counts_as_zero(bad: float) -> None:
    p = numbers(3, 2)
    g = torch.tensor([[bad, 2.0], [bad, bad], [0.0, 0.0]])
    assert_close(finite(g), torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]))
    assert_close(normalised_step(p, g, 0.1), p - torch.tensor([[0.0, 0.1], [0, 0], [0, 0]]))


def test_each_vector_has_a_step_of_its_own() -> None:
    p, g = numbers(4, 3, 6), numbers(4, 3, 6)
    alone = [[normalised_step(p[i, j], g[i, j], 0.2) for j in range(3)] for i in range(4)]
    assert_close(normalised_step(p, g, 0.2), torch.stack([torch.stack(row) for row in alone]))


def test_a_search_that_shortens_its_steps_finds_the_least_square() -> None:
    target, p = numbers(2, 7), torch.zeros(2, 7)
    for lr in (0.1, 0.01, 0.001):
        for _ in range(60):
            p = normalised_step(p, p - target, lr)
    assert (p - target).norm(dim=-1).max() <= 0.001


@pytest.mark.parametrize("radius", [0.5, 8.0])
def test_a_sphere_keeps_the_direction(radius: float) -> None:
    p = numbers(3, 4, 9)
    q = onto_sphere(p, radius)
    assert_close(q.norm(dim=-1), torch.full((3, 4), radius))
    assert_close(torch.cosine_similarity(p, q, dim=-1), torch.ones(3, 4))
    assert torch.equal(onto_sphere(torch.zeros(2, 3), radius), torch.zeros(2, 3))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1e-3, 5.0), (200.0, -7.0), (1e-30, 0.0)])
def test_maps_get_mean_0_and_variance_1(gain: float, offset: float) -> None:
    n = numbers(3, 2, 6, 5)
    out = standardised(gain * n + offset)
    assert_close(out.mean(dim=(2, 3)), torch.zeros(3, 2), rtol=0, atol=1e-4)
    assert_close(out.square().mean(dim=(2, 3)), torch.ones(3, 2))
    expected = (n - n.mean((2, 3), keepdim=True)) / n.std((2, 3), keepdim=True, correction=0)
    assert_close(out, expected, rtol=0, atol=1e-2)
    assert_close(standardised(out), out)


@pytest.mark.parametrize("value", [0.0, 0.1, -123.456])
def test_a_flat_map_becomes_zeros_and_leaves_the_others_alone(value: float) -> None:
    n = torch.cat([torch.full((1, 7, 9), value), numbers(1, 7, 9)])
    out = standardised(n)
    assert torch.equal(out[0], torch.zeros(7, 9))
    assert_close(out[1:], standardised(n[1:]))


def test_the_schedule_passes_through_its_corners() -> None:
    corners = {0.0: 0.1, 0.45: 1.0, 0.9: 0.1, 0.99: 0.0109, 1.0: 0.001}
    for progress, factor in corners.items():
        assert one_cycle_drop(progress) == pytest.approx(factor)
    # It is linear between them.
    assert one_cycle_drop(0.225) == pytest.approx(0.55)
    assert one_cycle_drop(0.675) == pytest.approx(0.55)
