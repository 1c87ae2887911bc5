r"""Sharpness without a reference: the mean absolute Laplacian.

.. math:: s(x) = \mathrm{mean} \, | 4 x_{i,j} - x_{i-1,j} - x_{i+1,j} - x_{i,j-1} - x_{i,j+1} |

over interior pixels and channels. It describes a picture and does not judge it: noise and ringing
are "sharp" too, so that generators are compared by distances to clean images and never by this
number alone.
"""

from __future__ import annotations

from torch import Tensor

from .images import check_size, unit

__all__ = ["sharpness"]


def sharpness(images: Tensor) -> Tensor:
    """Returns the mean absolute Laplacian of each image, float32, with shape (B,).

    Arguments:
        images: uint8 or in [0, 1], of at least 3x3 pixels, with shape (B, C, H, W).
    """
    x = unit(images)
    check_size(x, 3, "an interior needs")
    rows = x[..., :-2, 1:-1] + x[..., 2:, 1:-1]
    columns = x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return (4 * x[..., 1:-1, 1:-1] - rows - columns).abs().mean(dim=(1, 2, 3))
