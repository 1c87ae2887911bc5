"""The named tasks: their levels, their order, and what stands for each where gradients are needed."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.degradations import (
    BSRGAN,
    JPEG,
    KINDS,
    TASKS,
    Chain,
    ChainParams,
    Degradation,
    Downsample,
    DroppedPixels,
    PoissonNoise,
    Posterise,
    StrokeMask,
    approximation,
    is_differentiable,
    known_mask,
    redrawn,
    setting,
    task,
)
from blemish.functional.random import generator_for, generators_for, rand
from blemish.functional.resample import area, repeated
from blemish.types import Params, Shape

SHAPE: Shape = (2, 3, 64, 64)
each = pytest.mark.parametrize("name", TASKS)
LEVELS = ("XS", "S", "M", "L", "XL")


def picture(shape: Shape = SHAPE) -> Tensor:
    """Smooth pictures with a little grain, in [0.1, 0.9]."""
    coarse = rand((*shape[:2], 4, 4), generator_for("coarse"))
    smooth = F.interpolate(coarse, shape[2:], mode="bilinear", align_corners=True)
    return 0.15 + 0.7 * smooth + 0.1 * (rand(shape, generator_for("grain")) - 0.5)


def drawn(d: Degradation[Params], shape: Shape = SHAPE, seed: int = 0) -> Params:
    return d.sample(shape, generator=generator_for("draw", seed))


def stages(name: str) -> list[Degradation[Params]]:
    """The operators of a task, in order."""
    found = []
    for stage in task(name):
        found.extend(stage if isinstance(stage, Chain) else [stage])
    return found


def test_there_are_the_31_tasks_of_the_table() -> None:
    mixtures = [
        "".join(letters) for n in (2, 3, 4) for letters in itertools.combinations("UNAP", n)
    ]
    singles = [f"{letter}-{level}" for letter in "UNAP" for level in LEVELS]
    assert len(TASKS) == 31
    assert set(TASKS) == {*singles, *mixtures}


@pytest.mark.parametrize("i", range(5))
def test_levels_are_those_published(i: int) -> None:
    level = LEVELS[i]
    (reduced,) = stages(f"U-{level}")
    assert isinstance(reduced, Downsample)
    assert reduced.scale == task(f"U-{level}").scale == 2 ** (i + 1)
    photons, dropped = stages(f"N-{level}")
    assert isinstance(photons, PoissonNoise)
    assert photons.config.gain == (96 / 2**i,) * 2
    assert isinstance(dropped, DroppedPixels)
    assert_close(dropped.config.probability, 0.04 * 2**i)
    (codec,) = stages(f"A-{level}")
    assert isinstance(codec, JPEG)
    assert drawn(codec).tensors()["quality"].tolist() == [18 - 3 * i] * 2
    (masked,) = stages(f"P-{level}")
    assert isinstance(masked, StrokeMask)
    assert masked.config == StrokeMask.Config(1 + 4 * i, 0.08)


@pytest.mark.parametrize("name", [name for name in TASKS if "-" not in name])
def test_mixtures_are_single_tasks_of_level_m_in_order(name: str) -> None:
    whole, x = task(name), picture()
    params = drawn(whole)
    assert isinstance(params, ChainParams)
    assert whole.scale == (8 if "U" in name else 1)
    y = x
    for letter, part in zip(name, params.stages, strict=True):
        y = task(f"{letter}-M")(y, part)
    assert torch.equal(whole(x, params), y)


@each
def test_tasks_apply_and_can_be_compared_with_the_whole_picture(name: str) -> None:
    d, x = task(name), picture()
    y = d(x, drawn(d))
    assert y.shape == (2, 3, 64 // d.scale, 64 // d.scale)
    assert 0 <= y.min() <= y.max() <= 1
    assert repeated(y, d.scale).shape == x.shape
    if name.startswith(("U-", "A-")):
        # Nothing but detail is lost.
        assert (y - area(x, 64 // d.scale)).square().mean().sqrt() < 0.1
    if name.startswith("P"):
        (mask,) = drawn(d).tensors().values()
        assert_close(y, x * mask)


@each
def test_pictures_of_any_size_and_colour_are_cut_and_do_not_depend_on_their_batch(
    name: str,
) -> None:
    d, shape = task(name), (2, 1, 37, 75)
    x = rand(shape, generator_for("image"))
    params = d.sample(shape, generator=generators_for(5, [3, 4]))
    y = d(x, params)
    assert y.shape == (2, 1, 37 // d.scale, 75 // d.scale)
    alone = d.sample((1, *shape[1:]), generator=generators_for(5, [4]))
    assert_close(d(x[1:], alone), y[1:], rtol=0, atol=2e-6)


@each
def test_configurations_go_to_json_and_back(name: str) -> None:
    for config in (TASKS[name], approximation(TASKS[name])):
        assert decode(json.loads(json.dumps(encode(config))), KINDS) == config


# What stands for them


@each
def test_approximations_are_differentiable_and_take_the_params_of_the_task(name: str) -> None:
    d = task(name)
    told = approximation(TASKS[name]).build()
    assert is_differentiable(told)
    assert told.scale == d.scale
    params = drawn(d)
    assert_close(drawn(told).tensors(), params.tensors(), rtol=0, atol=0)
    x = picture().requires_grad_()
    y = told(x, params)
    assert y.shape == d(x.detach(), params).shape
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("letter", ["K", "N", "Q"])
def test_settings_have_stand_ins_that_take_the_same_draws(letter: str) -> None:
    d = setting(letter)
    told = approximation(d.config).build()
    assert is_differentiable(told)
    assert not is_differentiable(d)
    x, params = picture(), drawn(d)
    assert_close(drawn(told).tensors(), params.tensors(), rtol=0, atol=0)
    assert (told(x, params) - d(x, params)).square().mean().sqrt() < NEAR["A"]


NEAR = {"U": 0.04, "N": 0.1, "A": 0.04, "P": 1e-6}


@pytest.mark.parametrize("name", [f"{kind}-{level}" for kind in "UNAP" for level in ("XS", "M")])
def test_approximations_are_near_their_tasks_pixel_by_pixel(name: str) -> None:
    d, x = task(name), picture()
    params = drawn(d)
    error = (approximation(TASKS[name]).build()(x, params) - d(x, params)).square().mean().sqrt()
    assert error < NEAR[name[0]]
    # And far nearer than another draw of the same task, or than no damage.
    if name.startswith(("N", "P")):
        assert error < 0.5 * (d(x, drawn(d, seed=1)) - d(x, params)).square().mean().sqrt()
    if name.startswith("A"):
        assert error < 0.7 * (x - d(x, params)).square().mean().sqrt()


@pytest.mark.parametrize("name", ["N-XS", "N-M", "UN", "UNA", "UNAP", "NP"])
def test_approximations_have_the_mean_of_their_tasks(name: str) -> None:
    n = 200
    x = picture((1, 3, 24, 24)).expand(n, -1, -1, -1)
    d = task(name)
    params = drawn(d, (n, 3, 24, 24))
    told = approximation(TASKS[name]).build()
    difference = (told(x, params) - d(x, params)).mean(dim=0)
    # The same numbers stand behind both, so that most of the noise falls out of the difference.
    assert difference.mean().abs() < 0.005
    assert difference.square().mean().sqrt() < 0.05


def test_noise_has_the_moments_of_clipped_counts_among_dropped_pixels() -> None:
    for level, photons, dropped in (("XS", 96, 0.04), ("L", 12, 0.32)):
        for value in (0.3, 0.8):
            x = torch.full((1, 1, 150, 150), value)
            d = task(f"N-{level}")
            y = d(x, drawn(d, (1, 1, 150, 150))).double()
            counts = torch.arange(400, dtype=torch.float64)
            law = torch.distributions.Poisson(photons * value, validate_args=False)
            shares = law.log_prob(counts).exp()
            clipped = (counts / photons).clamp(max=1)
            mean = (1 - dropped) * (shares * clipped).sum()
            square = (1 - dropped) * (shares * clipped**2).sum()
            variance = square - mean**2
            assert abs(y.mean() - mean) < 5 * (variance / y.numel()).sqrt()
            assert abs(y.var() / variance - 1) < 0.06
            # A dropped pixel, or one without any photon.
            black = dropped + (1 - dropped) * shares[0]
            assert abs((y == 0).double().mean() - black) < 0.015


@pytest.mark.parametrize("name", ["U-S", "N-M", "A-M", "P-L", "NP", "UAP", "UNAP"])
def test_a_restorer_knows_the_strokes_and_nothing_else_that_is_random(name: str) -> None:
    told = approximation(TASKS[name]).build()
    params = drawn(task(name))
    again = redrawn(told, params, SHAPE, generator=generator_for("again"))
    mask, kept = known_mask(params), known_mask(again)
    if "P" in name:
        assert mask is not None
        assert kept is not None
        assert torch.equal(mask, kept)
        assert mask.shape == (2, 1, 64 // told.scale, 64 // told.scale)
        y = told(picture(), again)
        assert not (y * (1 - mask)).any()
    else:
        assert mask is None
        assert kept is None
    before, after = params.tensors(), again.tensors()
    assert before.keys() == after.keys()
    changed = {key for key, t in before.items() if not torch.equal(t, after[key])}
    assert len(changed) == (2 if "N" in name else 0)


def test_a_part_that_is_differentiable_stands_for_itself() -> None:
    config = Chain.Config((StrokeMask.Config(3), Chain.Config((Downsample.Config(2),))))
    expected = dataclasses.replace(Downsample.Config(2), mode="area")
    assert approximation(config).stages == (StrokeMask.Config(3), Chain.Config((expected,)))


@pytest.mark.parametrize("config", [Posterise.Config(), BSRGAN.Config()])
def test_a_part_that_nothing_stands_for_is_named(config: object) -> None:
    with pytest.raises(ValueError, match=r"(Posterise|BSRGAN) is not differentiable and nothing"):
        approximation(Chain.Config((config,)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("u-xs", r"unknown task 'u-xs' \(did you mean 'U-XS'\?\)"),
        ("NU", "unknown task 'NU'.*or one of UN, UA"),
        ("", "unknown task ''; choose U, N, A or P with a level from XS to XL"),
    ],
)
def test_unknown_tasks_are_answered_with_the_known_ones(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        task(name)
