r"""What a prior is: latents to clean images.

.. math:: z \sim N(0, I), \qquad x = G_x(z).

*Spaces.* A plain generator has latents of one kind, a style generator of four; each holds the one before it:

====  ============  ==================================================================
Z     (B, D)        what is drawn
W     (B, D)        the style vector w that the mapping network makes of z
W+    (B, L, D)     a style vector for each of the L styled layers
W++   (B, F, D)     a style vector for each input channel of each layer, F in all
====  ============  ==================================================================

:meth:`Prior.widen` takes a latent to the same image's in a larger space, and a search starts where :meth:`Prior.start`
says: at the mean style, or at a random z where there is no style.

*Noise.* A style generator may also have maps of noise; they are its own unless others are given.

*Range.* A generator whose output nothing bends overshoots [0, 1] a little. A search needs the gradient there, so that
:meth:`Prior.synthesize` leaves it; a sample (:meth:`Prior.sample`) is clamped.

References:
    | Image2StyleGAN: How to Embed Images Into the StyleGAN Latent Space? (Abdal et al., 2019), W+
    | https://arxiv.org/abs/1904.03189
    | Robust Unsupervised StyleGAN Image Restoration (Poirier-Ginter & Lalonde, 2023), W++
    | https://arxiv.org/abs/2302.06733
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..functional.random import Randomness, generator_for, generators_for, randn
from ..losses.similarity import clamped

__all__ = ["Prior", "Space", "sample_batches"]

Space = Literal["Z", "W", "W+", "W++"]
"""The name of a space of latents."""


class Prior(nn.Module, abc.ABC):
    """A distribution of clean images that is sampled through a latent.

    A prior with styles says so in ``spaces`` and ``features``, and overrides :meth:`map`.

    Attributes:
        spaces: The names of the latent spaces, smallest first: ``("Z",)`` for a plain generator.
        config: A frozen dataclass whose ``build()`` makes this prior again, without its weights.
    """

    spaces: tuple[Space, ...] = ("Z",)
    config: Any

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the images."""

    @property
    def features(self) -> tuple[int, ...]:
        """The channels that each of the L styled layers steers, F in all; none where there are no styles."""
        return ()

    @property
    def noise_sides(self) -> tuple[int, ...]:
        """The side of each map of noise; none where there are none."""
        return ()

    @property
    def stored_mean(self) -> Tensor | None:
        """The mean style vector that came with the weights, with shape (D,), if one did."""
        return None

    @abc.abstractmethod
    def latents(self, n: int, *, generator: Randomness) -> Tensor:
        """Draws latents z, with shape (n, D)."""

    def noise(self, n: int, *, generator: Randomness) -> list[Tensor]:
        """Draws the maps of noise of n images, each with shape (n, 1, side, side); none where there are none."""
        return [randn((n, 1, side, side), generator) for side in self.noise_sides]

    @abc.abstractmethod
    def synthesize(
        self, latent: Tensor, space: Space = "Z", noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Returns the images of latents.

        Arguments:
            latent: Latents, with shape (B, D) in Z and W, (B, L, D) in W+, (B, F, D) in W++.
            space: The space that they are from.
            noise: The maps of noise, as :meth:`noise` draws them; None takes the prior's own.

        Returns:
            Images about [0, 1], with shape (B, C, H, W).

        Raises:
            ValueError: If the prior has no such space, or no such noise.
        """

    def forward(self, z: Tensor) -> Tensor:
        """Returns the images of latents z; see :meth:`synthesize`."""
        return self.synthesize(z)

    def sample(self, n: int, *, generator: Randomness) -> Tensor:
        """Draws images in [0, 1], with shape (n, C, H, W); the clamp lets gradients pass."""
        return clamped(self.synthesize(self.latents(n, generator=generator)))

    def map(self, z: Tensor) -> Tensor:
        """Returns style vectors w of latents z, both with shape (B, D).

        Raises:
            ValueError: If the prior has no styles.
        """
        self.check_space("W")
        raise NotImplementedError(f"{type(self).__name__} has the space W: it must override map")

    @torch.no_grad()
    def mean_w(self, *, generator: Randomness, draws: int = 10_000) -> Tensor:
        """Returns the mean style vector, with shape (D,).

        Arguments:
            generator: The source of randomness of the latents that are drawn for it.
            draws: Their number. None are drawn if a mean came with the weights.

        Raises:
            ValueError: If the prior has no styles.
        """
        self.check_space("W")
        if self.stored_mean is not None:
            return self.stored_mean.clone()
        z = self.latents(draws, generator=generator)
        weights = itertools.chain(self.parameters(), self.buffers(), [z])
        return self.map(z.to(next(weights))).mean(dim=0)

    def start(self, n: int, space: Space, *, generator: Randomness) -> Tensor:
        """Returns where a search begins: at random in Z, as samples are, and at the mean style elsewhere.

        Arguments:
            n: The number of searches.
            space: The space that is searched.
            generator: The source of randomness for Z; the mean style depends on the weights alone.

        Returns:
            n latents of the space.
        """
        self.check_space(space)
        if space == "Z":
            return self.latents(n, generator=generator)
        w = self.mean_w(generator=generator_for("mean style"))
        return self.widen(w.expand(n, -1), "W", space)

    def widen(self, latent: Tensor, space: Space, wider: Space) -> Tensor:
        """Returns the latents of the same images in a larger space.

        Arguments:
            latent: Latents of ``space``.
            space: The space that they are from.
            wider: The space to go to.

        Raises:
            ValueError: If the prior lacks one of them, or ``wider`` is smaller than ``space``.
        """
        first, last = self.check_space(space), self.check_space(wider)
        if last < first:
            raise ValueError(
                f"latents of {space} need not lie in {wider}: only widening is possible"
            )
        for step in self.spaces[first + 1 : last + 1]:
            latent = self._enter(step, latent)
        return latent

    def check_space(self, space: str) -> int:
        """Returns the place of a space in ``spaces``, or raises a ValueError that names those there are."""
        if space not in self.spaces:
            raise ValueError(
                f"{type(self).__name__} has no space {space!r}; it has {', '.join(self.spaces)}"
            )
        return self.spaces.index(space)

    def check_noise(self, noise: Sequence[Tensor] | None) -> None:
        """Raises a ValueError unless there are as many maps of noise as the prior has, or none are given."""
        if noise is not None and len(noise) != len(self.noise_sides):
            raise ValueError(
                f"got {len(noise)} maps of noise; {type(self).__name__} has {len(self.noise_sides)}"
            )

    def _enter(self, space: Space, latent: Tensor) -> Tensor:
        """Returns latents of a space that come from the space before it."""
        if space == "W":
            return self.map(latent)
        if space == "W+":
            return latent[:, None].expand(-1, len(self.features), -1)
        counts = torch.tensor(self.features, device=latent.device)
        return latent.repeat_interleave(counts, dim=1)


def sample_batches(prior: Prior, count: int, *, seed: int, batch: int = 256) -> Iterator[Tensor]:
    """Yields samples without gradients; sample i depends on the seed and on i alone.

    Arguments:
        prior: The prior, on the CPU.
        count: The number of samples.
        seed: The seed.
        batch: Samples at a time. A network's rounding depends on it: leave it where others compare bits.

    Yields:
        Images in [0, 1], with shape (B, C, H, W).
    """
    for start in range(0, count, batch):
        generators = generators_for(seed, range(start, min(start + batch, count)))
        # Inside the loop: the caller's code between two batches keeps its own mode.
        with torch.no_grad():
            images = prior.sample(len(generators), generator=generators)
        yield images
