import math

import pytest
import torch
from torch.testing import assert_close

from blemish.functional.transforms import biorthogonal_matrix, dct_matrix, haar_matrix

SIZES = [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("make", [dct_matrix, haar_matrix])
def test_orthonormal(make: object, n: int) -> None:
    assert callable(make)
    assert_close(make(n) @ make(n).T, torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("make", [dct_matrix, haar_matrix, biorthogonal_matrix])
def test_rows_have_unit_norm_and_a_constant_is_one_coefficient(make: object, n: int) -> None:
    assert callable(make)
    assert_close(make(n).norm(dim=1), torch.ones(n, dtype=torch.float64))
    c = make(n) @ torch.ones(n, dtype=torch.float64)
    assert c[0] > 0
    assert_close(c[1:], torch.zeros(n - 1, dtype=torch.float64))


@pytest.mark.parametrize("n", [4, 8])
def test_dct_is_the_sum_of_cosines(n: int) -> None:
    s = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for k in range(n):
        c = sum(float(s[u]) * math.cos(math.pi * k * (2 * u + 1) / (2 * n)) for u in range(n))
        c *= math.sqrt((1 if k == 0 else 2) / n)
        assert_close(float((dct_matrix(n) @ s)[k]), c)


def test_haar_of_four() -> None:
    r = math.sqrt(0.5)
    rows = [[0.5] * 4, [0.5, 0.5, -0.5, -0.5], [r, -r, 0, 0], [0, 0, r, -r]]
    assert_close(haar_matrix(4), torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_biorthogonal_reconstructs_with_haar_splines(n: int) -> None:
    matrix = biorthogonal_matrix(n)
    assert_close(matrix.inverse() @ matrix, torch.eye(n, dtype=torch.float64))
    # The scaling function of synthesis is the box: the coarsest column is constant.
    column = matrix.inverse()[:, 0]
    assert_close(column, column[:1].expand(n))


def test_biorthogonal_details_of_a_line_are_differences_of_neighbours() -> None:
    s = torch.arange(16, dtype=torch.float64).square()
    details = (biorthogonal_matrix(16) @ s)[8:]
    assert_close(details, (s[::2] - s[1::2]) / math.sqrt(2))


@pytest.mark.parametrize("make", [haar_matrix, biorthogonal_matrix])
@pytest.mark.parametrize("n", [0, 3, 12])
def test_says_which_lengths_there_are(make: object, n: int) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=f"length {n} is not a power of two"):
        make(n)
