"""A style generator as a prior, with the spaces Z, W, W+ and W++."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..functional.random import Randomness, randn
from ..networks import StyleGenerator
from .base import Prior, Space

__all__ = ["StylePrior"]


@final
class StylePrior(Prior):
    """The clean images of a style generator; where it has noise, with the network's own maps.

    Arguments:
        config: The shape of the generator.
    """

    spaces: tuple[Space, ...] = ("Z", "W", "W+", "W++")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of the generator."""

        network: StyleGenerator.Config = StyleGenerator.Config()

        def build(self) -> StylePrior:
            """Makes the prior."""
            return StylePrior(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = config.network.build()

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the images."""
        network = self.config.network
        return network.image_channels, network.size, network.size

    @property
    def features(self) -> tuple[int, ...]:
        """The input channels of each of the L styled layers, F in all."""
        features: tuple[int, ...] = self.config.network.features
        return features

    def latents(self, n: int, *, generator: Randomness) -> Tensor:
        """Draws latents z from N(0, I), with shape (n, D)."""
        return randn((n, self.config.network.latent), generator)

    def map(self, z: Tensor) -> Tensor:
        """Returns style vectors w of latents z, both with shape (B, D)."""
        return self.network.map(z)

    def synthesize(self, latent: Tensor, space: Space = "Z") -> Tensor:
        """Returns the images in [0, 1] of latents.

        Arguments:
            latent: Latents, with shape (B, D) in Z and W, (B, L, D) in W+, (B, F, D) in W++.
            space: The space that they are from.

        Raises:
            ValueError: If the prior has no such space, or the latents have another shape.
        """
        self._check(latent, space)
        images: Tensor = self.network.synthesize(self._styles(latent, space)).float()
        return (images + 1) / 2

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
