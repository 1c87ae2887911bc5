"""Likelihoods: closed forms against float64, what is told of pixels, learned ones, and known damage by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import (
    JPEG,
    Blur,
    Chain,
    DiskLaw,
    Downsample,
    Fixed,
    GaussianBlur,
    GaussianNoise,
    Identity,
    LearnedLikelihood,
    Partial,
    bits_per_dim,
    is_likelihood,
    plain,
)
from blemish.functional.noise import normal_log_prob
from blemish.functional.random import generator_for, rand
from blemish.functional.stages import to_8_bits
from blemish.networks import ConditionalPixelCNN
from blemish.types import Shape

GRID = torch.arange(256, dtype=torch.float64) / 255
TINY = LearnedLikelihood.Config(
    network=ConditionalPixelCNN.Config(
        width=6, blocks=1, components=3, residual=True, encoder=1, phases=8, dropout=0.0
    )
)


def _learned(config: LearnedLikelihood.Config = TINY) -> LearnedLikelihood:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return config.build()


def _images(shape: Shape, name: str = "x") -> Tensor:
    return rand(shape, generator_for(name))


# The normal law of pixels


@pytest.mark.parametrize("mean", [-0.4, 0.0, 0.2531, 0.5, 1.0, 1.3])
@pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.5, 4.0])
def test_the_law_of_a_pixel_sums_to_one(mean: float, sigma: float) -> None:
    m, s = (torch.tensor([v], dtype=torch.float64) for v in (mean, sigma))
    found = normal_log_prob(GRID, m, s)
    assert found.isfinite().all()
    assert_close(found.exp().sum().item(), 1.0, rtol=0, atol=1e-12)


def test_the_law_of_a_pixel_is_a_difference_of_normal_distribution_functions() -> None:
    inner = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    edges = torch.cat([inner.new_tensor([-math.inf]), inner, inner.new_tensor([math.inf])])
    for mean, sigma in ((0.3, 0.05), (0.02, 0.03), (0.9, 0.2)):
        m, s = (torch.tensor([v], dtype=torch.float64) for v in (mean, sigma))
        expected = torch.special.ndtr((edges - m) / s).diff()
        assert_close(normal_log_prob(GRID, m, s).exp(), expected, rtol=1e-6, atol=1e-13)


def test_pixels_are_drawn_with_the_probabilities_that_are_told() -> None:
    n, d = 200_000, Chain([GaussianNoise((0.02, 0.02))])
    for mean in (0.004, 0.5):
        x = torch.full((1, 1, 1, n), mean)
        params = d.sample((1, 1, 1, n), generator=generator_for("drawn"))
        counts = torch.bincount(
            (255 * to_8_bits(d(x, params))).round().long().flatten(), minlength=256
        )
        m, s = (torch.tensor([v], dtype=torch.float64) for v in (mean, 0.02))
        expected = n * normal_log_prob(GRID, m, s).exp()
        seen = expected > 10
        chi2 = ((counts[seen] - expected[seen]).square() / expected[seen]).sum()
        # 99.9 % of the law lie below its mean plus 3.5 deviations or so.
        freedom = int(seen.sum())
        assert chi2 < freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("far", [0.0, 0.3, 1.0, 5.0])
def test_gradients_are_those_of_differences_however_far_off(far: float) -> None:
    y = GRID[[0, 1, 100, 254, 255]]
    mean = (y + far).requires_grad_()
    sigma = torch.tensor([0.01], dtype=torch.float64)
    (slope,) = torch.autograd.grad(normal_log_prob(y, mean, sigma).sum(), mean)
    step = 1e-6
    with torch.no_grad():
        ends = [normal_log_prob(y, mean + s, sigma) for s in (step, -step)]
    assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-4)


# Closed forms


def test_known_noise_is_told_in_closed_form() -> None:
    x, y = _images((2, 3, 5, 7)), to_8_bits(_images((2, 3, 5, 7), "y"))
    noise = GaussianNoise((0.3, 0.3))
    law = torch.distributions.Normal(x.double(), 0.3)
    assert_close(noise.log_density(y, x).double(), law.log_prob(y.double()).sum(dim=(1, 2, 3)))
    # Where a bin is narrow, its probability is its width times the density; here no pixel is at the ends.
    inner = y.clamp(1 / 255, 254 / 255)
    expected = (law.log_prob(inner.double()) - math.log(255)).sum(dim=(1, 2, 3))
    assert_close(noise.log_prob(inner, x).double(), expected, rtol=1e-5, atol=1e-3)


def test_levels_that_differ_must_be_given() -> None:
    x = _images((2, 1, 4, 4))
    noise = GaussianNoise((0.05, 0.2))
    params = noise.sample((2, 1, 4, 4), generator=generator_for("levels"))
    y = noise.prepared(to_8_bits(noise(x, params)))
    with pytest.raises(ValueError, match=r"sigma=\(0.05, 0.2\) is not one level"):
        noise.log_prob(y, x)
    found = noise.log_prob(y, x, params)
    for i, sigma in enumerate(params.sigma.tolist()):
        alone = GaussianNoise((sigma, sigma)).log_prob(y[[i]], x[[i]])
        assert_close(alone, found[[i]])


@pytest.mark.parametrize("blur", [GaussianBlur((1.5, 1.5)), Blur(DiskLaw((2.0, 2.0)))])
def test_known_blur_and_noise_are_noise_about_the_blurred_image(blur: GaussianBlur | Blur) -> None:
    shape = (2, 3, 16, 16)
    x, y = _images(shape), to_8_bits(_images(shape, "y"))
    noise = GaussianNoise((0.1, 0.1))
    chain = Chain([blur, noise])
    blurred = blur(x, blur.sample(shape, generator=generator_for("any")))
    assert torch.equal(chain.log_prob(y, x), noise.log_prob(y, blurred))
    # A chain's end may be one itself.
    assert torch.equal(Chain([Identity(), chain]).log_prob(y, x), chain.log_prob(y, x))


def test_a_reduction_may_come_first() -> None:
    x = _images((2, 3, 16, 16))
    small, noise = Downsample(4, "area"), GaussianNoise((0.1, 0.1))
    chain = Chain([small, noise])
    reduced = x.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5))
    y = to_8_bits(_images((2, 3, 4, 4), "y"))
    assert_close(chain.log_prob(y, x), noise.log_prob(y, reduced))


def test_drawn_blur_is_told_with_its_parameters_alone() -> None:
    shape = (2, 3, 12, 12)
    x, chain = _images(shape), plain("gaussian:0.5-2+noise:0.05")
    params = chain.sample(shape, generator=generator_for("drawn"))
    y = chain.prepared(to_8_bits(chain(x, params)))
    assert not is_likelihood(chain)
    with pytest.raises(ValueError, match="the others known, or their params given"):
        chain.log_prob(y, x)
    told = Chain([Fixed(chain.stages[0], params.stages[0][0]), chain.stages[1]])
    assert_close(told.log_prob(y[:1], x[:1]), chain.log_prob(y, x, params)[:1])


def test_what_is_known_and_what_tells() -> None:
    noise = GaussianNoise((0.1, 0.1))
    assert is_likelihood(noise)
    assert not is_likelihood(GaussianNoise((0.0, 0.0)))
    assert not is_likelihood(Chain([noise, JPEG()]))
    assert not is_likelihood(Chain([Partial(GaussianBlur((1.0, 1.0)), 0.5), noise]))
    assert not is_likelihood(Identity())
    assert Chain([Identity(), GaussianBlur((1.0, 1.0))]).known
    assert not Chain([Identity(), noise]).known


def test_observed_images_must_be_8_bits() -> None:
    noise = GaussianNoise((0.1, 0.1))
    y = to_8_bits(_images((1, 3, 4, 4)))
    assert torch.equal(noise.prepared(y), y)
    assert torch.equal(noise.prepared(y.double().float()), y)
    with pytest.raises(ValueError, match=r"0\.4.* steps of 1/255 away from 8 bits"):
        noise.prepared(y.clamp(0, 0.9) + 0.4 / 255)
    with pytest.raises(ValueError, match="outside"):
        noise.prepared(y + 1)
    with pytest.raises(ValueError, match="round them"):
        noise.prepared(y * torch.nan)


def test_bits_are_of_each_value() -> None:
    nats = torch.tensor([-math.log(2) * 96, 0.0])
    assert_close(bits_per_dim(nats, (7, 3, 4, 4)), torch.tensor([2.0, 0.0]))
    assert_close(bits_per_dim(nats, (3, 4, 4)), torch.tensor([2.0, 0.0]))


# Known damage by name


def test_a_word_is_the_damage_that_it_says() -> None:
    chain = plain("disk:2+gaussian:.5+noise:0.05-0.1+jpeg:30")
    disk, gauss, noise, jpeg = chain
    assert disk.config == Blur.Config(DiskLaw((2.0, 2.0), size=5))
    assert gauss.config.sigma == (0.5, 0.5)
    assert noise.config.sigma == (0.05, 0.1)
    assert (jpeg.config.law.low, jpeg.config.law.high) == (30, 30)
    (reduced,) = plain("reduce:4")
    assert reduced.config == Downsample.Config(4, "bicubic")
    assert plain("noise:0.1+reduce:4").scale == 4


def test_a_disk_has_room_for_all_of_itself() -> None:
    for radius in (0.3, 1.0, 1.5, 1.6, 4.0):
        (disk,) = plain(f"disk:{radius}")
        size = disk.config.law.size
        kernel = disk.config.law.kernels(1, generator_for("disk"))
        larger = DiskLaw((radius, radius), size=size + 2).kernels(1, generator_for("disk"))
        assert_close(larger[..., 1:-1, 1:-1], kernel, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("noise", "'noise' is no damage; give gaussian:NUMBER"),
        ("fog:2", "'fog:2' is no damage"),
        ("noise:0.1+", "'' is no damage"),
        ("noise:-1", "'noise:-1' is no damage"),
        ("reduce:2.5", "one whole factor"),
        ("reduce:2-4", "one whole factor"),
        ("jpeg:30.5", "'jpeg:30.5': quality=.*integers"),
        ("gaussian:9", r"'gaussian:9': sigma=\(9.0, 9.0\)"),
    ],
)
def test_a_word_that_says_nothing_is_named(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plain(name)


# Learned ones


def test_a_learned_likelihood_is_that_of_its_network() -> None:
    d = _learned()
    x, y = _images((2, 3, 8, 9)), d.prepared(to_8_bits(_images((2, 3, 8, 9), "y")))
    found = d.log_prob(y, x)
    assert_close(found, d.network.log_prob(2 * y - 1, 2 * x - 1).sum(dim=(1, 2)))
    # One observed image may be asked of several clean ones.
    assert_close(d.log_prob(y[:1], x)[1], d.log_prob(y[[0]], x[[1]])[0])


def test_all_images_of_one_pixel_have_probability_one() -> None:
    network = ConditionalPixelCNN.Config(
        channels=1, width=4, blocks=1, components=2, residual=True, encoder=1, dropout=0.0
    )
    d = _learned(LearnedLikelihood.Config(network=network)).double()
    x = _images((1, 1, 1, 1)).double()
    y = GRID.view(256, 1, 1, 1)
    total = d.log_prob(y, x.expand(256, -1, -1, -1)).exp().sum()
    assert_close(total.item(), 1.0, rtol=0, atol=1e-6)


def test_gradients_flow_to_the_clean_image_alone() -> None:
    d = _learned().double()
    y = to_8_bits(_images((1, 3, 6, 6), "y").double()).requires_grad_()
    x = _images((1, 3, 6, 6)).double().requires_grad_()
    of_y, of_x = torch.autograd.grad(d.log_prob(y, x).sum(), (y, x), allow_unused=True)
    assert of_y is None
    direction = rand((1, 3, 6, 6), generator_for("direction")).double()
    with torch.no_grad():
        ends = [d.log_prob(y, x + s * direction) for s in (1e-6, -1e-6)]
    assert_close((of_x * direction).sum(), ((ends[0] - ends[1]) / 2e-6)[0], rtol=1e-5, atol=1e-5)


def test_drawn_pixels_are_8_bits_and_those_before_are_kept() -> None:
    d, shape = _learned(), (1, 3, 5, 6)
    x = _images(shape)
    params = d.sample(shape, generator=generator_for("draw"))
    y = d.prepared(d(x, params))
    # Given the drawn image, every pixel is drawn again as it was.
    assert torch.equal(d.prepared(d.redrawn(y, x, params)), y)
    other = y.clone()
    other[..., -1, -1] = 1 - other[..., -1, -1]
    assert torch.equal(d.redrawn(other, x, params), d.redrawn(y, x, params))
