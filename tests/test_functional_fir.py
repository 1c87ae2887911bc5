"""Filtering while changing sizes, against zeros and loops written out."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from blemish.functional.fir import TAPS, convolved_up, doubled, halved, upfirdn
from blemish.functional.random import generator_for, randn


def numbers(*shape: int) -> Tensor:
    return randn(shape, generator_for("fir", *shape)).double()


def slow(x: Tensor, taps: list[float], up: int, down: int, pad: tuple[int, int]) -> Tensor:
    """The definition: stuff with zeros, pad or crop, add up taps for each place, keep some places."""
    (p, q), k = pad, len(taps)
    B, C, H, W = x.shape
    stuffed = x.new_zeros(B, C, H * up, W * up)
    stuffed[..., ::up, ::up] = x
    wide = x.new_zeros(B, C, H * up + max(p, 0) + max(q, 0), W * up + max(p, 0) + max(q, 0))
    wide[..., max(p, 0) : max(p, 0) + H * up, max(p, 0) : max(p, 0) + W * up] = stuffed
    wide = wide[..., max(-p, 0) : wide.shape[-2] - max(-q, 0), max(-p, 0) :]
    wide = wide[..., : wide.shape[-1] - max(-q, 0)]
    rows, columns = wide.shape[-2] - k + 1, wide.shape[-1] - k + 1
    y = x.new_zeros(B, C, rows, columns)
    for i, j in itertools.product(range(k), repeat=2):
        # A convolution: the first tap meets the last pixel.
        part = wide[..., k - 1 - i : k - 1 - i + rows, k - 1 - j : k - 1 - j + columns]
        y += taps[i] * taps[j] * part
    return y[..., ::down, ::down]


@pytest.mark.parametrize("taps", [[1.0, 3.0, 3.0, 1.0], [0.2, -1.0, 0.7], [2.0]])
@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("pad", [(2, 1), (0, 0), (3, 4), (-1, 2)])
def test_it_is_zeros_a_filter_and_every_few_pixels(
    taps: list[float], up: int, down: int, pad: tuple[int, int]
) -> None:
    x = numbers(2, 3, 5, 6)
    y = upfirdn(x, taps, up=up, down=down, pad=pad)
    assert_close(y, slow(x, taps, up, down, pad))
    sides = [(up * side + sum(pad) - len(taps)) // down + 1 for side in (5, 6)]
    assert y.shape == (2, 3, *sides)


@pytest.mark.parametrize("size", [(5, 6), (1, 1), (4, 9)])
def test_doubling_and_halving_are_the_style_generators(size: tuple[int, int]) -> None:
    x = numbers(2, 3, *size)
    line = [2 * tap for tap in TAPS]
    assert sum(TAPS) == 1
    assert_close(doubled(x), slow(x, line, 2, 1, (2, 1)))
    assert doubled(x).shape[-2:] == tuple(2 * side for side in size)
    if min(size) > 1:
        assert_close(halved(x), slow(x, list(TAPS), 1, 2, (1, 1)))
        assert halved(x).shape[-2:] == tuple(side // 2 for side in size)


def test_a_flat_image_stays_flat_inside_and_fades_by_the_border() -> None:
    flat = torch.ones(1, 1, 6, 7)
    up, down = doubled(flat), halved(doubled(flat))
    assert_close(up[..., 1:-1, 1:-1], torch.ones(1, 1, 10, 12))
    assert_close(up[0, 0, 0, 1:-1], torch.full((12,), 0.75))
    assert_close(down[..., 1:-1, 1:-1], torch.ones(1, 1, 4, 5))
    assert down[0, 0, 0].max() < 1


def test_doubling_is_adjoint_to_halving() -> None:
    x, y = numbers(2, 3, 5, 7), numbers(2, 3, 10, 14)
    # The gain of doubling is 2 along each axis.
    assert_close((doubled(x) * y).sum(), 4 * (x * halved(y)).sum())


@pytest.mark.parametrize(("up", "down", "pad"), [(2, 1, (2, 1)), (1, 2, (1, 1)), (3, 2, (1, 3))])
def test_the_adjoint_turns_the_filter_and_swaps_the_factors(
    up: int, down: int, pad: tuple[int, int]
) -> None:
    taps, x = [0.3, -1.0, 0.5, 2.0, 0.1], numbers(1, 2, 6, 6)
    y = upfirdn(x, taps, up=up, down=down, pad=pad)
    u = numbers(*y.shape)
    # Pixels that were dropped at the end come back as zeros behind it.
    k, (p, _) = len(taps), pad
    back = k - 1 - p, 6 * up + p - (y.shape[-1] * down)
    turned = upfirdn(u, taps[::-1], up=down, down=up, pad=back)
    assert_close((y * u).sum(), (x * turned).sum())


@pytest.mark.parametrize("k", [1, 3, 5])
def test_an_up_sampling_convolution_loses_nothing_between_its_steps(k: int) -> None:
    x, weight = numbers(2, 3, 4, 6), numbers(5, 3, k, k)
    # Convolutions commute while nothing is cropped: filter first, on a border that is wide enough for both.
    margin = k // 2
    filtered = slow(x, [2 * tap for tap in TAPS], 2, 1, (2 + margin, 1 + margin))
    expected = F.conv2d(filtered, weight.flip((2, 3)))
    assert_close(convolved_up(x, weight), expected)


def test_an_up_sampling_convolution_keeps_flat_features_flat() -> None:
    # Zeros in between make a pattern of four phases, which the filter, zero at that frequency, takes away.
    weight = numbers(5, 3, 3, 3)
    y = convolved_up(torch.ones(1, 3, 6, 6).double(), weight)
    flat = weight.sum(dim=(1, 2, 3))
    assert_close(y[..., 2:-2, 2:-2], flat[None, :, None, None].expand(1, 5, 8, 8))


def test_derivatives_of_two_orders() -> None:
    x, weight = numbers(1, 2, 3, 3).requires_grad_(), numbers(2, 2, 3, 3).requires_grad_()
    assert gradcheck(convolved_up, (x, weight), fast_mode=True)
    assert gradgradcheck(convolved_up, (x, weight), fast_mode=True)
    assert gradcheck(halved, (x,))


def test_what_does_not_fit_is_refused() -> None:
    x = torch.zeros(1, 1, 3, 2)
    with pytest.raises(ValueError, match=r"up, down=\(0, 1\); give whole factors"):
        upfirdn(x, [1.0], up=0)
    with pytest.raises(ValueError, match=r"a filter of 4 taps does not fit rows of 3 pixels"):
        upfirdn(x, [1.0] * 4, pad=(1, 0))
    with pytest.raises(ValueError, match=r"a filter of 0 taps"):
        upfirdn(x, [])
