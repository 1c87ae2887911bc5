"""A style network as a prior, with the spaces Z, W, W+ and W++.

The network is the small one that is trained here, or one of those that were published (:class:`~blemish.networks.StyleGAN1`,
:class:`~blemish.networks.StyleGAN2`).

*Mixing.* Styles that differ from layer to layer, as in W+, are met by a generator only where it is trained on such.

References:
    | A Style-Based Generator Architecture for Generative Adversarial Networks (Karras et al., 2019), Section 3.1
    | https://arxiv.org/abs/1812.04948
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..functional.random import Randomness, rand, whole
from ..losses.similarity import clamped
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
        """The shape of the network, and how it is trained.

        Attributes:
            network: The shape.
            mixing: The share of samples with several styles while it is trained; 0.9 is StyleGAN's.
            mixed: How these are styled: with ``two`` styles, the second of which begins at a random layer, as StyleGAN's;
                or in ``all`` layers by a draw of each, which is the law of latents that a discrepancy in W+ asks for.
        """

        network: StyleNetwork.Config = StyleGenerator.Config()
        mixing: float = 0.0
        mixed: Literal["two", "all"] = "two"

        def __post_init__(self) -> None:
            """Checks the share and the name."""
            if self.mixed not in ("two", "all"):
                raise ValueError(f"mixed={self.mixed!r} is not known; choose two, all")
            if not 0 <= self.mixing <= 1:
                raise ValueError(f"mixing={self.mixing}; give a share from 0 to 1")

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

    def sample(self, n: int, *, generator: Randomness) -> Tensor:
        """Draws images in [0, 1], with shape (n, C, H, W); in training mode some have two styles, see ``mixing``."""
        if not (self.training and self.config.mixing):
            return super().sample(n, generator=generator)
        L = len(self.features)
        count = 2 if self.config.mixed == "two" else L
        z = [self.latents(n, generator=generator) for _ in range(count)]
        w = self.map(torch.cat(z)).view(count, n, -1).transpose(0, 1)
        layers = torch.arange(L, device=w.device)
        # Which of the styles each layer has, if it is mixed.
        place = whole((n, 1), 1, L - 1, generator)
        which = (layers >= place).long() if count == 2 else layers.expand(n, -1)
        which = which * (rand((n, 1), generator) < self.config.mixing)
        styles = w.gather(1, which[:, :, None].expand(-1, -1, w.shape[2]))
        return clamped(self.synthesize(styles, "W+"))

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
