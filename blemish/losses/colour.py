r"""The loss of colours: two images, so blurred that only their colours are left, compared.

.. math::
    L_{color} = \mathrm{mean} | b(\nu(\hat y)) - b(\nu(y)) |, \qquad
    \nu(y) = \frac{y - \min y}{\max y - \min y}

where b is a Gaussian blur with a deviation of 0.4 times the shorter side s, cut to the largest odd kernel of at most
s - 1 pixels, the image being reflected at the centres of its border pixels. (The published program has a deviation of 50
and 45 pixels for images of 128.) The least and the greatest value are over all pixels and channels of an image, so that
the normalisation keeps hues, and takes away any affine change of intensity. A loss that does so cannot teach contrast
or exposure; without :math:`\nu` it can. The report can be read as if it normalised after the blur; the published program
normalises before, which also keeps the little contrast of a blurred image from being stretched to [0, 1].

The range of an image counts as one grey level at least, or else that of a flat image would be divided by 0.

*Cost.* Such a blur is a product with one matrix for the columns and one for the rows, exact and short: 0.4 GFLOP for 16
colour images of 128x128 pixels.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860, technical report, Eq. 10
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.inputs import check_size

__all__ = ["colour_loss"]

_DEVIATION = 0.4
_GREY_LEVEL = 1 / 255
_SMALLEST = 4


def colour_loss(estimate: Tensor, target: Tensor, *, normalise: bool = True) -> Tensor:
    """Returns the mean absolute difference of the blurred images, with shape (B,); 0 for equal ones.

    Arguments:
        estimate: Images of at least 4x4 pixels in [0, 1], with shape (B, C, H, W).
        target: Images to compare with, of the same shape.
        normalise: Whether both are stretched to [0, 1] first, so that contrast and brightness do not count.

    Raises:
        ValueError: If the shapes differ, or a side is shorter.
    """
    if estimate.shape != target.shape:
        raise ValueError(
            f"got shapes {tuple(estimate.shape)} and {tuple(target.shape)}; "
            "colours can only be compared with those of an image of the same shape"
        )
    check_size(estimate, _SMALLEST, "the blur of the loss of colours needs")
    if normalise:
        estimate, target = _stretched(estimate), _stretched(target)
    # Yang et al. (2025), Eq. 10; the blur is linear, and is applied once.
    return _blurred(estimate - target).abs().mean(dim=(1, 2, 3))


def _stretched(x: Tensor) -> Tensor:
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp_min(_GREY_LEVEL)


def _blurred(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    side = min(height, width)
    radius = (side - 2) // 2
    down, along = (_blur_matrix(n, _DEVIATION * side, radius).to(x) for n in (height, width))
    return down @ x @ along.T


def _blur_matrix(n: int, sigma: float, radius: int) -> Tensor:
    """Returns a Gaussian blur of n pixels in a row, float64, with shape (n, n) and rows of sum 1."""

    def weight(distance: Tensor) -> Tensor:
        return torch.exp(-distance.square() / (2 * sigma**2)) * (distance.abs() <= radius)

    i = torch.arange(n, dtype=torch.float64)[:, None]
    j = i.T
    # A pixel is seen at its place, in the mirror before the first pixel, and in that behind the last one; neither
    # mirror repeats the border pixel itself.
    before, behind = weight(i + j) * (j > 0), weight(2 * (n - 1) - i - j) * (j < n - 1)
    matrix = weight(i - j) + before + behind
    return matrix / matrix.sum(dim=1, keepdim=True)
