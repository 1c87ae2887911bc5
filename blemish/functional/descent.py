r"""Steps of a search through latents: normalised descent, spheres, noise that stays noise, a schedule.

*Normalised descent* walks a given length whatever the slope,

.. math:: p \leftarrow p - \eta \, \frac{g}{\lVert g \rVert},

one vector (the last dimension) at a time. It needs no memory, and no vector's step depends on another's: a batch of
searches is the same as each of them alone. A loss that is a sum and one that is a mean give the same step.

*Spheres.* Almost all of :math:`N(0, I)` in D dimensions lies close to the sphere of radius :math:`\sqrt D`; a search that
returns to it after each step stays among likely latents. A prior that is no Gaussian may have its mass elsewhere: a
:class:`Sphere` has a centre, and a radius for each vector, from where a search starts or from draws of the prior.

*Noise* that is searched for would take up all that is left of an image. Put back to mean 0 and variance 1 after each step,
it can choose its pattern and not its strength.

References:
    | Robust Unsupervised StyleGAN Image Restoration (Poirier-Ginter & Lalonde, 2023), the normalised steps
    | https://arxiv.org/abs/2302.06733
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models
    | (Menon et al., 2020), the sphere and the schedule, https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

__all__ = [
    "Sphere",
    "finite",
    "normalised_step",
    "one_cycle_drop",
    "onto_sphere",
    "sphere_lr",
    "standardised",
]

Radius = TypeVar("Radius", float, Tensor)


class Sphere:
    """Returns vectors to given distances from a centre, which stay the same for a whole search.

    A step along the gradient, then back onto the sphere: with PULSE after any optimiser's step, in place, so that it
    keeps its memory.

    Arguments:
        centre: The centre, with a shape that broadcasts against the vectors', (..., D).
        radius: The radius for all vectors, or one for each, with shape (..., 1).

    Raises:
        ValueError: If a radius is not above 0, or no finite number.
    """

    def __init__(self, centre: Tensor | float, radius: Tensor | float) -> None:
        radius = torch.as_tensor(radius).detach().clone()
        if not ((radius > 0) & radius.isfinite()).all():
            raise ValueError(
                f"a sphere's radius is {_wrong(radius):g}; a search cannot move on it. It starts in the sphere's centre, "
                "as the mean of a prior without a mapping network does: take the radius from draws of the prior, "
                "another centre, a random start, or no sphere"
            )
        self.centre = torch.as_tensor(centre).detach().clone()
        self.radius = radius

    @classmethod
    def through(cls, start: Tensor, centre: Tensor | float = 0.0) -> Sphere:
        """Returns the sphere on which each vector already lies, as PULSE has it.

        Arguments:
            start: Where the search starts, with shape (..., D).
            centre: The centre, with a shape that broadcasts against it.

        Raises:
            ValueError: If a vector starts in the centre.
        """
        offset = start.detach() - centre
        return cls(centre, torch.linalg.vector_norm(offset, dim=-1, keepdim=True))

    @classmethod
    def typical(cls, samples: Tensor, centre: Tensor | float = 0.0) -> Sphere:
        """Returns the sphere with the mean distance of a prior's draws from the centre.

        Arguments:
            samples: Draws of the prior, with shape (n, D).
            centre: The centre, with shape (D,), or a number.

        Raises:
            ValueError: If all draws lie in the centre.
        """
        offset = samples.detach() - centre
        return cls(centre, torch.linalg.vector_norm(offset, dim=-1).mean())

    def __call__(self, p: Tensor) -> Tensor:
        """Returns the nearest points of the sphere, with shape (..., D); a vector in the centre stays there.

        Arguments:
            p: Vectors, with shape (..., D).
        """
        centre = self.centre.to(p)
        return centre + self.radius.to(p) * _unit(p - centre)


def finite(gradient: Tensor) -> Tensor:
    """Returns a gradient, of any shape, with 0 in place of what is no finite number."""
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def normalised_step(p: Tensor, gradient: Tensor, lr: float) -> Tensor:
    """Moves each vector by a given length against its gradient.

    Arguments:
        p: Vectors, with shape (..., D).
        gradient: Their gradients, with the same shape. What is no finite number in them counts as 0.
        lr: The length of the step.

    Returns:
        The moved vectors, with shape (..., D); one whose gradient is zero stays.
    """
    return p - lr * _unit(finite(gradient))


def onto_sphere(p: Tensor, radius: float) -> Tensor:
    """Scales each vector, with shape (..., D), to a given length; zero stays zero."""
    return radius * _unit(p)


def sphere_lr(lr: float, radius: Radius, d: int) -> Radius:
    r"""Returns the learning rate of an optimiser with Adam's steps, for a sphere of another radius.

    A first step of Adam moves each of d numbers by the learning rate, and so the vector by :math:`\sqrt d` times as much.
    PULSE's 0.4 was chosen for the radius :math:`\sqrt d` of the normal distribution, where a step turns a vector by an angle
    of about 0.4 at most. On a sphere with a fifteenth of this radius, which the mean style of a StyleGAN has, the same
    step would go through the sphere and out again; the rate times :math:`r / \sqrt d` turns by the same angle.

    Arguments:
        lr: The learning rate for the radius :math:`\sqrt d`.
        radius: The radius r, or several, which give as many rates.
        d: The numbers in a vector.
    """
    return lr * radius / math.sqrt(d)


def standardised(n: Tensor) -> Tensor:
    """Shifts and scales each map to mean 0 and variance 1.

    Arguments:
        n: Maps, with shape (..., H, W).

    Returns:
        Maps of the same shape, whose squares have the mean 1; a flat map becomes zeros.
    """
    pixels = n.flatten(-2)
    # The mean of a flat map may miss its value by a rounding error, which must not be blown up.
    flat = pixels.amax(-1, keepdim=True) == pixels.amin(-1, keepdim=True)
    centred = (pixels - pixels.mean(-1, keepdim=True)).masked_fill(flat, 0)
    # Twice: what rounding left of the mean counts where a map is nearly flat.
    centred = centred - centred.mean(-1, keepdim=True)
    return onto_sphere(centred, pixels.shape[-1] ** 0.5).view(n.shape)


def one_cycle_drop(progress: float) -> float:
    """Returns PULSE's factor on the learning rate: from 0.1 up to 1, down to 0.1, and out to 0.001.

    Arguments:
        progress: The part of the steps that is done, in [0, 1]; the factor is 1 at 0.45, and again 0.1 at 0.9.
    """
    if progress < 0.9:
        return 1 - 0.9 * abs(progress - 0.45) / 0.45
    return 0.1 - 0.099 * (progress - 0.9) / 0.1


def _unit(p: Tensor) -> Tensor:
    """Returns the directions of vectors, with shape (..., D), and zero for zero."""
    # By the largest entry first: the squares of small or large numbers have no place in the range of floats.
    largest = p.abs().amax(-1, keepdim=True)
    p = p / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
    return p / torch.where(largest > 0, length, 1)


def _wrong(radius: Tensor) -> float:
    return float(radius[~((radius > 0) & radius.isfinite())].flatten()[0])
