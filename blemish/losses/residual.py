r"""The length of what is left between two images, in which blocks of pixels may stand for their mean.

.. math:: d(a, b) = 2 \, \lVert P_s (a - b) \rVert_2

where :math:`P_s` replaces every block of s x s pixels by its mean: an orthogonal projection, and none for s = 1. The
length is not squared, and the factor 2 is that of images in [-1, 1], on which diffusion models are at home. Noise that
nobody can foretell loses a factor s of its length under :math:`P_s`, while what is smooth keeps its own.

References:
    | Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung et al., 2023)
    | https://arxiv.org/abs/2209.14687
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .colour import colour_loss

__all__ = ["residual_length"]


def residual_length(
    estimate: Tensor, target: Tensor, *, block: int = 1, colour: float = 0.0
) -> Tensor:
    """Returns the length of the difference, with shape (B,); 0 for equal images.

    Arguments:
        estimate: Images in [0, 1], with shape (B, C, H, W).
        target: Images to compare with, of the same shape.
        block: The side s of the blocks; those at the lower and right ends may be cut.
        colour: The weight of :func:`~blemish.losses.colour_loss`, of what is not normalised. It counts as an image
            that is as far everywhere: times 2 and the root of C H W.

    Raises:
        ValueError: If the shapes differ, or there is no such block.
    """
    if estimate.shape != target.shape:
        raise ValueError(
            f"got shapes {tuple(estimate.shape)} and {tuple(target.shape)}; "
            "only images of the same shape have a difference"
        )
    if block < 1 or colour < 0:
        raise ValueError(f"block={block}, colour={colour}; give at least 1, and at least 0")
    rest = estimate - target
    if block > 1:
        rest = _in_blocks(rest, block)
    length: Tensor = 2 * torch.linalg.vector_norm(rest.flatten(1), dim=1)
    if not colour:
        return length
    everywhere = 2 * math.sqrt(target[0].numel())
    return length + colour * everywhere * colour_loss(estimate, target, normalise=False)


def _in_blocks(x: Tensor, side: int) -> Tensor:
    """Puts its mean into every block of images."""
    means = F.avg_pool2d(x, side, ceil_mode=True)
    means = means.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)
    return means[..., : x.shape[-2], : x.shape[-1]]
