"""The drawn picture: what its arithmetic says, leaf by leaf, and others of its kind."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.evaluation import specimen
from blemish.functional.random import generator_for, rand, randn
from blemish.metrics import noise_level


def _leaf_by_leaf(channels: int, height: int, width: int, *key: int | str) -> Tensor:
    """Paints one disk over the other; with a seed their colours are mostly grey."""
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5)[None] / width
    card = torch.full((channels, height, width), 0.5)
    for x_0, y_0, size, *colour in rand((250, 6), generator_for(*key)).tolist():
        inside = (x - x_0) ** 2 + (y - y_0) ** 2 < (0.02 / (0.06 + size)) ** 2
        mixed = torch.tensor(colour[:channels])
        if len(key) > 1:
            mixed = 0.8 * colour[0] + 0.2 * mixed
        card = torch.where(inside, 0.1 + 0.8 * mixed[:, None, None], card)
    return card


SIZES = [(3, 64, 64), (1, 33, 20), (3, 20, 300)]


@pytest.mark.parametrize("size", SIZES)
def test_it_is_painted_leaf_by_leaf(size: tuple[int, int, int]) -> None:
    _, height, width = size
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5)[None] / width
    card = _leaf_by_leaf(*size, "specimen")
    waves = 0.5 + 0.5 * torch.cos(2 * math.pi * width * x * (0.05 + 0.35 * y))
    card[:, :, 3 * width // 4 :] = waves[:, 3 * width // 4 :]
    card[:, 7 * height // 8 :] = x.expand(height, -1)[7 * height // 8 :]
    assert torch.equal(specimen(*size), card[None])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", [0, 7])
def test_others_are_seen_through_a_lens(size: tuple[int, int, int], seed: int) -> None:
    channels, height, width = size
    fine = _leaf_by_leaf(channels, 2 * height, 2 * width, "specimen", seed)
    x = fine.unflatten(1, (height, 2)).unflatten(3, (width, 2)).mean(dim=(2, 4))
    for dim in (1, 2):
        n = x.shape[dim]
        ends = [x.narrow(dim, 0, 1), x, x.narrow(dim, n - 1, 1)]
        wide = torch.cat(ends, dim=dim)
        x = (wide.narrow(dim, 0, n) + 2 * x + wide.narrow(dim, 2, n)) / 4
    assert_close(specimen(*size, seed=seed)[0], x)


def test_seeds_draw_different_pictures_in_range() -> None:
    cards = torch.cat([specimen(seed=seed) for seed in range(4)] + [specimen()])
    assert cards.min() >= 0
    assert cards.max() <= 1
    assert torch.pdist(cards.flatten(1)).min() > 10


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.08])
def test_noise_is_measured_on_others_as_on_photographs(sigma: float) -> None:
    x = torch.cat([specimen(seed=seed) for seed in range(4)])
    found = noise_level(x + sigma * randn(x.shape, generator_for("noise")))
    assert_close(found, torch.full((4,), sigma), atol=0.005, rtol=0)
