r"""A distance of pictures on several scales, as restoration by inversion minimises it.

A perceptual distance d looks at small neighbourhoods. Far from the solution pictures agree in nothing as small as that;
seen from farther away they do. With pictures x, y and a mask m of what is known of them,

.. math:: x_0 = m \odot x, \quad x_{l + 1} = \mathrm{pool}(x_l), \qquad
    L(x, y) = \sum_{l < n} d(\tilde x_l, \tilde y_l) + \lambda \, \mathrm{mean} |x_n - y_n|,

where pool is the mean of 2 x 2 pixels, and d is asked on all scales whose shorter side has more than 16 pixels, but on no
more than six. The last scale is compared by pixels.

What is unknown would be black in both pictures, and the borders of black are what d would see. In both it is filled with
the same noise instead, at each scale anew:

.. math:: \tilde x_l = x_l + (1 - m_l) \, \frac{\varepsilon_l + 1/2}{2}, \qquad m_{l + 1} = \mathrm{pool}(m_l), \quad
    \varepsilon_{l + 1} = 2 \, \mathrm{pool}(\varepsilon_l).

If :math:`\varepsilon_0` holds independent standard normal numbers so do all :math:`\varepsilon_l`: the mean of four has
half their deviation.

References:
    | Robust Unsupervised StyleGAN Image Restoration (Poirier-Ginter & Lalonde, 2023)
    | https://arxiv.org/abs/2302.06733
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["multiscale_distance"]


def multiscale_distance(
    distance: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    mask: Tensor | None = None,
    noise: Tensor | None = None,
    smallest: int = 17,
    scales: int = 6,
    pixels: float = 0.1,
) -> Tensor:
    """Returns the distance of pictures on several scales.

    Sides that are odd at some scale lose their last row or column there.

    Arguments:
        distance: A function of two batches of images to the distance d of each pair, with shape (B,).
        x: Pictures in [0, 1], with shape (B, C, H, W).
        y: Pictures of the same shape.
        mask: 1 where the pictures are known, 0 where they are not, with shape (B, 1, H, W); None means everywhere.
        noise: Standard normal numbers with the shape of x, needed with a mask; draw new ones for each step.
        smallest: The least shorter side of pictures that d is shown, at least 2; smaller ones are compared by pixels
            alone.
        scales: The largest number of scales on which d is asked.
        pixels: The weight of the mean absolute difference of the last scale.

    Returns:
        The distance of each pair, with shape (B,).

    Raises:
        ValueError: If shapes differ, one of mask and noise is given without the other, or a number is impossible.
    """
    _check(x, y, mask, noise, smallest)
    if mask is not None:
        x, y = x * mask, y * mask
    total = x.new_zeros(len(x))
    for _ in range(scales):
        if min(x.shape[-2:]) < smallest:
            break
        fill: Tensor | float = 0.0
        if mask is not None and noise is not None:
            fill = (1 - mask) * (noise + 0.5) / 2
            mask, noise = F.avg_pool2d(mask, 2), 2 * F.avg_pool2d(noise, 2)
        total = total + distance(x + fill, y + fill)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return total + pixels * (x - y).abs().flatten(1).mean(dim=1)


def _check(x: Tensor, y: Tensor, mask: Tensor | None, noise: Tensor | None, smallest: int) -> None:
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(
            f"got pictures with shapes {tuple(x.shape)} and {tuple(y.shape)}; expected (B, C, H, W), the same for both"
        )
    if smallest < 2:
        raise ValueError(
            f"smallest={smallest}; a picture of one pixel has no half, give at least 2"
        )
    if (mask is None) != (noise is None):
        raise ValueError("a mask needs noise, and noise a mask; give both, or none of them")
    if mask is not None and noise is not None:
        known = torch.Size((len(x), 1, *x.shape[2:]))
        if mask.shape != known or noise.shape != x.shape:
            raise ValueError(
                f"got a mask with shape {tuple(mask.shape)} and noise with shape {tuple(noise.shape)}; expected "
                f"{tuple(known)} and {tuple(x.shape)}"
            )
