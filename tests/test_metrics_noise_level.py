"""The level of noise without a reference, on textures whose noise is known."""

from __future__ import annotations

import pytest
import torch

from blemish.data import open_source
from blemish.functional.noise import read_shot
from blemish.functional.random import generator_for
from blemish.metrics import noise_law, noise_level
from blemish.metrics.noise_level import _chi_square_quantile, _count_quiet


def texture(
    size: int, channels: int = 3, count: int = 1, seed: int = 0, slope: float = 1.3
) -> torch.Tensor:
    """Textures with the amplitude spectrum f^-slope, of one hue; inside of [0.07, 0.9]."""
    g = generator_for(seed, "texture")
    white = torch.randn(count, 1, size, size, generator=g)
    f = torch.fft.fftfreq(size)
    radius = (f[:, None].square() + f.square()).sqrt().clamp_min(1 / size)
    x = torch.fft.ifft2(torch.fft.fft2(white) / radius**slope).real
    low, high = x.amin((2, 3), True), x.amax((2, 3), True)
    hue = torch.tensor([1.0, 0.85, 0.7])[:channels].view(-1, 1, 1)
    return (0.1 + 0.8 * (x - low) / (high - low)) * hue


def eight_bits(x: torch.Tensor) -> torch.Tensor:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05, 0.1])
def test_white_noise_is_found(sigma, channels):
    # In one channel a texture without any smooth place would be noise.
    x = texture(128, channels, slope=1.3 if channels == 3 else 2.0)
    y = eight_bits(x + sigma * torch.randn(x.shape, generator=generator_for(1)))
    assert float(noise_level(y)) == pytest.approx(sigma, rel=0.06 if channels == 3 else 0.15)


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_small_images_are_measured_better_together(sigma):
    x = texture(32, count=40)
    y = eight_bits(x + sigma * torch.randn(x.shape, generator=generator_for(1)))
    alone, together = noise_level(y), noise_level(y, pooled=True)
    assert alone.shape == (40,)
    assert together.shape == (1,)
    assert float(together) == pytest.approx(sigma, rel=0.04)
    assert alone.mean() == pytest.approx(sigma, rel=0.06)
    assert alone.std() / sigma < 0.12


def test_clean_images_have_the_noise_of_their_rounding():
    assert float(noise_level(eight_bits(texture(128)))) == pytest.approx(12**-0.5 / 255, rel=0.15)
    assert float(noise_level(torch.full((1, 3, 32, 32), 0.3))) < 1e-6


def test_strong_texture_is_not_noise():
    # Half of the picture is stripes of one pixel, the other half is flat.
    x = torch.full((1, 1, 64, 64), 0.5)
    x[..., :32, ::2] = 0.8
    y = x + 0.02 * torch.randn(x.shape, generator=generator_for(2))
    assert float(noise_level(y)) == pytest.approx(0.02, rel=0.1)
    assert float((y - y.mean()).std()) > 0.1


def test_saturated_areas_do_not_count():
    x = texture(128)
    x[..., :90, :] = 3.0
    y = eight_bits(x + 0.03 * torch.randn(x.shape, generator=generator_for(3)))
    assert float(noise_level(y)) == pytest.approx(0.03, rel=0.06)


@pytest.mark.parametrize(("read", "shot"), [(0.02, 0.0), (0.01, 0.05), (0.0, 0.08)])
def test_read_and_shot_noise_are_told_apart(read, shot):
    x = texture(192)
    eps = torch.randn(2, *x.shape, generator=generator_for(4))
    y = read_shot(x, torch.tensor([read]), torch.tensor([shot]), eps[0], eps[1])
    law = noise_law(eight_bits(y))
    assert float(law.read) == pytest.approx(read, abs=0.015)
    assert float(law.shot) == pytest.approx(shot, abs=0.01)
    truth = read**2 + shot**2 * law.intensity
    assert law.trusted.any()
    assert law.variance[law.trusted].div(truth[law.trusted]).sub(1).abs().mean() < 0.15


def test_images_do_not_change_each_other():
    x = texture(32, count=3)
    y = eight_bits(
        x
        + torch.tensor([0.01, 0.03, 0.09]).view(3, 1, 1, 1)
        * torch.randn(x.shape, generator=generator_for(9))
    )
    torch.testing.assert_close(noise_level(y), torch.cat([noise_level(one[None]) for one in y]))
    torch.testing.assert_close(noise_level(y.float() / 255), noise_level(y))


def test_the_count_of_quiet_directions_is_that_of_its_definition():
    values = torch.rand(5, 20, generator=generator_for(5)).double().square().sort().values
    for row, k in zip(values, _count_quiet(values).tolist(), strict=True):
        means_and_medians = [(row[:i].mean(), row[:i].quantile(0.5)) for i in range(1, 21)]
        assert k == max(
            i for i, (mean, median) in enumerate(means_and_medians, 1) if mean <= median + 1e-12
        )


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_quantiles_of_the_chi_square_law(k, p):
    stats = pytest.importorskip("scipy.stats")
    assert _chi_square_quantile(k, p) == pytest.approx(stats.chi2.ppf(p, k), rel=1e-9)


def test_images_without_an_interior_are_refused():
    with pytest.raises(ValueError, match=r"8x40 pixels; noise is estimated on at least 16x16"):
        noise_level(torch.zeros(1, 3, 8, 40))


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.02, 0.05])
def test_photographs(data_folder, sigma):
    source = open_source(data_folder / "photos" / "test", mixed=True, limit=4)
    noisy = [source.read(i)[None] / 255 for i in range(4)]
    noisy = [x + sigma * torch.randn(x.shape, generator=generator_for(6)) for x in noisy]
    levels = torch.cat([noise_level(eight_bits(x)) for x in noisy])
    assert (levels - sigma).abs().max() < 0.002 + (0.002 if sigma == 0 else 0.0)
