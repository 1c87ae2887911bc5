"""Whole numbers as bytes: what is written is read, and costs what it should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blemish.functional.coding import Tables, decode, encode
from blemish.functional.random import generator_for, randn


def _masses(scales: list[float], reach: int) -> Tensor:
    steps = torch.arange(-reach, reach + 1)
    logits = torch.stack([-steps.abs() / s for s in scales])
    return logits.softmax(dim=1)


def _symbols(scales: list[float], n: int) -> Tensor:
    wide = randn((len(scales), n), generator_for("symbols", n)) * torch.tensor(scales)[:, None]
    return wide.round().long()


@pytest.mark.parametrize("n", [0, 1, 7, 4000])
@pytest.mark.parametrize("reach", [0, 2, 40])
def test_what_was_written_is_read(n: int, reach: int) -> None:
    scales = [0.05, 1.0, 6.0]
    tables = Tables.of(_masses(scales, reach))
    symbols = _symbols(scales, n)
    assert tables.reach == reach
    assert torch.equal(decode(encode(symbols, tables), tables, n), symbols)


@pytest.mark.parametrize("far", [3, -3, 70_000, -(2**31), 2**31 - 1])
def test_what_lies_beyond_the_tables_is_read_too(far: int) -> None:
    tables = Tables.of(_masses([1.0, 2.0], 2))
    symbols = torch.tensor([[0, far, 1], [far, far, -2]])
    assert torch.equal(decode(encode(symbols, tables), tables, 3), symbols)


@pytest.mark.parametrize("n", [1, 30, 5000])
def test_bytes_are_what_probabilities_say(n: int) -> None:
    scales = [0.05, 0.4, 1.0, 6.0]
    tables = Tables.of(_masses(scales, 60))
    symbols = _symbols(scales, n)
    bits = tables.bits(symbols)
    assert abs(len(encode(symbols, tables)) - bits / 8) <= 0.02 * bits / 8 + 8
    slow = 0.0
    for row, counts in zip(symbols, tables.frequencies, strict=True):
        slow -= sum(torch.tensor(counts[s + 60] / counts.sum()).log2().item() for s in row)
    assert bits == pytest.approx(slow, rel=1e-5, abs=1e-3)


def test_what_is_certain_costs_next_to_nothing() -> None:
    masses = torch.zeros(1, 5)
    masses[0, 2] = 1
    tables = Tables.of(masses)
    assert len(encode(torch.zeros(1, 100_000, dtype=torch.long), tables)) <= 8


def test_tables_are_told_apart_and_sides_are_checked() -> None:
    one, other = Tables.of(_masses([1.0], 3)), Tables.of(_masses([1.1], 3))
    assert one.digest() == Tables.of(_masses([1.0], 3)).digest() != other.digest()
    with pytest.raises(ValueError, match="2 channels do not fit tables of 1"):
        encode(torch.zeros(2, 3, dtype=torch.long), one)
    with pytest.raises(ValueError, match="5 bytes are no code"):
        decode(b"12345", one, 1)
