"""A style network as a prior, with the spaces Z, W, W+ and W++.

The network is the small one that is trained here, or one of those that were published (:class:`~blemish.networks.StyleGAN1`,
:class:`~blemish.networks.StyleGAN2`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..networks import StyleGenerator, StyleNetwork
from .base import Space
from .network import NetworkPrior

__all__ = ["StylePrior"]


@final
class StylePrior(NetworkPrior):
    """The clean images of a style network; where it has noise, with the network's own maps unless others are given.

    Arguments:
        config: The shape of the network.
    """

    spaces: tuple[Space, ...] = ("Z", "W", "W+", "W++")
    network: StyleNetwork

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the network."""

        network: StyleNetwork.Config = StyleGenerator.Config()

        def build(self) -> StylePrior:
            """Makes the prior."""
            return StylePrior(self)

    @property
    def features(self) -> tuple[int, ...]:
        """The channels that each of the L styled layers steers, F in all."""
        features: tuple[int, ...] = self.config.network.features
        return features

    @property
    def noise_sides(self) -> tuple[int, ...]:
        """The side of each map of noise; none if the network has none."""
        network: StyleNetwork.Config = self.config.network
        return network.noise_sides if network.noise else ()

    @property
    def stored_mean(self) -> Tensor | None:
        """The running mean of style vectors, with shape (D,), if the network carries one."""
        return self.network.w_avg

    def map(self, z: Tensor) -> Tensor:
        """Returns style vectors w of latents z, both with shape (B, D)."""
        return self.network.map(z)

    def synthesize(
        self, latent: Tensor, space: Space = "Z", noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Returns the images about [0, 1] of latents.

        Arguments:
            latent: Latents, with shape (B, D) in Z and W, (B, L, D) in W+, (B, F, D) in W++.
            space: The space that they are from.
            noise: The maps of noise, as :meth:`noise` draws them; None takes the network's own.

        Raises:
            ValueError: If the prior has no such space or noise, or the latents have another shape.
        """
        self._check(latent, space)
        self.check_noise(noise)
        return self.unit(self.network.synthesize(self._styles(latent, space), noise))

    def _styles(self, latent: Tensor, space: Space) -> list[Tensor]:
        """Returns the style vectors of each layer: (B, D), or (B, C, D) in W++."""
        if space == "W++":
            return list(torch.split(latent, list(self.features), dim=1))
        if space == "W+":
            return list(latent.unbind(dim=1))
        return [self.map(latent) if space == "Z" else latent] * len(self.features)

    def _check(self, latent: Tensor, space: Space) -> None:
        self.check_space(space)
        vectors = {"W+": (len(self.features),), "W++": (sum(self.features),)}.get(space, ())
        row = (*vectors, self.config.network.latent)
        if latent.shape[1:] != row:
            shape = ", ".join(map(str, ("B", *row)))
            raise ValueError(
                f"got latents with shape {tuple(latent.shape)}; in {space} they have ({shape})"
            )
