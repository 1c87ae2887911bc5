r"""Small square transforms of signals, as matrices: :math:`c = T s` and :math:`s = T^{-1} c`.

* the orthonormal discrete cosine transform (DCT-II),
  :math:`T_{ku} = \sqrt{(2 - \delta_k) / n} \, \cos\bigl(\pi k (2 u + 1) / 2 n\bigr)`;
* the orthonormal Haar transform, :math:`T_{2n} = \frac{1}{\sqrt 2} \begin{pmatrix} T_n \otimes (1, 1) \\
  I_n \otimes (1, -1) \end{pmatrix}`;
* the biorthogonal spline wavelet 1.5 with periodic borders, down to a single mean. Its rows have unit
  norm, so that each coefficient of white noise has the noise's variance, but they are not orthogonal:
  the inverse is not the transpose.

References:
    | Biorthogonal Bases of Compactly Supported Wavelets (Cohen, Daubechies & Feauveau, 1992)
    | https://doi.org/10.1002/cpa.3160450502
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["biorthogonal_matrix", "dct_matrix", "haar_matrix"]

# The low-pass filter of analysis, times 128 sqrt(2); that of synthesis, and both high-pass ones, follow.
_LOW = (3, -3, -22, 22, 128, 128, 22, -22, -3, 3)


def dct_matrix(n: int) -> Tensor:
    """Returns the orthonormal DCT, rows by frequency, float64, with shape (n, n)."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * k[:, None] * (2 * k + 1) / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def haar_matrix(n: int) -> Tensor:
    """Returns the orthonormal Haar transform, rows from coarse to fine, float64, with shape (n, n).

    Raises:
        ValueError: If n is not a power of two.
    """
    _check_power(n)
    matrix = torch.ones(1, 1, dtype=torch.float64)
    pair = torch.tensor([[1.0, 1.0]], dtype=torch.float64), torch.tensor([[1.0, -1.0]]).double()
    while len(matrix) < n:
        details = torch.eye(len(matrix), dtype=torch.float64)
        matrix = torch.cat([torch.kron(matrix, pair[0]), torch.kron(details, pair[1])])
        matrix = matrix / math.sqrt(2)
    return matrix


def biorthogonal_matrix(n: int) -> Tensor:
    """Returns the biorthogonal 1.5 wavelet transform with unit rows, float64, with shape (n, n).

    Raises:
        ValueError: If n is not a power of two.
    """
    _check_power(n)
    matrix, m = torch.eye(n, dtype=torch.float64), n
    while m > 1:
        matrix[:m] = _wavelet_level(m) @ matrix[:m]
        m //= 2
    unit: Tensor = matrix / matrix.norm(dim=1, keepdim=True)
    return unit


def _wavelet_level(n: int) -> Tensor:
    """Returns one level of analysis of a periodic signal of even length: means, then differences."""
    level = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n // 2):
        for tap, value in enumerate(_LOW):
            level[i, (2 * i + tap - 4) % n] += value / (128 * math.sqrt(2))
        level[n // 2 + i, 2 * i] += 1 / math.sqrt(2)
        level[n // 2 + i, 2 * i + 1] -= 1 / math.sqrt(2)
    return level


def _check_power(n: int) -> None:
    if n < 1 or n & (n - 1):
        raise ValueError(f"length {n} is not a power of two; use 1, 2, 4, 8, ...")
