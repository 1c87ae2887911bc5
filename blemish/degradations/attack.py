r"""The worst perturbation of a neural degradation: projected gradient ascent.

.. math:: u \leftarrow \Pi \Big( u + \alpha \frac{\nabla_u L}{\| \nabla_u L \|} \Big), \qquad
    L = \sum_b \ell(F(x_b; \theta_{id} + r u_b))

from :math:`u = 0`, for K steps. The deviation u is in units of its radius r, and the projection is onto the unit ball:
one ball for each kind of parameter, or one for all (:class:`~blemish.degradations.neural.Radii`). A step has the same
length in units of the radius whatever the radius is; the paper's is 6 / 20 of it. Samples do not see one another: the
loss is a sum, gradients are normalised by sample, and so a result does not depend on its batch.

References:
    | AND: Adversarial Neural Degradation for Learning Blind Image Super-Resolution (Luo et al., NeurIPS 2023),
      Sections 3.3 and 4.3
    | Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al., 2018)
    | https://arxiv.org/abs/1706.06083
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..functional.pool import pool
from ..functional.random import Randomness
from ..functional.resample import modcrop
from ..types import Shape
from .neural import Groups, NeuralDegradation, NeuralParams, Radii

__all__ = ["STEP", "STEPS", "attack", "deviation"]

STEPS = 5
"""The number K of steps."""

STEP = 6 / 20
"""The length of a step, in units of the radius."""


def attack(
    degradation: NeuralDegradation,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    generator: Randomness,
    steps: int = STEPS,
    step: float = STEP,
) -> NeuralParams:
    """Draws identities and searches the worst perturbation of each.

    Arguments:
        degradation: The degradation, whose radii bound the perturbation.
        x: Clean images in [0, 1], with shape (B, C, H, W).
        loss: Maps what the degradation makes of them, which is not clamped, to one loss for each sample,
            with shape (B,); of a restorer whose parameters need no gradients, none are computed.
        generator: The source of randomness; only the identities are drawn.
        steps: The number K of steps; 0 leaves the identities as they are.
        step: The length of a step, in units of the radius.

    Returns:
        The parameters found, without gradients.
    """
    B, C, H, W = x.shape
    shape: Shape = (B, C, H, W)
    identity = degradation.identity(shape, generator=generator)
    u = Groups(*(torch.zeros_like(g) for g in (identity.kernels, identity.slopes, identity.noise)))
    for _ in range(steps):
        with torch.enable_grad():
            leaves = Groups(*(g.detach().requires_grad_() for g in u))
            y = degradation(x, degradation.perturbed(identity, leaves, shape))
            gradient = torch.autograd.grad(loss(y).sum(), leaves, materialize_grads=True)
        u = _climb(degradation.config.radii, u, Groups(*gradient), step)
    return degradation.perturbed(identity, u, shape).detach()


@torch.no_grad()
def deviation(degradation: NeuralDegradation, x: Tensor, y: Tensor) -> Tensor:
    """Measures how far from the identity images were taken.

    Arguments:
        degradation: The degradation.
        x: Clean images in [0, 1], with shape (B, C, H, W).
        y: What it made of them, F(x; theta).

    Returns:
        The PSNR of y to pool(x) in dB, with shape (B,); infinite where nothing is changed.
    """
    scale = degradation.scale
    smaller = pool(modcrop(x, scale), scale, degradation.config.pool)
    return -10 * (y - smaller).square().flatten(1).mean(dim=1).log10()


def _climb(radii: Radii, u: Groups, gradient: Groups, step: float) -> Groups:
    """Returns deviations after one step; a sample whose loss is no number any more stays where it was."""
    steps = radii.scaled(gradient, step)
    moved = radii.project(Groups(*(a + b for a, b in zip(u, steps, strict=True))))
    finite = torch.stack([g.isfinite().all(dim=1) for g in moved]).all(dim=0)[:, None]
    return Groups(*(torch.where(finite, a, b) for a, b in zip(moved, u, strict=True)))
