r"""The methods of restoration by inversion, by their names.

=========  =====================================  ==================================  ===========================
name       the damage f                           its parameters                      the search
=========  =====================================  ==================================  ===========================
universal  a learned one that encodes             read off y; codes and noise move    V, W, W+, W++
non-blind  any differentiable one                 known or drawn, and kept            W, W+, W++
blind      none: :class:`Identity`                                                    W, W+, W++
sphere     any differentiable one, or none        known, drawn or read, and kept      Z, on its sphere
=========  =====================================  ==================================  ===========================

A prior with Z alone is searched there by all of them. Two more, ``pulse`` and ``mmd``, minimise other things; see
:mod:`.latent_search`.

*Distance.* Methods are compared with perceptual distances that need published weights. Here stands the distance of
textures, on all scales with 16 pixels or more, and the pixels of the last. Textures are amplitudes, which do not tell a
colour from its opposite, and structures leave out means; what has to say both is the last term,

.. math:: L(x, y) = \sum_l D(x_l, y_l) + 5 \, \mathrm{mean} |x_n - y_n|,

and so needs more than the weight 0.1 that it has beside a perceptual distance. On samples of a style generator with
random weights (32x32 pixels, disk blur and noise of 25 to 38/255, 60 steps a phase) a search that knew kernel and
deviation, but not the noise, came to 28.5 dB with the weight 1, 30.8 dB with 5 and with 20, and 28.8 dB with pixels
alone. Pictures with a side below 16 pixels are compared by the last term alone. Damaged pictures are clamped to [0, 1]
first, with the gradient passed on.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025),
    | technical report, Section 5.3, https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

from torch import Tensor

from ..degradations import Degradation, Identity, UniversalDegradation
from ..degradations.base import Encoder
from ..functional.random import Randomness
from ..losses import clamped, multiscale_distance, texture_distance
from ..priors import Prior
from ..types import Params
from .inversion import Distance, Inverter
from .phases import PULSE, Free, Phase, phases_for, universal_phases

__all__ = ["METHODS", "Method", "inverter_for", "search_distance"]

Method = Literal["universal", "non-blind", "blind", "sphere"]
"""The name of a method."""

METHODS: tuple[Method, ...] = get_args(Method)
"""The names of all methods."""

_SMALLEST = 16
"""The least side of pictures whose textures can be compared."""

_PIXELS = 5.0
"""The weight of the last scale's pixels."""


def search_distance(
    damaged: Tensor, observed: Tensor, mask: Tensor | None = None, noise: Tensor | None = None
) -> Tensor:
    """Returns how far damaged pictures are from observed ones, with shape (B,).

    Arguments:
        damaged: Pictures about in [0, 1], with shape (B, C, H, W).
        observed: Pictures in [0, 1] of the same shape.
        mask: 1 where pictures are known, with shape (B, 1, H, W); None means everywhere.
        noise: Standard normal numbers with the shape of the pictures, needed with a mask.
    """
    return multiscale_distance(
        texture_distance,
        clamped(damaged),
        observed,
        mask=mask,
        noise=noise,
        smallest=_SMALLEST,
        pixels=_PIXELS,
    )


def inverter_for(
    method: Method,
    prior: Prior,
    degradation: Degradation[Any] | None = None,
    *,
    steps: int | None = None,
    restarts: int = 1,
    seed: int = 0,
    distance: Distance = search_distance,
) -> Inverter:
    """Returns a restorer by inversion.

    Arguments:
        method: A name of :data:`METHODS`.
        prior: The prior.
        degradation: The damage, differentiable; it may be left out of ``blind`` and ``sphere``.
        steps: The steps of each phase; None leaves them at those of the phases.
        restarts: The number of searches; the one with the lowest loss is kept.
        seed: The seed of what is drawn: the start in Z, and parameters of the damage that are not read.
        distance: Tells how far damaged images are from observed ones.

    Raises:
        ValueError: If there is no such method, or it has no use for the damage.
    """
    damage = _damage(method, degradation)
    phases, free, project = _search(method, prior, damage)
    if steps is not None:
        phases = tuple(replace(phase, steps=steps) for phase in phases)
    return Inverter(
        prior,
        damage,
        _estimate(prior, damage),
        distance=distance,
        project=project,
        config=Inverter.Config(phases=phases, free=free, restarts=restarts, seed=seed),
    )


def _damage(method: Method, degradation: Degradation[Any] | None) -> Degradation[Any]:
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose {', '.join(METHODS)}")
    if method == "universal" and not isinstance(degradation, UniversalDegradation):
        given = "none" if degradation is None else f"a {type(degradation).__name__}"
        raise ValueError(
            f"the method universal reads the damage off the picture with a UniversalDegradation, and got {given}; "
            "give one, or choose another method"
        )
    if method == "non-blind" and degradation is None:
        raise ValueError(
            "the method non-blind needs the damage; give it, or choose blind, which needs none"
        )
    if method == "blind" and not isinstance(degradation, Identity | None):
        raise ValueError(
            f"the method blind knows of no damage, and got a {type(degradation).__name__}; leave it out, or "
            "choose non-blind"
        )
    return degradation or Identity()


def _search(
    method: Method, prior: Prior, damage: Degradation[Any]
) -> tuple[tuple[Phase, ...], Free, Callable[[Any], Any] | None]:
    """Returns the phases, what of the damage moves in them, and how it is kept allowed."""
    if method == "universal":
        assert isinstance(damage, UniversalDegradation)
        codes = ("e_g", "e_l") if damage.config.redegrader.local else ("e_g",)
        return universal_phases(prior), Free(codes=codes, noise=("noise",)), damage.standardised
    return PULSE if method == "sphere" else phases_for(prior), Free(), None


def _estimate(prior: Prior, damage: Degradation[Any]) -> Callable[[Tensor, Randomness], Params]:
    """Returns what tells the parameters of the damage: who can read them reads them, else they are drawn."""
    channels, height, width = prior.shape

    def estimate(y: Tensor, generator: Randomness) -> Params:
        if isinstance(damage, Encoder):
            read: Params = damage.encode(y, generator=generator)
            return read
        drawn: Params = damage.sample((len(y), channels, height, width), generator=generator)
        return drawn

    return estimate
