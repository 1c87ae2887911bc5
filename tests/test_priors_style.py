"""The spaces of a style prior: each holds the one before it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish import artefacts
from blemish.functional.random import generator_for, generators_for, randn
from blemish.networks import StyleGAN1, StyleGAN2, StyleGenerator, StyleNetwork
from blemish.priors import Space, StylePrior

SPACES: tuple[Space, ...] = ("Z", "W", "W+", "W++")
PAIRS = list(itertools.combinations_with_replacement(SPACES, 2))
SHAPES = {"Z": (3, 6), "W": (3, 6), "W+": (3, 6, 6), "W++": (3, 24, 6)}


KINDS = [
    pytest.param(config, id=config.__qualname__.removesuffix(".Config"))
    for config in (StyleGenerator.Config, StyleGAN1.Config, StyleGAN2.Config)
]


def style_prior(
    kind: type[StyleNetwork.Config] = StyleGenerator.Config, *, noise: bool = False, **fields: bool
) -> StylePrior:
    network = kind(latent=6, channels=(5, 4, 3), mapping=2, noise=noise, **fields)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        prior = StylePrior.Config(network=network).build()
    with torch.no_grad():
        for p in prior.parameters():
            p += 0.1 * randn((*p.shape, 1), generator_for("weights"))[..., 0]
    return prior


@pytest.mark.parametrize(("space", "wider"), PAIRS)
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_widened_latent_is_the_same_image(
    kind: type[StyleNetwork.Config], space: Space, wider: Space, *, noise: bool
) -> None:
    prior = style_prior(kind, noise=noise)
    latent = prior.widen(randn((3, 6), generator_for("z")), "Z", space)
    wide = prior.widen(latent, space, wider)
    assert latent.shape == SHAPES[space]
    assert wide.shape == SHAPES[wider]
    image = prior.synthesize(latent, space)
    assert image.shape == (3, *prior.shape) == (3, 3, 16, 16)
    assert_close(prior.synthesize(wide, wider), image, rtol=0, atol=1e-6)
    assert image.std(dim=0).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_images_lie_in_the_unit_range_and_are_the_networks(kind: type[StyleNetwork.Config]) -> None:
    prior = style_prior(kind)
    z = 10 * randn((4, 6), generator_for("z"))
    x = prior(z)
    assert_close(2 * x - 1, prior.network(z))
    assert_close(x, prior.synthesize(prior.map(z), "W"))
    sample = prior.sample(40, generator=generator_for("s"))
    assert 0 <= sample.min() < sample.max() <= 1
    drawn = prior(prior.latents(40, generator=generator_for("s")))
    assert torch.equal(sample, drawn.clamp(0, 1))
    # Only what a hyperbolic tangent bends cannot overshoot.
    assert torch.equal(sample, drawn) == (kind is StyleGenerator.Config)


@pytest.mark.parametrize("row", [0, 4, 5, 12, 23])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_of_the_widest_space_reaches_one_channel_of_one_layer(
    kind: type[StyleNetwork.Config], row: int
) -> None:
    prior = style_prior(kind)
    owners = [(layer, c) for layer, count in enumerate(prior.features) for c in range(count)]
    assert len(owners) == SHAPES["W++"][1]
    latent = prior.start(1, "W++", generator=generator_for("s"))
    moved = latent.index_add(1, torch.tensor([row]), torch.ones(1, 1, 6))
    styles = zip(prior._styles(latent, "W++"), prior._styles(moved, "W++"), strict=True)
    changes = [(after - before)[0].any(dim=1) for before, after in styles]
    assert [(layer, c) for layer, c in owners if changes[layer][c]] == [owners[row]]
    assert not torch.equal(prior.synthesize(moved, "W++"), prior.synthesize(latent, "W++"))


def test_the_mean_style_is_the_mean_of_many() -> None:
    prior = style_prior()
    mean = prior.mean_w(generator=generator_for("m"), draws=500)
    w = torch.stack(
        [prior.map(z[None])[0] for z in prior.latents(500, generator=generator_for("m"))]
    )
    assert_close(mean, w.mean(dim=0))
    other = prior.mean_w(generator=generator_for("n"))
    # The standard errors of both means; five of them are not passed by chance.
    assert ((mean - other).abs() < 5 * w.std(dim=0) * math.sqrt(1 / 500 + 1e-4)).all()
    assert not mean.requires_grad


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_mean_that_came_with_the_weights_is_the_mean_style(
    kind: type[StyleNetwork.Config],
) -> None:
    prior = style_prior(kind, mean_style=True)
    stored = randn((1, 6), generator_for("stored"))[0]
    prior.network.w_avg.copy_(stored)
    assert torch.equal(prior.mean_w(generator=generator_for("m")), stored)
    start = prior.start(2, "W+", generator=generator_for("s"))
    assert torch.equal(start, stored.expand(2, 6, 6))
    # It is saved with the weights, and what is drawn towards it ends there.
    assert torch.equal(prior.state_dict()["network.w_avg"], stored)
    w = randn((3, 6), generator_for("w"))
    assert torch.equal(prior.network.truncate(w, 0.0), stored.expand(3, 6))
    assert_close(prior.network.truncate(w, 0.7), stored + 0.7 * (w - stored))
    # What is returned is a copy: a search that moves it leaves the prior as it is.
    prior.mean_w(generator=generator_for("m")).add_(1)
    assert torch.equal(prior.stored_mean, stored)
    without = style_prior(kind)
    assert without.stored_mean is None
    with pytest.raises(ValueError, match=r"carries no mean style; draw many styles"):
        without.network.truncate(w, 0.7)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_given_or_the_priors_own(kind: type[StyleNetwork.Config]) -> None:
    prior = style_prior(kind, noise=True)
    z = prior.latents(2, generator=generator_for("z"))
    sides = {StyleGAN1.Config: (4, 4, 8, 8, 16, 16)}.get(kind, (4, 8, 8, 16, 16))
    assert prior.noise_sides == sides
    drawn = prior.noise(2, generator=generators_for(0, [4, 5]))
    assert [tuple(n.shape) for n in drawn] == [(2, 1, side, side) for side in sides]
    alone = prior.noise(1, generator=generators_for(0, [5]))
    assert all(torch.equal(n[1:], m) for n, m in zip(drawn, alone, strict=True))
    image = prior.synthesize(z, noise=drawn)
    assert torch.equal(image, prior.synthesize(z, noise=drawn))
    assert torch.equal(prior(z), prior(z))
    assert (image - prior(z)).abs().max() > 1e-3
    with pytest.raises(ValueError, match=rf"got 1 maps of noise; StylePrior has {len(sides)}"):
        prior.synthesize(z, noise=drawn[:1])
    without = style_prior(kind)
    assert without.noise_sides == ()
    with pytest.raises(ValueError, match=r"maps of noise; StylePrior has 0"):
        without.synthesize(z, noise=drawn)


@pytest.mark.parametrize("space", SPACES)
def test_a_search_starts_in_the_same_place_in_any_batch(space: Space) -> None:
    prior = style_prior()
    together = prior.start(3, space, generator=generators_for(0, [1, 2, 3]))
    assert together.shape == SHAPES[space]
    assert torch.equal(prior.start(1, space, generator=generators_for(0, [2])), together[1:2])
    assert (together[0] == together[1]).all() == (space != "Z")


def test_a_prior_in_double_precision_has_its_own_mean() -> None:
    prior = style_prior().double()
    assert prior.start(1, "W", generator=generator_for("s")).dtype == torch.float64


def test_what_does_not_fit_is_refused() -> None:
    prior = style_prior()
    with pytest.raises(ValueError, match=r"shape \(2, 6\); in W\+ they have \(B, 6, 6\)"):
        prior.synthesize(torch.zeros(2, 6), "W+")
    with pytest.raises(ValueError, match=r"StylePrior has no space 'V'; it has Z, W, W\+, W\+\+"):
        prior.synthesize(torch.zeros(2, 6), "V")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"latents of W\+ need not lie in W: only widening"):
        prior.widen(torch.zeros(2, 6, 6), "W+", "W")


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_prior_makes_the_same_images(
    kind: type[StyleNetwork.Config], tmp_path: Path
) -> None:
    prior = style_prior(kind, noise=True)
    again = artefacts.load(artefacts.save(prior, tmp_path / "prior"))
    z = prior.latents(2, generator=generator_for("z"))
    assert torch.equal(again(z), prior(z))


@pytest.mark.parametrize("mixed", ["two", "all"])
def test_mixed_samples_have_several_styles_while_the_prior_is_trained(mixed: str) -> None:
    network = StyleGenerator.Config(latent=8, channels=(6, 6, 6))
    prior = StylePrior.Config(network=network, mixing=1.0, mixed=mixed).build()  # type: ignore[arg-type]
    seen: list[Tensor] = []
    synthesize = prior.synthesize

    def spied(latent: Tensor, *rest: Any) -> Tensor:
        seen.append(latent)
        return synthesize(latent, *rest)

    prior.synthesize = spied  # type: ignore[method-assign]
    prior.sample(64, generator=generators_for(3, range(64)))
    styles = seen[-1]
    first = prior.map(prior.latents(64, generator=generators_for(3, range(64))))
    assert_close(styles[:, 0], first)
    changes = (styles[:, 1:] != styles[:, :-1]).any(dim=2).sum(dim=1)
    assert (changes == {"two": 1, "all": 5}[mixed]).all()
    where = (styles[:, 1:] != styles[:, :-1]).any(dim=2).float().mean(dim=0)
    assert where.min() > 0.05
    prior.eval().sample(64, generator=generators_for(3, range(64)))
    assert torch.equal(seen[-1], prior.latents(64, generator=generators_for(3, range(64))))


def test_what_is_no_mixing_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        StylePrior.Config(mixing=2.0)
    with pytest.raises(ValueError, match="choose two, all"):
        StylePrior.Config(mixed="some")  # type: ignore[arg-type]
