"""The spectrum of noise: white noise, filtered noise, and what must not disturb it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.functional.random import generator_for, randn
from blemish.metrics import FREQUENCIES, noise_spectrum


def _noise(sigma: float, *, side: int = 256, count: int = 4) -> Tensor:
    return 0.5 + sigma * randn((count, 1, side, side), generator_for("noise"))


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1])
def test_white_noise_is_white(sigma: float) -> None:
    found = noise_spectrum(_noise(sigma), share=0.1).mean(dim=0)
    assert found == pytest.approx(torch.full((len(FREQUENCIES),), sigma**2), rel=0.06)


def test_a_filter_shapes_the_noise_by_its_transfer_function() -> None:
    # [1, 2, 1] / 4 along each side: K(f) = cos^2(pi f_x) cos^2(pi f_y)
    taps = torch.tensor([0.25, 0.5, 0.25])
    n = 0.08 * randn((8, 1, 256, 256), generator_for("noise"))
    y = 0.5 + F.conv2d(n, (taps[:, None] * taps).view(1, 1, 3, 3))
    found = noise_spectrum(y, share=0.1).mean(dim=0)
    f = torch.arange(32) / 32
    S = (math.pi * f).cos() ** 4
    # The window smears what is along each side by its own power spectrum.
    W = torch.fft.fft(torch.hann_window(32, periodic=False)).abs().square()
    S = torch.stack([(W.roll(k) * S).sum() for k in range(32)]) / W.sum()
    f = torch.fft.fftfreq(32)
    radius = (f[:, None].square() + f.square()).sqrt()
    for value, middle in zip(found.tolist(), FREQUENCIES, strict=True):
        ring = (radius - middle).abs() < 1 / 32
        expected = 0.08**2 * float((S[:, None] * S)[ring].mean())
        assert value == pytest.approx(expected, rel=0.06)


def test_flat_blocks_are_not_chosen_for_weak_noise() -> None:
    y = _noise(0.05, side=512)
    few, many = (noise_spectrum(y, share=share).mean(dim=0) for share in (0.02, 1.0))
    assert few == pytest.approx(many, rel=0.06)


def test_edges_and_slopes_are_not_noise() -> None:
    ramp = torch.linspace(0.2, 0.8, 256).expand(1, 1, 256, 256).clone()
    ramp[..., 128:, :] = ramp[..., 128:, :].flip(-1)
    assert noise_spectrum(ramp, share=0.05).sqrt().max() < 4e-3
    noisy = noise_spectrum(ramp + 0.05 * randn((1, 1, 256, 256), generator_for("n")), share=0.05)
    assert noisy.mean() == pytest.approx(0.05**2, rel=0.1)


def test_rgb_is_read_by_its_luma_and_bytes_as_numbers() -> None:
    y = (_noise(0.05).expand(-1, 3, -1, -1).clamp(0, 1) * 255).round()
    of_bytes, of_numbers = noise_spectrum(y.to(torch.uint8)), noise_spectrum(y / 255)
    assert of_bytes == pytest.approx(of_numbers, rel=1e-4)
    assert of_numbers == pytest.approx(noise_spectrum(y[:, :1] / 255), rel=1e-4)


def test_images_do_not_depend_on_their_neighbours() -> None:
    y = torch.cat([_noise(0.02, count=1), _noise(0.1, count=1)])
    assert noise_spectrum(y)[1] == pytest.approx(noise_spectrum(y[1:])[0], rel=1e-5)


def test_clipped_blocks_are_left_out() -> None:
    y = _noise(0.05)
    y[..., :128, :] = 1.0
    assert noise_spectrum(y, share=0.1).mean() == pytest.approx(0.05**2, rel=0.06)


def test_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="32x64 pixels; the flattest blocks need 64x64"):
        noise_spectrum(torch.rand(1, 3, 64, 32))
