r"""The cross loss: how far apart an image's styles are, as angles.

.. math::
    L = \frac{d}{8 k^2} \sum_{i, j} D_{ij}^2, \qquad
    D_{ij} = 2 \, \mathrm{atan2} \bigl( \sqrt{\|w_i - w_j\|^2 + \epsilon}, \sqrt{\|w_i + w_j\|^2 + \epsilon} \bigr)

over all ordered pairs of k styles in d dimensions. For vectors of one length D is the angle between them, the length of
the geodesic on their sphere divided by its radius; this form has it to full precision for small angles, too, where an
arc cosine loses half the digits. It is 0 where all styles are equal, as in the space W, and lets a search in W+ leave
W only as far as the image asks for it. It pulls against the discrepancy of :mod:`~blemish.losses.mmd`,
which parts styles as independent draws are.

The published numbers are k = 18 and d = 512, with the weight 0.05 beside 100 times the mean squared error of pixels.
:math:`\epsilon = 10^{-9}` is theirs: it keeps the slope finite where two styles are equal or opposite.

References:
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models
    | (Menon et al., 2020), https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["geodesic_cross"]

_EPSILON = 1e-9


def geodesic_cross(w: Tensor) -> Tensor:
    """Returns the cross loss of each image's styles, with shape (B,); 0 for a single style.

    Arguments:
        w: The styles of each image, with shape (B, k, d). Halves are compared in single precision.

    Raises:
        ValueError: If the shape is another, or there is no style.
    """
    if w.ndim != 3 or not w.shape[1]:
        raise ValueError(f"got styles of shape {tuple(w.shape)}; give (B, k, d), with k at least 1")
    w = w.to(torch.promote_types(w.dtype, torch.float32))
    k, d = w.shape[1:]
    # A style is at no angle from itself, and each pair stands for both of its orders.
    i, j = torch.triu_indices(k, k, offset=1, device=w.device)
    a, b = w[:, i], w[:, j]
    angles = 2 * torch.atan2(_length(a - b), _length(a + b))
    return angles.square().sum(dim=1) * (2 * d / (8 * k**2))


def _length(v: Tensor) -> Tensor:
    return (v.square().sum(dim=-1) + _EPSILON).sqrt()
