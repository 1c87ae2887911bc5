"""The published degradation models: their laws on many draws, and what they do to images."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import (
    BSRGAN,
    PIPELINES,
    BSRGANParams,
    Degradation,
    Downsample,
    RealESRGAN,
    RealESRGANParams,
    pipeline,
)
from blemish.degradations.pipelines import SHRINKING
from blemish.functional.kernels import centroid, delta
from blemish.functional.random import generator_for, generators_for, rand
from blemish.types import Params

N = 3000
MODELS = (BSRGAN, RealESRGAN)
SCALES = (1, 2, 3, 4)
each = pytest.mark.parametrize(
    "d", [m(s) for m in MODELS for s in SCALES], ids=lambda d: f"{type(d).__name__}-{d.scale}"
)


def is_share(truth: Tensor, probability: float) -> bool:
    """Whether a share lies within five standard deviations of its probability."""
    bound = 5 * math.sqrt(probability * (1 - probability) / truth.numel())
    return abs(float(truth.double().mean()) - probability) <= bound


def is_uniform(values: Tensor, low: float, high: float) -> bool:
    """Whether values fill a range evenly: in it, and a quarter of them in each of its quarters."""
    quarters = ((values - low) / (high - low) * 4).long().clamp(0, 3)
    inside = bool((values >= low - 1e-6).all() and (values <= high + 1e-6).all())
    return inside and all(is_share(quarters == i, 0.25) for i in range(4))


@pytest.fixture(scope="module", params=SCALES)
def bsrgan(request: pytest.FixtureRequest) -> tuple[int, BSRGANParams]:
    d = BSRGAN(request.param)
    return d.scale, d.sample((N, 3, 4, 4), generator=generator_for("many"))


@pytest.fixture(scope="module")
def real_esrgan() -> RealESRGANParams:
    return RealESRGAN(4).sample((N, 1, 4, 4), generator=generator_for("many"))


# BSRGAN's laws


def test_bsrgan_branches_as_often_as_published(bsrgan: tuple[int, BSRGANParams]) -> None:
    scale, p = bsrgan
    assert is_share(p.halved, 0.25 if scale == 4 else 0)
    assert is_share(p.halving == 3, 0.5)
    assert is_share(p.shrink.picked, 0.25)
    assert is_share(p.compressed, 0.9)
    for mode in (p.mode, p.shrink.mode, p.halving[p.halving < 3]):
        assert all(is_share(mode == i, 1 / 3) for i in range(3))
    for quality in (p.quality, p.first_quality):
        assert is_uniform(quality, 30, 95.999)
        assert torch.equal(quality, quality.round())


def test_bsrgan_orders_are_equally_likely(bsrgan: tuple[int, BSRGANParams]) -> None:
    turn = bsrgan[1].turn
    assert torch.equal(turn.sort(1).values, torch.arange(6.0).expand(N, 6))
    assert (turn[:, 2] < turn[:, 3]).all()
    for k in range(6):
        assert all(is_share(turn[:, stage] == k, 1 / 6) for stage in (0, 1, 4, 5))
        # Of all pairs of turns, those with k as the earlier and as the later.
        assert is_share(turn[:, 2] == k, (5 - k) / 15)
        assert is_share(turn[:, 3] == k, k / 15)
    assert len(turn.unique(dim=0)) > 350  # of 360


def is_even(kernel: Tensor) -> Tensor:
    """Whether kernels of shape (B, K, K) are the same along both axes and their diagonals."""
    turned = (kernel - kernel.mT).abs().amax((1, 2))
    return turned + (kernel - kernel.flip(1)).abs().amax((1, 2)) < 1e-6


def test_bsrgan_blurs_by_its_scale(bsrgan: tuple[int, BSRGANParams]) -> None:
    s, p = bsrgan
    kept = ~p.halved
    for blur in p.blurs:
        kernel, sigma = blur.kernel[kept, 0], blur.sigma[kept]
        assert_close(kernel.sum((1, 2)), torch.ones(len(kernel)))
        # Narrow kernels look isotropic, whatever they are.
        even, wide = is_even(kernel), sigma > 0.8
        widest = 2 + 0.2 * s
        assert is_share(even & wide, 0.5 * (1 - 0.8 / widest))
        assert is_uniform(sigma[even & wide], 0.8, widest)
        # P(u v > c) = 1 - c + c log c for uniform u and v.
        c = 0.8**4 / (4 + s) ** 2
        assert is_share(~even & wide, 0.5 * (1 - c + c * math.log(c)))
        support = (kernel != 0).any(1).sum(1)[sigma > 1.5]
        assert all(is_share(support == k, 0.1) for k in range(7, 26, 2))
    assert (p.blurs[0].sigma[p.halved] <= math.sqrt(6)).all()


def test_bsrgan_shrinks_by_its_scale(bsrgan: tuple[int, BSRGANParams]) -> None:
    scale, p = bsrgan
    s = torch.where(p.halved, 2.0, scale)
    assert is_uniform((p.shrink.ratio - 1) / (2 * s - 1), 0, 1)
    # The kernel looks at the middle of the s x s pixels of which the first is taken.
    shift = -(s - 1)[:, None].expand(N, 2) / 2
    assert_close(centroid(p.shrink.kernel), shift, rtol=0, atol=2e-3)


def test_bsrgan_noise_is_of_three_kinds(bsrgan: tuple[int, BSRGANParams]) -> None:
    mixing = bsrgan[1].mixing
    level = bsrgan[1].summary()["noise_level"]
    own = (mixing - torch.diag_embed(mixing.diagonal(dim1=1, dim2=2))).abs().amax((1, 2)) == 0
    same = mixing[:, :, 1:].abs().amax((1, 2)) == 0
    assert is_share(own, 0.4)
    assert is_share(same, 0.4)
    for kind in (own, same):
        assert_close(level[kind], level[kind].round(), rtol=0, atol=1e-3)
        assert is_uniform(level[kind].round(), 2, 25.999)
    related = mixing[~own & ~same]
    assert_close(related, related.mT, rtol=0, atol=1e-6)
    # A covariance of U^T D U has the trace of D, of which each element is U(0, 1).
    trace = (related @ related.mT).diagonal(dim1=1, dim2=2).sum(1) / (25 / 255) ** 2
    assert 0 < trace.min() < trace.max() < 3.5
    assert abs(float(trace.mean()) - 1.5) < 0.15


# Real-ESRGAN's laws


def test_real_esrgan_branches_as_often_as_published(real_esrgan: RealESRGANParams) -> None:
    p = real_esrgan
    for stage, resized in ((p.first, (0.2, 0.7, 0.1)), (p.second, (0.3, 0.4, 0.3))):
        for kind, share in zip(
            (stage.ratio > 1, stage.ratio < 1, stage.ratio == 1), resized, strict=True
        ):
            assert is_share(kind, share)
        assert is_share(stage.gaussian, 0.5)
        assert is_share(stage.grey, 0.4)
    for mode in (p.first.mode, p.second.mode, p.last.mode):
        assert all(is_share(mode == i, 1 / 3) for i in range(3))
    assert is_share(p.last.early, 0.5)
    assert is_share(p.last.kernel[:, 0, 10, 10] == 1, 0.2)
    assert is_share(p.first.sigma == 0, 0.1)
    assert is_share(p.second.sigma == 0, 1 - 0.8 * 0.9)


def test_real_esrgan_ranges_are_those_published(real_esrgan: RealESRGANParams) -> None:
    first, second = real_esrgan.first, real_esrgan.second
    assert is_uniform(first.ratio[first.ratio > 1], 1, 1.5)
    assert is_uniform(first.ratio[first.ratio < 1], 0.15, 1)
    assert is_uniform(second.ratio[second.ratio > 1], 1, 1.2)
    assert is_uniform(second.ratio[second.ratio < 1], 0.3, 1)
    assert is_uniform(255 * first.level, 1, 30)
    assert is_uniform(255 * second.level, 1, 25)
    assert is_uniform(first.strength, 0.05, 3)
    assert is_uniform(second.strength, 0.05, 2.5)
    assert is_uniform(first.quality, 30, 95)
    assert is_uniform(second.quality, 30, 95)
    for sigma, high in ((first.sigma, 3.0), (second.sigma, 1.5)):
        assert 0.2 <= sigma[sigma > 0].min() < sigma.max() <= high


def test_real_esrgan_kernels_are_mixed_as_published(real_esrgan: RealESRGANParams) -> None:
    first = real_esrgan.first
    kernel = first.kernel[:, 0]
    assert_close(kernel.sum((1, 2)), torch.ones(N))
    assert_close(kernel, kernel.flip(1, 2), rtol=0, atol=1e-6)
    assert torch.equal((kernel < -1e-6).any(2).any(1), first.sigma == 0)
    # Narrow kernels look isotropic, whatever they are.
    even, wide = is_even(kernel), first.sigma > 1
    assert is_share(even & wide, 0.9 * (0.45 + 0.12 + 0.12) * 2 / 2.8)
    # The area where a b > 1 in the square of both scales, by its integral from a = 1/3 to 3.
    above = (3 * (3 - 1 / 3) - math.log(9)) / 2.8**2
    assert is_share(~even & wide, 0.9 * (0.25 + 0.03 + 0.03) * above)
    support = (kernel != 0).any(1).sum(1)[first.sigma == 0]
    assert all(is_share(support == k, 1 / 8) for k in range(7, 22, 2))


# What they do to images


@each
@pytest.mark.parametrize("size", [(8, 8), (9, 15), (70, 41)])
def test_any_size_gives_an_8_bit_image_that_does_not_depend_on_its_batch(
    d: Degradation[Any], size: tuple[int, int]
) -> None:
    indices = list(range(4))
    for channels in (1, 3):
        x = rand((4, channels, *size), generator_for("image"))
        params = d.sample((4, channels, *size), generator=generators_for(0, indices))
        y = d(x, params)
        assert y.shape == (4, channels, size[0] // d.scale, size[1] // d.scale)
        assert y.isfinite().all()
        assert 0 <= y.min() <= y.max() <= 1
        assert_close(255 * y, (255 * y).round())
        for i in indices:
            alone = d.sample((1, channels, *size), generator=generators_for(0, [i]))
            assert torch.equal(d(x[i : i + 1], alone), y[i : i + 1])


@each
def test_no_images_are_no_images(d: Degradation[Any]) -> None:
    params = d.sample((0, 3, 13, 16), generator=generator_for(0))
    assert d(torch.zeros(0, 3, 13, 16), params).shape == (0, 3, 13 // d.scale, 16 // d.scale)


def calm(params: Params) -> Params:
    """Takes noise and most of the compression out of drawn parameters."""
    if isinstance(params, BSRGANParams):
        full = torch.full_like(params.quality, 100)
        return dataclasses.replace(params, eps=params.eps * 0, quality=full, first_quality=full)
    rounds = {
        name: dataclasses.replace(
            part,
            gaussian=torch.ones_like(part.gaussian),
            level=part.level * 0,
            quality=torch.full_like(part.quality, 100),
        )
        for name, part in (("first", params.first), ("second", params.second))
    }
    return dataclasses.replace(params, **rounds)


def still(params: Params) -> Params:
    """Takes blur and resizing out, too."""

    def nothing(part: Any, **changes: Tensor) -> Any:
        return dataclasses.replace(
            part, kernel=delta(part.kernel.shape[-1]).expand_as(part.kernel), **changes
        )

    params = calm(params)
    if isinstance(params, BSRGANParams):
        shrink = params.shrink
        shrink = nothing(shrink, picked=shrink.picked & False, ratio=torch.ones_like(shrink.ratio))
        first, second = params.blurs
        return dataclasses.replace(params, blurs=(nothing(first), nothing(second)), shrink=shrink)
    one = torch.ones_like(params.first.ratio)
    return dataclasses.replace(
        params,
        first=nothing(params.first, ratio=one),
        second=nothing(params.second, ratio=one),
        last=nothing(params.last),
    )


def blobs(n: int, height: int, width: int) -> Tensor:
    rows, columns = torch.arange(height)[:, None] - 0.4 * height, torch.arange(width) - 0.55 * width
    return 0.8 * torch.exp(-(rows**2 + columns**2) / 200).expand(n, 3, -1, -1)


def middle(y: Tensor) -> Tensor:
    """The centroid of each image, as (row, column) in pixels, with shape (B, 2)."""
    mass = y.mean(1) / y.mean(1).sum((1, 2), keepdim=True)
    rows, columns = torch.arange(y.shape[2]), torch.arange(y.shape[3])
    return torch.stack([mass.sum(2) @ rows.float(), mass.sum(1) @ columns.float()], dim=1)


@each
def test_without_damage_a_smooth_image_stays(d: Degradation[Any]) -> None:
    x = blobs(8, 60, 48)
    params = still(d.sample((8, 3, 60, 48), generator=generator_for(0)))
    reduced = Downsample(d.scale, "area")
    expected = reduced(x, reduced.sample((8, 3, 60, 48), generator=generator_for(0)))
    assert_close(d(x, params), expected, rtol=0, atol=6 / 255)
    if d.scale == 1:
        assert_close(d(x, params), x, rtol=0, atol=2.1 / 255)


@each
def test_images_stay_where_bicubic_reduction_puts_them(d: Degradation[Any]) -> None:
    shape = (24, 3, 96, 80)
    x, reduced = blobs(*shape[:1], *shape[2:]), Downsample(d.scale)
    place = middle(reduced(x, reduced.sample(shape, generator=generator_for(0))))
    params = calm(d.sample(shape, generator=generator_for(1)))
    shift = (middle(d(x, params)) - place) * d.scale
    # In pixels of the image that is degraded; coarse intermediate images round.
    assert shift.abs().max() < 1
    assert shift.mean(0).abs().max() < 0.15


@pytest.mark.parametrize("model", MODELS)
def test_noise_of_grey_images_is_the_same_in_all_channels_of_colour(model: type[Any]) -> None:
    d, shape = model(2), (6, 1, 32, 40)
    x = rand(shape, generator_for("image"))
    drawn = d.sample(shape, generator=generator_for(2))
    if isinstance(drawn, BSRGANParams):
        first = torch.zeros(6, 3, 3)
        first[:, :, :1] = drawn.mixing
        colour: Params = dataclasses.replace(drawn, mixing=first, eps=drawn.eps.repeat(1, 3, 1, 1))
    else:
        rounds = {
            name: dataclasses.replace(
                part, grey=torch.ones_like(part.grey), eps=part.eps.repeat(1, 3, 1, 1)
            )
            for name, part in (("first", drawn.first), ("second", drawn.second))
        }
        colour = dataclasses.replace(drawn, **rounds)
    y, grey = d(x.repeat(1, 3, 1, 1), colour), d(x, drawn)
    # The luma's weights round, and rounding to 8 bits or to a count makes steps of it, seldom.
    assert ((y - grey).abs() > 1.5 / 255).double().mean() < 0.02


@pytest.mark.parametrize("model", MODELS)
def test_the_summary_tells_what_was_drawn(model: type[Any]) -> None:
    params = model(4).sample((40, 3, 8, 8), generator=generator_for(3))
    told = params.summary()
    assert {"blur_sigma", "noise_level", "quality", "first_quality"} <= set(told)
    assert all(t.shape == (40,) and t.dtype == torch.float32 for t in told.values())
    if isinstance(params, BSRGANParams):
        assert torch.equal(told["first_quality"].isnan(), ~params.compressed)
        earlier = params.turn[:, 0] < params.turn[:, 1]
        assert torch.equal(told["blur_sigma"][earlier], params.blurs[0].sigma[earlier])
    else:
        assert torch.equal(told["noise_level"].isnan(), ~params.first.gaussian)
        assert torch.equal(told["shot_strength"].isnan(), params.first.gaussian)


# By name


@pytest.mark.parametrize("name", SHRINKING)
def test_a_name_has_the_scale_4_or_the_one_it_says(name: str) -> None:
    assert pipeline(name).config == SHRINKING[name](scale=4) == PIPELINES[name]
    assert pipeline(f"{name}:1").config == SHRINKING[name](scale=1)
    assert pipeline(f"{name}:3").scale == 3


@pytest.mark.parametrize("name", sorted(set(PIPELINES) - set(SHRINKING)))
def test_the_others_keep_the_size(name: str) -> None:
    assert pipeline(name).scale == 1
    with pytest.raises(ValueError, match=f"{name} keeps the size; write {name} alone"):
        pipeline(f"{name}:1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bsr", "unknown pipeline 'bsr'; choose bsrgan, real-esrgan, bicubic"),
        ("", "unknown pipeline ''"),
        ("bsrgan:", "'bsrgan:' has no scale after its colon; write bsrgan for 4, or bsrgan:1"),
        ("real-esrgan:two", "has no scale after its colon"),
        ("bsrgan:5", "scale=5 is not known to BSRGAN; choose 1, 2, 3 or 4"),
        ("real-esrgan:0", "scale=0 is not known to Real-ESRGAN"),
        ("bicubic:0", "scale=0 is no factor"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        pipeline(text)
    assert "\n" not in str(error.value)
