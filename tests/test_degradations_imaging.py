"""Contrast, local damage, and the chain from the scene to the file: their laws, order and parts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish.artefacts import load, save
from blemish.commands.degrade import run
from blemish.degradations import (
    PIPELINES,
    REGIONS,
    Contrast,
    DifferentiableJPEG,
    GaussianBlur,
    GaussianBlurParams,
    Imaging,
    ImagingParams,
    Local,
    LocalParams,
)
from blemish.degradations.imaging import STEPS
from blemish.functional.blur import blur
from blemish.functional.jpeg import pillow_jpeg
from blemish.functional.kernels import gaussian
from blemish.functional.random import generator_for, generators_for, rand
from blemish.functional.shake import shake_kernel
from blemish.functional.stages import to_8_bits
from blemish.metrics import psnr

N = 4000


def is_share(truth: Tensor, probability: float) -> bool:
    """Whether a share lies within five standard deviations of its probability."""
    bound = 5 * math.sqrt(probability * (1 - probability) / truth.numel())
    return abs(float(truth.double().mean()) - probability) <= bound


def is_uniform(values: Tensor, low: float, high: float) -> bool:
    """Whether values fill a range evenly: in it, and a quarter of them in each of its quarters."""
    quarters = ((values - low) / (high - low) * 4).long().clamp(0, 3)
    inside = bool((values >= low - 1e-6).all() and (values <= high + 1e-6).all())
    return inside and all(is_share(quarters == i, 0.25) for i in range(4))


def smooth(n: int, channels: int = 3, size: tuple[int, int] = (32, 40), name: str = "x") -> Tensor:
    coarse = rand((n, channels, 6, 7), generator_for(name))
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)


# Contrast


def test_contrast_stretches_about_middle_grey() -> None:
    d, x = Contrast((0.5, 1.6), 0.1), smooth(4)
    params = d.sample((4, 3, 32, 40), generator=generator_for(0))
    y = d(x, params)
    for i in range(4):
        a, b = float(params.gain[i]), float(params.offset[i])
        assert_close(y[i], 0.5 + a * (x[i] - 0.5) + b)
    strong = replace(params, gain=torch.full((4,), 3.0))
    assert d(x, strong).min() < 0 < 1 < d(x, strong).max()


def test_gains_are_log_uniform_and_offsets_uniform() -> None:
    params = Contrast((0.5, 1.6), 0.1).sample((N, 1, 1, 1), generator=generator_for(1))
    assert is_uniform(params.gain.log(), math.log(0.5), math.log(1.6))
    assert is_uniform(params.offset, -0.1, 0.1)
    assert set(params.summary()) == {"gain", "offset"}
    assert not Contrast().sample((5, 1, 1, 1), generator=generator_for(1)).offset.any()


# Local damage


def local(kinds: tuple[str, ...] = REGIONS, n: int = 6, **options: Any) -> tuple[Local, Any]:
    d = Local.Config(kinds=kinds, **options).build()
    return d, d.sample((n, 3, 32, 40), generator=generator_for("local"))


@pytest.mark.parametrize("kind", REGIONS)
def test_where_the_mask_is_0_nothing_changes(kind: str) -> None:
    (d, params), x = local((kind,)), smooth(6)
    y, kept = d(x, params), (params.mask == 0).expand(-1, 3, -1, -1)
    assert torch.equal(y[kept], x[kept])
    assert (y[~kept] != x[~kept]).double().mean() > 0.9
    none = replace(params, mask=torch.zeros_like(params.mask))
    assert torch.equal(d(x, none), x)


@pytest.mark.parametrize("kind", ["area", "ramp"])
def test_a_full_mask_is_the_blur_of_the_whole_image(kind: str) -> None:
    (d, params), x = local((kind,), sigma=(1.0, 3.0)), smooth(6)
    whole = GaussianBlur((1.0, 3.0))
    expected = whole(x, GaussianBlurParams(params.sigma))
    full = replace(params, mask=torch.ones_like(params.mask))
    assert_close(d(x, full), expected)


def test_drops_change_the_light_and_look_to_their_middles() -> None:
    d, params = local(("drop",))
    grey = torch.full((6, 3, 32, 40), 0.5)
    expected = 0.5 * (1 + params.mask * (params.gain.view(-1, 1, 1, 1) - 1))
    assert_close(d(grey, params), expected.expand(-1, 3, -1, -1))
    # On an even slope a blur changes nothing, and a pixel's value is its column.
    columns = ((torch.arange(40) + 0.5) / 40).expand(6, 3, 32, 40).contiguous()
    seen = d(columns, replace(params, gain=torch.ones(6)))
    one = torch.tensor([0, 1, 2, 3, 4, 5])[(params.half[:, 1:] == 0).all(-1).all(-1)]
    assert len(one)
    for i in one.tolist():
        m, shift = params.mask[i], params.shift[i]
        way = m * shift * (params.middle[i, 0, 1] - columns[i])
        inner = slice(14, 26)
        assert_close(seen[i][..., inner], (columns[i] + way)[..., inner], rtol=0, atol=0.01)


def test_kinds_and_strengths_have_their_laws() -> None:
    d = Local()
    params = d.sample((N, 1, 6, 6), generator=generator_for("many"))
    assert all(is_share(params.kind == i, 1 / 3) for i in range(3))
    assert is_uniform(params.sigma, *d.config.sigma)
    dropped = params.kind == REGIONS.index("drop")
    assert is_uniform(params.shift[dropped], *d.config.shift)
    assert is_uniform(params.gain[dropped], *d.config.gain)
    assert not params.shift[~dropped].any()
    assert (params.gain[~dropped] == 1).all()
    count = (params.half > 0).all(-1).sum(1)
    assert all(is_share(count == k, 1 / 3) for k in (1, 2, 3))
    height, width = params.half[:, 0].unbind(1)
    assert is_uniform(height, *d.config.drop)
    assert is_uniform(width / height, 0.5, 1)
    assert params.mask.shape == (N, 1, 6, 6)
    assert 0 <= params.mask.min() < params.mask.max() <= 1
    assert set(params.summary()) == {"kind", "sigma", "shift", "gain", "cover"}


@pytest.mark.parametrize("kind", REGIONS)
def test_only_the_kinds_asked_for_are_drawn(kind: str) -> None:
    params = local((kind,))[1]
    assert (params.kind == REGIONS.index(kind)).all()


# The chain


def chain(n: int = 12, size: tuple[int, int] = (32, 40), **options: Any) -> tuple[Imaging, Any]:
    d = Imaging.Config(**options).build()
    return d, d.sample((n, 3, *size), generator=generator_for("chain"))


@pytest.fixture(scope="module")
def many() -> ImagingParams:
    d = Imaging.Config(strength=0.1, offset=0.1, local=0.3).build()
    params: ImagingParams = d.sample((N, 1, 3, 3), generator=generator_for("many"))
    return params


FIRST = {"contrast": "gain", "blur": "sigma", "motion": "length", "noise": "sigma"}


def test_each_of_16_combinations_is_equally_likely(many: ImagingParams) -> None:
    told = many.summary()
    fell = torch.stack([~told[f"{step}_{FIRST[step]}"].isnan() for step in STEPS], dim=1)
    number = (fell.long() * 2 ** torch.arange(4)).sum(1)
    assert all(is_share(number == k, 1 / 16) for k in range(16))
    # Local damage and each step are independent, too.
    spoiled = ~told["local_kind"].isnan()
    assert is_share(spoiled, 0.3)
    assert all(is_share(fell[spoiled, i], 0.5) for i in range(4))
    assert not told["jpeg_quality"].isnan().any()


def test_strengths_fill_their_ranges(many: ImagingParams) -> None:
    told = {name: value[~value.isnan()] for name, value in many.summary().items()}
    # Lengths in pixels are scaled by the strength, the others are not.
    ranges = {"blur_sigma": (0.05, 0.3), "motion_length": (0.5, 2.5), "motion_bend": (-1, 1)}
    ranges |= {"motion_angle": (0, math.pi), "noise_sigma": (2 / 255, 30 / 255)}
    ranges |= {"contrast_offset": (-0.1, 0.1), "local_sigma": (0.1, 0.4)}
    for name, (low, high) in ranges.items():
        assert is_uniform(told[name], low, high), name
    assert is_uniform(told["contrast_gain"].log(), math.log(0.5), math.log(1.6))
    assert is_uniform(told["jpeg_quality"], 30, 95.999)
    assert torch.equal(told["jpeg_quality"], told["jpeg_quality"].round())


def by_hand(x: Tensor, told: dict[str, float], eps: Tensor, size: tuple[int, int]) -> Tensor:
    """Damages one image (1, C, H, W) by the numbers of a summary, step by step in float64."""
    y = x.double()
    one = {name: torch.tensor([value], dtype=torch.float64) for name, value in told.items()}
    if not math.isnan(told["contrast_gain"]):
        y = 0.5 + told["contrast_gain"] * (y - 0.5) + told["contrast_offset"]
    if not math.isnan(told["blur_sigma"]):
        y = blur(y, gaussian(one["blur_sigma"], size[0]))
    if not math.isnan(told["motion_length"]):
        arc = (one["motion_length"], one["motion_angle"], one["motion_bend"])
        y = blur(y, shake_kernel(*arc, size[1]))
    if not math.isnan(told["noise_sigma"]):
        y = y + told["noise_sigma"] * eps
    return pillow_jpeg(y.clamp(0, 1), int(told["jpeg_quality"]))


def test_a_summary_tells_all_of_it_in_the_documented_order() -> None:
    d, params = chain(codec="file", offset=0.05)
    told, x = params.summary(), smooth(12)
    eps = params.overall.stages[3].inner.eps
    y = d(x, params)
    combinations = set()
    for i in range(12):
        row = {name: float(value[i]) for name, value in told.items()}
        combinations.add(tuple(math.isnan(row[f"{s}_{FIRST[s]}"]) for s in STEPS))
        assert_close(y[i : i + 1], by_hand(x[i : i + 1], row, eps[i : i + 1], (19, 27)))
    assert len(combinations) >= 6


def test_both_codecs_draw_alike_and_make_8_bit_images_that_are_near() -> None:
    x, (tensor, params), (file, same) = smooth(12), chain(), chain(codec="file")
    assert_close(params.tensors(), same.tensors(), rtol=0, atol=0)
    y, z = tensor(x, params), file(x, same)
    for image in (y, z):
        assert_close(255 * image, (255 * image).round(), rtol=0, atol=1e-4)
        assert 0 <= image.min() <= image.max() <= 1
    assert psnr(y, z).min() > 36
    assert psnr(y, z).mean() > 40


@pytest.mark.parametrize("codec", ["tensor", "file"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_the_same_to_the_bit_in_any_batch(codec: Any, channels: int) -> None:
    d = Imaging.Config(codec=codec, local=0.5, strength=0.5).build()
    shape, indices = (8, channels, 32, 40), list(range(8))
    x = smooth(8, channels)
    y = d(x, d.sample(shape, generator=generators_for(5, indices)))
    for i in indices:
        alone = d.sample((1, *shape[1:]), generator=generators_for(5, [i]))
        assert torch.equal(d(x[i : i + 1], alone), y[i : i + 1])


def test_local_and_overall_damage_come_apart_and_together() -> None:
    d, first = chain(local=0.8, strength=0.5)
    second = d.sample((12, 3, 32, 40), generator=generator_for("other"))
    x = smooth(12)
    mixed = replace(first, overall=second.overall)
    # First local, then overall: the overall damage of what local damage left.
    spoiled = d.local(x, first.local)
    assert_close(d(x, mixed), d.overall(spoiled, second.overall), rtol=0, atol=1.5 / 255)
    assert (d(x, mixed) - d(x, second)).abs().amax((1, 2, 3)).gt(0.02).sum() >= 6
    assert_close(d(x, replace(mixed, local=second.local)), d(x, second), rtol=0, atol=0)
    names = {n: t for n, t in mixed.summary().items() if not n.startswith("local_")}
    assert_close(names, {n: second.summary()[n] for n in names}, equal_nan=True)


def test_local_damage_can_be_taken_away_and_its_mask_looked_at() -> None:
    d, params = chain(local=0.5, strength=0.5)
    plain, same = chain(strength=0.5)
    x = smooth(12)
    assert torch.equal(d(x, params.without_local()), plain(x, same))
    assert same.mask is None
    assert same.without_local() is same
    mask, spoiled = params.mask, params.local.applied
    assert 0 < spoiled.sum() < 12
    assert torch.equal(mask.amax((1, 2, 3)) > 0, spoiled)
    assert not params.without_local().mask.any()
    # The mask says which pixels are damaged before the rest.
    changed = (d.local(x, params.local) != x).any(1, keepdim=True)
    assert not changed[mask == 0].any()
    assert changed[mask > 0].double().mean() > 0.9


def test_the_overall_damage_is_drawn_alike_with_and_without_local_damage() -> None:
    (_, without), (_, within) = chain(), chain(local=0.5)
    assert_close(without.overall.tensors(), within.overall.tensors(), rtol=0, atol=0)
    assert not any(name.startswith("local_") for name in without.summary())


def test_replayed_parameters_put_the_same_damage_onto_another_image() -> None:
    # Without contrast, blur and compression, the noise is all there is: the same on both.
    still: dict[str, Any] = {"contrast": (1.0, 1.0), "sigma": (0.0, 0.0), "length": (0.0, 0.0)}
    config = Imaging.Config(**still, noise=(0.01, 0.06), quality=(100, 100), probability=1.0)
    d = config.build()
    params = d.sample((4, 1, 32, 40), generator=generator_for("replay"))
    noise = params.overall.stages[3].inner
    expected = noise.sigma.view(-1, 1, 1, 1) * noise.eps
    for name in ("x", "other"):
        x = 0.35 + 0.3 * smooth(4, 1, name=name)
        # What is left is rounded twice: by the file, and to 8 bits.
        error = d(x, params) - x - expected
        assert error.abs().max() < 3 / 255
        assert error.abs().mean() < 0.7 / 255 < 0.1 * expected.abs().mean()


def test_rounds_repeat_the_steps_before_one_file() -> None:
    d, params = chain(rounds=2, strength=0.5, n=200)
    told = params.summary()
    assert len(params.overall.stages) == 9
    assert {f"{step}{n}_{FIRST[step]}" for step in STEPS for n in ("", 2)} <= set(told)
    both = told["contrast_gain"] - told["contrast2_gain"]
    assert (both[~both.isnan()] != 0).all()
    assert 20 < (~both.isnan()).sum() < 80  # of 200, a quarter
    assert d(smooth(200), params).isfinite().all()


def test_gradients_pass_straight_through_the_tensor_codec() -> None:
    d, params = chain(local=0.5, strength=0.5)
    x = smooth(12).requires_grad_()
    (grad,) = torch.autograd.grad(d(x, params).square().sum(), x)
    assert grad.isfinite().all()
    assert (grad.flatten(1).norm(dim=1) > 0.1).all()


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    d, params = chain(local=0.5, strength=0.5, regions=Local.Config(kinds=("ramp",)))
    again = load(save(d, tmp_path / "imaging"))
    assert again.config == d.config
    assert torch.equal(again(smooth(12), params), d(smooth(12), params))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Imaging.Config(codec="disk"), "codec='disk' is not known; choose tensor, file"),
        (lambda: Imaging.Config(rounds=0), "rounds=0; give at least 1"),
        (lambda: Imaging.Config(strength=1.5), r"strength=1.5 is not in \(0, 1\]"),
        (lambda: Imaging.Config(local=-0.1), "local=-0.1 is no probability"),
        (lambda: Imaging.Config(probability=2).build(), "probability=2"),
        (lambda: Imaging.Config(quality=(0, 95)).build(), r"quality=\(0, 95\)"),
        (lambda: chain(size=(12, 40)), "12x40 pixels are too few for blurs that need 14"),
        (lambda: Local.Config(kinds=("ring",)), "give one or more of area, ramp, drop"),
        (lambda: Local.Config(sigma=(3.0, 1.0)), r"sigma=\(3.0, 1.0\) is no range"),
        (lambda: Local.Config(shift=(0.0, 1.5)), r"shift=\(0.0, 1.5\) is no range"),
        (lambda: Contrast((0.0, 1.0)), r"gain=\(0.0, 1.0\) is no range"),
        (lambda: Contrast(offset=-1), "offset=-1; give the largest shift"),
        (lambda: GaussianBlur((0.0, 6.0)), r"sigma=\(0.0, 6.0\) is no range"),
    ],
)
def test_impossible_arguments_are_named(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_smallest_image_is_as_small_as_the_error_says() -> None:
    d, params = chain(size=(14, 14), n=2)
    assert d(smooth(2, size=(14, 14)), params).shape == (2, 3, 14, 14)


@pytest.mark.parametrize("name", ["imaging", "imaging-local"])
def test_folders_are_damaged_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pictures = (smooth(4) * 255).byte().permute(0, 2, 3, 1).numpy()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "in" / f"{i}.png")
    options: dict[str, Any] = {"seed": 3, "params": None, "overwrite": False, "skip_bad": False}
    run(name, str(tmp_path / "in"), tmp_path / "out", replay=None, **options)
    lines = [json.loads(s) for s in (tmp_path / "out" / "params.jsonl").read_text().splitlines()]
    assert [line["degradation"] for line in lines] == [name] * 4
    drawn = lines[0]["drawn"]
    assert 30 <= drawn["summary.jpeg_quality"] <= 95
    assert not any("eps" in key or "mask" in key for key in drawn)
    assert ("summary.local_cover" in drawn) == (name == "imaging-local")
    d = PIPELINES[name].build()
    params = d.sample((4, 3, 32, 40), generator=generators_for(3, range(4)))
    expected = d(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, params)
    written = np.stack([np.asarray(Image.open(tmp_path / "out" / f"{i}.png")) for i in range(4)])
    assert_close(torch.from_numpy(written).permute(0, 3, 1, 2), (expected * 255).round().byte())
    listing = tmp_path / "out" / "params.jsonl"
    run(name, str(tmp_path / "in"), tmp_path / "again", replay=listing, **options)
    assert (tmp_path / "again" / "2.png").read_bytes() == (tmp_path / "out" / "2.png").read_bytes()


def test_parts_of_parameters_have_their_types() -> None:
    params = chain(local=0.5)[1]
    assert isinstance(params.local.inner, LocalParams)
    assert set(params.tensors()) > {"local.applied", "local.inner.mask", "overall.stages.4.quality"}


def test_8_bit_jpeg_is_a_file_between_two_roundings_with_their_gradients_passed_on() -> None:
    options: dict[str, Any] = {"rounding": "straight-through"}
    d, plain = DifferentiableJPEG(eight_bits=True, **options), DifferentiableJPEG(**options)
    params = d.sample((4, 3, 32, 40), generator=generator_for("quality"))
    x = (1.2 * smooth(4) - 0.1).requires_grad_()
    rounded = to_8_bits(x.detach()).requires_grad_()
    y, expected = d(x, params), plain(rounded, params)
    assert torch.equal(y, to_8_bits(expected))
    weights = rand((4, 3, 32, 40), generator_for("weights"))
    (mine,) = torch.autograd.grad((y * weights).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), rounded)
    assert_close(mine, theirs)
