r"""The losses of a critic, whose scores estimate the Wasserstein distance of two sets of images.

.. math::
    L_C = E[C(\hat y)] - E[C(y)] + \lambda \, E[(\|\nabla C(u)\|_2 - 1)^2], \qquad
    u = \epsilon y + (1 - \epsilon) \hat y, \qquad L_G = -E[C(\hat y)]

with one :math:`\epsilon \sim U[0, 1)` for each pair. The penalty keeps the critic near slope 1 on the lines between
real and generated images, where an optimal 1-Lipschitz critic has it; :math:`\lambda = 10` in the paper.

A critic that sees pairs [x, y] is given as a function of y alone, ``lambda y: critic(torch.cat([x, y], dim=1))``: the
slope that counts is that along what is judged, not along what it is judged by. Its network must not mix a batch, as a
normalisation over it would: the penalty is on the slope of each sample's own score.

References:
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Eq. 3
    | https://arxiv.org/abs/1704.00028
    | Wasserstein GAN (Arjovsky et al., 2017)
    | https://arxiv.org/abs/1701.07875
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..functional.random import Randomness, rand

__all__ = ["gradient_penalty", "wasserstein_critic_loss", "wasserstein_generator_loss"]


def wasserstein_critic_loss(scores_real: Tensor, scores_fake: Tensor) -> Tensor:
    """Returns the critic's loss without the penalty, a scalar; its negative estimates the distance.

    Arguments:
        scores_real: The critic's scores of real images, with shape (B,).
        scores_fake: Its scores of generated images, with shape (B',).
    """
    return scores_fake.mean() - scores_real.mean()


def wasserstein_generator_loss(scores_fake: Tensor) -> Tensor:
    """Returns the generator's loss, a scalar.

    Arguments:
        scores_fake: The critic's scores of generated images, with shape (B,).
    """
    return -scores_fake.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: Randomness
) -> Tensor:
    r"""Returns :math:`E[(\|\nabla C(u)\|_2 - 1)^2]`, a scalar, without the weight :math:`\lambda`.

    Its gradient reaches the critic alone.

    Arguments:
        critic: A function of images to scores with shape (B,), each of its own image.
        real: Real images, with shape (B, C, H, W).
        fake: Generated images, of the same shape.
        generator: The source of the places on the lines between them.

    Raises:
        ValueError: If the shapes differ.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"got real images {tuple(real.shape)} and generated ones {tuple(fake.shape)}; "
            "the penalty needs pairs, so give as many of both, of one size"
        )
    epsilon = rand((len(real), 1, 1, 1), generator).to(real)
    between = torch.lerp(fake.detach(), real.detach(), epsilon).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # Gulrajani et al. (2017), Eq. 3; the slope of this norm is 0, and not infinite, where the gradient vanishes.
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    penalty: Tensor = (norm - 1).square().mean()
    return penalty
