r"""Adaptive consistency: weakly degraded images pull the clean image towards themselves.

.. math::
    L_{AC}^{blur} = E[e^{-\mu_k H(k)} \, \|x - \mathrm{sg}(x * k)\|^2], \qquad
    L_{AC}^{comp} = E[e^{-\mu_q (100 - q) / 100} \, \|x - \mathrm{sg}(\psi(x, q))\|^2]

The gradient flows through the left :math:`x` alone; the weights carry none either, or else the loss
would ask for stronger degradations. The squared norm is the mean over pixels in [-1, 1].

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), Eq. 7 and 8
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["blur_weight", "compression_weight", "consistency_loss"]


def consistency_loss(x: Tensor, degraded: Tensor, weight: Tensor) -> Tensor:
    """Returns the weighted squared difference, a scalar.

    Arguments:
        x: Clean images in [0, 1], with shape (B, C, H, W).
        degraded: The same images after a degradation.
        weight: A weight for each sample, with shape (B,).
    """
    # The factor 4 is the square of the width of [-1, 1], in which the paper's images live.
    return (weight.detach() * 4 * (x - degraded.detach()).square().mean(dim=(1, 2, 3))).mean()


def blur_weight(entropy: Tensor, mu: float = 1.0) -> Tensor:
    """Returns exp(-mu H(k)), with shape (B,) (Eq. 7).

    Arguments:
        entropy: The entropies of the kernels in nats, with shape (B,).
        mu: The scale; 0 makes the loss non-adaptive.
    """
    return (-mu * entropy).exp()


def compression_weight(quality: Tensor, mu: float = 10.0) -> Tensor:
    """Returns exp(-mu (100 - q) / 100), with shape (B,) (Eq. 8).

    Arguments:
        quality: The JPEG qualities in [1, 100], with shape (B,).
        mu: The scale; 0 makes the loss non-adaptive.
    """
    return (-mu * (100 - quality) / 100).exp()
