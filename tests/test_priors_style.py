"""The spaces of a style prior: each holds the one before it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from blemish import artefacts
from blemish.functional.random import generator_for, generators_for, randn
from blemish.networks import StyleGenerator
from blemish.priors import Space, StylePrior

SPACES: tuple[Space, ...] = ("Z", "W", "W+", "W++")
PAIRS = list(itertools.combinations_with_replacement(SPACES, 2))
SHAPES = {"Z": (3, 6), "W": (3, 6), "W+": (3, 6, 6), "W++": (3, 24, 6)}


def style_prior(*, noise: bool = False) -> StylePrior:
    network = StyleGenerator.Config(latent=6, channels=(5, 4, 3), noise=noise)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        prior = StylePrior.Config(network=network).build()
    with torch.no_grad():
        for p in prior.parameters():
            p += 0.1 * randn((*p.shape, 1), generator_for("weights"))[..., 0]
    return prior


@pytest.mark.parametrize(("space", "wider"), PAIRS)
@pytest.mark.parametrize("noise", [False, True])
def test_a_widened_latent_is_the_same_image(space: Space, wider: Space, *, noise: bool) -> None:
    prior = style_prior(noise=noise)
    latent = prior.widen(randn((3, 6), generator_for("z")), "Z", space)
    wide = prior.widen(latent, space, wider)
    assert latent.shape == SHAPES[space]
    assert wide.shape == SHAPES[wider]
    image = prior.synthesize(latent, space)
    assert image.shape == (3, *prior.shape) == (3, 3, 16, 16)
    assert_close(prior.synthesize(wide, wider), image, rtol=0, atol=1e-6)
    assert image.std(dim=0).max() > 0.01


def test_images_lie_in_the_unit_range_and_are_the_networks() -> None:
    prior = style_prior()
    z = 10 * randn((4, 6), generator_for("z"))
    x = prior(z)
    assert_close(2 * x - 1, prior.network(z))
    assert x.min() >= 0
    assert x.max() <= 1
    assert_close(x, prior.synthesize(prior.map(z), "W"))


@pytest.mark.parametrize("row", [0, 4, 5, 12, 23])
def test_a_vector_of_the_widest_space_reaches_one_channel_of_one_layer(row: int) -> None:
    prior = style_prior()
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


def test_a_loaded_prior_makes_the_same_images(tmp_path: Path) -> None:
    prior = style_prior(noise=True)
    again = artefacts.load(artefacts.save(prior, tmp_path / "prior"))
    z = prior.latents(2, generator=generator_for("z"))
    assert torch.equal(again(z), prior(z))
