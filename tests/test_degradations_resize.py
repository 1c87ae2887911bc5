from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import Chain, Downsample
from blemish.degradations.resize import Reduction
from blemish.functional.random import generator_for, rand

MODES = get_args(Reduction)
every = pytest.mark.parametrize("mode", MODES)


def reduce(x: Tensor, scale: int, mode: Reduction) -> Tensor:
    d = Downsample(scale, mode)
    return d(x, d.sample(tuple(x.shape), generator=generator_for(0)))


@every
@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_reduction_is_that_of_pillow(mode: Reduction, scale: int) -> None:
    x = rand((1, 1, 7 * scale, 9 * scale), generator_for("image"))
    how = {
        "bicubic": Image.Resampling.BICUBIC,
        "bilinear": Image.Resampling.BILINEAR,
        "area": Image.Resampling.BOX,
        "nearest": Image.Resampling.NEAREST,
    }[mode]
    pillow = np.asarray(Image.fromarray(x[0, 0].numpy()).resize((9, 7), how))
    assert_close(reduce(x, scale, mode)[0, 0], torch.from_numpy(pillow.copy()), rtol=0, atol=1e-5)


@every
@pytest.mark.parametrize(("height", "width"), [(12, 16), (13, 18), (14, 19), (15, 17), (4, 7)])
def test_what_the_factor_leaves_over_is_cut_off(mode: Reduction, height: int, width: int) -> None:
    x = rand((2, 3, height, width), generator_for("image"))
    y = reduce(x, 4, mode)
    assert y.shape == (2, 3, height // 4, width // 4)
    assert torch.equal(y, reduce(x[..., : height // 4 * 4, : width // 4 * 4], 4, mode))


@every
def test_the_adjoint_is_the_transposed_matrix(mode: Reduction) -> None:
    d = Downsample(3, mode)
    params = d.sample((1, 1, 7, 8), generator=generator_for(0))
    basis = torch.eye(56, dtype=torch.float64).view(56, 1, 7, 8)
    matrix = d(basis, params).flatten(1).T
    y = torch.eye(4, dtype=torch.float64).view(4, 1, 2, 2)
    with torch.no_grad():
        assert_close(d.adjoint(y, params).flatten(1), matrix)


@every
def test_the_adjoint_carries_gradients(mode: Reduction) -> None:
    d, y = Downsample(2, mode), rand((1, 1, 4, 5), generator_for(0)).requires_grad_()
    params = d.sample((1, 1, 8, 10), generator=generator_for(0))
    x = d.adjoint(y, params)
    (gradient,) = torch.autograd.grad((x * x.detach()).sum(), y)
    assert_close(gradient, d(x.detach(), params))


def test_flat_images_stay_flat_and_chains_multiply_their_scales() -> None:
    chain = Chain([Downsample(2, mode) for mode in ("bicubic", "area", "bilinear")])
    x = torch.full((2, 3, 27, 35), 0.4)
    params = chain.sample((2, 3, 27, 35), generator=generator_for(0))
    assert chain.scale == 8
    assert_close(chain(x, params), torch.full((2, 3, 3, 4), 0.4))


def test_impossible_reductions_are_named() -> None:
    with pytest.raises(ValueError, match="scale=0 is no factor"):
        Downsample(0)
    with pytest.raises(ValueError, match="mode='cubic' is not known; choose bicubic, bilinear"):
        Downsample(2, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3x9 pixels cannot shrink by 4"):
        reduce(torch.zeros(1, 1, 3, 9), 4, "area")
