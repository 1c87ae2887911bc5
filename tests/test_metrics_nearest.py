"""Nearest points: against loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand
from blemish.metrics import nearest, nearest_l1


@pytest.mark.parametrize("block", [3, 512])
@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (7, 4, 3), (5, 9, 81)])
def test_agrees_with_loops(
    n: int, m: int, d: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "_BLOCK", block)
    g = generator_for("nearest", n, m, d)
    a, b = rand((n, d), g), rand((m, d), g)
    slow = [min(math.fsum((x - y).abs().tolist()) for y in b) for x in a]
    assert_close(nearest_l1(a, b), torch.tensor(slow))
    others = [
        min(math.fsum((x - y).abs().tolist()) for j, y in enumerate(b) if j != i)
        for i, x in enumerate(b)
        if m > 1
    ]
    if m > 1:
        assert_close(nearest_l1(b), torch.tensor(others))


def test_closed_forms() -> None:
    line = torch.arange(10.0)[:, None]
    assert_close(nearest_l1(line), torch.ones(10))
    assert_close(nearest_l1(line, line.flip(0)), torch.zeros(10))
    # A part of a set lies within it; what the part misses is told by the other direction.
    assert_close(nearest_l1(line[:8], line), torch.zeros(8))
    assert_close(nearest_l1(line, line[:8]), torch.tensor([0.0] * 8 + [1.0, 2.0]))
    assert_close(nearest_l1(torch.stack([line[0], line[0]])[:, 0:1]), torch.zeros(2))


def test_distances_scale_and_do_not_see_a_common_shift() -> None:
    g = generator_for("nearest")
    a, b = rand((6, 4), g).double(), rand((5, 4), g).double()
    assert_close(nearest_l1(3 * a + 7, 3 * b + 7), 3 * nearest_l1(a, b))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 4), "dimension 2 and 4"),
        (torch.zeros(0, 2), torch.zeros(3, 2), "at least 1"),
        (torch.zeros(1, 2), None, "at least 2"),
        (torch.full((2, 2), math.nan), None, "not finite"),
    ],
)
def test_wrong_sets_are_named(a: torch.Tensor, b: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_l1(a, b)
