r"""What a prior is: latents to clean images.

.. math:: z \sim N(0, I), \qquad x = G_x(z).
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..functional.random import Randomness, generators_for

__all__ = ["Prior", "sample_batches"]


class Prior(nn.Module, abc.ABC):
    """A distribution of clean images that is sampled through a latent.

    Attributes:
        spaces: The names of the latent spaces, ``("Z",)`` for a plain generator.
        config: A frozen dataclass whose ``build()`` makes this prior again, without its weights.
    """

    spaces: tuple[str, ...] = ("Z",)
    config: Any

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the images."""

    @abc.abstractmethod
    def latents(self, n: int, *, generator: Randomness) -> Tensor:
        """Draws latents z, with shape (n, D)."""

    @abc.abstractmethod
    def synthesize(self, z: Tensor) -> Tensor:
        """Returns the images of latents.

        Arguments:
            z: Latents, with shape (B, D).

        Returns:
            Images in [0, 1], with shape (B, C, H, W).
        """

    def forward(self, z: Tensor) -> Tensor:
        """Returns the images of latents; see :meth:`synthesize`."""
        return self.synthesize(z)

    def sample(self, n: int, *, generator: Randomness) -> Tensor:
        """Draws images in [0, 1], with shape (n, C, H, W)."""
        return self.synthesize(self.latents(n, generator=generator))


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
