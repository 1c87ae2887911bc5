"""The width of edges without a reference, on steps and on photographs."""

from __future__ import annotations

import math

import pytest
import torch

from blemish.data import Glyphs, open_source
from blemish.functional.blur import blur
from blemish.functional.kernels import anisotropic_gaussian, disk, gaussian
from blemish.functional.random import generator_for
from blemish.metrics import blur_extent, noise_level


def step(sigma: float, size: int = 64) -> torch.Tensor:
    """A vertical edge whose profile is the integral of a Gaussian of that width."""
    t = torch.arange(size) - size / 2 + 0.3
    profile = torch.special.ndtr(t / sigma)
    return (0.2 + 0.6 * profile).expand(1, 1, size, size).clone()


def circles(size: int = 128) -> torch.Tensor:
    """Disks of several sizes and shades: edges in all directions, as crisp as pixels allow."""
    p = torch.arange(8 * size).float() / 8
    x = torch.full((8 * size, 8 * size), 0.3)
    for row, column, radius, shade in ((40, 36, 22, 0.8), (88, 84, 30, 0.6), (30, 96, 14, 0.1)):
        x[(p[:, None] - row).square() + (p - column).square() < radius**2] = shade
    return torch.nn.functional.avg_pool2d(x[None, None], 8)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5, 2.5, 4.0])
@pytest.mark.parametrize("contrast", [1.0, 0.3])
def test_the_width_of_a_gaussian_step_is_found(sigma, contrast):
    found = blur_extent(contrast * step(sigma))
    # Sampled filters are wider than their scale, which isolated steps show.
    assert float(found.sigma) == pytest.approx(math.sqrt(sigma**2 + 0.5), rel=0.08)


def texture(size: int) -> torch.Tensor:
    """A texture with the amplitude spectrum 1/f."""
    white = torch.randn(1, 1, size, size, generator=generator_for(1))
    f = torch.fft.fftfreq(size)
    radius = (f[:, None].square() + f.square()).sqrt().clamp_min(1 / size)
    x = torch.fft.ifft2(torch.fft.fft2(white) / radius).real
    return (x - x.min()) / (x.max() - x.min())


@pytest.mark.parametrize("radius", [1.5, 2.0, 3.0, 4.0])
def test_the_radius_of_a_defocus_is_found(radius):
    y = blur(texture(192), disk(torch.tensor([radius]), 11))
    assert float(blur_extent(y).radius) == pytest.approx(radius, rel=0.25)


def test_more_blur_is_wider_and_turning_changes_nothing():
    kernels = [gaussian(torch.tensor([s]), 21) for s in (0.5, 1.0, 1.5, 2.0, 3.0)]
    widths = torch.cat([blur_extent(blur(circles(), k)).sigma for k in kernels])
    assert (widths.diff() > 0.2).all()
    y = blur(circles(), kernels[2])
    for same in (y.flip(-1), y.mT, 1 - y, y.repeat(1, 3, 1, 1)):
        torch.testing.assert_close(blur_extent(same).sigma, blur_extent(y).sigma, rtol=1e-3, atol=0)


@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_noise_is_taken_off(radius):
    y = blur(circles(), disk(torch.tensor([radius]), 9))
    noisy = y + 0.03 * torch.randn(y.shape, generator=generator_for(0))
    truth = float(blur_extent(y).sigma)
    with_level = float(blur_extent(noisy, noise=noise_level(noisy)).sigma)
    assert with_level == pytest.approx(truth, rel=0.25)
    assert abs(with_level - truth) < abs(float(blur_extent(noisy).sigma) - truth)


@pytest.mark.parametrize("angle", [0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4])
def test_the_direction_of_a_directed_blur_is_found(angle):
    wide, narrow = torch.tensor([2.5]), torch.tensor([0.5])
    y = blur(circles(), anisotropic_gaussian(wide, narrow, torch.tensor([angle]), 15))
    found = blur_extent(y)
    assert float(found.anisotropy) > 0.4
    assert math.cos(2 * (float(found.angle) - angle)) > 0.95
    round_ = blur_extent(blur(circles(), gaussian(torch.tensor([1.5]), 15)))
    assert float(round_.anisotropy) < 0.15


def test_without_edges_nothing_is_said():
    found = blur_extent(torch.full((2, 3, 32, 32), 0.4))
    assert found.sigma.isnan().all()
    assert found.anisotropy.isnan().all()


def test_pooling_glyphs_gives_what_they_have_in_common():
    glyphs = Glyphs(60, size=32)
    x = torch.stack([glyphs.read(i) for i in range(60)]) / 255
    y = blur(x, gaussian(torch.tensor([1.2]), 11).expand(60, -1, -1, -1))
    alone, together = blur_extent(y), blur_extent(y, pooled=True)
    assert together.sigma.shape == (1,)
    assert alone.sigma.nanquantile(0.1) < float(together.sigma) < alone.sigma.nanquantile(0.9)
    torch.testing.assert_close(alone.sigma[7:8], blur_extent(y[7:8]).sigma)


def test_small_images_are_refused():
    with pytest.raises(ValueError, match=r"8x40 pixels; edges are measured on at least 16x16"):
        blur_extent(torch.zeros(1, 3, 8, 40))


@pytest.mark.parametrize("radius", [0.0, 2.0, 4.0])
def test_photographs(data_folder, radius):
    source = open_source(data_folder / "photos" / "test", mixed=True, limit=6)
    found = []
    for i in range(6):
        x = source.read(i)[None, :, :384, :384] / 255
        found.append(float(blur_extent(blur(x, disk(torch.tensor([radius]), 9))).radius))
    assert torch.tensor(found).median() == pytest.approx(radius, abs=0.5)
