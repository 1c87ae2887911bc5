"""Kernels of arcs: against positions that are walked step by step, and by their moments."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import Shake, ShakeLaw
from blemish.functional.kernels import centroid, delta
from blemish.functional.random import generator_for, uniform
from blemish.functional.shake import STEPS, shake_kernel, shake_size

ARCS = [
    (0.0, 0.7, 0.5),
    (1.0, 0.0, 0.0),
    (5.0, 0.3, 0.0),
    (9.5, 2.0, 1.0),
    (25.0, 1.0, -1.0),
    (29.0, 3.0, 6.28),
]
arcs = pytest.mark.parametrize(("length", "angle", "bend"), ARCS)


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor([v], dtype=torch.float64) for v in values]


def walked(length: float, angle: float, bend: float, fine: int = 200) -> list[complex]:
    """The positions at the middles of STEPS equal times, by walking along the arc in small steps."""
    position, path = 0j, []
    step = 1 / (STEPS * fine)
    for i in range(STEPS * fine):
        if i % fine == fine // 2:
            path.append(position)
        t = (i + 0.5) * step - 0.5
        phase = angle + bend * t
        position += length * step * complex(math.cos(phase), math.sin(phase))
    middle = sum(path) / len(path)
    return [p - middle for p in path]


def splat(path: list[complex], size: int) -> Tensor:
    kernel = torch.zeros(1, 1, size, size, dtype=torch.float64)
    for p in path:
        column, row = p.real + size // 2, p.imag + size // 2
        j, i = math.floor(column), math.floor(row)
        for di, wi in ((0, i + 1 - row), (1, row - i)):
            for dj, wj in ((0, j + 1 - column), (1, column - j)):
                if wi * wj > 0:
                    kernel[0, 0, i + di, j + dj] += wi * wj / len(path)
    return kernel


@arcs
def test_kernels_agree_with_a_walk_along_the_arc(length: float, angle: float, bend: float) -> None:
    size = shake_size(length)
    expected = splat(walked(length, angle, bend), size)
    assert_close(shake_kernel(*numbers(length, angle, bend), size), expected, rtol=0, atol=2e-5)


def test_kernels_are_normalised_centred_and_whole() -> None:
    n, g = 300, generator_for("arcs")
    length, angle = uniform((n,), 0, 29, g).double(), uniform((n,), 0, math.pi, g).double()
    bend = uniform((n,), -2 * math.pi, 2 * math.pi, g).double()
    kernel = shake_kernel(length, angle, bend, 31)
    assert_close(kernel.sum((1, 2, 3)), torch.ones(n, dtype=torch.float64))
    assert (kernel >= 0).all()
    assert_close(centroid(kernel), torch.zeros(n, 2, dtype=torch.float64), rtol=0, atol=1e-9)
    # A larger support holds nothing more, so that nothing was cut.
    larger = shake_kernel(length, angle, bend, 41)
    assert_close(larger[..., 5:-5, 5:-5], kernel)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.5])
@pytest.mark.parametrize("length", [6.0, 20.0])
def test_lines_have_the_length_and_the_direction(length: float, angle: float) -> None:
    kernel = shake_kernel(*numbers(length, angle, 0.0), 31)[0, 0]
    p = torch.arange(31, dtype=torch.float64) - 15
    along = math.cos(angle) * p + math.sin(angle) * p[:, None]
    across = math.cos(angle) * p[:, None] - math.sin(angle) * p
    # L^2 / 12 along the line; spreading over pixels adds at most 1/4 in each axis.
    assert length**2 / 12 - 0.05 <= (kernel * along.square()).sum() <= length**2 / 12 + 0.26
    assert (kernel * across.square()).sum() <= 0.26


def test_symmetries_of_arcs() -> None:
    turned = shake_kernel(*numbers(11.0, 0.3 + math.pi / 2, 0.8), 15)
    kernel = shake_kernel(*numbers(11.0, 0.3, 0.8), 15)
    assert_close(turned, kernel.rot90(-1, (2, 3)))
    assert_close(shake_kernel(*numbers(11.0, -0.3, -0.8), 15), kernel.flip(2))
    # The other way round, with the other bend, it is the same arc.
    assert_close(shake_kernel(*numbers(11.0, 0.3 + math.pi, -0.8), 15), kernel)
    assert not torch.allclose(shake_kernel(*numbers(11.0, 0.3, -0.8), 15), kernel)
    assert_close(shake_kernel(*numbers(0.0, 0.3, 0.8), 5), delta(5).double())


def test_the_law_fills_its_ranges_and_holds_its_arcs() -> None:
    law = ShakeLaw(length=(5.0, 25.0), bend=1.0)
    length, angle, bend = law.arcs(4000, generator_for("law"))
    for values, low, high in ((length, 5, 25), (angle, 0, math.pi), (bend, -1, 1)):
        assert low <= values.min()
        assert values.max() <= high
        counts = ((values - low) / (high - low) * 4).long().clamp(0, 3).bincount(minlength=4)
        assert (counts - 1000).abs().max() < 5 * math.sqrt(4000 * 3 / 16)
    kernels = law.kernels(50, generator_for("law"))
    assert kernels.shape == (50, 1, 27, 27)
    assert kernels.flatten(1).sum(1).sub(1).abs().max() < 1e-5
    d = Shake(law)
    drawn = d.sample((50, 3, 30, 30), generator=generator_for("law"))
    assert_close(d.kernels(drawn).float(), kernels, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"length": (5.0, 30.0)}, r"length=\(5.0, 30.0\)"), ({"bend": -1.0}, "bend=-1.0 is no angle")],
)
def test_impossible_laws_are_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ShakeLaw(**options)
