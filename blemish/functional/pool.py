r"""Making images smaller by a whole factor s, with the same filter for every channel.

Pixel :math:`i` of the result stands where the centre of the pixels :math:`s i, \dots, s i + s - 1` is, at
:math:`s i + (s - 1) / 2`: nothing is moved against the image, as by :func:`~blemish.functional.resample.bicubic`.
A filter with an even number of taps before an even stride has its centre there, one with an odd number before an
odd stride too; a single filter of four taps before a stride of four has not.

=========  ==================================================================================
binomial   [1 3 3 1] / 8 before each halving, [1 2 3 2 1] / 9 before a third; hardly any alias
area       the mean of the s x s pixels; sharp, much alias
bicubic    :func:`~blemish.functional.resample.bicubic`, the field's training pairs
=========  ==================================================================================

All keep flat images flat. Borders are replicated, but for bicubic, which weighs the pixels that there are.

References:
    | Making Convolutional Networks Shift-Invariant Again (Zhang, 2019)
    | https://arxiv.org/abs/1904.11486
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .resample import bicubic

__all__ = ["SCALES", "Pool", "pool"]

Pool = Literal["binomial", "area", "bicubic"]
"""The filter before the stride."""

SCALES = (1, 2, 3, 4)
"""The factors by which images are made smaller."""

_TAPS = {2: (1.0, 3.0, 3.0, 1.0), 3: (1.0, 2.0, 3.0, 2.0, 1.0)}


def pool(x: Tensor, scale: int, method: Pool = "binomial") -> Tensor:
    """Makes images smaller.

    Arguments:
        x: Images or features, with shape (B, C, H, W); H and W are multiples of the factor.
        scale: The factor s: 1, 2, 3 or 4.
        method: The filter.

    Returns:
        The smaller ones, with shape (B, C, H / s, W / s).

    Raises:
        ValueError: If the factor or the method is none of these, or does not divide the sides.
    """
    if scale not in SCALES or method not in get_args(Pool):
        allowed = ", ".join(get_args(Pool))
        raise ValueError(f"scale={scale}, method={method!r}; allowed are 1 to 4, and {allowed}")
    if any(side % scale for side in x.shape[-2:]):
        raise ValueError(
            f"{x.shape[-2]}x{x.shape[-1]} pixels are not divided by {scale}; see modcrop"
        )
    if scale == 1:
        return x
    if method == "area":
        return F.avg_pool2d(x, scale)
    if method == "bicubic":
        # There is no kernel of half precision on CPUs.
        small = bicubic(
            x.to(torch.promote_types(x.dtype, torch.float32)),
            (x.shape[-2] // scale, x.shape[-1] // scale),
        )
        return small.to(x.dtype)
    return _binomial(_binomial(x, 2), 2) if scale == 4 else _binomial(x, scale)


def _binomial(x: Tensor, stride: int) -> Tensor:
    taps = torch.tensor(_TAPS[stride], dtype=x.dtype, device=x.device)
    weight = (taps / taps.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = F.conv2d(x, weight, stride=(1, stride), groups=x.shape[1])
    return F.conv2d(x, weight.mT, stride=(stride, 1), groups=x.shape[1])
