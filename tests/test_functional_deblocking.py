import pytest
import torch
from torch.testing import assert_close

from blemish.functional.deblocking import _blocks, _matrix, _project, deblock, quantisation_level
from blemish.functional.jpeg import pillow_jpeg, quantisation_tables
from blemish.functional.transforms import dct_matrix


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pieces(channels: int, height: int, width: int) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    x = 0.2 + 0.4 * ((rows - columns) % 26 < 13) + 0.3 * ((rows + columns) % 40 < 20)
    return (x * torch.linspace(1, 0.6, channels).view(channels, 1, 1))[None]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (35, 45)])
@pytest.mark.parametrize("quality", [20, 50, 80])
def test_improves_pieces(channels: int, size: tuple[int, int], quality: int) -> None:
    x = pieces(channels, *size)
    y = pillow_jpeg(x, quality)
    before, after = (y - x).square().mean(), (deblock(y, quality) - x).square().mean()
    assert after < before


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_level_of_the_noise_is_the_fit_of_the_paper(quality: int) -> None:
    luma, _ = quantisation_tables(torch.tensor([quality]))
    mean = sum(float(luma[0, i, j]) for i in range(3) for j in range(3)) / 9
    expected = torch.tensor([(0.69 * mean**1.3) ** 0.5 / 255])
    assert_close(quantisation_level(luma), expected)


@pytest.mark.parametrize("size", [(16, 24), (13, 21)])
def test_projection_bounds_every_coefficient_and_is_idempotent(size: tuple[int, int]) -> None:
    x, y = torch.rand(2, 2, 1, *size, generator=generator(), dtype=torch.float64)
    table = quantisation_tables(torch.tensor([30.0, 60.0], dtype=torch.float64))[0]
    p = _project(x, y, table)
    assert_close(_project(y, y, table), y)
    if size == (16, 24):
        dct = dct_matrix(8)
        change = dct @ _blocks(p - y) @ dct.T * 255
        limit = 0.3 * table[:, None, None]
        assert (change.abs() <= limit + 1e-9).all()
        assert (change.abs() >= limit - 1e-9).any()
        assert_close(_project(p, y, table), p)
        near = y + 1e-4 * (x - y)
        assert_close(_project(near, y, table), near)


def test_colours_are_those_of_jfif() -> None:
    rgb = torch.eye(3, dtype=torch.float64)
    y, cb, cr = _matrix(rgb)
    assert_close(y, torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))
    assert_close(cb, (rgb[2] - y) / 1.772)
    assert_close(cr, (rgb[0] - y) / 1.402)


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_equals_loop(channels: int) -> None:
    y = torch.rand(3, channels, 20, 27, generator=generator(), dtype=torch.float64)
    q = torch.tensor([20, 50, 95])
    alone = torch.cat([deblock(y[i : i + 1], int(q[i])) for i in range(3)])
    assert_close(deblock(y, q), alone)


@pytest.mark.parametrize("level", [0.1, 0.8])
def test_flat_images_stay_flat(level: float) -> None:
    y = torch.full((1, 3, 24, 24), level)
    assert_close(deblock(y, 30), y, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "quality", "message"),
    [
        ((2, 3, 8, 8), 0, "quality 0 is not possible; use 1 to 100"),
        ((2, 3, 8, 8), torch.tensor([50, 101]), "quality 101 is not"),
        ((2, 3, 8, 8), torch.ones(3), r"give one number, or a tensor with shape \(2,\)"),
        ((2, 2, 8, 8), 50, "1 or 3 channels"),
    ],
)
def test_says_what_does_not_fit(shape: tuple, quality: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deblock(torch.zeros(shape), quality)  # type: ignore[arg-type]
