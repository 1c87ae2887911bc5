r"""The phases of an inversion: which latents move, how, and what of the degradation moves with them.

The search widens step by step, from one style to one for each layer to one for each input channel of each layer, with
ever shorter steps (:data:`RSG`). With a learned degradation, two things are added (:data:`UNIVERSAL`): in a first phase,
called V, only w moves, while damage that was misread can still do no harm; and the noise moves from W on, the codes from
W+ on. The report on the method leaves open whether the codes already move in W; if they shall:

.. code-block:: python

    v, w, *wider = UNIVERSAL
    phases = (v, replace(w, codes=True), *wider)

A prior with Z alone is searched on the sphere on which its latents lie (:data:`PULSE`); with a learned degradation
three times, the second time with its noise, the third with its codes, too.

References:
    | Robust Unsupervised StyleGAN Image Restoration (Poirier-Ginter & Lalonde, 2023)
    | https://arxiv.org/abs/2302.06733
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025),
    | technical report, Section 5.3, https://arxiv.org/abs/2505.12860
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models
    | (Menon et al., 2020), https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..priors import Prior, Space

__all__ = ["PULSE", "RSG", "UNIVERSAL", "Free", "Phase", "phases_for", "universal_phases"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a search.

    Attributes:
        space: The space of the latents that move.
        steps: The number of steps.
        lr: Their length with the optimiser "normalised", Adam's learning rate with "adam".
        codes: Whether the degradation's free codes move, too.
        noise: Whether its free noise moves, too.
        optimiser: How latents step.
        schedule: Whether ``lr`` stays, or rises and falls as PULSE's does.
        sphere: Whether latents of Z go back to the radius sqrt(D) after each step.
    """

    space: Space
    steps: int = 150
    lr: float
    codes: bool = False
    noise: bool = False
    optimiser: Literal["normalised", "adam"] = "normalised"
    schedule: Literal["fixed", "one-cycle"] = "fixed"
    sphere: bool = False

    def __post_init__(self) -> None:
        """Checks that this is a phase."""
        if self.steps < 1 or not self.lr > 0:
            raise ValueError(f"steps={self.steps}, lr={self.lr}; give both above 0")
        choices = {
            "space": (self.space, get_args(Space)),
            "optimiser": (self.optimiser, ("normalised", "adam")),
            "schedule": (self.schedule, ("fixed", "one-cycle")),
        }
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise ValueError(f"{name}={value!r} is not known; choose {', '.join(allowed)}")
        if self.sphere and self.space != "Z":
            raise ValueError(f"sphere=True in {self.space}; only latents of Z lie on a sphere")


RSG = (
    Phase(space="W", lr=0.08),
    Phase(space="W+", lr=0.02),
    Phase(space="W++", lr=0.005),
)
"""The phases of robust StyleGAN inversion; nothing of the degradation moves."""

UNIVERSAL = (
    Phase(space="W", lr=0.08),
    Phase(space="W", lr=0.08, noise=True),
    Phase(space="W+", lr=0.02, codes=True, noise=True),
    Phase(space="W++", lr=0.005, codes=True, noise=True),
)
"""The phases V, W, W+ and W++ with a degradation that was learned."""

PULSE = (Phase(space="Z", steps=100, lr=0.4, optimiser="adam", schedule="one-cycle", sphere=True),)
"""The spherical search of Z."""


@dataclass(frozen=True, kw_only=True)
class Free:
    """What of a degradation's params a search may move, by the names of :meth:`~blemish.types.Params.tensors`.

    Attributes:
        codes: The names of codes, such as ``("e_g", "e_l")``.
        noise: The names of noise, such as ``("noise",)``: maps, with shape (B, ..., H, W), that keep mean 0 and
            variance 1, unless the search is given another ``project``.
        codes_lr: Adam's learning rate for codes.
        noise_lr: Adam's learning rate for noise.
    """

    codes: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    codes_lr: float = 1e-2
    noise_lr: float = 1e-2

    def __post_init__(self) -> None:
        """Checks that codes and noise are different things."""
        if both := set(self.codes) & set(self.noise):
            raise ValueError(f"{min(both)!r} is named as code and as noise; name it once")
        if not min(self.codes_lr, self.noise_lr) > 0:
            raise ValueError(
                f"codes_lr={self.codes_lr}, noise_lr={self.noise_lr}; give both above 0"
            )


def phases_for(prior: Prior) -> tuple[Phase, ...]:
    """Returns the phases of :data:`RSG` in spaces that a prior has, or :data:`PULSE` if it has Z alone."""
    return tuple(phase for phase in RSG if phase.space in prior.spaces) or PULSE


def universal_phases(prior: Prior) -> tuple[Phase, ...]:
    """Returns the phases of :data:`UNIVERSAL` in spaces that a prior has, or thrice those of :data:`PULSE`."""
    found = tuple(phase for phase in UNIVERSAL if phase.space in prior.spaces)
    if found:
        return found
    moving = tuple(replace(phase, noise=True) for phase in PULSE)
    return (*PULSE, *moving, *(replace(phase, codes=True) for phase in moving))
