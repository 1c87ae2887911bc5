r"""Fidelity of restored images to their clean originals: PSNR and SSIM, one value for each image.

.. math::
    \mathrm{PSNR}(x, y) = 10 \log_{10} \frac{L^2}{\mathrm{mean} (x - y)^2}, \qquad
    \mathrm{SSIM}(x, y) = \mathrm{mean} \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
    {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}

with the data range L, local means :math:`\mu` and (co)variances :math:`\sigma` under an 11x11
Gaussian window of width 1.5, :math:`c_1 = (0.01 L)^2` and :math:`c_2 = (0.03 L)^2`. SSIM is averaged
over the pixels whose window lies inside of the image, and over channels. uint8 images are divided
by 255 first, so that L = 1 for both kinds of input. Both metrics are computed in float64.

References:
    | Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004)
    | https://doi.org/10.1109/TIP.2003.819861
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .images import pair

__all__ = ["psnr", "ssim"]

_RADIUS = 5
_SIGMA = 1.5


def psnr(x: Tensor, y: Tensor, data_range: float = 1.0) -> Tensor:
    """Returns the peak signal-to-noise ratio in dB, float64, with shape (B,); equal images: inf.

    Arguments:
        x: Images, uint8 or in [0, 1], with shape (B, C, H, W).
        y: Images to compare with, of the same shape.
        data_range: The range L of the values, after uint8 has been divided by 255.
    """
    x, y = _pair(x, y, data_range)
    error = (x - y).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / error)


def ssim(x: Tensor, y: Tensor, data_range: float = 1.0) -> Tensor:
    """Returns the structural similarity, float64, with shape (B,); 1 for equal images.

    Arguments:
        x: Images of at least 11x11 pixels, uint8 or in [0, 1], with shape (B, C, H, W).
        y: Images to compare with, of the same shape.
        data_range: The range L of the values, after uint8 has been divided by 255.
    """
    x, y = _pair(x, y, data_range)
    if min(x.shape[-2:]) < 2 * _RADIUS + 1:
        raise ValueError(
            f"got images of {x.shape[-2]}x{x.shape[-1]} pixels; SSIM's window needs at least 11x11"
        )
    c_1, c_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mu_x, mu_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mu_x * mu_x, _window(y * y) - mu_y * mu_y
    cov = _window(x * y) - mu_x * mu_y
    # Wang et al. (2004), Eq. 13, then its mean, Eq. 17.
    luminance = (2 * mu_x * mu_y + c_1) / (mu_x * mu_x + mu_y * mu_y + c_1)
    structure = (2 * cov + c_2) / (var_x + var_y + c_2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _window(x: Tensor) -> Tensor:
    # The Gaussian is separable; the planes of all channels become one batch.
    t = torch.arange(-_RADIUS, _RADIUS + 1, dtype=x.dtype, device=x.device)
    g = torch.exp(-t.square() / (2 * _SIGMA**2))
    g = g / g.sum()
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, g.view(1, 1, -1, 1)), g.view(1, 1, 1, -1))
    return planes.view(*x.shape[:2], *planes.shape[-2:])


def _pair(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    if not data_range > 0:
        raise ValueError(
            f"data_range is {data_range}; it must be positive (1 for values in [0, 1])"
        )
    return pair(x, y, torch.float64)
