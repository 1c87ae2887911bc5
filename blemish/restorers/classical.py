r"""Restorers without training, which know how each image was damaged.

Each holds the truth about a batch, and restores that batch: the kernels, the levels of noise, the
qualities, one for all images or one for each. :func:`restorer_for` makes them from the params that a
degradation drew, so that data are prepared by

.. code-block:: python

    params = degradation.sample(shape, generator=g)
    x_hat = restorer_for(params)(degradation(x, params))

What was applied in a chain is undone from its end. After a :class:`~blemish.degradations.Partial` only
the images that it befell are restored.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Section 7.1: the baselines that
      train a GAN on restored images
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..degradations.blur import BlurParams
from ..degradations.compose import ChainParams, NoParams, PartialParams
from ..degradations.jpeg import JPEGParams
from ..degradations.noise import GaussianNoiseParams, ReadShotParams
from ..functional.anscombe import denoise
from ..functional.deblocking import deblock
from ..functional.deconvolution import hyper_laplacian
from ..types import Params
from .base import Restorer

__all__ = [
    "CLEAN_FIDELITY",
    "NOISY_FIDELITY",
    "Deblock",
    "Deblur",
    "Denoise",
    "Keep",
    "Sequence",
    "Where",
    "restorer_for",
]

CLEAN_FIDELITY = 1e4
"""The weight of the observation in deconvolution where rounding to 8 bits is the only noise."""

NOISY_FIDELITY = 1e3
"""The same where the image was also noisy or compressed, and that was removed as far as possible."""


class _Whole:
    # Fourier transforms and searches for alike blocks see the whole image.
    scale: ClassVar[int] = 1
    receptive_field: ClassVar[int | None] = None
    multiple: ClassVar[int] = 1


@dataclass(frozen=True)
class Deblur(_Whole):
    """Deconvolves with known kernels; see :mod:`blemish.functional.deconvolution`.

    Attributes:
        kernel: The kernels, with shape (B, 1, k, k), or (1, 1, k, k) for all images.
        fidelity: The weight of the observation; the default is for images of 8 bits without noise.
    """

    kernel: Tensor
    fidelity: float = CLEAN_FIDELITY

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images of shape (B, C, H, W)."""
        return hyper_laplacian(y, self.kernel, fidelity=self.fidelity).clamp(0, 1)


@dataclass(frozen=True)
class Denoise(_Whole):
    """Removes noise of known levels by BM3D; see :mod:`blemish.functional.anscombe`.

    Attributes:
        sigma_read: Standard deviations on the scale [0, 1], with shape (B,), or one number.
        sigma_shot: Standard deviations at x = 1, with shape (B,), or one number.
    """

    sigma_read: float | Tensor
    sigma_shot: float | Tensor = 0.0

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images of shape (B, C, H, W)."""
        return denoise(y, self.sigma_read, self.sigma_shot).clamp(0, 1)


@dataclass(frozen=True)
class Deblock(_Whole):
    """Removes the artefacts of JPEG of known quality; see :mod:`blemish.functional.deblocking`.

    Attributes:
        quality: The qualities in [1, 100], with shape (B,), or one number.
    """

    quality: float | Tensor

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images of shape (B, C, H, W)."""
        return deblock(y, self.quality)


@dataclass(frozen=True)
class Keep:
    """Returns images as they are."""

    scale: ClassVar[int] = 1
    receptive_field: ClassVar[int | None] = 1
    multiple: ClassVar[int] = 1

    def __call__(self, y: Tensor) -> Tensor:
        """Returns images of shape (B, C, H, W)."""
        return y


@dataclass(frozen=True)
class Sequence(_Whole):
    """Applies restorers in order.

    Attributes:
        steps: The restorers, first applied first; they keep the size.
    """

    steps: tuple[Restorer, ...]

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images of shape (B, C, H, W)."""
        for step in self.steps:
            y = step(y)
        return y


@dataclass(frozen=True)
class Where(_Whole):
    """Restores some images of a batch and returns the others as they are.

    Attributes:
        rows: The indices of these images.
        inner: Their restorer.
    """

    rows: Tensor
    inner: Restorer

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images of shape (B, C, H, W)."""
        return y.index_copy(0, self.rows, self.inner(y[self.rows]))


def restorer_for(params: Params, *, fidelity: float = CLEAN_FIDELITY) -> Restorer:
    """Returns what undoes a known degradation as far as it can.

    Arguments:
        params: What a degradation drew for a batch.
        fidelity: The weight of the observation in deconvolution. In a chain, it is lowered to
            :data:`NOISY_FIDELITY` for blur that more damage follows.

    Raises:
        ValueError: If there is no classical restorer for such a degradation.
    """
    if isinstance(params, BlurParams):
        return Deblur(params.kernel, fidelity)
    if isinstance(params, ReadShotParams):
        return Denoise(_one_level(params.sigma_read), _one_level(params.sigma_shot))
    if isinstance(params, GaussianNoiseParams):
        return Denoise(params.sigma)
    if isinstance(params, JPEGParams):
        return Deblock(params.quality)
    if isinstance(params, ChainParams):
        noisy = min(fidelity, NOISY_FIDELITY)
        *first, last = params.stages
        steps = [restorer_for(stage, fidelity=noisy) for stage in reversed(first)]
        return Sequence((restorer_for(last, fidelity=fidelity), *steps))
    if isinstance(params, PartialParams):
        rows = params.applied.nonzero().squeeze(1)
        if not len(rows):
            return Keep()
        return Where(rows, restorer_for(params.inner[rows], fidelity=fidelity))
    if isinstance(params, NoParams):
        return Keep()
    raise ValueError(
        f"nothing classical undoes {type(params).__name__}; there are restorers for blur, noise of "
        "known levels and JPEG, and for chains and parts of these"
    )


def _one_level(sigma: Tensor) -> Tensor:
    """Returns levels (B,) from levels (B, 1, 1, 1), or from maps: their root mean square."""
    return torch.sqrt(sigma.square().flatten(1).mean(dim=1))
