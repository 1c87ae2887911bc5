"""Strokes against loops over pixels, areas in closed form, and what moves with them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from blemish.functional.random import generator_for, rand
from blemish.functional.strokes import strokes

SIZE = (23, 31)


def lines(batch: int, count: int, vertices: int, seed: int = 0) -> Tensor:
    """Draws vertices, some of them outside of the picture."""
    u = rand((batch, count, vertices, 2), generator_for("lines", seed)).double()
    return (1.4 * u - 0.2) * torch.tensor(SIZE)


def slow_distance(c: tuple[float, float], p: list[float], q: list[float]) -> float:
    """The distance of a place from a line: at one of its ends, or beside it."""
    ends = min(math.dist(c, p), math.dist(c, q))
    length = math.dist(p, q)
    along = ((c[0] - p[0]) * (q[0] - p[0]) + (c[1] - p[1]) * (q[1] - p[1])) / length
    if not 0 < along < length:
        return ends
    return abs((c[0] - p[0]) * (q[1] - p[1]) - (c[1] - p[1]) * (q[0] - p[0])) / length


@pytest.mark.parametrize("vertices", [2, 4])
@pytest.mark.parametrize("width", [1.0, 4.5])
def test_strokes_cover_the_pixels_near_them(vertices: int, width: float) -> None:
    drawn = lines(2, 2, vertices)
    covered = strokes(drawn, width, SIZE)
    assert covered.shape == (2, 1, *SIZE)
    for b, several in enumerate(drawn.tolist()):
        pieces = [(p, q) for one in several for p, q in itertools.pairwise(one)]
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                nearest = min(slow_distance((i + 0.5, j + 0.5), p, q) for p, q in pieces)
                assert covered[b, 0, i, j] == (nearest <= width / 2)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0])
def test_a_stroke_has_the_area_of_its_line_and_its_round_ends(angle: float) -> None:
    length, width = 120.0, 24.0
    step = torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64) * length / 2
    middle = torch.tensor([100.3, 100.1], dtype=torch.float64)
    area = strokes(torch.stack([middle - step, middle + step])[None, None], width, (200, 200)).sum()
    # Its outline, 2 l + pi b pixels long, is off by a part of a pixel here and there.
    assert abs(area - (width * length + math.pi * width**2 / 4)) < 0.05 * (
        2 * length + math.pi * width
    )


def test_a_stroke_without_length_is_a_dot_and_none_is_nothing() -> None:
    dot = torch.tensor([11.0, 15.0]).expand(1, 1, 2, 2)
    rows, columns = torch.arange(23)[:, None] + 0.5, torch.arange(31) + 0.5
    inside = (rows - 11) ** 2 + (columns - 15) ** 2 <= 9
    assert torch.equal(strokes(dot, 6.0, SIZE)[0, 0], inside)
    assert not strokes(dot[:, :0], 6.0, SIZE).any()


def test_strokes_move_turn_and_join_with_their_vertices() -> None:
    drawn = lines(3, 4, 3)
    covered = strokes(drawn, 3.0, SIZE)
    size = torch.tensor(SIZE)
    assert torch.equal(strokes(size - drawn, 3.0, SIZE), covered.flip(-1, -2))
    assert torch.equal(strokes(drawn.flip(-1), 3.0, SIZE[::-1]), covered.mT)
    assert torch.equal(strokes(drawn + 5, 3.0, SIZE)[..., 5:, 5:], covered[..., :-5, :-5])
    single = [strokes(drawn[:, [i]], 3.0, SIZE) for i in range(4)]
    assert torch.equal(torch.stack(single).any(dim=0), covered)
    assert torch.equal(strokes(drawn.flip(2), 3.0, SIZE), covered)


@pytest.mark.parametrize("shape", [(1, 2, 1, 2), (1, 2, 3, 3), (2, 3, 2)])
def test_vertices_that_are_none_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"got vertices with shape .*; expected \(B, S, V, 2\)"):
        strokes(torch.zeros(shape), 1.0, SIZE)
