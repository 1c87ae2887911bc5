"""The generator of a GAN as a prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..networks import ResNetGenerator
from .base import Space
from .network import NetworkPrior

__all__ = ["GANPrior"]


class GANPrior(NetworkPrior):
    """The clean images of a residual generator G_x.

    Arguments:
        config: The shape of the generator.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of G_x."""

        network: ResNetGenerator.Config = ResNetGenerator.Config()

        def build(self) -> GANPrior:
            """Makes the prior."""
            return GANPrior(self)

    def synthesize(
        self, latent: Tensor, space: Space = "Z", noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Returns the images in [0, 1] of latents of shape (B, D); there is no other space than Z, and no noise."""
        self.check_space(space)
        self.check_noise(noise)
        return self.unit(self.network(latent))
