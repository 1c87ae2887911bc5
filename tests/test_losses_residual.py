"""The length of what is left between two images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.losses import colour_loss, residual_length


def images(name: str, height: int = 7, width: int = 9) -> Tensor:
    return rand((2, 3, height, width), generator_for("residual", name)).double()


@pytest.mark.parametrize("block", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("colour", [0.0, 0.7])
def test_it_is_the_length_of_block_means(block: int, colour: float) -> None:
    x, y = images("x"), images("y")
    means = torch.empty_like(x)
    for i in range(0, 7, block):
        for j in range(0, 9, block):
            cells = (..., slice(i, i + block), slice(j, j + block))
            means[cells] = (x - y)[cells].mean(dim=(2, 3), keepdim=True)
    expected = 2 * means.square().sum(dim=(1, 2, 3)).sqrt()
    expected += colour * 2 * math.sqrt(189) * colour_loss(x, y, normalise=False)
    assert_close(residual_length(x, y, block=block, colour=colour), expected)
    assert_close(residual_length(y, x, block=block, colour=colour), expected)


def test_an_offset_has_the_same_length_in_all_its_terms() -> None:
    x = images("x")
    for block, colour in ((1, 0), (3, 0), (3, 1)):
        length = residual_length(x + 0.1, x, block=block, colour=colour)
        assert_close(length, torch.full((2,), (1 + colour) * 0.2 * math.sqrt(189)).double())


def test_noise_in_blocks_is_shorter_by_their_side() -> None:
    x = images("x", 64, 64)
    noise = randn((2, 3, 64, 64), generator_for("residual-noise")).double()
    ratio = residual_length(x + noise, x, block=4) / residual_length(x + noise, x)
    assert_close(ratio, torch.full((2,), 0.25).double(), rtol=0.1, atol=0)


@pytest.mark.parametrize(("block", "colour"), [(1, 0.0), (2, 0.5)])
def test_its_gradient_is_that_of_differences_and_finite_at_equality(
    block: int, colour: float
) -> None:
    x, y = images("x", 5, 4).requires_grad_(), images("y", 5, 4)

    def length(x: Tensor) -> Tensor:
        return residual_length(x, y, block=block, colour=colour)

    assert torch.autograd.gradcheck(length, x)
    same = y.clone().requires_grad_()
    assert_close(length(same), torch.zeros(2).double())
    (slope,) = torch.autograd.grad(length(same).sum(), same)
    assert_close(slope, torch.zeros_like(slope))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 7, 9\) and \(2, 3, 7, 8\)"):
        residual_length(images("x"), images("y")[..., :8])
    with pytest.raises(ValueError, match=r"block=0, colour=0.0; give at least 1"):
        residual_length(images("x"), images("y"), block=0)
