r"""Denoising diffusion: the chain of Gaussian steps from noise to images.

Images here lie in [-1, 1]. A chain of T steps drowns an image :math:`x_0` in noise, little by little,

.. math:: x_t = \sqrt{\bar\alpha_t} \, x_0 + \sqrt{1 - \bar\alpha_t} \, \epsilon, \qquad
    \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \quad \epsilon \sim N(0, I),

and a network that tells the noise from the image walks it back. What it says is one of

========  ===================================================  ==================================================
noise     :math:`\epsilon`                                     :math:`\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t} \,
                                                               \epsilon) / \sqrt{\bar\alpha_t}`
clean     :math:`x_0`                                          :math:`\hat x_0` itself
velocity  :math:`v = \sqrt{\bar\alpha_t} \, \epsilon           :math:`\hat x_0 = \sqrt{\bar\alpha_t} \, x_t -
          - \sqrt{1 - \bar\alpha_t} \, x_0`                    \sqrt{1 - \bar\alpha_t} \, v`
========  ===================================================  ==================================================

and all mean the same: :math:`\hat x_0(x_t)` is an estimate of :math:`E[x_0 | x_t]`, whose noise is the score of the
noisy images, :math:`\nabla \log p(x_t) = -\epsilon / \sqrt{1 - \bar\alpha_t}`. A step back draws :math:`x_{t-1}` as if
:math:`\hat x_0` were the image. Its variance is between that of a chain that ends in one image and that of a
chain that ends in noise, :func:`small_variance` and :math:`\beta_t`; the truth lies between them, and a network can
learn where.

*Fewer steps.* Leaving times out gives a shorter chain with the same :math:`\bar\alpha` at those that stay, and so
with larger :math:`\beta`.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    | Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), learned variances and fewer steps
    | https://arxiv.org/abs/2102.09672
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), velocities
    | https://arxiv.org/abs/2202.00512
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "Prediction",
    "Step",
    "ancestral_step",
    "clean_estimate",
    "learned_variance",
    "linear_betas",
    "noise_estimate",
    "noisy",
    "small_variance",
    "steps_of",
]

Prediction = Literal["noise", "clean", "velocity"]
"""What a network says of a noisy image."""


@dataclass(frozen=True)
class Step:
    """A step back, from x_t to x_{t-1}.

    Attributes:
        time: What the network is told of t: the place of its beta in the chain that it was trained on, from 0.
        abar: How much of the image's variance x_t has, in (0, 1).
        abar_before: How much x_{t-1} has, in (abar, 1]; 1 after the last step.
    """

    time: int
    abar: float
    abar_before: float

    @property
    def alpha(self) -> float:
        """How much of the variance of x_{t-1} is left in x_t, 1 - beta."""
        return self.abar / self.abar_before

    @property
    def beta(self) -> float:
        """The variance of the noise that came in between."""
        return 1 - self.alpha

    @property
    def last(self) -> bool:
        """Whether the step arrives at an image without noise."""
        return self.abar_before == 1


def linear_betas(count: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Returns variances that grow along a line, as Ho et al. (2020) have them, float64, with shape (count,)."""
    return torch.linspace(first, last, count, dtype=torch.float64)


def steps_of(betas: Tensor, count: int | None = None) -> tuple[Step, ...]:
    """Returns the steps of a chain, from noise to image.

    Arguments:
        betas: The variance of each step, in (0, 1), with shape (T,).
        count: How many of the T times are kept, at even distances and with both ends; None keeps all, and 1 the noisiest.

    Raises:
        ValueError: If a variance lies outside (0, 1), or there are not so many steps.
    """
    T = len(betas)
    count = T if count is None else count
    if not 1 <= count <= T:
        raise ValueError(f"steps={count}; this chain has 1 to {T}")
    betas = betas.to("cpu", torch.float64)
    if not bool(((betas > 0) & (betas < 1)).all()):
        low, high = float(betas.min()), float(betas.max())
        raise ValueError(f"the betas go from {low:g} to {high:g}; all must lie between 0 and 1")
    abar = (1 - betas).cumprod(0).tolist()
    times = [T - 1 - round(k * (T - 1) / max(count - 1, 1)) for k in range(count)]
    before = [abar[time] for time in times[1:]] + [1.0]
    return tuple(Step(t, abar[t], b) for t, b in zip(times, before, strict=True))


def noisy(x0: Tensor, eps: Tensor, step: Step) -> Tensor:
    """Returns x_t of images and of noise from N(0, 1), both with shape (B, ...)."""
    # Ho et al. (2020), Eq. 4.
    return math.sqrt(step.abar) * x0 + math.sqrt(1 - step.abar) * eps


def clean_estimate(x_t: Tensor, said: Tensor, step: Step, prediction: Prediction) -> Tensor:
    r"""Returns :math:`\hat x_0`.

    Arguments:
        x_t: Noisy images, with shape (B, ...).
        said: What the network says of them, of the same shape.
        step: Where in the chain they are.
        prediction: What that is.
    """
    image, noise = math.sqrt(step.abar), math.sqrt(1 - step.abar)
    match prediction:
        case "noise":
            # Ho et al. (2020), Eq. 15.
            return (x_t - noise * said) / image
        case "clean":
            return said
        case _:
            # Salimans & Ho (2022), Appendix D.
            return image * x_t - noise * said


def noise_estimate(x_t: Tensor, x0: Tensor, step: Step) -> Tensor:
    r"""Returns the :math:`\epsilon` that x_t, with shape (B, ...), has if its image is x0: the other way round."""
    return (x_t - math.sqrt(step.abar) * x0) / math.sqrt(1 - step.abar)


def small_variance(step: Step) -> float:
    r"""Returns :math:`\tilde\beta_t`, the variance of x_{t-1} where x_t and x_0 are known; 0 at the last step."""
    # Ho et al. (2020), Eq. 7.
    return (1 - step.abar_before) / (1 - step.abar) * step.beta


def learned_variance(step: Step, said: Tensor) -> Tensor:
    r"""Returns a variance between :math:`\tilde\beta_t` and :math:`\beta_t`, evenly spaced in its logarithm.

    Arguments:
        step: Where in the chain it is.
        said: What the network says, of any shape: -1 for the smaller one, 1 for the larger one.
    """
    # Nichol & Dhariwal (2021), Eq. 15. The last step has no smaller one, and draws no noise.
    if step.last:
        return torch.zeros_like(said)
    low, high = math.log(small_variance(step)), math.log(step.beta)
    return torch.exp(low + (said + 1) / 2 * (high - low))


def ancestral_step(
    x_t: Tensor, x0: Tensor, z: Tensor, step: Step, variance: Tensor | float
) -> Tensor:
    """Draws x_{t-1} as if the image were known; after the last step, returns what the image is.

    Arguments:
        x_t: Noisy images, with shape (B, ...).
        x0: Their images, of the same shape.
        z: Noise from N(0, 1), of the same shape.
        step: Where in the chain they are.
        variance: The variance of the step: one number, or of the same shape. The last step needs none.
    """
    if step.last:
        return x0
    # Ho et al. (2020), Eq. 7.
    of_image = math.sqrt(step.abar_before) * step.beta / (1 - step.abar)
    of_noisy = math.sqrt(step.alpha) * (1 - step.abar_before) / (1 - step.abar)
    return of_image * x0 + of_noisy * x_t + torch.as_tensor(variance).sqrt().to(z) * z
