"""The named settings against the paper's table, which is written down here a second time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.degradations import (
    JPEG,
    KINDS,
    SETTINGS,
    AnisotropicGaussianLaw,
    BankLaw,
    Blur,
    Chain,
    DifferentiableJPEG,
    DiskLaw,
    GaussianLaw,
    Identity,
    MixtureLaw,
    MotionLaw,
    Partial,
    QualityLaw,
    ReadShotNoise,
    is_differentiable,
    setting,
    simulator,
)
from blemish.degradations.compose import PartialParams
from blemish.functional.kernels import disk, rms_radius
from blemish.functional.random import generator_for

LETTERS = "ABCDEFGHIJKLMNOPQRST"
BLURS = {"B": "disk", "C": "motion", **dict.fromkeys("DEFGNOPQ", "either")}
NOISES = set("NOPQR")
QUALITIES = {
    "H": (60, 80),
    "I": (80, 100),
    "S": (20, 40),
    "T": (40, 60),
    **dict.fromkeys("JKLMNOPQ", (60, 100)),
}
FRACTIONS = {
    **dict.fromkeys("EKO", 0.25),
    **dict.fromkeys("FLP", 0.5),
    **dict.fromkeys("GMQ", 0.75),
}


def _stages(name: str) -> list[Any]:
    d = setting(name)
    assert isinstance(d, Chain)
    return list(d)


def test_there_are_forty_settings() -> None:
    assert set(SETTINGS) == {*LETTERS, *(f"ffhq/{letter}" for letter in LETTERS)}
    assert setting("cifar10/N").config == setting("N").config


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_what_the_paper_says(name: str) -> None:
    letter, stages = name[-1], _stages(name)
    fraction = FRACTIONS.get(letter, 1.0)
    if fraction < 1:
        assert all(isinstance(s, Partial) for s in stages)
        assert {s.config.probability for s in stages} == {fraction}
        stages = [s.inner for s in stages]
    kinds: list[type] = [Blur] * (letter in BLURS) + [ReadShotNoise] * (letter in NOISES)
    kinds += [JPEG] * (letter in QUALITIES)
    assert [type(s) for s in stages] == (kinds or [Identity])
    if letter in QUALITIES:
        law = stages[-1].config.law
        assert (law.low, law.high, law.integer) == (*QUALITIES[letter], True)
        assert stages[-1].config.subsampling == "4:2:0"
    if letter in BLURS:
        assert stages[0].config.padding == "reflect"
        assert stages[0].config.law == _law(BLURS[letter], large=name.startswith("ffhq/"))


def _law(blur: str, *, large: bool) -> Any:
    size = 15 if large else 9
    round_ = DiskLaw(radius=(0.5, 4.0 if large else 2.0), size=size)
    motion = MotionLaw(length=10.0 if large else 5.0, exposures=(0.1, 0.5, 1.0), size=size)
    return {"disk": round_, "motion": motion, "either": MixtureLaw((round_, motion))}[blur]


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_survive_json(name: str) -> None:
    for d in (setting(name), simulator(name)):
        again = decode(json.loads(json.dumps(encode(d.config))), KINDS)
        assert again == d.config
        assert again.build().config == d.config


def _untold(config: Any) -> Any:
    """Replaces what a simulator does differently by what a setting does."""
    if isinstance(config, Chain.Config):
        return Chain.Config(tuple(_untold(stage) for stage in config.stages))
    if isinstance(config, Partial.Config):
        return replace(config, inner=_untold(config.inner))
    if isinstance(config, DifferentiableJPEG.Config):
        return JPEG.Config(config.law, config.subsampling)
    if isinstance(config, (Blur.Config, MixtureLaw)):
        return (
            replace(config, law=_untold(config.law))
            if isinstance(config, Blur.Config)
            else MixtureLaw(tuple(_untold(law) for law in config.laws))
        )
    return config.law if isinstance(config, BankLaw) else config


@pytest.mark.parametrize("name", SETTINGS)
def test_a_simulator_is_differentiable_and_has_the_settings_law(name: str) -> None:
    assert is_differentiable(simulator(name))
    assert _untold(simulator(name).config) == setting(name).config


def test_a_bank_draws_its_kernels_alike() -> None:
    law = BankLaw(MotionLaw(), count=64, seed=5)
    bank = MotionLaw().kernels(64, generator_for("bank", 5))
    drawn = law.kernels(600, generator_for("draws"))
    where = (drawn[:, None] - bank[None]).abs().flatten(2).amax(dim=2) == 0
    assert where.any(dim=1).all()
    counts = where.sum(dim=0)
    # 600 draws from 64 kernels: 9.4 each, standard deviation 3.
    assert counts.max() < 9.4 + 6 * 3
    assert (counts == 0).sum() <= 2
    assert law.size == 9


# What is drawn


def test_qualities_are_whole_and_reach_both_ends() -> None:
    (stage,) = _stages("H")
    q = stage.sample((4000, 1, 1, 1), generator=generator_for("q")).quality
    values, counts = q.unique(return_counts=True)
    assert values.tolist() == list(range(60, 81))
    # 4000 / 21 = 190 each, standard deviation 13.5
    assert (counts - 4000 / 21).abs().max() < 5 * 13.5


@pytest.mark.parametrize("letter", ["K", "L", "M", "O", "P", "Q"])
def test_partial_damage_befalls_its_fraction(letter: str) -> None:
    n, p = 2000, FRACTIONS[letter]
    jpeg = _stages(letter)[-1]
    applied = _applied(jpeg, n, "partial")
    # Five standard deviations of a binomial
    assert abs(applied.sum().item() - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_partial_damages_are_independent() -> None:
    g = generator_for("independent")
    _, noise, jpeg = _stages("P")
    pair = [stage.sample((4000, 1, 1, 1), generator=g).applied.double() for stage in (noise, jpeg)]
    both = (pair[0] * pair[1]).mean().item()
    assert abs(both - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)


def _applied(stage: Partial, n: int, seed: str) -> Tensor:
    params = stage.sample((n, 1, 1, 1), generator=generator_for(seed))
    assert isinstance(params, PartialParams)
    told = params.summary()["quality"]
    assert torch.equal(told.isnan(), ~params.applied)
    return params.applied


@pytest.mark.parametrize(("name", "highest"), [("B", 2.0), ("ffhq/B", 4.0)])
def test_disks_are_uniform_in_their_radius(name: str, highest: float) -> None:
    (stage,) = _stages(name)
    kernel = stage.sample((2000, 1, 32, 32), generator=generator_for("r")).kernel
    radii = torch.linspace(0.5, highest, 2000)
    expected = rms_radius(disk(radii, kernel.shape[-1])).sort().values
    # The Wasserstein distance of 2000 uniform draws to their law is about 0.01 of its width.
    distance = (rms_radius(kernel).sort().values - expected).abs().mean()
    assert distance < 0.03 * (highest - 0.5)


@pytest.mark.parametrize("name", ["D", "ffhq/D"])
def test_half_of_the_blurs_are_disks(name: str) -> None:
    (stage,) = _stages(name)
    kernel = stage.sample((200, 1, 32, 32), generator=generator_for("half")).kernel
    torch.testing.assert_close(kernel.sum(dim=(1, 2, 3)), torch.ones(200))
    # A disk is its own mirror image; a shaken path hardly ever is.
    symmetric = (kernel - kernel.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert abs(symmetric.sum().item() - 100) < 5 * math.sqrt(50)


# What is seen


def _smooth(n: int) -> Tensor:
    """Smooth colourful images: two waves of random direction and phase for each channel."""
    g = generator_for("smooth")
    draws = torch.rand((n, 3, 2, 3), generator=g)
    t = torch.arange(32) / 32
    turns = 2 * draws[..., :2] - 1
    wave = turns[..., :1, None] * t[:, None] + turns[..., 1:, None] * t
    waves = torch.sin(2 * math.pi * (wave + draws[..., 2:, None]))
    return 0.5 + 0.2 * waves.sum(dim=2)


def _psnr(name: str) -> Tensor:
    d, x = setting(name), _smooth(64)
    error = d(x, d.sample((64, 3, 32, 32), generator=generator_for("psnr"))) - x
    return -10 * error.square().mean(dim=(1, 2, 3)).log10()


def test_damage_has_a_sane_size() -> None:
    psnr = {name: _psnr(name).mean().item() for name in ("N", "R", "J", "S", "D")}
    # Noise has a standard deviation of 1 to 11 % of white; smooth images suffer little from the rest.
    assert 24 < psnr["N"] < 40
    assert 26 < psnr["R"] < 42
    assert 34 < psnr["J"] < 50
    assert 28 < psnr["S"] < psnr["J"] - 2
    # JPEG takes some noise away again, so that N may be nearer to the truth than R.
    assert psnr["N"] < min(psnr["J"], psnr["D"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiskLaw(size=8), "size=8 has no middle pixel"),
        (lambda: GaussianLaw(size=0), "size=0 has no middle pixel"),
        (lambda: AnisotropicGaussianLaw(size=2), "size=2 has no middle pixel"),
        (lambda: MotionLaw(size=4), "size=4 has no middle pixel"),
        (lambda: MotionLaw(length=-1), "length=-1 is no length"),
        (lambda: MotionLaw(length=math.inf), "length=inf is no length"),
        (lambda: MotionLaw(exposures=()), r"exposures=\(\); give one or more"),
        (lambda: MotionLaw(exposures=(0.5, 0.0)), r"give one or more fractions in \(0, 1\]"),
        (lambda: MixtureLaw(()), "leaves nothing to draw from"),
        (lambda: MixtureLaw((DiskLaw(), MotionLaw(size=11))), r"sizes \[9, 11\]; use one"),
        (lambda: BankLaw(count=0), "count=0; a bank needs"),
        (lambda: DiskLaw((2.0, 1.0)), "no range"),
        (lambda: QualityLaw(0, 50), "no range"),
        (lambda: QualityLaw(60.5, 80), "no range of integers; give whole numbers"),
    ],
)
def test_laws_refuse_what_they_cannot_draw(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_known_kernels_are_drawn_in_full_precision_in_training_of_half() -> None:
    law = BankLaw(MotionLaw(), count=64, seed=7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kernels = law.kernels(32, generator_for("half"))
    assert kernels.dtype == torch.float32
    assert_close(kernels.sum((1, 2, 3)), torch.ones(32))
    # The bank, which is kept, holds what it would without autocast.
    bank = law.law.kernels(64, generator_for("bank", 7))
    assert all((bank == kernel).flatten(1).all(dim=1).any() for kernel in kernels)


def test_clean_is_clean() -> None:
    d, x = setting("A"), _smooth(2)
    params = d.sample((2, 3, 32, 32), generator=generator_for("a"))
    assert torch.equal(d(x, params), x)
    assert params.summary() == {}


@pytest.mark.parametrize("build", [setting, simulator])
@pytest.mark.parametrize("name", ["U", "n", "", "ffhq/Z", "imagenet/N", "ffhq/", "N/ffhq"])
def test_an_unknown_setting_lists_the_known_ones(build: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown setting '{name}'; choose A to T, or ffhq/A"):
        build(name)
