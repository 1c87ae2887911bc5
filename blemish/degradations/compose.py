r"""Composition: chains, partial application, fixed parameters.

:math:`y = \psi(x * k + n, q)` is ``Chain((Blur(...), ReadShotNoise(...), JPEG(...)))``. A chain
clamps to [0, 1] before a stage that needs the range, and at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..functional.random import Randomness, device_of, generator_for, rand
from ..types import Params, Shape
from .base import Degradation, Differentiable, Likelihood, is_likelihood

__all__ = [
    "Chain",
    "ChainParams",
    "Fixed",
    "Identity",
    "NoParams",
    "Partial",
    "PartialParams",
    "is_differentiable",
]


@dataclass(frozen=True)
class NoParams(Params):
    """Nothing drawn but the size of the batch.

    Attributes:
        rows: Zeros, with shape (B,).
    """

    rows: Tensor

    def summary(self) -> dict[str, Tensor]:
        """Returns nothing."""
        return {}


class Identity(Differentiable[NoParams]):
    """Leaves images as they are."""

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        def build(self) -> Identity:
            """Makes the degradation."""
            return Identity()

    def __init__(self) -> None:
        super().__init__()
        self.config = Identity.Config()

    @property
    def known(self) -> bool:
        """It does the same to every image."""
        return True

    def sample(self, shape: Shape, *, generator: Randomness) -> NoParams:
        """Draws nothing."""
        return NoParams(torch.zeros(shape[0], device=device_of(generator)))

    def forward(self, x: Tensor, params: NoParams) -> Tensor:
        """Returns the images of shape (B, C, H, W)."""
        return x


@dataclass(frozen=True)
class ChainParams(Params):
    """The parameters of the stages of a chain, in order."""

    stages: tuple[Params, ...]

    def summary(self) -> dict[str, Tensor]:
        """Returns the summaries of all stages, each with shape (B,)."""
        return {name: value for stage in self.stages for name, value in stage.summary().items()}


class Chain(Likelihood[ChainParams]):
    r"""Applies degradations in order, clamping to [0, 1] where JPEG needs it and at the end.

    It is as differentiable as its stages are: see :func:`is_differentiable`. If its last stage tells how likely an
    observed image is, and what comes before is known, it does so itself, :math:`p(y \mid x) = p_n(y \mid d_{n-1}
    \cdots d_1(x))`: known blur and noise, say.

    Arguments:
        stages: The degradations, first applied first.
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        stages: tuple[Any, ...] = ()

        def build(self) -> Chain:
            """Makes the degradation."""
            return Chain([stage.build() for stage in self.stages])

    def __init__(self, stages: Sequence[Degradation[Any]]) -> None:
        super().__init__()
        if not stages:
            raise ValueError("a chain needs at least one stage; use Identity() for none")
        self.stages = nn.ModuleList(stages)
        self.config = Chain.Config(tuple(stage.config for stage in stages))
        for stage in stages:
            self.scale = self.scale * stage.scale

    def __iter__(self) -> Any:
        """Iterates over the stages."""
        return iter(self.stages)

    def sample(self, shape: Shape, *, generator: Randomness) -> ChainParams:
        """Draws the parameters of all stages; a stage that shrinks hands on a smaller shape."""
        drawn = []
        for stage in self:
            drawn.append(stage.sample(shape, generator=generator))
            shape = (*shape[:2], shape[2] // stage.scale, shape[3] // stage.scale)
        return ChainParams(tuple(drawn))

    def forward(self, x: Tensor, params: ChainParams) -> Tensor:
        """Applies all stages to images of shape (B, C, H, W)."""
        for stage, drawn in zip(self, params.stages, strict=True):
            if stage.needs_range:
                x = x.clamp(0, 1)
            x = stage(x, drawn)
        return x.clamp(0, 1)

    @property
    def known(self) -> bool:
        """Whether all stages do the same to every image."""
        return all(stage.known for stage in self)

    @property
    def tells(self) -> bool:
        """Whether the last stage is a likelihood, and all others are known."""
        *before, last = self
        return is_likelihood(last) and all(stage.known for stage in before)

    def log_prob(self, y: Tensor, x: Tensor, params: ChainParams | None = None) -> Tensor:
        """Returns log-probabilities in nats under the last stage, with shape (B,); see :class:`Likelihood`."""
        *before, last = self
        if not isinstance(last, Likelihood) or not (params or self.tells):
            raise ValueError(
                f"a chain that ends with {type(last).__name__} has no likelihood of its own: its last stage must be "
                "noise or a learned likelihood, and the others known, or their params given"
            )
        # Known stages draw nothing that differs.
        generator = generator_for("known", device=x.device)
        for i, stage in enumerate(before):
            if stage.needs_range:
                x = x.clamp(0, 1)
            B, C, H, W = x.shape
            x = stage(
                x, params.stages[i] if params else stage.sample((B, C, H, W), generator=generator)
            )
        return last.log_prob(y, x, params.stages[-1] if params else None)


@dataclass(frozen=True)
class PartialParams(Params):
    """Whom a degradation befalls, and its parameters.

    Attributes:
        applied: Truth values, with shape (B,).
        inner: The parameters of the degradation, for all samples.
    """

    applied: Tensor
    inner: Params

    def summary(self) -> dict[str, Tensor]:
        """Returns the inner summary, each with shape (B,) and NaN where nothing is applied."""
        nan = torch.full_like(self.applied, torch.nan, dtype=torch.float32)
        return {
            name: torch.where(self.applied, value, nan.to(value.device))
            for name, value in self.inner.summary().items()
        }


class Partial(Degradation[PartialParams]):
    """Applies a degradation to each sample with a probability, independently.

    Arguments:
        inner: The degradation; it must keep the size.
        probability: The probability in [0, 1].
    """

    @dataclass(frozen=True)
    class Config:
        """What the constructor takes."""

        inner: Any = Identity.Config()
        probability: float = 0.5

        def build(self) -> Partial:
            """Makes the degradation."""
            return Partial(self.inner.build(), self.probability)

    def __init__(self, inner: Degradation[Any], probability: float) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability} is not in [0, 1]")
        if inner.scale != 1:
            raise ValueError(f"scale {inner.scale} changes the size: it must befall all samples")
        self.inner = inner
        self.needs_range = inner.needs_range
        self.config = Partial.Config(inner.config, probability)

    def sample(self, shape: Shape, *, generator: Randomness) -> PartialParams:
        """Draws who is affected, with shape (B,), and parameters for all."""
        applied = rand(shape[:1], generator) < self.config.probability
        return PartialParams(applied, self.inner.sample(shape, generator=generator))

    def forward(self, x: Tensor, params: PartialParams) -> Tensor:
        """Applies the degradation to the affected images of shape (B, C, H, W)."""
        if is_differentiable(self.inner):
            return torch.where(params.applied.view(-1, 1, 1, 1), self.inner(x, params.inner), x)
        # Real JPEG and photon counts are slow: only the affected samples are computed.
        rows = params.applied.nonzero().squeeze(1)
        if not len(rows):
            return x
        return x.index_copy(0, rows, self.inner(x[rows], params.inner[rows]))


class Fixed(Degradation[Any]):
    """A degradation whose parameters are given instead of drawn.

    Arguments:
        inner: The degradation.
        params: Parameters of one sample (B = 1), used for every sample.
    """

    def __init__(self, inner: Degradation[Any], params: Params) -> None:
        super().__init__()
        if len(params) != 1:
            raise ValueError(f"got parameters of {len(params)} samples; give one: params[0]")
        self.inner, self.params = inner, params
        self.scale, self.needs_range = inner.scale, inner.needs_range
        self.config = inner.config

    @property
    def known(self) -> bool:
        """It does the same to every image."""
        return True

    def sample(self, shape: Shape, *, generator: Randomness) -> Any:
        """Repeats the given parameters."""
        device = device_of(generator)
        return self.params.map(lambda t: t.to(device).expand(shape[0], *t.shape[1:]).contiguous())

    def forward(self, x: Tensor, params: Any) -> Tensor:
        """Applies the degradation to images of shape (B, C, H, W)."""
        return self.inner(x, params)


def is_differentiable(degradation: nn.Module) -> bool:
    """Returns whether a degradation, or all that it is composed of, is differentiable."""
    if isinstance(degradation, Chain):
        return all(is_differentiable(stage) for stage in degradation)
    if isinstance(degradation, (Partial, Fixed)):
        return is_differentiable(degradation.inner)
    return isinstance(degradation, Differentiable)
