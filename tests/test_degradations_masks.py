"""Lost pixels: how many, where, and in which channels."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from blemish.degradations import DroppedPixels, StrokeMask
from blemish.functional.random import generator_for, rand


@pytest.mark.parametrize("probability", [0.04, 0.16, 0.64])
def test_pixels_are_dropped_as_often_as_said_and_independently(probability: float) -> None:
    d, shape = DroppedPixels(probability), (4, 3, 100, 100)
    params = d.sample(shape, generator=generator_for("drop"))
    lost = params.mask == 0
    bound = 5 * math.sqrt(probability * (1 - probability) / lost.numel())
    assert abs(float(lost.double().mean()) - probability) < bound
    # Of neighbours, both are lost with the square of the probability.
    both = probability**2
    for pair in (lost[..., 1:] & lost[..., :-1], lost[1:] & lost[:-1]):
        assert abs(float(pair.double().mean()) - both) < 8 * math.sqrt(both / pair.numel())
    assert_close(params.summary()["dropped"], lost.float().mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("d", [DroppedPixels(0.3), StrokeMask(3, 0.2)], ids=["drop", "strokes"])
def test_lost_pixels_are_black_in_all_channels_and_the_others_stay(
    d: DroppedPixels | StrokeMask,
) -> None:
    x = 0.1 + 0.9 * rand((3, 3, 20, 30), generator_for("image"))
    params = d.sample((3, 3, 20, 30), generator=generator_for("params"))
    mask = params.mask
    assert mask.shape == (3, 1, 20, 30)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    y = d(x, params)
    assert torch.equal(y == 0, (mask == 0).expand_as(x))
    assert torch.equal(y[(mask == 1).expand_as(x)], x[(mask == 1).expand_as(x)])
    assert not torch.equal(mask[0], mask[1])


def test_strokes_cover_the_area_of_lines_between_outer_thirds() -> None:
    size, share, n = 64, 0.08, 300
    d = StrokeMask(1, share)
    covered = d.sample((n, 1, size, size), generator=generator_for("one")).summary()["covered"]
    u = rand((n, 2, 2), generator_for("one"))
    ends = torch.where(u < 0.5, u * 2 / 3, 1 - (1 - u) * 2 / 3)
    area = share * (ends[:, 0] - ends[:, 1]).norm(dim=1) + math.pi * share**2 / 4
    # Round ends may stick out of the picture; pixels are whole.
    assert (covered < area + 0.01).all()
    assert 0.9 * area.mean() < covered.mean() < 1.01 * area.mean()


def test_many_strokes_leave_a_little_more_than_independent_pixels_would() -> None:
    one = StrokeMask(1).sample((400, 1, 48, 48), generator=generator_for("one"))
    for count in (5, 17):
        many = StrokeMask(count).sample((100, 1, 48, 48), generator=generator_for(count))
        # Where strokes are likely there are several, by the law of each pixel: a mean of powers.
        expected = (one.mask.mean(dim=0) ** count).mean()
        assert abs(float(1 - many.summary()["covered"].mean() - expected)) < 0.04
        assert expected > one.mask.mean() ** count


def test_strokes_have_both_ends_in_the_outer_thirds() -> None:
    drawn = StrokeMask(1, 0.01).sample((600, 1, 30, 60), generator=generator_for("ends"))
    touched = 1 - drawn.mask[:, 0]
    # Each end is in this corner with probability 1/4.
    assert touched[:, :10, :20].amax(dim=(1, 2)).mean() > 7 / 16 - 0.1
    for places, length in ((touched.amax(dim=2), 30), (touched.amax(dim=1), 60)):
        first, last = places.argmax(dim=1), length - 1 - places.flip(1).argmax(dim=1)
        for end in (first, last):
            assert not ((end > length // 3) & (end < 2 * length // 3 - 1)).any()


def test_a_brush_has_the_pictures_width_in_mind_and_at_least_one_pixel() -> None:
    wide = StrokeMask(1, 0.5).sample((200, 1, 40, 80), generator=generator_for("brush"))
    tall = StrokeMask(1, 0.5).sample((200, 1, 80, 40), generator=generator_for("brush"))
    assert wide.summary()["covered"].mean() > 1.5 * tall.summary()["covered"].mean()
    small = StrokeMask(1, 0.001).sample((50, 1, 6, 6), generator=generator_for("small"))
    assert small.summary()["covered"].min() > 0
