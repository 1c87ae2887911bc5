r"""Restoration by posterior sampling: a diffusion model draws images that, once damaged, look like the observed one.

Nothing is trained. A denoiser walks from noise to an image, and each of its steps is corrected by the slope of how far
its present estimate of the image, damaged as the observed image y was, lies from y (diffusion posterior sampling),

.. math:: x_{t-1} \leftarrow x_{t-1}' - \zeta \, \nabla_{x_t} \, d \big( A(\hat x_0(x_t)), \, y \big),

where :math:`x_{t-1}'` is the denoiser's own draw, A is a differentiable degradation, and d is the length of the
difference, *not* squared. The slope goes through the denoiser. Noisy images lie in [-1, 1], as denoisers have them,
and A, d and y in [0, 1].

*Noise in A.* A degradation that adds noise of its own, as a learned redegrader does, would have the image fit that one
draw; drawn anew before each step, by ``renew``, it asks for no particular image. Then the length of
:func:`~blemish.losses.residual_length` in blocks of 2 to 4 pixels, with colours, is a better d, since no two draws are
alike pixel by pixel.

*What it is not.* These are not samples of the posterior. The exact correction is

.. math:: - \frac{\beta_t}{\sqrt{\alpha_t}} \nabla_{x_t} \log p(y | x_t),

which knows how far y is to be trusted, and fades as the noise does; :math:`\zeta` times the slope of a length is as
long at the end as at the start. Draws leave of y what the steps' length says, and not what the noise's does. For
Gaussian images, of which everything has a closed form, seen through a blur of deviation 1 pixel and with noise
:math:`\sigma` (all in [-1, 1]), this is how far the mean of the draws lies from the posterior's, as a part of how far y
moved that one from the prior's, and the variance of the draws as a part of the posterior's:

======  =====  ============  ====  ========
pixels  sigma  zeta x steps  mean  variance
======  =====  ============  ====  ========
16x16   0.05   0.3 x 1000    0.04  0.8
16x16   0.05   3 x 100       0.03  0.9
16x16   0.05   0.3 x 100     0.27  1.5
16x16   0.2    0.1 x 1000    0.03  0.8
16x16   0.2    0.3 x 1000    0.25  0.6
4x4     0.05   0.1 x 1000    0.08  0.7
4x4     0.05   0.3 x 1000    0.27  0.6
4x4     0.2    0.03 x 1000   0.08  0.8
4x4     0.2    0.3 x 1000    0.86  0.4
======  =====  ============  ====  ========

(16 draws for each of 16 and 64 observed images; guessing, that is :math:`\zeta = 0`, has 1 and 4 to 10.) A
:math:`\zeta` that is too small leaves the images those of the prior, one that is too large fits the noise: it is about
right where the residual is as long as the noise, :math:`\sigma` times the root of the number of pixels, unless the steps
are so few and so long that images swing. A wrong A costs about what it costs the exact posterior.

*Fewer steps* than the chain has are faster; :math:`\zeta` is per step, and what pulls is its product with their number.

References:
    | Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung et al., 2023), Algorithm 1 and Section 3
    | https://arxiv.org/abs/2209.14687
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025),
    | technical report, Section 5.4, https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ..degradations import Degradation, is_differentiable
from ..functional.descent import finite
from ..functional.diffusion import Step
from ..functional.random import Randomness, generator_for, randn
from ..losses import Distance, residual_length
from ..types import Params
from .denoiser import Denoiser, sample_chain

__all__ = ["PosteriorSampler", "Renew", "drawn_anew", "sample_posterior"]

Renew = Callable[[Params, Randomness], Params]
"""A function of params to params with other noise."""


def sample_posterior(
    denoiser: Denoiser,
    observed: Tensor,
    degradation: Degradation[Any],
    params: Params,
    *,
    generator: Randomness,
    noise: Randomness | None = None,
    distance: Distance = residual_length,
    zeta: float = 0.3,
    steps: int | None = None,
    renew: Renew | None = None,
) -> Tensor:
    """Draws images that look like observed ones once they are damaged.

    Arguments:
        denoiser: The diffusion model.
        observed: Observed images in [0, 1], with shape (B, C, H, W).
        degradation: How they were damaged; differentiable.
        params: Its parameters for these images: true, drawn, or read off them.
        generator: The source of randomness of the chain.
        noise: That of ``renew``; by default the same.
        distance: Tells how far damaged images are from observed ones: (B,) from two batches of images. A damaged image
            may leave [0, 1].
        zeta: The factor on the slope at each step, at least 0. Chung et al. (2023) take 0.3 for blurs and enlargement,
            0.5 for holes, with 1000 steps and 256x256 pixels.
        steps: How many steps of the denoiser's chain are taken; None takes all.
        renew: Draws the params' noise anew before each step; by default it stays.

    Returns:
        Images, as a rule in [0, 1], with shape (B, C, scale H, scale W).

    Raises:
        ValueError: If the parts do not fit together; the message says which.
    """
    B, C, H, W = observed.shape
    shape = (B, C, degradation.scale * H, degradation.scale * W)
    _check(denoiser, shape, degradation, params, zeta)
    # Copies: what was made in inference mode could not stand in a graph.
    with torch.inference_mode(mode=False):
        target = observed.detach().clone()
        params = _for_graphs(params, target)

    def correction(x_t: Tensor, x0: Tensor, step: Step) -> Tensor:
        fresh = params if renew is None else _for_graphs(renew(params, noise or generator), target)
        lengths = distance(degradation((x0 + 1) / 2, fresh), target)
        if lengths.shape != (B,):
            raise ValueError(
                f"the distance has shape {tuple(lengths.shape)}; give one number for each of the {B} images"
            )
        # The sum, not the mean: each sample has the slope that it has alone.
        (slope,) = torch.autograd.grad(lengths.sum(), x_t)
        # Chung et al. (2023), Algorithm 1, line 7; of the length itself, as the published program has it.
        return zeta * finite(slope)

    x = sample_chain(
        denoiser,
        randn(shape, generator).to(target),
        generator=generator,
        steps=steps,
        guide=correction if zeta else None,
    )
    return (x + 1) / 2


def drawn_anew(*names: str) -> Renew:
    """Returns a function that draws some tensors of params from N(0, 1).

    Arguments:
        names: Their dotted names: "noise" of a universal degradation, or "stages.1.eps" of a chain.
    """

    def renew(params: Params, generator: Randomness) -> Params:
        tensors = params.tensors()
        for name in names:
            if name not in tensors:
                raise ValueError(
                    f"the params have no {name!r} that could be drawn; they have {', '.join(tensors)}"
                )
        return params.replace_tensors(
            {
                name: randn(tuple(old.shape), generator).to(old) if name in names else old
                for name, old in tensors.items()
            }
        )

    return renew


@final
class PosteriorSampler(nn.Module):
    """Restores images by posterior sampling.

    Every image's chain has the same random numbers, which follow from the seed, so that it is restored as it would be
    alone. The modules are used in the mode that they are in: call ``eval()`` if they have dropout or batch statistics.

    Arguments:
        denoiser: The diffusion model.
        degradation: How images are damaged; differentiable.
        estimate: Tells the degradation's parameters for observed images (B, C, H, W), with one generator for each
            sample: an encoder, or ``lambda y, generator: degradation.sample(...)``, or what is known.
        distance: Tells how far damaged images are from observed ones: (B,) from two batches of images.
        renew: Draws the params' noise anew before each step, such as ``drawn_anew("noise")``; by default it stays.
        config: The steps, and how much they are corrected.
    """

    receptive_field: ClassVar[int | None] = None
    multiple: ClassVar[int] = 1

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How images are drawn.

        Attributes:
            zeta: The factor on the slope at each step.
            steps: How many steps of the denoiser's chain are taken; None takes all.
            seed: The seed of all random numbers.
        """

        zeta: float = 0.3
        steps: int | None = None
        seed: int = 0

        def __post_init__(self) -> None:
            """Checks that there are steps, and what they are corrected by."""
            if self.zeta < 0 or (self.steps is not None and self.steps < 1):
                raise ValueError(
                    f"zeta={self.zeta}, steps={self.steps}; give at least 0, and at least 1 or None"
                )

    def __init__(
        self,
        denoiser: Denoiser,
        degradation: Degradation[Any],
        estimate: Callable[[Tensor, Randomness], Params],
        *,
        distance: Distance = residual_length,
        renew: Renew | None = None,
        config: Config | None = None,
    ) -> None:
        super().__init__()
        self.config = config or PosteriorSampler.Config()
        self.denoiser, self.degradation = denoiser, degradation
        self.estimate, self.distance, self.renew = estimate, distance, renew

    @property
    def scale(self) -> int:
        """The factor by which images grow: what the degradation shrinks them by."""
        return self.degradation.scale

    def forward(self, y: Tensor) -> Tensor:
        """Restores images.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).

        Returns:
            Images in [0, 1], with shape (B, C, scale H, scale W).
        """
        config = self.config
        # Streams of their own, so that what the estimate draws does not move the chain.
        damage, noise, chain = (
            [generator_for(config.seed, use) for _ in y] for use in ("damage", "noise", "chain")
        )
        return sample_posterior(
            self.denoiser,
            y,
            self.degradation,
            self.estimate(y, damage),
            generator=chain,
            noise=noise,
            distance=self.distance,
            zeta=config.zeta,
            steps=config.steps,
            renew=self.renew,
        ).clamp(0, 1)


def _for_graphs(params: Params, like: Tensor) -> Params:
    return params.map(lambda t: t.detach().clone().to(like.device))


def _check(
    denoiser: Denoiser,
    shape: tuple[int, int, int, int],
    degradation: Degradation[Any],
    params: Params,
    zeta: float,
) -> None:
    """Refuses parts that do not fit together."""
    if not is_differentiable(degradation):
        raise ValueError(
            f"{type(degradation).__name__} has no gradients to the image; give a differentiable degradation"
        )
    if any(side % denoiser.multiple for side in shape[2:]):
        raise ValueError(
            f"images of {shape[2]}x{shape[3]} pixels were to be made; this denoiser takes multiples of "
            f"{denoiser.multiple}"
        )
    if len(params) != shape[0]:
        raise ValueError(f"got params of {len(params)} samples for {shape[0]} images")
    if not zeta >= 0:
        raise ValueError(f"zeta={zeta}; give at least 0")
