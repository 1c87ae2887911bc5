"""Masks: against loops over pixels, over resolutions, and what is done under them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.blur import blur
from blemish.functional.kernels import gaussian
from blemish.functional.masks import (
    COPIES,
    TAPER,
    box,
    drops,
    each_drop,
    ellipse,
    graded_blur,
    pull,
    ramp,
    refract,
)
from blemish.functional.random import generator_for, rand, randn

SIZE = (9, 14)
MIDDLE = torch.tensor([[0.4, 0.6], [0.1, 0.2], [0.5, 0.5]])
HALF = torch.tensor([[0.3, 0.2], [0.25, 0.4], [0.1, 0.45]])
SOFT = torch.tensor([0.5, 0.2, 0.0])


def box_radius(v: float, u: float) -> tuple[float, ...]:
    return abs(v), abs(u)


def ellipse_radius(v: float, u: float) -> tuple[float, ...]:
    return (math.sqrt(v * v + u * u),)


def drop_radius(v: float, u: float) -> tuple[float, ...]:
    u /= 1 + TAPER * min(max(v, -1), 1)
    return (math.sqrt(v * v + u * u),)


def one_drop(middle: Tensor, half: Tensor, softness: Tensor, size: tuple[int, int]) -> Tensor:
    return drops(middle[:, None], half[:, None], softness, size)


REGIONS: list[tuple[Callable[..., Tensor], Callable[[float, float], tuple[float, ...]]]] = [
    (box, box_radius),
    (ellipse, ellipse_radius),
    (one_drop, drop_radius),
]
regions = pytest.mark.parametrize(("draw", "radius"), REGIONS)


@regions
def test_regions_agree_with_loops_over_pixels(
    draw: Callable[..., Tensor], radius: Callable[[float, float], tuple[float, ...]]
) -> None:
    middle, half, soft = MIDDLE.double(), HALF.double(), SOFT.double()
    expected = torch.zeros(3, 1, *SIZE, dtype=torch.float64)
    for b in range(3):
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                v = ((i + 0.5) / SIZE[0] - float(middle[b, 0])) / float(half[b, 0])
                u = ((j + 0.5) / SIZE[1] - float(middle[b, 1])) / float(half[b, 1])
                inside = [(1 - r) / max(float(soft[b]), 1e-6) + 0.5 for r in radius(v, u)]
                expected[b, 0, i, j] = math.prod(min(max(m, 0.0), 1.0) for m in inside)
    assert_close(draw(middle, half, soft, SIZE), expected)
    assert 0 < expected[0].mean() < 0.5


@regions
def test_regions_mean_the_same_at_any_resolution(
    draw: Callable[..., Tensor], radius: Callable[[float, float], tuple[float, ...]]
) -> None:
    # The middles of three by three pixels are those of the coarse ones.
    fine = draw(MIDDLE.double(), HALF.double(), SOFT.double(), (27, 42))
    coarse = draw(MIDDLE.double(), HALF.double(), SOFT.double(), SIZE)
    assert_close(fine[..., 1::3, 1::3], coarse)


@pytest.mark.parametrize(("draw", "share"), [(box, 4.0), (ellipse, math.pi)])
def test_regions_cover_their_area(draw: Callable[..., Tensor], share: float) -> None:
    middle, half = torch.tensor([[0.5, 0.45]]), torch.tensor([[0.2, 0.35]])
    for softness in (0.0, 0.1):
        mask = draw(middle, half, torch.tensor([softness]), (200, 300))
        assert_close(float(mask.mean()), share * 0.2 * 0.35, rtol=0.01, atol=0)
    hard = draw(middle, half, torch.zeros(1), (200, 300))
    assert set(hard.unique().tolist()) <= {0.0, 0.5, 1.0}


def test_drops_are_narrower_above_and_join_by_their_maximum() -> None:
    middle = torch.tensor([[[0.3, 0.3], [0.5, 0.5], [0.8, 0.8]]])
    half = torch.tensor([[[0.2, 0.15], [0.25, 0.2], [0.0, 0.0]]])
    soft = torch.tensor([0.3])
    each = each_drop(middle, half, soft, (80, 60))
    assert torch.equal(drops(middle, half, soft, (80, 60)), each.amax(1, keepdim=True))
    assert not each[:, 2].any()
    assert (each[:, 0] * each[:, 1]).max() > 0.5
    widths = (each[0, 1] > 0.5).sum(1)
    above, below = widths[30].item(), widths[49].item()
    assert 0 < above < below


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2, 2.0, math.pi, 4.0, 5.5])
def test_ramps_grow_linearly_from_corner_to_corner(angle: float) -> None:
    mask = ramp(torch.tensor([angle], dtype=torch.float64), SIZE)[0, 0]
    down, right = mask.diff(dim=0), mask.diff(dim=1)
    # A plane, with the slopes that bring 0 and 1 into the corners.
    norm = abs(math.cos(angle)) + abs(math.sin(angle))
    assert_close(down, torch.full_like(down, math.sin(angle) / norm / SIZE[0]))
    assert_close(right, torch.full_like(right, math.cos(angle) / norm / SIZE[1]))
    assert_close(mask.mean(), torch.tensor(0.5, dtype=torch.float64))
    opposite = ramp(torch.tensor([angle + math.pi], dtype=torch.float64), SIZE)[0, 0]
    assert_close(mask + opposite, torch.ones_like(mask))
    half_pixel = (abs(math.sin(angle)) / SIZE[0] + abs(math.cos(angle)) / SIZE[1]) / norm / 2
    assert_close(float(mask.min()), half_pixel)


def test_a_pull_leads_to_the_middle_of_the_drop_that_counts() -> None:
    middle = torch.tensor([[[0.3, 0.25], [0.6, 0.7]], [[0.5, 0.5], [0.2, 0.2]]])
    half = torch.tensor([[[0.3, 0.3], [0.2, 0.3]], [[0.2, 0.2], [0.0, 0.0]]])
    soft, (h, w) = torch.tensor([0.4, 0.1]), SIZE
    way, masks = pull(middle, half, soft, SIZE), each_drop(middle, half, soft, SIZE)
    seen = set()
    for b in range(2):
        for i in range(h):
            for j in range(w):
                k = int(masks[b, :, i, j].argmax())
                p = torch.tensor([(i + 0.5) / h, (j + 0.5) / w])
                there = bool(masks[b, k, i, j] > 0)
                seen.add((b, k, there))
                assert_close(way[b, :, i, j], middle[b, k] - p if there else torch.zeros(2))
    assert {(0, 0, True), (0, 1, True), (0, 0, False), (1, 0, True)} <= seen
    assert (1, 1, True) not in seen


SIGMA = torch.tensor([1.0, 2.5, 0.6])


def test_a_graded_blur_is_none_at_0_and_the_blur_at_1() -> None:
    x = rand((3, 3, 20, 23), generator_for("image"))
    mask = (rand((3, 1, 20, 23), generator_for("mask")) < 0.5).float()
    y = graded_blur(x, mask, SIGMA, 15)
    whole = blur(x, gaussian(SIGMA, 15))
    assert torch.equal(torch.where(mask == 0, y, 0), torch.where(mask == 0, x, 0))
    assert_close(torch.where(mask == 1, y, 0), torch.where(mask == 1, whole, 0))


@pytest.mark.parametrize("k", range(COPIES + 1))
def test_a_graded_blur_has_the_masks_part_of_the_width(k: int) -> None:
    x = rand((3, 1, 20, 23), generator_for("image")).double()
    mask = torch.full((3, 1, 20, 23), k / COPIES, dtype=torch.float64)
    expected = blur(x, gaussian(SIGMA.double() * k / COPIES, 15)) if k else x
    assert_close(graded_blur(x, mask, SIGMA, 15), expected)
    # Between two copies it is on the straight line.
    if k < COPIES:
        ends = [graded_blur(x, mask + e / COPIES, SIGMA, 15) for e in (0, 0.3, 1)]
        assert_close(ends[1], 0.7 * ends[0] + 0.3 * ends[2])


def test_a_ramp_blurs_more_and_more() -> None:
    x = randn((1, 1, 64, 400), generator_for("noise"))
    y = graded_blur(x, ramp(torch.zeros(1), (64, 400)), torch.tensor([2.0]), 13)
    power = y.square().reshape(64, 8, 50).mean((0, 2))
    assert (power.diff() < 0).all()
    assert power[0] > 10 * power[-1]


def test_refraction_shows_what_lies_some_way_off() -> None:
    x = rand((2, 3, 12, 10), generator_for("image"))
    assert_close(refract(x, torch.zeros(2, 2, 12, 10)), x, rtol=0, atol=1e-5)
    way = torch.tensor([2 / 12, -3 / 10]).view(1, 2, 1, 1).expand(2, 2, 12, 10)
    rows = (torch.arange(12) + 2).clamp(max=11)
    columns = (torch.arange(10) - 3).clamp(min=0)
    assert_close(refract(x, way), x[:, :, rows][..., columns], rtol=0, atol=1e-5)
    # Half a pixel off is the mean of two.
    half = torch.tensor([0.0, 0.5 / 10]).view(1, 2, 1, 1).expand(2, 2, 12, 10)
    assert_close(refract(x, half)[..., :-1], (x[..., :-1] + x[..., 1:]) / 2, rtol=0, atol=1e-5)


def test_a_refracted_picture_grows_about_the_middle_of_the_drop() -> None:
    # Inside of a hard drop p + lambda (c - p) enlarges by 1 / (1 - lambda).
    size, half = (60, 60), torch.tensor([[[0.4, 0.4]]])
    middle, soft = torch.tensor([[[0.5, 0.5]]]), torch.zeros(1)
    columns = ((torch.arange(60) + 0.5) / 60).expand(1, 1, 60, 60)
    seen = refract(columns.contiguous(), 0.5 * pull(middle, half, soft, size))
    inside = drops(middle, half, soft, size) == 1
    assert_close(seen[inside], (0.5 + 0.5 * (columns - 0.5))[inside], rtol=0, atol=1e-5)
    assert_close(seen[~inside], columns[~inside], rtol=0, atol=1e-5)
