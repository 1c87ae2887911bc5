from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.blur import blur
from blemish.functional.jpeg import pillow_jpeg
from blemish.functional.random import generator_for, rand, randn
from blemish.functional.stages import (
    RESIZES,
    file_jpeg,
    grey_of,
    mirror,
    mirrored_blur,
    mixed_noise,
    resize,
    shot_noise,
    to_8_bits,
)


def image(*shape: int, seed: int = 0) -> Tensor:
    return rand(shape, generator_for("image", seed))


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_mirror_reflects_as_often_as_needed(side: int) -> None:
    def bounce(i: int) -> int:
        while not 0 <= i < side:
            i = -i if i < 0 else 2 * (side - 1) - i
        return i if side > 1 else 0

    places = [bounce(i) if side > 1 else 0 for i in range(-7, side + 7)]
    x = image(2, 3, side, 9)
    assert torch.equal(mirror(x, 7)[..., 7:-7], x[:, :, places])


def test_mirror_and_blur_agree_with_reflection_where_one_is_enough() -> None:
    x, kernel = image(2, 3, 14, 19), torch.softmax(randn((2, 81), generator_for(0)), 1)
    kernel = kernel.view(2, 1, 9, 9)
    assert torch.equal(mirror(x, 4), F.pad(x, [4] * 4, mode="reflect"))
    assert_close(mirrored_blur(x, kernel), blur(x, kernel), rtol=0, atol=1e-6)
    assert mirrored_blur(x[..., :2, :3], kernel).shape == (2, 3, 2, 3)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("mode", range(len(RESIZES)))
@pytest.mark.parametrize("size", [(9, 7), (31, 29), (20, 26), (5, 40), (1, 1)])
def test_resizing_keeps_flat_images_and_commutes_with_flips(
    mode: int, size: tuple[int, int], pooled: bool
) -> None:
    x = image(1, 3, 20, 26).double()
    y = resize(x, size, mode, pooled=pooled)
    assert y.shape == (1, 3, *size)
    assert_close(resize(0 * x + 0.3, size, mode, pooled=pooled), torch.full_like(y, 0.3))
    flipped = resize(x.flip(-2, -1), size, mode, pooled=pooled)
    assert_close(flipped.flip(-2, -1), y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", range(len(RESIZES)))
def test_resizing_keeps_ramps_in_place(mode: int) -> None:
    ramp = torch.arange(60, dtype=torch.float64).expand(1, 1, 8, 60)
    for width in (20, 31, 60, 75):
        y = resize(ramp, (8, width), mode)[0, 0, 4]
        expected = (torch.arange(width) + 0.5) * 60 / width - 0.5
        # The cubic with a = -0.75 bends ramps a little. Enlarged by area, a pixel keeps its value.
        bound = {"bilinear": 1e-5, "bicubic": 0.06, "area": 0.5}[RESIZES[mode]]
        assert (y - expected)[5:-5].abs().max() < bound


def test_areas_are_exact_or_pooled() -> None:
    x = image(1, 3, 12, 15).double()
    assert_close(resize(x, (5, 4), 2).mean((-2, -1)), x.mean((-2, -1)))
    assert_close(resize(x, (5, 4), 2, pooled=True), F.adaptive_avg_pool2d(x, (5, 4)))
    assert_close(resize(x, (4, 5), 2), resize(x, (4, 5), 2, pooled=True))


def test_luma_of_grey_is_grey() -> None:
    x = image(2, 1, 5, 6)
    assert torch.equal(grey_of(x), x)
    assert_close(grey_of(x.expand(-1, 3, -1, -1)), x)
    assert_close(
        grey_of(torch.eye(3).view(1, 3, 3, 1)).flatten(), torch.tensor([0.299, 0.587, 0.114])
    )


def test_rounding_to_8_bits() -> None:
    x = 3 * image(1, 3, 9, 9) - 1
    y = to_8_bits(x)
    assert_close((y * 255).round(), y * 255)
    assert (y - x.clamp(0, 1)).abs().max() <= 0.5001 / 255
    assert torch.equal(to_8_bits(y), y)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [30, 62, 95])
def test_jpeg_is_near_libjpeg(channels: int, quality: int) -> None:
    x = to_8_bits(F.interpolate(image(2, channels, 12, 16), (96, 128), mode="bicubic"))
    q = torch.tensor([quality, quality])
    error = (to_8_bits(file_jpeg(x, q)) - pillow_jpeg(x, q)).square().mean()
    assert -10 * math.log10(float(error)) > 40


# Noise


def test_mixed_noise_has_its_covariance() -> None:
    mixing = torch.tensor([[0.03, 0.0, 0.0], [0.02, 0.01, 0.0], [-0.01, 0.02, 0.02]])[None]
    eps = randn((1, 3, 210, 220), generator_for(0))
    x = torch.full((1, 3, 200, 200), 0.5)
    noise = (mixed_noise(x, mixing, eps) - x)[0].flatten(1)
    # The standard error of a covariance is at most sqrt(2 / n) times the largest variance.
    bound = 5 * math.sqrt(2 / noise.shape[1]) * 0.001
    assert_close(noise @ noise.T / noise.shape[1], (mixing @ mixing.mT)[0], rtol=0, atol=bound)
    assert mixed_noise(x, 100 * mixing, eps).aminmax() == (0, 1)


@pytest.mark.parametrize("grey", [False, True])
def test_shot_noise_grows_with_the_light(grey: bool) -> None:
    level = torch.arange(256).repeat_interleave(400).view(1, 1, 320, 320) / 255
    x, eps = level.expand(1, 3, -1, -1), randn((1, 3, 330, 330), generator_for(0))
    noise = shot_noise(x, torch.tensor([0.5]), eps, grey=grey) - x
    assert torch.equal(noise[:, 0], noise[:, 1]) == grey
    # Of 256 values v = 256: the variance of n / v is x / v. The brightest would be clipped.
    rows = noise[:, 0].view(256, 400)[2:200].double()
    ratio = rows.var(1) / (0.25 * torch.arange(2, 200) / 255 / 256)
    assert abs(float(ratio.mean()) - 1) < 5 * math.sqrt(2 / rows.numel()) + 0.01
    z = rows.mean(1) / (rows.var(1) / 400).sqrt()
    assert abs(float(z.mean())) < 5 / math.sqrt(len(z))


def test_shot_noise_has_as_few_steps_as_the_image_has_values() -> None:
    x = torch.tensor([0.2, 0.4, 0.6]).repeat(20)[None, None, None] * torch.ones(1, 1, 50, 1)
    y = shot_noise(x, torch.ones(1), randn(tuple(x.shape), generator_for(0)), grey=False)
    # Three values make v = 4: what is not clipped is a multiple of 1/4.
    assert_close(4 * y, (4 * y).round())
    assert set((4 * y).round().unique().tolist()) == {0, 1, 2, 3, 4}
    weaker = shot_noise(x, torch.zeros(1), torch.zeros_like(x), grey=False)
    assert torch.equal(weaker, x)
