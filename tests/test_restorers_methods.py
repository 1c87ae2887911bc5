"""Restoration by inversion by name: what each method knows and moves, and the distance that it goes by."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from inversion_toy import SIDE, damaged, gan_prior, style_prior, universal
from torch.testing import assert_close

from blemish.degradations import Blur, Chain, DiskLaw, GaussianNoise, Identity
from blemish.functional.random import generator_for, generators_for, rand, randn
from blemish.restorers import (
    METHODS,
    PULSE,
    RSG,
    UNIVERSAL,
    inverter_for,
    search_distance,
    universal_phases,
)

# The noise of the universal model


@pytest.mark.parametrize("local", [0, 2])
@pytest.mark.parametrize("size", [(16, 16), (13, 22)])
def test_each_map_of_the_noise_is_standardised_by_itself(size: tuple[int, int], local: int) -> None:
    d = universal(local=local)
    params = d.sample((2, 3, *size), generator=generator_for("p"))
    moved = replace(params, noise=3 * params.noise + torch.linspace(-1, 1, params.noise.shape[1]))
    found = d.standardised(moved)
    start = 0
    for h, w in d.config.redegrader.noise_shapes(*size):
        for given, kept in zip(moved.noise, found.noise, strict=True):
            one = given[start : start + h * w]
            wanted = (one - one.mean()) / one.std(correction=0)
            assert_close(kept[start : start + h * w], wanted, rtol=1e-4, atol=1e-5)
        start += h * w
    assert start == found.noise.shape[1]
    assert torch.equal(found.e_g, params.e_g)
    assert torch.equal(found.e_l, params.e_l)
    assert_close(d.standardised(found).noise, found.noise, rtol=0, atol=1e-5)


# The distance


def test_the_distance_of_small_pictures_is_that_of_pixels() -> None:
    x, y = rand((3, 3, 15, 40), generator_for("x")), rand((3, 3, 15, 40), generator_for("y"))
    assert_close(search_distance(x, y), 5 * (x - y).abs().mean(dim=(1, 2, 3)))


def test_the_distance_tells_a_colour_from_its_opposite() -> None:
    # Its amplitudes and structures, on which two flat pictures differ in nothing, do not.
    red = torch.full((1, 3, 16, 16), 0.5)
    red[:, 0], red[:, 2] = 0.7, 0.3
    assert_close(search_distance(red, red.flip(1)), torch.tensor([5 * 0.8 / 3]), rtol=0, atol=0.01)
    assert search_distance(red, red).item() == 0


def test_the_distance_clamps_and_still_pulls_back() -> None:
    y = rand((1, 3, 16, 16), generator_for("y"))
    x = (y + 0.5).requires_grad_()
    assert_close(search_distance(x, y), search_distance(x.detach().clamp(0, 1), y))
    (slope,) = torch.autograd.grad(search_distance(x, y).sum(), x)
    assert (slope[x > 1] != 0).float().mean() > 0.9


def test_the_distance_does_not_see_what_is_unknown() -> None:
    x, y = rand((2, 3, 32, 32), generator_for("x")), rand((2, 3, 32, 32), generator_for("y"))
    mask = (rand((2, 1, 32, 32), generator_for("m")) > 0.3).float()
    noise = randn((2, 3, 32, 32), generator_for("n"))
    other = torch.where(mask > 0, x, 1 - x)
    assert_close(search_distance(other, y, mask, noise), search_distance(x, y, mask, noise))
    assert (search_distance(other, y) - search_distance(x, y)).abs().min() > 1e-3


# The methods


@pytest.mark.parametrize(
    ("method", "prior", "phases"),
    [
        ("universal", style_prior, UNIVERSAL),
        ("non-blind", style_prior, RSG),
        ("blind", style_prior, RSG),
        ("sphere", style_prior, PULSE),
        ("universal", gan_prior, None),
        ("non-blind", gan_prior, PULSE),
        ("sphere", gan_prior, PULSE),
    ],
)
def test_methods_search_in_their_phases(method, prior, phases) -> None:
    damage = {"universal": universal(), "blind": None}.get(method, GaussianNoise((0.1, 0.2)))
    config = inverter_for(method, prior(), damage, steps=7, seed=5, restarts=2).config
    phases = universal_phases(prior()) if phases is None else phases
    assert config.phases == tuple(replace(phase, steps=7) for phase in phases)
    assert (config.seed, config.restarts) == (5, 2)
    assert inverter_for(method, prior(), damage).config.phases == phases


def test_with_z_alone_first_noise_and_then_codes_begin_to_move() -> None:
    phases = universal_phases(gan_prior())
    assert [(p.space, p.noise, p.codes) for p in phases] == [
        ("Z", False, False),
        ("Z", True, False),
        ("Z", True, True),
    ]
    assert all(phase.sphere for phase in phases)


@pytest.mark.parametrize("local", [0, 2])
def test_universal_starts_at_what_was_read_and_keeps_noise_noise(local: int) -> None:
    prior, d = style_prior(), universal(local=local)
    y = damaged(prior)
    inverter = inverter_for("universal", prior, d, steps=3)
    (found,) = inverter.searches(y)
    read = d.encode(y, generator=[generator_for(0, 0, "damage") for _ in y])
    # Before any step: the mean style, damaged by the codes that were read.
    start = prior.start(2, "W", generator=generator_for("unused"))
    with torch.no_grad():
        first = search_distance(d(prior.synthesize(start, "W"), read), y)
    assert_close(found.path[0][0], first)
    assert (found.losses < first).all()
    assert not torch.equal(found.params.e_g, read.e_g)
    assert torch.equal(found.params.e_l, read.e_l) == (local == 0)
    assert_close(d.standardised(found.params).noise, found.params.noise, rtol=0, atol=1e-5)
    # The first two phases leave the codes alone.
    short = replace(inverter.config, phases=inverter.config.phases[:2])
    inverter.config = short
    (early,) = inverter.searches(y)
    assert torch.equal(early.params.e_g, read.e_g)
    assert not torch.equal(early.params.noise, read.noise)


@pytest.mark.parametrize("method", ["non-blind", "sphere"])
def test_what_is_drawn_of_a_known_damage_follows_the_seed_and_is_kept(method) -> None:
    prior, d = style_prior(), GaussianNoise((0.1, 0.2))
    y = damaged(prior)
    (found,) = inverter_for(method, prior, d, steps=2, seed=4).searches(y)
    drawn = d.sample((2, 3, SIDE, SIDE), generator=[generator_for(4, 0, "damage") for _ in y])
    assert torch.equal(found.params.eps, drawn.eps)
    assert torch.equal(found.params.sigma, drawn.sigma)
    if method == "sphere":
        assert_close(found.latents.norm(dim=1), torch.full((2,), math.sqrt(8)))


def test_who_knows_the_damage_comes_nearer_than_who_is_blind_to_it() -> None:
    prior = style_prior()
    d = Chain([Blur(DiskLaw(radius=(1.5, 1.5), size=5)), GaussianNoise((0.1, 0.1))])
    with torch.no_grad():
        x = prior.sample(3, generator=generators_for(0, range(3)))
    oracle = inverter_for("non-blind", prior, d, steps=15)
    # The very parameters, noise included, that it will draw.
    params = d.sample((3, 3, SIDE, SIDE), generator=[generator_for(0, 0, "damage") for _ in x])
    y = d(x, params).clamp(0, 1)
    known, blind = (
        (r(y) - x).square().mean() for r in (oracle, inverter_for("blind", prior, steps=15))
    )
    assert known < 0.5 * blind
    assert blind < (y - x).square().mean()


def test_who_has_no_damage_minimises_the_distance_itself() -> None:
    prior = style_prior()
    y = damaged(prior)
    for method in ("blind", "sphere"):
        (found,) = inverter_for(method, prior, steps=4).searches(y)
        assert_close(found.losses, search_distance(found.images, y))


def test_every_method_restores_a_picture_as_it_would_be_alone() -> None:
    prior = style_prior()
    y = damaged(prior, 3)
    for method in METHODS:
        damage = {"universal": universal(), "non-blind": GaussianNoise((0.1, 0.2))}.get(method)
        inverter = inverter_for(method, prior, damage, steps=2)
        assert_close(inverter(y[1:2]), inverter(y)[1:2], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "damage", "words"),
    [
        ("universal", None, "got none"),
        ("universal", GaussianNoise((0.1, 0.2)), "a GaussianNoise"),
        ("non-blind", None, "choose blind"),
        ("blind", GaussianNoise((0.1, 0.2)), "leave it out"),
        ("magic", None, "universal, non-blind, blind, sphere"),
    ],
)
def test_a_method_refuses_damage_that_it_has_no_use_for(method, damage, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        inverter_for(method, style_prior(), damage)


def test_blind_takes_the_identity() -> None:
    assert isinstance(inverter_for("blind", style_prior(), Identity()).degradation, Identity)
