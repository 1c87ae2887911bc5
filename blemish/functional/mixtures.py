r"""Mixtures of logistic or normal laws over the 256 values that a byte can take.

A pixel's value lies on a grid :math:`x \in \{-1, -1 + 2h, \dots, 1\}` with half a step :math:`h = 1/255`. A component with
mean m, scale s and distribution function F gives it the probability of its bin,

.. math:: P(x) = F\Big(\frac{x - m + h}{s}\Big) - F\Big(\frac{x - m - h}{s}\Big),

where the lowest bin reaches to minus infinity and the highest to infinity, so that the 256 probabilities sum to one.
A component holds for all channels of a pixel at once, and within it a channel's mean depends on the channels before it:

.. math:: P(x) = \sum_k \pi_k \prod_i P_k(x_i \mid x_{<i}), \qquad m_{ki}(x) = m_{ki} + \sum_{j < i} \tanh(t_{kij}) x_j.

With a ``base`` b (the value of an image that the pixel resembles), all this is said of :math:`x - b`: means are relative to
it, and so is what a channel knows of the others.

The logarithm of the difference is needed far from the mean too, where both terms are 1 or 0 in floating point. For the
logistic law it has a closed form,

.. math:: \log P = \log \sigma(u) + \log \sigma(-l) + \log (1 - e^{l - u})

with the bin's ends :math:`l < u` in units of s. For the normal law the bin is reflected to the left of the mean, and
:math:`\log P = \log \Phi(u) + \log(1 - e^{-\delta})` with :math:`\delta = \log \Phi(u) - \log \Phi(l)`, which is the bin's width
times the slope of :math:`\log \Phi` where the bin is narrow. No probability is replaced by a density, and no gradient vanishes far from the
mean. That of a scale below its floor does: such a scale is the floor, so that its parameter moves no more by itself.

References:
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications
    | (Salimans et al., 2017), Sections 2.1 and 2.2, https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["FLOOR", "STEP", "Family", "log_prob", "parameters_per_pixel", "sample"]

Family = Literal["logistic", "gaussian"]
"""The law of a component."""

STEP = 2 / 255
"""The distance of neighbouring values on [-1, 1]."""

FLOOR = -7.0
"""The least logarithm of a scale: an eighth of a step."""

NARROW = 5e-3
"""Bins narrower than this, in units of the scale, have the density's slope at their middle."""


def parameters_per_pixel(components: int, channels: int, coupled: bool = True) -> int:
    """Returns how many numbers describe the law of one pixel.

    For each component these are the logarithm of its weight, a mean and a logarithm of a scale for each channel, and,
    where channels are coupled, a coefficient for each pair.

    Arguments:
        components: The number K of components.
        channels: The number C of channels.
        coupled: Whether a channel's mean depends on the channels before it.
    """
    return components * (1 + 2 * channels + (channels * (channels - 1) // 2 if coupled else 0))


def log_prob(
    parameters: Tensor,
    x: Tensor,
    *,
    components: int,
    family: Family,
    coupled: bool = True,
    base: Tensor | None = None,
) -> Tensor:
    """Returns the logarithms of the probabilities of pixels, in nats, summed over their channels.

    Arguments:
        parameters: The laws, with shape (B, M, H, W), M as :func:`parameters_per_pixel` says: first the logarithms of the
            weights of all components, then each channel's means, each channel's logarithms of scales, and coefficients.
        x: The pixels, in [-1, 1] and on the grid of 256 values, with shape (B, C, H, W).
        components: The number of components.
        family: The law of a component.
        coupled: Whether a channel's mean depends on the channels before it.
        base: What means are relative to, with the shape of x; by default 0.

    Returns:
        Values of at most 0, with shape (B, H, W).
    """
    law = _split(parameters, x.shape[1], components, coupled)
    x, offset = x.unsqueeze(2), 0.0 if base is None else base.unsqueeze(2)
    distance = x - offset - _means(law, x - offset)
    inverse = torch.exp(-law.log_scales)
    upper, lower = (distance + STEP / 2) * inverse, (distance - STEP / 2) * inverse
    lowest, highest = x < -1 + STEP / 2, x > 1 - STEP / 2
    bins = _logistic if family == "logistic" else _gaussian
    logs = bins(lower, upper, STEP * inverse, lowest, highest).sum(dim=1)
    return torch.logsumexp(logs + F.log_softmax(law.logits, dim=1), dim=1)


def sample(
    parameters: Tensor,
    draws: Tensor,
    *,
    components: int,
    family: Family,
    coupled: bool = True,
    base: Tensor | None = None,
) -> Tensor:
    """Draws pixels.

    A component is drawn, then its continuous law for one channel after the other, of which the nearest value is taken:
    a bin has the probability that :func:`log_prob` gives it, the outer ones with all that lies beyond.

    Arguments:
        parameters: The laws, with shape (B, M, H, W), as in :func:`log_prob`.
        draws: Numbers from U[0, 1) with shape (B, 1 + C, H, W): one for the component, one for each channel.
        components: The number of components.
        family: The law of a component.
        coupled: Whether a channel's mean depends on the channels before it.
        base: What means are relative to, with shape (B, C, H, W); by default 0.

    Returns:
        Pixels in [-1, 1] on the grid of 256 values, with shape (B, C, H, W).
    """
    law = _split(parameters, draws.shape[1] - 1, components, coupled)
    ends = law.logits.softmax(dim=1).cumsum(dim=1)[:, :-1]
    chosen = (draws[:, :1] >= ends).sum(dim=1, keepdim=True)[:, None]
    means, log_scales, coefficients = (
        torch.take_along_dim(t, chosen, dim=2).squeeze(2) for t in law[1:]
    )
    noise = log_scales.exp() * _quantile(draws[:, 1:], family)
    pixels: list[Tensor] = []
    for i in range(means.shape[1]):
        value = means[:, i] + noise[:, i]
        offset = 0.0 if base is None else base[:, i]
        if coupled:
            first = i * (i - 1) // 2
            for j, known in enumerate(pixels):
                before = known if base is None else known - base[:, j]
                value = value + torch.tanh(coefficients[:, first + j]) * before
        steps = ((value + offset + 1) / STEP).round().clamp(0, 255)
        pixels.append(steps * STEP - 1)
    return torch.stack(pixels, dim=1)


class _Law(NamedTuple):
    logits: Tensor  # (B, K, H, W)
    means: Tensor  # (B, C, K, H, W)
    log_scales: Tensor  # (B, C, K, H, W)
    coefficients: Tensor  # (B, pairs, K, H, W)


def _split(parameters: Tensor, channels: int, components: int, coupled: bool) -> _Law:
    expected = parameters_per_pixel(components, channels, coupled)
    if parameters.shape[1] != expected:
        raise ValueError(
            f"got {parameters.shape[1]} parameters for a pixel; {components} components of {channels} channels, "
            f"coupled={coupled}, take {expected}"
        )
    of_each = expected // components
    B, _, H, W = parameters.shape
    parts = parameters.reshape(B, of_each, components, H, W)
    logits, means, log_scales, coefficients = torch.split(
        parts, [1, channels, channels, of_each - 1 - 2 * channels], dim=1
    )
    # A scale below the floor is the floor, and has no gradient in either direction.
    return _Law(logits.squeeze(1), means, log_scales.clamp(min=FLOOR), coefficients)


def _means(law: _Law, known: Tensor) -> Tensor:
    """Returns the means (B, C, K, H, W) given the channels of known, with shape (B, C, 1, H, W)."""
    if not law.coefficients.shape[1]:
        return law.means
    tanh = torch.tanh(law.coefficients)
    means = [law.means[:, 0]]
    for i in range(1, known.shape[1]):
        first = i * (i - 1) // 2
        means.append(law.means[:, i] + (tanh[:, first : first + i] * known[:, :i]).sum(dim=1))
    return torch.stack(means, dim=1)


def _logistic(
    lower: Tensor, upper: Tensor, width: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    left = F.logsigmoid(upper).masked_fill(highest, 0.0)
    right = F.logsigmoid(-lower).masked_fill(lowest, 0.0)
    return left + right + torch.log(-torch.expm1(-width)).masked_fill(lowest | highest, 0.0)


def _gaussian(
    lower: Tensor, upper: Tensor, width: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    outer = lowest | highest
    # To the left of the mean, where logarithms of distribution functions are told apart.
    flipped = highest | (~lowest & (lower + upper > 0))
    a, b = torch.where(flipped, -upper, lower), torch.where(flipped, -lower, upper)
    log_b = _log_ndtr(b)
    middle = ((a + b) / 2).clamp(max=0.0)
    slope = math.sqrt(2 / math.pi) / torch.special.erfcx(-middle / math.sqrt(2))
    gap = torch.where(width < NARROW, width * slope, log_b - _log_ndtr(a))
    # Outer bins have one end only; what stands in their place must have a finite gradient.
    return log_b + torch.log(-torch.expm1(-gap.masked_fill(outer, 1.0))).masked_fill(outer, 0.0)


def _log_ndtr(x: Tensor) -> Tensor:
    """Returns log Phi, as torch does; but its gradient is right in float32 a thousand scales away, too."""
    t = x / math.sqrt(2)
    left = torch.log(torch.special.erfcx(-t.clamp(max=0.0)) / 2) - t.square()
    return torch.where(x < 0, left, torch.log1p(-torch.special.erfc(t.clamp(min=0.0)) / 2))


def _quantile(u: Tensor, family: Family) -> Tensor:
    # A draw may be 0, where the quantile is infinite: half of the finest step of float32 stands for it.
    u = u.clamp(2.0**-25, 1 - 2.0**-24)
    return torch.logit(u) if family == "logistic" else torch.special.ndtri(u)
