"""Priors: latents to clean images in [0, 1]."""

from __future__ import annotations

import json

import pytest
import torch
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.functional.random import generator_for, generators_for, randn
from blemish.networks import ResNetGenerator
from blemish.priors import KINDS, PRIORS, GANPrior, Prior


def _prior(channels: int = 3) -> GANPrior:
    network = ResNetGenerator.Config(latent=5, channels=(6, 4), image_channels=channels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GANPrior.Config(network=network).build()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_the_networks_moved_to_the_unit_range(channels: int) -> None:
    prior = _prior(channels)
    z = 10 * randn((4, 5), generator_for("z"))
    x = prior(z)
    assert x.shape == (4, *prior.shape) == (4, channels, 16, 16)
    assert_close(2 * x - 1, prior.network(z))
    assert torch.equal(x, prior.synthesize(z))
    assert 0 <= x.min() < x.max() <= 1


def test_a_sample_is_the_image_of_standard_normal_latents() -> None:
    prior = _prior()
    z = prior.latents(4, generator=generator_for("s"))
    assert torch.equal(z, randn((4, 5), generator_for("s")))
    assert_close(prior.sample(4, generator=generator_for("s")), prior(z))


def test_a_sample_with_its_own_generator_does_not_depend_on_its_batch() -> None:
    prior = _prior()
    together = prior.sample(3, generator=generators_for(0, [5, 6, 7]))
    alone = prior.sample(1, generator=generators_for(0, [6]))
    assert_close(alone, together[1:2])


def test_half_precision_networks_give_images_in_full() -> None:
    prior, z = _prior(), randn((4, 5), generator_for("z"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = prior(z)
    assert x.dtype == torch.float32
    assert_close(x, prior(z), rtol=0, atol=0.02)


def test_every_prior_is_named() -> None:
    # Tests have priors of their own.
    written = {c for c in Prior.__subclasses__() if c.__module__.startswith("blemish.")}
    assert {c.__name__ for c in written} == set(PRIORS)


@pytest.mark.parametrize("config", [_prior().config, *(PRIORS[name]() for name in PRIORS)])
def test_configurations_survive_json(config: object) -> None:
    assert decode(json.loads(json.dumps(encode(config))), KINDS) == config


def test_a_plain_generator_has_one_space() -> None:
    prior = _prior()
    assert prior.features == ()
    z = prior.start(2, "Z", generator=generator_for("s"))
    assert torch.equal(z, prior.latents(2, generator=generator_for("s")))
    assert prior.widen(z, "Z", "Z") is z
    assert torch.equal(prior.synthesize(z, "Z"), prior(z))
    for call in (
        lambda: prior.synthesize(z, "W"),
        lambda: prior.map(z),
        lambda: prior.mean_w(generator=generator_for("m"), draws=2),
        lambda: prior.start(2, "W+", generator=generator_for("s")),
        lambda: prior.widen(z, "Z", "W++"),
    ):
        with pytest.raises(ValueError, match=r"GANPrior has no space 'W\+*'; it has Z"):
            call()
