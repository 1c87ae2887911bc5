"""Learned degradations: what their generators make, and where their gradients go."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.degradations import (
    KINDS,
    BlurParams,
    ConstantBlur,
    ConstantJPEG,
    DifferentiableJPEG,
    JPEGParams,
    LearnedBlur,
    LearnedJPEG,
    LearnedNoise,
    ReadShotParams,
)
from blemish.functional.blur import blur
from blemish.functional.jpeg import jpeg
from blemish.functional.kernels import centroid, delta, gaussian
from blemish.functional.random import generator_for, rand, randn
from blemish.networks import ResNetGenerator

SHAPE = (4, 3, 16, 16)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _image() -> Tensor:
    return rand(SHAPE, generator_for("image"))


def _noise(**changes: float) -> LearnedNoise:
    network = ResNetGenerator.Config(latent=5, channels=(6, 4), image_channels=6, **changes)  # type: ignore[arg-type]
    return LearnedNoise.Config(network=network).build()


# Kernels


def test_kernels_are_mixed_with_the_identity_tap_by_tap() -> None:
    d = LearnedBlur.Config(size=5, latent=6).build()
    params = d.sample(SHAPE, generator=generator_for("k"))
    assert_close(params.raw.sum(dim=(1, 2, 3)), torch.ones(4))
    assert 0 <= params.mask.min() < params.mask.max() <= 1
    # Eq. 3
    expected = params.mask * params.raw + (1 - params.mask) * delta(5)
    assert_close(params.kernel, expected)


def test_kernels_without_a_mask_are_the_raw_ones() -> None:
    d = LearnedBlur.Config(size=5, latent=6, masked=False).build()
    params = d.sample(SHAPE, generator=generator_for("k"))
    assert torch.equal(params.kernel, params.raw)
    assert_close(params.mask, torch.ones_like(params.raw))
    params.kernel.square().sum().backward()
    assert d.network.mask.weight.grad is None


@pytest.mark.parametrize("masked", [True, False])
def test_symmetric_kernels_move_nothing(masked: bool) -> None:
    shape: dict[str, Any] = {"size": 5, "latent": 6, "masked": masked}
    free, still = (LearnedBlur.Config(symmetric=s, **shape).build() for s in (False, True))
    still.load_state_dict(free.state_dict())
    z = randn((64, 6), generator_for("z"))
    k, turned = free.generate(z), still.generate(z)
    assert_close(turned.raw, (k.raw + k.raw.rot90(2, (-2, -1))) / 2)
    assert_close(turned.kernel, turned.kernel.rot90(2, (-2, -1)))
    assert centroid(turned.kernel).abs().max() < 1e-6 < centroid(k.kernel).abs().max()
    # Eq. 3
    assert_close(turned.kernel, turned.mask * turned.raw + (1 - turned.mask) * delta(5))


def test_nothing_renormalises_a_kernel() -> None:
    d = LearnedBlur.Config(size=5, latent=6).build()
    params = d.sample(SHAPE, generator=generator_for("k"))
    total = params.kernel.sum(dim=(1, 2, 3))
    assert (total - 1).abs().max() > 1e-3
    flat = d(torch.full(SHAPE, 0.5), params)
    assert_close(flat, (total / 2).view(-1, 1, 1, 1).expand(SHAPE))
    assert_close(params.summary()["kernel_sum"], total)


def test_fresh_kernels_have_the_sums_that_were_measured_for_the_paper() -> None:
    d = LearnedBlur.Config().build()
    params = d.sample((4096, 3, 32, 32), generator=generator_for("k"))
    total = params.kernel.sum(dim=(1, 2, 3))
    assert_close(total.mean().item(), 1.03, rtol=0, atol=0.05)
    assert 0.02 < total.std().item() < 0.15
    assert_close(params.kernel[:, 0, 4, 4].mean().item(), 0.55, rtol=0, atol=0.1)


@pytest.mark.parametrize("bias", [-4.0, -2.0, 0.0])
def test_a_mask_bias_below_zero_starts_near_the_identity(bias: float) -> None:
    d = LearnedBlur.Config(mask_bias=bias).build()
    mask = d.sample((256, 3, 32, 32), generator=generator_for("k")).summary()["kernel_mask"]
    assert_close(mask.mean().item(), 1 / (1 + math.exp(-bias)), rtol=0.3, atol=0)


def test_compact_kernels_start_near_a_gaussian_of_a_sixth_of_their_side() -> None:
    d = LearnedBlur.Config(compact=True).build()
    raw = d.sample((4096, 3, 32, 32), generator=generator_for("k")).raw.mean(dim=0)[0]
    # The sigmoid of log p is p / (1 + p).
    p = gaussian(torch.tensor([1.5]), 9)[0, 0]
    expected = (p / p.max()) / (1 + p / p.max())
    assert_close(raw, expected / expected.sum(), rtol=0.3, atol=0.01)
    assert_close(raw.sum().item(), 1.0)


def test_kernels_differ_with_their_latents_alone() -> None:
    d = LearnedBlur.Config(latent=6).build()
    z = randn((2, 6), generator_for("z"))
    params = d.generate(z[[0, 1, 0]])
    assert torch.equal(params.kernel[0], params.kernel[2])
    assert not torch.equal(params.kernel[0], params.kernel[1])
    drawn = d.sample((2, 3, 16, 16), generator=generator_for("z"))
    assert torch.equal(drawn.z, z)


def test_a_learned_blur_takes_the_kernels_of_a_known_one() -> None:
    d = LearnedBlur.Config(size=5, padding="circular").build()
    kernel = rand((4, 1, 3, 3), generator_for("k"))
    expected = blur(_image(), kernel, padding="circular")
    assert torch.equal(d(_image(), BlurParams(kernel)), expected)


@pytest.mark.parametrize("normalise", [False, True])
def test_kernels_stay_finite_where_all_taps_vanish(normalise: bool) -> None:
    d = LearnedBlur.Config(size=5, latent=6, normalise=normalise).build()
    with torch.no_grad():
        d.network.value.bias.fill_(-1e4)
        d.network.mask.bias.fill_(1e4)
    kernel = d.sample(SHAPE, generator=generator_for("k")).kernel
    assert not kernel.any()
    constant = ConstantBlur.Config(size=5).build()
    with torch.no_grad():
        constant.logits.fill_(-1e4)
    params = constant.sample(SHAPE, generator=generator_for("c"))
    params.kernel.sum().backward()
    assert not params.kernel.any()
    assert constant.logits.grad is not None
    assert constant.logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [-3, 0, 1, 8, 33])
@pytest.mark.parametrize("config", [LearnedBlur.Config, ConstantBlur.Config])
def test_impossible_kernel_sides_are_refused_at_once(config: Any, size: int) -> None:
    with pytest.raises(ValueError, match=rf"^size={size} is no side.*give odd 3 to 31$"):
        config(size=size)


@pytest.mark.parametrize("config", [LearnedBlur.Config, ConstantBlur.Config])
def test_the_smallest_and_largest_kernels_blur(config: Any) -> None:
    x = rand((2, 3, 32, 32), generator_for("image"))
    for size in (3, 31):
        d = config(size=size).build()
        params = d.sample((2, 3, 32, 32), generator=generator_for("k"))
        assert params.kernel.shape == (2, 1, size, size)
        assert d(x, params).isfinite().all()


# Noise


def _level(d: LearnedNoise, read: float, shot: float) -> None:
    with torch.no_grad():
        d.network.conv.weight.zero_()
        d.network.conv.bias.copy_(torch.tensor([read] * 3 + [shot] * 3).atanh())


def test_levels_are_halved_for_read_noise_and_kept_for_shot_noise() -> None:
    d, x = _noise(), _image()
    _level(d, 0.4, 0.3)
    params = d.sample(SHAPE, generator=generator_for("n"))
    assert_close(params.summary()["sigma_read"], torch.full((4,), 0.2))
    assert_close(params.summary()["sigma_shot"], torch.full((4,), 0.3))
    # n = sigma_read eps + 2 sigma_shot eps sqrt(x) on the scale [-1, 1], as in NR-GAN
    noise = 0.4 * params.eps_read + 2 * 0.3 * params.eps_shot * x.sqrt()
    assert_close(2 * d(x, params) - 1, 2 * x - 1 + noise)


def test_the_signs_of_levels_do_not_matter_to_the_summary() -> None:
    d = _noise()
    _level(d, -0.4, -0.3)
    summary = d.sample(SHAPE, generator=generator_for("n")).summary()
    assert_close(summary["sigma_read"], torch.full((4,), 0.2))


@pytest.mark.parametrize("gain", [0.1, 1.0])
def test_an_output_gain_starts_with_weaker_noise(gain: float) -> None:
    d = _noise(output_gain=gain)
    level = d.sample((64, 3, 16, 16), generator=generator_for("n")).sigma_shot
    reference = _noise_with_gain_one().sample((64, 3, 16, 16), generator=generator_for("n"))
    ratio = level.std() / reference.sigma_shot.std()
    assert_close(ratio.item(), gain, rtol=0.2, atol=0)


def _noise_with_gain_one() -> LearnedNoise:
    torch.manual_seed(0)
    return _noise()


def test_maps_of_levels_are_resized_to_larger_images() -> None:
    d = _noise()
    params = d.sample((2, 3, 24, 40), generator=generator_for("n"))
    assert params.sigma_read.shape == params.eps_read.shape == (2, 3, 24, 40)
    _level(d, 0.4, 0.3)
    params = d.sample((2, 3, 24, 40), generator=generator_for("n"))
    assert_close(params.sigma_shot, torch.full((2, 3, 24, 40), 0.3))


def test_noise_does_not_steer_the_image() -> None:
    d, x = _noise(), _image().requires_grad_()
    y = d(x, d.sample(SHAPE, generator=generator_for("n")))
    (of_x,) = torch.autograd.grad(y.sum(), x)
    assert_close(of_x, torch.ones(SHAPE))


def test_noise_learned_on_colour_is_not_drawn_for_grey() -> None:
    with pytest.raises(ValueError, match="images of 3 channels"):
        _noise().sample((2, 1, 16, 16), generator=generator_for("n"))
    with pytest.raises(ValueError, match="image_channels=3 is odd"):
        LearnedNoise.Config(network=ResNetGenerator.Config(image_channels=3)).build()


def test_learned_noise_takes_the_levels_of_a_known_one() -> None:
    level, eps = torch.full((4, 1, 1, 1), 0.1), randn(SHAPE, generator_for("e"))
    y = _noise()(_image(), ReadShotParams(level, 0 * level, eps, eps))
    assert_close(y, _image() + 0.1 * eps)


# Qualities


def test_compressed_images_are_mixed_with_the_original() -> None:
    d, x = LearnedJPEG.Config(latent=6).build(), _image()
    params = d.sample(SHAPE, generator=generator_for("q"))
    mask = params.mask.view(-1, 1, 1, 1)
    # Eq. 5
    assert_close(d(x, params), mask * jpeg(x, params.quality) + (1 - mask) * x)
    assert params.quality.shape == params.mask.shape == (4,)
    assert 0 < params.mask.min() < params.mask.max() < 1


def test_qualities_without_a_mask_compress_everything() -> None:
    d, x = LearnedJPEG.Config(latent=6, masked=False).build(), _image()
    params = d.sample(SHAPE, generator=generator_for("q"))
    assert torch.equal(params.mask, torch.ones(4))
    assert torch.equal(d(x, params), jpeg(x, params.quality))


@pytest.mark.parametrize(("bias", "quality"), [(0.0, 50.0), (1.4, 80.2)])
def test_a_quality_bias_sets_the_first_quality(bias: float, quality: float) -> None:
    d = LearnedJPEG.Config(quality_bias=bias).build()
    value = d.generate(torch.zeros(1, 128)).quality
    assert_close(value, torch.tensor([quality]), rtol=0, atol=0.1)


def test_a_learned_jpeg_takes_the_qualities_of_a_known_one() -> None:
    params = JPEGParams(torch.tensor([30.0, 50.0, 70.0, 90.0]))
    x = _image()
    y = LearnedJPEG.Config(subsampling="4:4:4").build()(x, params)
    assert torch.equal(y, DifferentiableJPEG(subsampling="4:4:4")(x, params))


# The codec

PAPER = {"rounding": "cubic", "table": "continuous", "chroma": "nearest"}
CODECS: list[dict[str, str]] = [
    PAPER,
    {"rounding": "straight-through"},
    {"rounding": "hard"},
    {"table": "continuous"},
    {"chroma": "nearest"},
    {"subsampling": "4:4:4", "table": "continuous"},
]
CONFIGS: dict[str, Any] = {
    "known": DifferentiableJPEG.Config,
    "learned": functools.partial(LearnedJPEG.Config, latent=6, masked=False),
    "constant": ConstantJPEG.Config,
}


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: "-".join(c.values()))
@pytest.mark.parametrize("name", CONFIGS)
def test_the_codec_is_that_of_the_configuration(name: str, codec: dict[str, str]) -> None:
    config = CONFIGS[name](**codec)
    assert decode(json.loads(json.dumps(encode(config))), KINDS) == config
    d, params = config.build(), JPEGParams(torch.tensor([13.7, 50.2, 70.9, 90.4]))
    assert d.config == config
    found = d(_image(), params)
    assert torch.equal(found, jpeg(_image(), params.quality, **codec))  # type: ignore[arg-type]
    assert not torch.equal(found, CONFIGS[name]().build()(_image(), params))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_usual_codec_is_the_functions_own(name: str) -> None:
    usual = {p.name: p.default for p in inspect.signature(jpeg).parameters.values()}
    config = CONFIGS[name]()
    for field in ("subsampling", "rounding", "table", "chroma"):
        assert getattr(config, field) == usual[field]


# Gradients to weights


@pytest.mark.parametrize(
    "make",
    [LearnedBlur.Config(latent=6).build, _noise, LearnedJPEG.Config(latent=6).build],
    ids=["blur", "noise", "jpeg"],
)
def test_drawing_is_differentiable_in_every_weight(make: type) -> None:
    d = make()
    y = d(_image(), d.sample(SHAPE, generator=generator_for("w")))
    (y * randn(SHAPE, generator_for("direction"))).sum().backward()
    for name, p in d.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "make",
    [LearnedBlur.Config(latent=6).build, _noise, LearnedJPEG.Config(latent=6).build],
    ids=["blur", "noise", "jpeg"],
)
def test_what_is_drawn_in_half_precision_is_applied_in_full(make: type) -> None:
    d = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        params = d.sample(SHAPE, generator=generator_for("w"))
    assert {t.dtype for t in params.tensors().values()} == {torch.float32}
    exact = d.sample(SHAPE, generator=generator_for("w"))
    for name, value in params.summary().items():
        assert_close(value, exact.summary()[name], rtol=0.05, atol=0.01)


# Directly learned parameters


def test_a_constant_kernel_starts_flat_and_is_everybodys() -> None:
    d = ConstantBlur.Config(size=5).build()
    params = d.sample(SHAPE, generator=generator_for("c"))
    assert_close(params.kernel, torch.full((4, 1, 5, 5), 1 / 25))
    with torch.no_grad():
        d.logits += randn((25,), generator_for("logits"))
    params = d.sample(SHAPE, generator=generator_for("c"))
    assert_close(params.kernel.sum(dim=(1, 2, 3)), torch.ones(4))
    assert torch.equal(params.kernel[0], params.kernel[3])
    params.kernel[:, 0, 2, 2].sum().backward()
    assert d.logits.grad is not None
    # A kernel that sums to 1 can only move weight from some taps to others.
    assert d.logits.grad[12] > 0 > d.logits.grad[0]


def test_a_constant_quality_starts_at_50_and_is_everybodys() -> None:
    d = ConstantJPEG.Config().build()
    params = d.sample(SHAPE, generator=generator_for("c"))
    assert_close(params.quality, torch.full((4,), 50.0))
    params.quality.sum().backward()
    # d/dl 100 sigmoid(l) = 25 at l = 0, for each of four samples
    assert_close(d.logit.grad, torch.tensor(100.0))
    assert torch.equal(d(_image(), params), jpeg(_image(), 50.0))
