"""What priors have in common that are one network: it maps standard normal latents to images about [-1, 1]."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..functional.random import Randomness, randn
from .base import Prior

__all__ = ["NetworkPrior"]


class NetworkPrior(Prior):
    """The clean images of a network.

    Arguments:
        config: The prior's configuration. Its field ``network`` builds the network, and says the length ``latent`` of z, and
            the ``size`` and the ``image_channels`` of the images.
    """

    network: nn.Module

    def __init__(self, config: Any) -> None:
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

    def unit(self, images: Tensor) -> Tensor:
        """Returns what the network made, in any precision, as float images about [0, 1]."""
        return (images.float() + 1) / 2
