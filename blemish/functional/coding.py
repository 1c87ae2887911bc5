r"""Whole numbers as bytes, at the price that their probabilities say.

A range coder spends :math:`-\log_2 p` bits on a symbol of probability p, and a word of 4 bytes or two at its end. Each
channel has a table of the probabilities of the symbols from -K to K; what lies beyond is announced by one more symbol, and
written as 32 bits. Tables are whole numbers, so that a decoder that was given the same ones reads what was written.

The coder is that of the library ``constriction``.

References:
    | Understanding Entropy Coding With Asymmetric Numeral Systems (Bamler, 2022)
    | https://arxiv.org/abs/2201.01741
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Tables", "decode", "encode"]

TOTAL = 1 << 22
"""About the sum of a table; no symbol is rarer than one in so many."""


@dataclass(frozen=True)
class Tables:
    """How often symbols occur, in each of C channels.

    Attributes:
        frequencies: Positive whole numbers, with shape (C, 2 K + 2): those of -K to K, and of all others.
    """

    frequencies: Any

    @classmethod
    def of(cls, masses: Tensor) -> Tables:
        """Makes tables of the probabilities of -K to K, with shape (C, 2 K + 1)."""
        p = masses.double().cpu().clamp(0, 1)
        rest = (1 - p.sum(dim=1, keepdim=True)).clamp_min(0)
        counts = (torch.cat([p, rest], dim=1) * TOTAL).round().clamp_min(1)
        return cls(counts.numpy().astype(np.int64))

    @property
    def reach(self) -> int:
        """The largest symbol K of the tables."""
        return int(self.frequencies.shape[1] - 2) // 2

    def digest(self) -> bytes:
        """Returns 8 bytes that tell tables from others."""
        return hashlib.sha256(self.frequencies.astype("<i8").tobytes()).digest()[:8]

    def bits(self, symbols: Tensor) -> float:
        """Returns the price of symbols of shape (C, n), without that of what lies beyond the tables."""
        index, _ = self._split(symbols)
        p = self.frequencies / self.frequencies.sum(axis=1, keepdims=True)
        return float(-np.log2(np.take_along_axis(p, index.astype(np.int64), axis=1)).sum())

    def models(self) -> list[Any]:
        """Returns the coder's models of the channels."""
        from constriction import stream

        return [
            stream.model.Categorical(row.astype(np.float64), perfect=False)
            for row in self.frequencies
        ]

    def _split(self, symbols: Tensor) -> tuple[Any, Any]:
        """Returns the places of symbols in the tables, and those that are beyond them, in order."""
        s = symbols.cpu().numpy()
        beyond = np.abs(s) > self.reach
        index = np.where(beyond, self.frequencies.shape[1] - 1, s + self.reach)
        return index.astype(np.int32), s[beyond]


def encode(symbols: Tensor, tables: Tables) -> bytes:
    """Writes symbols.

    Arguments:
        symbols: Whole numbers, with shape (C, n); below 2^31 in absolute value.
        tables: How often they occur, for C channels.

    Returns:
        The bytes; none where nothing is worth a bit.

    Raises:
        ValueError: If the channels do not fit.
    """
    from constriction import stream

    _check(symbols.shape[0], tables)
    index, beyond = tables._split(symbols)
    coder = stream.queue.RangeEncoder()
    for row, model in zip(index, tables.models(), strict=True):
        coder.encode(row, model)
    if len(beyond):
        wide = beyond.astype(np.int64) + (1 << 31)
        halves = np.stack([wide >> 16, wide & 0xFFFF], axis=1).ravel()
        coder.encode(halves.astype(np.int32), stream.model.Uniform(1 << 16))
    data: bytes = coder.get_compressed().astype("<u4").tobytes()
    return data


def decode(data: bytes, tables: Tables, count: int) -> Tensor:
    """Reads symbols that :func:`encode` wrote.

    Arguments:
        data: The bytes.
        tables: Those with which they were written.
        count: The number n of symbols of each channel.

    Returns:
        The symbols, with shape (C, n).

    Raises:
        ValueError: If the bytes are no whole words.
    """
    from constriction import stream

    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are no code: it has words of 4 bytes")
    coder = stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    rows = [coder.decode(model, count) for model in tables.models()]
    symbols = np.stack(rows).astype(np.int64) - tables.reach
    beyond = symbols > tables.reach
    if beyond.any():
        halves = coder.decode(stream.model.Uniform(1 << 16), 2 * int(beyond.sum())).astype(np.int64)
        symbols[beyond] = (halves[0::2] << 16 | halves[1::2]) - (1 << 31)
    return torch.from_numpy(symbols)


def _check(channels: int, tables: Tables) -> None:
    known = len(tables.frequencies)
    if channels != known:
        raise ValueError(f"{channels} channels do not fit tables of {known}")
