r"""How the noise of photographs is spread over frequencies, without clean ones beside them.

White noise has one power at all frequencies; noise that went through a camera's or a scanner's processing, or through
JPEG, has not, and looks coarser or finer for it. Read in the flattest blocks of 32 x 32 pixels of the luma: each
is windowed (Hann), and

.. math:: S(f) = \frac{|\mathcal F(w \, y)(f)|^2}{\sum w^2}

is averaged over blocks and over rings of frequencies, so that white noise of deviation :math:`\sigma` has
:math:`S = \sigma^2`, and behind a filter with the transfer function K :math:`S(f) = \sigma^2 |K(f)|^2`.

Which blocks are flat is decided by frequencies below those that are measured, where noise of a Gaussian process is
independent of them: a choice by the total would pick the blocks in which the noise happens to be weak. What flat blocks
have beside noise is counted with it, and texture without any coarse part is taken for noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..functional.stages import grey_of
from .images import unit

__all__ = ["FREQUENCIES", "noise_spectrum"]

BLOCK = 32
STEP = 8
CLIPPED = 0.02
"""The share of clipped pixels from which on a block says nothing."""

EDGES = tuple((k - 0.5) / BLOCK for k in range(5, 18, 2))
"""The edges of the rings, in cycles per pixel."""

FREQUENCIES = tuple((k + 0.5) / BLOCK for k in range(5, 17, 2))
"""The middles of the rings, in cycles per pixel."""


def noise_spectrum(images: Tensor, *, share: float = 0.01) -> Tensor:
    """Estimates the power spectrum of noise, by radial frequency.

    Arguments:
        images: uint8 or in [0, 1], of at least 64x64 pixels, with shape (B, C, H, W); of RGB the luma is taken.
        share: The share of blocks that are taken for flat.

    Returns:
        The power at :data:`FREQUENCIES`, on the scale of [0, 1] squared, with shape (B, 6).

    Raises:
        ValueError: If the images are too small.
    """
    if min(images.shape[-2:]) < 2 * BLOCK:
        raise ValueError(
            f"got {images.shape[-1]}x{images.shape[-2]} pixels; the flattest blocks need {2 * BLOCK}x{2 * BLOCK} or more"
        )
    y = grey_of(unit(images))
    blocks = y[:, 0].unfold(1, BLOCK, STEP).unfold(2, BLOCK, STEP).flatten(1, 2)
    clipped = ((blocks <= 0) | (blocks >= 1)).float().mean(dim=(2, 3)) > CLIPPED
    w = torch.hann_window(BLOCK, periodic=False, dtype=y.dtype, device=y.device)
    window = w[:, None] * w
    centred = blocks - (blocks * window).sum(dim=(2, 3), keepdim=True) / window.sum()
    power = torch.fft.fft2(centred * window).abs().square() / window.square().sum()
    f = torch.fft.fftfreq(BLOCK, device=y.device)
    radius = (f[:, None].square() + f.square()).sqrt()
    # What is coarse, but for the mean.
    coarse = (power * (radius < 1.2 / BLOCK)).sum(dim=(2, 3)).masked_fill(clipped, torch.inf)
    count = max(1, round(share * coarse.shape[1]))
    flattest = coarse.topk(count, dim=1, largest=False).indices
    mean = power.flatten(2).gather(1, flattest[..., None].expand(-1, -1, BLOCK * BLOCK)).mean(1)
    rings = torch.bucketize(radius.flatten(), torch.tensor(EDGES, device=y.device)) - 1
    members = torch.stack([rings == k for k in range(len(FREQUENCIES))]).to(mean)
    found: Tensor = (mean @ members.T) / members.sum(dim=1)
    return found
