r"""The resemblance of two outputs that shall differ: the same picture drawn with two random states.

.. math::
    L_{diver} = \mathrm{mean} \, \frac{2 |\sigma_{12}| + C}{\sigma_1^2 + \sigma_2^2 + C}

with the local (co)variances :math:`\sigma` under an 11x11 Gaussian window of width 1.5, over all windows that lie inside
of the images, and over channels. It is the structure of SSIM with the covariance's absolute value, lies in [0, 1] and is
**minimised**: it is 1 for equal images and for negatives of each other, and small where both vary independently. Means do
not count. A network that does not use its random state has 1, and is told to use it.

*The constant.* C = 0.12 belongs to images in [-1, 1]. Ours are in [0, 1], where variances are a quarter of that: C is
0.03 here, and the value is the same. It is large on purpose: noise of deviation 0.17 has the variance C, so that weak
noise moves the loss little, and images without any give 1.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860
    | Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004)
    | https://doi.org/10.1109/TIP.2003.819861
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.inputs import check_size

__all__ = ["resemblance_loss"]

_RADIUS = 5
_SIGMA = 1.5
_C = 0.12 / 4


def resemblance_loss(first: Tensor, second: Tensor) -> Tensor:
    """Returns how much two outputs resemble each other, in [0, 1], with shape (B,); to be minimised.

    Arguments:
        first: Images of at least 11x11 pixels in [0, 1], with shape (B, C, H, W).
        second: Images from the same inputs with another random state, of the same shape.

    Raises:
        ValueError: If the shapes differ, or a side is shorter.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"got shapes {tuple(first.shape)} and {tuple(second.shape)}; "
            "give two outputs for the same inputs"
        )
    check_size(first, 2 * _RADIUS + 1, "the window of the resemblance needs")
    # Variances do not change with an offset; without their means, the images' squares lose no digits.
    x, y = (z - z.mean(dim=(2, 3), keepdim=True) for z in (first, second))
    mean_x, mean_y = _window(x), _window(y)
    variances = _window(x.square() + y.square()) - mean_x.square() - mean_y.square()
    covariance = _window(x * y) - mean_x * mean_y
    return ((2 * covariance.abs() + _C) / (variances + _C)).mean(dim=(1, 2, 3))


def _window(x: Tensor) -> Tensor:
    t = torch.arange(-_RADIUS, _RADIUS + 1, dtype=x.dtype, device=x.device)
    g = torch.exp(-t.square() / (2 * _SIGMA**2))
    g = g / g.sum()
    # The Gaussian is separable; the planes of all channels become one batch.
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, g.view(1, 1, -1, 1)), g.view(1, 1, 1, -1))
    return planes.view(*x.shape[:2], *planes.shape[-2:])
