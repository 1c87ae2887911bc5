"""Steps of a search: their lengths, directions and limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.descent import (
    Sphere,
    finite,
    normalised_step,
    one_cycle_drop,
    onto_sphere,
    sphere_lr,
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


@pytest.mark.parametrize("centre", [0.0, 3.0, numbers(6), numbers(2, 1, 6)])
def test_a_sphere_through_the_start_keeps_each_vectors_distance(centre: Tensor | float) -> None:
    start = numbers(2, 3, 6) * torch.tensor([1e-3, 1.0, 50.0]).view(3, 1)
    sphere = Sphere.through(start, centre)
    assert_close(sphere(start), start)
    moved = sphere(start + numbers(2, 3, 6, 1)[..., 0])
    lengths = [(p - centre).norm(dim=-1) for p in (start, moved)]
    assert_close(lengths[1], lengths[0], rtol=1e-5, atol=0)
    assert (moved - start).norm(dim=-1).min() > 0


def test_a_sphere_goes_the_shortest_way() -> None:
    centre, p = numbers(6), numbers(3, 6) + 2
    q = Sphere(centre, 1.5)(p)
    along = torch.cosine_similarity(p - centre, q - centre, dim=-1)
    assert_close(along, torch.ones(3))
    assert_close((q - centre).norm(dim=-1), torch.full((3,), 1.5))
    assert torch.equal(Sphere(centre, 1.5)(centre), centre)


def test_a_sphere_knows_no_other_vectors() -> None:
    start, p = numbers(2, 3, 6), numbers(2, 3, 6) + 1
    whole = Sphere.through(start)(p)
    for i in range(2):
        for j in range(3):
            assert torch.equal(Sphere.through(start[i, j])(p[i, j]), whole[i, j])


def test_a_spheres_radius_does_not_follow_the_search() -> None:
    p = numbers(2, 6)
    sphere, before = Sphere.through(p), p.norm(dim=-1)
    p *= 7
    assert_close(sphere(p).norm(dim=-1), before)


def test_a_typical_sphere_has_the_mean_distance_of_draws() -> None:
    draws, centre = numbers(4000, 64), numbers(64)
    # E|z| of a normal vector is sqrt(d - 1/2), nearly.
    assert Sphere.typical(draws).radius.item() == pytest.approx(math.sqrt(63.5), rel=5e-3)
    shifted = Sphere.typical(draws + centre, centre)
    assert_close(shifted.radius, Sphere.typical(draws).radius)
    assert_close((shifted(draws) - centre).norm(dim=-1), shifted.radius.expand(4000))


@pytest.mark.parametrize("make", [Sphere.through, Sphere.typical])
def test_a_sphere_needs_a_radius(make: Callable[[Tensor, Tensor | float], Sphere]) -> None:
    centre = numbers(6)
    with pytest.raises(ValueError, match=r"radius is 0; .*take the radius from draws"):
        make(centre.expand(1, 6), centre)
    with pytest.raises(ValueError, match="radius is nan"):
        make(centre.expand(1, 6), math.nan)


def test_one_vector_in_the_centre_is_one_too_many() -> None:
    with pytest.raises(ValueError, match="radius is 0"):
        Sphere.through(torch.stack([numbers(6), torch.zeros(6)]))


@pytest.mark.parametrize("radius", [1.52, 22.6])
def test_the_rate_of_a_sphere_makes_adams_first_step_the_same_angle(radius: float) -> None:
    d = 512
    p = onto_sphere(numbers(d), radius).requires_grad_()
    before, sphere = p.detach().clone(), Sphere.through(p)
    adam = torch.optim.Adam([p], lr=sphere_lr(0.4, radius, d))
    # The slope of half the square of another vector's distance.
    p.grad = before - numbers(d, 1)[:, 0]
    adam.step()
    assert (p.detach() - before).norm().item() == pytest.approx(0.4 * radius, rel=1e-3)
    assert_close(sphere(p.detach()).norm(), before.norm())
    assert_close(sphere_lr(0.4, torch.tensor([radius, 1.0]), 4)[1], torch.tensor(0.2))
