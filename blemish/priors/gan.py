"""The generator of a GAN as a prior."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..functional.random import Randomness, randn
from ..networks import ResNetGenerator
from .base import Prior, Space

__all__ = ["GANPrior"]


class GANPrior(Prior):
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

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = config.network.build()

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the images."""
        network = self.config.network
        return network.image_channels, network.size, network.size

    def latents(self, n: int, *, generator: Randomness) -> Tensor:
        """Draws latents z from N(0, I), with shape (n, D)."""
        return randn((n, self.config.network.latent), generator)

    def synthesize(self, latent: Tensor, space: Space = "Z") -> Tensor:
        """Returns the images in [0, 1] of latents of shape (B, D); there is no other space than Z."""
        self.check_space(space)
        images: Tensor = self.network(latent).float()
        return (images + 1) / 2
