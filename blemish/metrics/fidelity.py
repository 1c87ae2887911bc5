r"""Fidelity of restored images to their clean originals, one value for each image.

.. math::
    \mathrm{PSNR}(x, y) = 10 \log_{10} \frac{L^2}{\mathrm{mean} (x - y)^2}, \qquad
    \mathrm{SSIM}(x, y) = \mathrm{mean} \, l \, s, \qquad
    l = \frac{2 \mu_x \mu_y + c_1}{\mu_x^2 + \mu_y^2 + c_1}, \qquad
    s = \frac{2 \sigma_{xy} + c_2}{\sigma_x^2 + \sigma_y^2 + c_2}

with the data range L, local means :math:`\mu` and (co)variances :math:`\sigma` under an 11x11
Gaussian window of width 1.5, :math:`c_1 = (0.01 L)^2` and :math:`c_2 = (0.03 L)^2`. SSIM is averaged
over the pixels whose window lies inside of the image, and over channels. With five scales, each the
averages over 2x2 pixels of the one before (a last odd row or column is dropped),

.. math:: \mathrm{MS\text{-}SSIM} = (\mathrm{mean} \, l_5 s_5)_+^{w_5}
    \prod_{j=1}^{4} (\mathrm{mean} \, s_j)_+^{w_j}

for each channel, then averaged over channels. A negative mean, which no power can take, counts as 0
(Wang et al. leave that open; pytorch-msssim does the same). torchmetrics' MS-SSIM differs from this
in two ways: at the coarsest scale alone it also averages over windows that reach beyond the image,
which it reflects, and it averages over channels before the powers.

``space="y"`` compares the luma of papers on super-resolution, BT.601 with its "studio" range,
:math:`Y = (16 L + 65.481 R + 128.553 G + 24.966 B) / 255`, which reaches from 16 to 235 of 255; L
stays as it is, and nothing is rounded. PSNR on Y is 20 log10(255 / 219) = 1.32 dB above that of the
same error in grey images. ``crop`` leaves out a border; for a scale factor s those papers crop s.

uint8 images are divided by 255 first, so that L = 1 for both kinds of input. All is computed in
float64.

References:
    | Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004)
    | https://doi.org/10.1109/TIP.2003.819861
    | Multiscale Structural Similarity for Image Quality Assessment (Wang et al., 2003), Eq. 7
    | https://doi.org/10.1109/ACSSC.2003.1292216
    | Recommendation ITU-R BT.601
    | https://www.itu.int/rec/R-REC-BT.601
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .images import check_size, pair

__all__ = ["Space", "check_protocol", "ms_ssim", "psnr", "ssim"]

Space = Literal["rgb", "y"]
"""What is compared: the channels as they are, or the luma of RGB images."""

_RADIUS = 5
_SIGMA = 1.5
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(
    x: Tensor, y: Tensor, data_range: float = 1.0, *, space: Space = "rgb", crop: int = 0
) -> Tensor:
    """Returns the peak signal-to-noise ratio in dB, float64, with shape (B,); equal images: inf.

    Arguments:
        x: Images, uint8 or in [0, 1], with shape (B, C, H, W).
        y: Images to compare with, of the same shape.
        data_range: The range L of the values, after uint8 has been divided by 255.
        space: ``rgb`` for the channels as they are, ``y`` for the luma of RGB images.
        crop: Pixels left out at each side.
    """
    x, y = _pair(x, y, data_range, space, crop)
    error = (x - y).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / error)


def ssim(
    x: Tensor, y: Tensor, data_range: float = 1.0, *, space: Space = "rgb", crop: int = 0
) -> Tensor:
    """Returns the structural similarity, float64, with shape (B,); 1 for equal images.

    Arguments:
        x: Images of at least 11x11 pixels, uint8 or in [0, 1], with shape (B, C, H, W).
        y: Images to compare with, of the same shape.
        data_range: The range L of the values, after uint8 has been divided by 255.
        space: ``rgb`` for the channels as they are, ``y`` for the luma of RGB images.
        crop: Pixels left out at each side.
    """
    x, y = _pair(x, y, data_range, space, crop)
    check_size(x, 2 * _RADIUS + 1, "SSIM's window needs")
    luminance, structure = _similarities(x, y, data_range)
    # Wang et al. (2004), Eq. 17.
    return (luminance * structure).mean(dim=(1, 2, 3))


def ms_ssim(
    x: Tensor, y: Tensor, data_range: float = 1.0, *, space: Space = "rgb", crop: int = 0
) -> Tensor:
    """Returns the structural similarity over five scales, float64, with shape (B,), in [0, 1].

    Arguments:
        x: Images of at least 176x176 pixels, uint8 or in [0, 1], with shape (B, C, H, W).
        y: Images to compare with, of the same shape.
        data_range: The range L of the values, after uint8 has been divided by 255.
        space: ``rgb`` for the channels as they are, ``y`` for the luma of RGB images.
        crop: Pixels left out at each side.
    """
    x, y = _pair(x, y, data_range, space, crop)
    last = len(_WEIGHTS) - 1
    check_size(x, (2 * _RADIUS + 1) << last, "SSIM's window at the fifth scale needs")
    product = torch.ones_like(x[:, :, 0, 0])
    for j, weight in enumerate(_WEIGHTS):
        luminance, structure = _similarities(x, y, data_range)
        term = luminance * structure if j == last else structure
        # Wang et al. (2003), Eq. 7.
        product = product * term.mean(dim=(2, 3)).relu() ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product.mean(dim=1)


def check_protocol(space: str, crop: int) -> None:
    """Raises a ValueError unless the space is one that is known and the crop is not negative."""
    if space not in get_args(Space):
        raise ValueError(f"space is {space!r}; it must be one of {', '.join(get_args(Space))}")
    if crop < 0:
        raise ValueError(f"crop is {crop}; it must be at least 0")


def _similarities(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    # Wang et al. (2004), Eq. 13, in its two factors.
    c_1, c_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mu_x, mu_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mu_x * mu_x, _window(y * y) - mu_y * mu_y
    cov = _window(x * y) - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + c_1) / (mu_x * mu_x + mu_y * mu_y + c_1)
    return luminance, (2 * cov + c_2) / (var_x + var_y + c_2)


def _window(x: Tensor) -> Tensor:
    # The Gaussian is separable; the planes of all channels become one batch.
    t = torch.arange(-_RADIUS, _RADIUS + 1, dtype=x.dtype, device=x.device)
    g = torch.exp(-t.square() / (2 * _SIGMA**2))
    g = g / g.sum()
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, g.view(1, 1, -1, 1)), g.view(1, 1, 1, -1))
    return planes.view(*x.shape[:2], *planes.shape[-2:])


def _pair(
    x: Tensor, y: Tensor, data_range: float, space: Space, crop: int
) -> tuple[Tensor, Tensor]:
    if not data_range > 0:
        raise ValueError(
            f"data_range is {data_range}; it must be positive (1 for values in [0, 1])"
        )
    check_protocol(space, crop)
    x, y = (_cropped(image, crop) for image in pair(x, y, torch.float64))
    return (x, y) if space == "rgb" else (_luma(x, data_range), _luma(y, data_range))


def _cropped(x: Tensor, crop: int) -> Tensor:
    height, width = x.shape[-2:]
    if 2 * crop >= min(height, width):
        raise ValueError(
            f"crop is {crop}; for images of {height}x{width} pixels it must be below half of the "
            "smaller side"
        )
    return x[..., crop : height - crop, crop : width - crop]


def _luma(x: Tensor, data_range: float) -> Tensor:
    if x.shape[1] != 3:
        raise ValueError(
            f"got images with {x.shape[1]} channels; space='y' is the luma of 3 (RGB): "
            "compare grey images as they are, with space='rgb'"
        )
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=x.dtype, device=x.device) / 255
    luma = torch.einsum("bchw,c->bhw", x, weights)[:, None]
    return luma + data_range * 16 / 255
