import math

import pytest
import torch
from torch.testing import assert_close

from blemish.functional import bm3d as module
from blemish.functional.bm3d import bm3d, bm3d_planes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pieces(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    x = 0.3 + 0.4 * ((rows + 2 * columns) % 24 < 12) + 0.2 * (rows > height // 2)
    tint = torch.linspace(0.7, 1, channels).view(channels, 1, 1)
    return (x * tint).expand(n, channels, height, width)


def noise_like(x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return torch.randn(x.shape, generator=generator(seed), dtype=x.dtype)


def psnr(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -10 * (x - y).square().mean((1, 2, 3)).log10()


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [(32, 32), (29, 43), (60, 55)])
@pytest.mark.parametrize("sigma", [10 / 255, 50 / 255])
def test_denoises_pieces_of_any_size(channels: int, size: tuple[int, int], sigma: float) -> None:
    x = pieces(1, channels, *size)
    y = x + sigma * noise_like(x)
    assert psnr(bm3d(y, sigma), x) > psnr(y, x) + 7


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (5, 4), (8, 8)])
def test_tiny_images(size: tuple[int, int]) -> None:
    x = torch.full((1, 3, *size), 0.5)
    y = x + 0.05 * noise_like(x)
    clean = bm3d(y, 0.05)
    assert clean.shape == y.shape
    assert (clean - x).abs().mean() <= (y - x).abs().mean()


def test_without_noise_nothing_changes() -> None:
    y = torch.rand(2, 3, 20, 21, generator=generator())
    assert torch.equal(bm3d(y, 0.0), y)
    mixed = bm3d(y, torch.tensor([0.0, 0.1]))
    assert torch.equal(mixed[0], y[0])
    assert not torch.equal(mixed[1], y[1])


def test_nothing_is_lost_where_the_noise_is_far_below_the_signal() -> None:
    y = torch.rand(2, 3, 20, 21, generator=generator(), dtype=torch.float64)
    assert_close(bm3d(y, 1e-9), y, rtol=0, atol=1e-7)


@pytest.mark.parametrize("level", [0.2, 0.9])
def test_constant_images_stay_constant(level: float) -> None:
    y = torch.full((1, 3, 40, 33), level, dtype=torch.float64)
    assert_close(bm3d(y, 0.05), y, rtol=0, atol=2e-4)
    noisy = y + 0.05 * noise_like(y)
    # 64 pixels in 32 blocks leave less than a twelfth of the noise.
    assert (bm3d(noisy, 0.05) - y).std() < 0.05 / 12


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_equals_loop(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(3, channels, 21, 26, generator=generator(), dtype=torch.float64)
    sigma = torch.tensor([0.05, 0.1, 0.3])
    together = bm3d(x, sigma)
    assert_close(together, torch.cat([bm3d(x[i : i + 1], sigma[i]) for i in range(3)]))
    monkeypatch.setattr(module, "_MEMORY", 1)
    assert_close(bm3d(x, sigma), together)


def test_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 1, 62, 70, generator=generator(), dtype=torch.float64)
    whole = bm3d(x, 0.1)
    monkeypatch.setattr(module, "_TILE", 5)
    assert_close(bm3d(x, 0.1), whole)


def test_turning_the_image_turns_the_estimate() -> None:
    # 32 - 8 is a multiple of the step, so that the references lie symmetrically.
    x = torch.rand(1, 3, 32, 32, generator=generator(), dtype=torch.float64)
    assert_close(bm3d(x.mT, 0.1), bm3d(x, 0.1).mT)


def slow_groups(y: torch.Tensor, reference: tuple[int, int], n: int) -> list[tuple[int, int]]:
    """The n blocks nearest to a reference, by nested loops."""
    h, w = y.shape
    r, c = reference
    block = y[r : r + 8, c : c + 8]
    found = [
        (float((y[i : i + 8, j : j + 8] - block).square().mean()), i, j)
        for i in range(max(0, r - 19), min(h - 8, r + 19) + 1)
        for j in range(max(0, c - 19), min(w - 8, c + 19) + 1)
    ]
    return [(i, j) for _, i, j in sorted(found)[:n]]


def test_finds_the_same_groups_as_nested_loops() -> None:
    y = torch.rand(1, 1, 50, 48, generator=generator(), dtype=torch.float64)
    bank = module._bank(8, False, y.dtype, y.device)
    count = 0
    for tile in module._tiles(50, 48, 8):
        view = y[tile.pixels]
        stage = module._Pass(group=16, limit=1.0, loud_limit=1.0)
        index, size = module._similar(view, torch.tensor([0.01]), tile, stage, bank)
        assert (size == 16).all()
        top, left, width = tile.pixels[1].start, tile.pixels[2].start, view.shape[-1] - 7
        for r in range(0, len(tile.references), 29):
            flat = int(tile.references[r])
            reference = (top + flat // width, left + flat % width)
            expected = slow_groups(y[0, 0], reference, 16)
            got = [(top + int(i) // width, left + int(i) % width) for i in index[0, r]]
            assert got == expected
            count += 1
    assert count >= 8


def test_shrinking_keeps_energy_of_what_is_kept() -> None:
    c = torch.randn(4, 5, 2, 64, generator=generator(), dtype=torch.float64)
    shrunk, weight = module._shrink([c], torch.tensor([0.5, 0.1]).view(1, 2, 1))
    kept = c.abs() > 2.7 * torch.tensor([0.5, 0.1]).view(2, 1)
    assert_close(shrunk, torch.where(kept, c, 0.0))
    assert_close(weight[..., 0], 1 / kept.sum((0, 3)).double())
    gain = c.square() / (c.square() + 0.04)
    shrunk, weight = module._shrink([c, c], torch.full((5, 2, 1), 0.2, dtype=c.dtype))
    assert_close(shrunk, gain * c)
    assert_close(weight[..., 0], 1 / gain.square().sum((0, 3)))


def test_opponent_space_keeps_the_level_of_independent_noise() -> None:
    matrix = module._opponent(torch.float64, torch.device("cpu"))
    covariance = matrix @ matrix.T
    assert_close(covariance, torch.diag(covariance.diag()))
    assert_close(matrix.sum(1), torch.tensor([1.0, 0, 0], dtype=torch.float64))


def test_planes_may_have_levels_of_their_own() -> None:
    x = pieces(2, 2, 24, 24).double()
    y = x + 0.1 * noise_like(x)
    sigma = torch.tensor([[0.1, 0.0], [0.0, 0.1]], dtype=torch.float64)
    clean = bm3d_planes(y, sigma)
    assert torch.equal(clean[0, 1], y[0, 1])
    assert torch.equal(clean[1, 0], y[1, 0])
    assert (clean[0, 0] - x[0, 0]).std() < 0.075
    assert (clean[1, 1] - x[1, 1]).std() < 0.075


@pytest.mark.parametrize(
    ("y", "sigma", "message"),
    [
        (torch.zeros(3, 8, 8), 0.1, r"expected floats in \[0, 1\] with shape \(B, C, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0.1, "got torch.uint8 images"),
        (torch.zeros(2, 3, 8, 8), torch.ones(3), r"a tensor with shape \(2,\)"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0.1, -0.2]), "sigma=-0.2 is no level"),
        (torch.zeros(2, 3, 8, 8), math.nan, "sigma=nan is no level"),
    ],
)
def test_says_what_does_not_fit(y: torch.Tensor, sigma: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bm3d(y, sigma)  # type: ignore[arg-type]
