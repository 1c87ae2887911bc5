import pytest
import torch
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand
from blemish.functional.resample import (
    area,
    area_matrix,
    bicubic,
    coverage_matrix,
    legacy_bilinear,
    modcrop,
)


def area_by_loops(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Each output pixel is the integral of the piecewise constant image over its rectangle."""
    height, width = x.shape
    y = torch.zeros(h, w, dtype=x.dtype)
    for i in range(h):
        for j in range(w):
            for r in range(height):
                for c in range(width):
                    rows = min(r + 1, (i + 1) * height / h) - max(r, i * height / h)
                    columns = min(c + 1, (j + 1) * width / w) - max(c, j * width / w)
                    y[i, j] += x[r, c] * max(rows, 0) * max(columns, 0)
    return y / (height / h * width / w)


@pytest.mark.parametrize(
    ("old", "new"), [((8, 8), (4, 4)), ((7, 9), (3, 4)), ((11, 5), (4, 5)), ((5, 6), (1, 1))]
)
def test_area_equals_the_integral_over_each_cell(old, new):
    x = torch.rand(*old, dtype=torch.float64)
    assert_close(area(x, new), area_by_loops(x, *new))


@pytest.mark.parametrize(("old", "new"), [(28, 16), (32, 16), (481, 64), (321, 320)])
def test_area_keeps_means_and_flat_images(old, new):
    x = torch.rand(2, 3, old, old, dtype=torch.float64)
    assert_close(area(x, new).mean((-1, -2)), x.mean((-1, -2)))
    matrix = area_matrix(old, new, dtype=torch.float64)
    assert_close(matrix.sum(1), torch.ones(new, dtype=torch.float64))
    assert_close(matrix.sum(0), torch.full((old,), new / old, dtype=torch.float64))


def test_area_composes_and_commutes_with_flips():
    x = torch.rand(1, 1, 24, 36, dtype=torch.float64)
    assert_close(area(area(x, (12, 18)), (6, 9)), area(x, (6, 9)))
    assert_close(area(x.flip(-1, -2), (7, 10)), area(x, (7, 10)).flip(-1, -2))
    assert_close(area(x, (24, 36)), x)


@pytest.mark.parametrize("size", [0, 9])
def test_area_refuses_to_enlarge_or_vanish(size):
    with pytest.raises(ValueError, match=f"to {size} by area; choose 1 to 8"):
        area(torch.rand(8, 8), size)


def test_bicubic_keeps_flat_images_and_ramps():
    assert_close(bicubic(torch.full((1, 1, 9, 9), 0.3), 4), torch.full((1, 1, 4, 4), 0.3))
    ramp = (torch.arange(64.0) + 0.5).expand(1, 1, 64, 64)
    inner = bicubic(ramp, (64, 16))[0, 0, 0, 3:-3]
    assert_close(inner, 4 * (torch.arange(16.0) + 0.5)[3:-3])
    with pytest.raises(ValueError, match="at least 1 pixel"):
        bicubic(ramp, 0)


@pytest.mark.parametrize(("old", "new"), [((4, 6), (7, 9)), ((9, 8), (4, 5)), ((3, 1), (3, 4))])
def test_legacy_resize_agrees_with_loops(old: tuple[int, int], new: tuple[int, int]) -> None:
    x = rand((2, *old), generator_for("resize")).double()
    expected = torch.empty(2, *new, dtype=torch.float64)
    for i in range(new[0]):
        for j in range(new[1]):
            v, u = i * old[0] / new[0], j * old[1] / new[1]
            r, c = int(v), int(u)
            below, right = min(r + 1, old[0] - 1), min(c + 1, old[1] - 1)
            top = (1 - (u - c)) * x[:, r, c] + (u - c) * x[:, r, right]
            bottom = (1 - (u - c)) * x[:, below, c] + (u - c) * x[:, below, right]
            expected[:, i, j] = (1 - (v - r)) * top + (v - r) * bottom
    assert_close(legacy_bilinear(x, new), expected)


def test_legacy_resize_keeps_ramps_and_its_shift() -> None:
    ramp = torch.arange(10.0)[None, None, None].expand(1, 1, 3, 10)
    resized = legacy_bilinear(ramp, (3, 20))[0, 0, 0]
    assert_close(resized[:19], torch.arange(19.0) / 2)  # no shift by half a pixel
    assert torch.equal(legacy_bilinear(ramp, (3, 10)), ramp)
    with pytest.raises(ValueError, match=r"cannot resize to \(0, 3\)"):
        legacy_bilinear(ramp, (0, 3))


@pytest.mark.parametrize(("old", "new"), [((3, 4), (7, 5)), ((5, 6), (4, 9)), ((2, 1), (6, 3))])
def test_coverage_also_enlarges(old, new):
    x = torch.rand(*old, dtype=torch.float64)
    rows, columns = (coverage_matrix(a, b, dtype=x.dtype) for a, b in zip(old, new, strict=True))
    assert_close(rows @ x @ columns.T, area_by_loops(x, *new))


def test_modcrop_keeps_the_first_rows_and_columns():
    x = torch.rand(2, 3, 11, 8)
    assert torch.equal(modcrop(x, 4), x[..., :8, :])
    assert torch.equal(modcrop(x, 3), x[..., :9, :6])
    assert torch.equal(modcrop(x, 1), x)
    with pytest.raises(ValueError, match="11x8 pixels cannot shrink by 9"):
        modcrop(x, 9)
