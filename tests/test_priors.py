"""Priors: latents to clean images in [0, 1]."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.functional.random import generator_for, generators_for, randn
from blemish.networks import ResNetGenerator, StyleGAN1, StyleGAN2
from blemish.priors import KINDS, PRIORS, GANPrior, Prior, Space, StylePrior


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
    direct = Prior.__subclasses__()
    written = {*direct, *(c for parent in direct for c in parent.__subclasses__())}
    written = {c for c in written if c.__module__.startswith("blemish.")}
    assert {c.__name__ for c in written if not inspect.isabstract(c)} == set(PRIORS)


@pytest.mark.parametrize(
    "config",
    [
        _prior().config,
        *(PRIORS[name]() for name in PRIORS),
        StylePrior.Config(network=StyleGAN1.Config(transposed_from=64)),
        StylePrior.Config(network=StyleGAN2.Config(clamp=256.0, mean_style=True)),
    ],
)
def test_configurations_survive_json(config: object) -> None:
    assert decode(json.loads(json.dumps(encode(config))), KINDS) == config


class Ramp(Prior):
    """A prior whose images overshoot."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """One pixel."""
        return 1, 1, 1

    def latents(self, n: int, *, generator: object) -> Tensor:
        """The same latents every time."""
        return torch.linspace(-1, 2, n)[:, None]

    def synthesize(
        self, latent: Tensor, space: Space = "Z", noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The latents themselves."""
        self.check_noise(noise)
        return latent[:, :, None, None]


def test_samples_are_clamped_and_searched_images_are_not() -> None:
    prior = Ramp()
    z = prior.latents(7, generator=None).requires_grad_()
    sample = prior.sample(7, generator=generator_for("s"))
    assert sample.flatten().tolist() == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    (slope,) = torch.autograd.grad(prior(z).sum(), z)
    assert torch.equal(slope, torch.ones(7, 1))


def test_a_prior_without_noise_takes_none() -> None:
    prior = _prior()
    assert prior.noise_sides == ()
    assert prior.noise(2, generator=generator_for("n")) == []
    z = prior.latents(2, generator=generator_for("z"))
    assert torch.equal(prior.synthesize(z, noise=[]), prior(z))
    with pytest.raises(ValueError, match=r"got 1 maps of noise; GANPrior has 0"):
        prior.synthesize(z, noise=[torch.zeros(2, 1, 4, 4)])


def test_a_plain_generator_has_one_space() -> None:
    prior = _prior()
    assert prior.stored_mean is None
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
