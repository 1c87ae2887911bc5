"""The recipe of priors for inversion, and its sizes: those of the robust GANs, with a generator that styles steer.

References:
    | Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020)
    | https://arxiv.org/abs/1912.04958
"""

from __future__ import annotations

from dataclasses import replace

from ..networks import StyleGenerator
from ..priors import StylePrior
from ..training.config import RunConfig
from .robust_gans import Recipe, find_preset, gan

__all__ = ["PRIORS"]

RATE = 8
"""The style generator's learning rate in units of the residual one's: its weights have deviation 1, not about 1/8."""


def style_prior(preset: str, setting: str | None = None) -> RunConfig:
    """A plain GAN whose generator is steered by styles: a prior with all spaces that an inversion searches.

    It learns the images as they are, so give it clean ones.
    """
    p, run = find_preset(preset), gan(preset, setting)
    network = StyleGenerator.Config(
        latent=p.latent,
        channels=(p.generator[0], *p.generator),
        image_channels=p.image_channels,
    )
    system = replace(
        run.system,
        prior=StylePrior.Config(network=network),
        lr=RATE * p.lr,
        discriminator_rate=p.discriminator_rate / RATE,
    )
    return replace(run, recipe="style-prior", system=system)


PRIORS: dict[str, Recipe] = {"style-prior": style_prior}
"""These recipes by name."""
