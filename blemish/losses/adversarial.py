r"""The non-saturating adversarial loss with a zero-centred gradient penalty on real images.

.. math::
    L_D = E[\zeta(-D(y^r))] + E[\zeta(D(y^g))] + \gamma E[\|\nabla D(y^r)\|^2], \qquad
    L_G = E[\zeta(-D(y^g))], \qquad \zeta = \mathrm{softplus}

A discriminator may give each pixel a logit; expectations are then over images and pixels.

References:
    | Generative Adversarial Nets (Goodfellow et al., 2014)
    | https://arxiv.org/abs/1406.2661
    | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), Eq. 9
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["discriminator_loss", "generator_loss", "r1_penalty"]


def generator_loss(logits_fake: Tensor) -> Tensor:
    """Returns the generator's loss, a scalar.

    Arguments:
        logits_fake: The discriminator's logits of generated images, with shape (B,) or (B, 1, H, W).
    """
    return F.softplus(-logits_fake).mean()


def discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """Returns the discriminator's loss without the penalty, a scalar.

    Arguments:
        logits_real: The logits of real images, with shape (B,) or (B, 1, H, W).
        logits_fake: The logits of generated images, with shape (B',) or (B', 1, H', W').
    """
    return F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    r"""Returns :math:`E[\|\nabla_y D(y)\|^2]`, without the half of Mescheder et al. (2018), Eq. 9.

    Arguments:
        logits: The logits of the images, with shape (B,); of those for each pixel give the mean.
        images: The images, with shape (B, C, H, W), which must require a gradient.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
