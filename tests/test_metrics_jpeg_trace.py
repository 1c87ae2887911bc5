"""Traces of JPEG in pixels: the quality and the grid, and that there are none where there was none."""

from __future__ import annotations

import math

import pytest
import torch

from blemish.data import Glyphs, open_source
from blemish.functional.jpeg import LUMA, pillow_jpeg, quantisation_tables
from blemish.functional.random import generator_for
from blemish.metrics import jpeg_grid, jpeg_trace
from blemish.metrics.jpeg_trace import FREQUENCIES, _blocks, _log_ratio, _transform


def texture(size: int, channels: int = 3, count: int = 1) -> torch.Tensor:
    """Textures with the amplitude spectrum 1/f, as 8 bits in [0.1, 0.9]."""
    white = torch.randn(count, channels, size, size, generator=generator_for(0))
    f = torch.fft.fftfreq(size)
    radius = (f[:, None].square() + f.square()).sqrt().clamp_min(1 / size)
    x = torch.fft.ifft2(torch.fft.fft2(white + white.mean(1, True)) / radius).real
    low, high = x.amin((1, 2, 3), True), x.amax((1, 2, 3), True)
    return ((0.1 + 0.8 * (x - low) / (high - low)) * 255).round() / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [20, 35, 50, 60, 75, 85, 90, 95])
def test_the_quality_is_found(quality, channels):
    trace = jpeg_trace(pillow_jpeg(texture(64, channels, count=4), quality))
    assert (trace.probability > 0.99).all()
    # Twin qualities whose luma tables agree cannot be told apart.
    assert ((trace.low <= quality) & (quality <= trace.high)).all()
    tables = quantisation_tables(trace.quality)[0]
    low = torch.tensor([v + u <= 7 for v in range(8) for u in range(8)]).reshape(8, 8)
    assert (tables[:, low] == quantisation_tables(quality)[0][:, low]).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 40])
def test_what_was_never_compressed_is_recognised(size, channels):
    glyphs = Glyphs(20, size=size, channels=channels)
    drawn = jpeg_trace(torch.stack([glyphs.read(i) for i in range(20)]))
    assert (drawn.probability > 0.9).sum() <= 1
    trace = jpeg_trace(texture(size, channels, count=30))
    assert (trace.probability > 0.5).sum() <= 1
    assert (trace.phase[trace.probability < 0.1] == 0).all()


@pytest.mark.parametrize("quality", [50, 90])
def test_small_images_show_it_too_and_together_certainly(quality):
    x = pillow_jpeg(texture(32, count=40), quality)
    alone, together = jpeg_trace(x), jpeg_trace(x, pooled=True)
    assert ((alone.probability > 0.9) & (alone.quality == quality)).float().mean() > 0.9
    assert together.quality.tolist() == [quality]
    assert float(together.evidence) == pytest.approx(float(alone.evidence.sum()), rel=0.05)
    assert jpeg_trace(texture(32, count=40), pooled=True).probability < 1e-6


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (0, 1), (7, 4)])
def test_the_grid_of_a_crop_is_found(corner):
    row, column = corner
    x = pillow_jpeg(texture(128), 60)[..., row:, column:]
    expected = [-row % 8, -column % 8]
    assert jpeg_grid(x).phase.tolist() == [expected]
    trace = jpeg_trace(x)
    assert (trace.phase.tolist(), trace.quality.tolist()) == ([expected], [60])
    assert float(trace.probability) > 0.99
    assert float(trace.grid.excess) > 0.2
    assert trace.grid.strength > 2 * jpeg_grid(texture(128)).strength


def test_noise_hides_the_quality_but_not_the_grid():
    y = pillow_jpeg(texture(128), 20)
    noisy = y + 0.02 * torch.randn(y.shape, generator=generator_for(1))
    trace = jpeg_trace(noisy.clamp(0, 1))
    assert float(trace.probability) < 0.1
    assert (trace.grid.phase.tolist(), float(trace.grid.strength) > 2) == ([[0, 0]], True)


def test_the_ratio_is_that_of_its_definition():
    c = torch.randn(3, 20, generator=generator_for(2)) * 9
    valid = (torch.rand(3, 20, generator=generator_for(3)) > 0.3).float()
    found = _log_ratio(c, valid, torch.tensor([2.0, 5.0, 16.0]))
    for b in range(3):
        for i, step in enumerate((2.0, 5.0, 16.0)):
            total = 0.0
            for value, use in zip(c[b].tolist(), valid[b].tolist(), strict=True):
                r = value - step * round(value / step)
                law = sum(math.exp(-((r + j * step) ** 2) / (2 * 0.32**2)) for j in range(-3, 4))
                ratio = max(step * law / (0.32 * math.sqrt(2 * math.pi)), 1e-3)
                total += use * math.log(min(ratio, 1) if abs(value) < step / 2 else ratio)
            assert float(found[b, i]) == pytest.approx(total, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("step", [2.0, 3.0, 10.0])
def test_the_mean_ratio_of_what_was_not_quantised_is_at_most_one(step):
    u = torch.rand(20_000, 1, generator=generator_for(4)) - 0.5
    c = -8 * u.sign() * (1 - 2 * u.abs()).log()  # Laplace's law
    ratio = _log_ratio(c, torch.ones_like(c), torch.tensor([step])).exp()
    assert float(ratio.mean()) < 1.03


def test_coefficients_are_those_of_the_transform():
    fft = pytest.importorskip("scipy.fft")
    x = torch.rand(2, 24, 16, generator=generator_for(5)) * 255
    c = _transform(_blocks(x, torch.zeros(2, 2, dtype=torch.int64)))
    assert c.shape == (2, len(FREQUENCIES), 6)
    block = torch.from_numpy(fft.dctn(x[1, 8:16, 8:16].numpy(), norm="ortho"))
    expected = torch.stack([block[v, u] for v, u in FREQUENCIES])
    torch.testing.assert_close(c[1, :, 3], expected, rtol=1e-4, atol=1e-3)
    assert LUMA[FREQUENCIES[0][0]][FREQUENCIES[0][1]] == 11


def test_clipped_images_are_undecided():
    trace = jpeg_trace(torch.ones(1, 3, 32, 32))
    assert (float(trace.evidence), float(trace.probability)) == (0.0, pytest.approx(0.5))
    with pytest.raises(ValueError, match="8x40 pixels; a grid needs at least 16x16"):
        jpeg_trace(torch.zeros(1, 3, 8, 40))


@pytest.mark.parametrize("quality", [None, 30, 75, 95])
def test_photographs(data_folder, quality):
    source = open_source(data_folder / "photos" / "test", mixed=True, limit=3)
    for i in range(3):
        x = source.read(i)[None, :, :256, :256] / 255
        trace = jpeg_trace(x if quality is None else pillow_jpeg(x, quality))
        assert float(trace.probability) == pytest.approx(0 if quality is None else 1, abs=0.01)
        assert quality is None or int(trace.quality) == quality
