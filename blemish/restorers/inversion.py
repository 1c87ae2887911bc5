r"""Restoration by inversion of a prior: the clean image whose damaged version is the observed one.

Nothing is trained. Among the images of a prior G one is searched that, damaged as the observed image y was, looks like it,

.. math:: \min_{w, e, n} \; d \big( f(G(w); e, n), \, y \big),

where f is a differentiable degradation, e are its codes (what kind of damage, and how much) and n its noise. What f is
makes the method:

* *not blind*: the true degradation with its true parameters, nothing of which is free: the upper bound;
* *naively blind*: :class:`~blemish.degradations.Identity`: whatever damage the prior can draw is restored, too;
* *universal*: a learned degradation whose e was read off y; e and n are free in the later phases.

*Phases.* The search widens from phase to phase; which phases there are is told in :mod:`blemish.restorers.phases`.

*Steps.* Vectors of latents take normalised steps, codes and noise those of Adam; see :mod:`blemish.functional.descent`.
The loss is a sum over samples, and nothing is normalised over the batch: an image is restored as it would be alone.

References:
    | Robust Unsupervised StyleGAN Image Restoration (Poirier-Ginter & Lalonde, 2023)
    | https://arxiv.org/abs/2302.06733
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025),
    | technical report, Section 5.3 and Eq. 15, https://arxiv.org/abs/2505.12860
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models
    | (Menon et al., 2020), https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ..degradations import Degradation, is_differentiable
from ..functional.descent import (
    finite,
    normalised_step,
    one_cycle_drop,
    onto_sphere,
    standardised,
)
from ..functional.random import Randomness, generator_for
from ..priors import Prior, Space
from ..types import Params
from .phases import Free, Phase, phases_for

__all__ = ["Inverted", "Inverter", "best_of", "invert", "picker"]

Distance = Callable[[Tensor, Tensor], Tensor]
"""A function of damaged and observed images, with shape (B, C, H, W), to numbers, with shape (B,).

Observed images lie in [0, 1]; damaged ones are as the degradation leaves them, as a clamp would stop the gradients.
"""

Project = Callable[[Any], Any]
"""A function of params to params of the same kind that are allowed."""


@dataclass(frozen=True)
class Inverted:
    """What a search found.

    Attributes:
        images: The images, as the prior makes them, with shape (B, C, H, W).
        latents: Their latents.
        space: The space of the latents, that of the last phase.
        params: The parameters of the damage, whose free tensors have moved.
        losses: The distances between the damaged images and the observed ones, with shape (B,).
        path: The distances before each step of a phase and after its last, for each phase, with shape (steps + 1, B).
    """

    images: Tensor
    latents: Tensor
    space: Space
    params: Params
    losses: Tensor
    path: tuple[Tensor, ...]

    def path_of(self, i: int) -> list[list[float]]:
        """Returns the path of one image as plain numbers: a list for each phase."""
        return [part[:, i].tolist() for part in self.path]


def invert(
    prior: Prior,
    observed: Tensor,
    degradation: Degradation[Any],
    params: Params,
    *,
    distance: Distance,
    generator: Randomness,
    phases: Sequence[Phase] | None = None,
    free: Free | None = None,
    project: Project | None = None,
    start: Tensor | None = None,
) -> Inverted:
    """Searches the images of a prior that look like observed ones once they are damaged.

    Arguments:
        prior: The prior.
        observed: Observed images in [0, 1], with shape (B, C, H / scale, W / scale).
        degradation: How they were damaged; differentiable.
        params: Its parameters for these images: true, drawn, or read off them.
        distance: Tells how far damaged images are from observed ones: (B,) from two batches of images.
        generator: The source of randomness for a start in Z.
        phases: The phases; by default those of :func:`phases_for`.
        free: What of the params moves in phases that say so; by default nothing.
        project: Makes params allowed again after each step of theirs; by default, free noise goes back to mean 0
            and variance 1 in each map.
        start: Latents of the first phase's space to start from; by default those of :meth:`Prior.start`.

    Raises:
        ValueError: If the parts do not fit together; the message says which.
    """
    phases = phases_for(prior) if phases is None else tuple(phases)
    free = free or Free()
    _check(prior, observed, degradation, params, phases)
    # A caller may have switched gradients off, as one does where images are restored.
    with torch.inference_mode(mode=False), torch.enable_grad():
        search = _Search(prior, observed.clone(), degradation, params, distance, free, project)
        space, path = phases[0].space, []
        if start is None:
            start = prior.start(len(observed), space, generator=generator)
        latents = start.to(observed.device, observed.dtype)
        for phase in phases:
            latents = prior.widen(latents, space, phase.space)
            latents, losses = search.run(phase, latents)
            space = phase.space
            path.append(losses)
        with torch.no_grad():
            images = prior.synthesize(latents, space)
        return Inverted(images, latents, space, search.params.detach(), path[-1][-1], tuple(path))


def best_of(results: Sequence[Inverted]) -> Inverted:
    """Returns, for each image, what the search with the lowest loss found.

    Arguments:
        results: Searches for the same images with the same phases.
    """
    losses = [result.losses for result in results]
    pick = picker(losses)
    named = [result.params.tensors() for result in results]
    paths = zip(*(result.path for result in results), strict=True)
    return Inverted(
        images=pick([result.images for result in results]),
        latents=pick([result.latents for result in results]),
        space=results[0].space,
        params=results[0].params.replace_tensors(
            {name: pick([tensors[name] for tensors in named]) for name in named[0]}
        ),
        losses=pick(losses),
        path=tuple(pick([losses.T for losses in phase]).T for phase in paths),
    )


def picker(losses: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], Tensor]:
    """Returns a function that takes, for each image, the row of the search with the lowest loss.

    Arguments:
        losses: The losses of each search, with shape (B,); one that is no number is the worst.

    Returns:
        A function of a tensor of each search, with shape (B, ...), to one of that shape.
    """
    winner = torch.stack(list(losses)).nan_to_num(nan=math.inf).argmin(dim=0)
    rows = torch.arange(len(winner), device=winner.device)
    return lambda candidates: torch.stack(list(candidates))[winner, rows]


@final
class Inverter(nn.Module):
    """Restores images by inversion of a prior.

    Every image's search starts from the same random numbers, which follow from the seed and the restart, so that it is
    restored as it would be alone. The modules are used in the mode that they are in: call ``eval()`` if they have
    dropout or batch statistics.

    Arguments:
        prior: The prior.
        degradation: How images are damaged; differentiable.
        estimate: Tells the degradation's parameters for observed images (B, C, H, W), with one generator for each
            sample: an encoder, or ``lambda y, generator: degradation.sample(...)``, or what is known.
        distance: Tells how far damaged images are from observed ones: (B,) from two batches of images.
        project: Makes params allowed again after each step of theirs; see :func:`invert`.
        config: The phases, and the restarts.
    """

    receptive_field: ClassVar[int | None] = None
    multiple: ClassVar[int] = 1

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How images are searched.

        Attributes:
            phases: The phases; None takes those of :func:`phases_for`.
            free: What of the degradation's params moves in phases that say so.
            restarts: The number of searches; the one with the lowest loss is kept.
            seed: The seed of all random numbers.
        """

        phases: tuple[Phase, ...] | None = None
        free: Free = Free()
        restarts: int = 1
        seed: int = 0

        def __post_init__(self) -> None:
            """Checks that there is a search."""
            if self.restarts < 1:
                raise ValueError(f"restarts={self.restarts}; give at least 1")

    def __init__(
        self,
        prior: Prior,
        degradation: Degradation[Any],
        estimate: Callable[[Tensor, Randomness], Params],
        *,
        distance: Distance,
        project: Project | None = None,
        config: Config | None = None,
    ) -> None:
        super().__init__()
        self.config = config or Inverter.Config()
        self.prior, self.degradation = prior, degradation
        self.estimate, self.distance, self.project = estimate, distance, project
        self.tell: Callable[[int], object] = lambda done: None
        """Is told how often the distance was asked, for a display."""
        self._done = 0

    @property
    def scale(self) -> int:
        """The factor by which images grow: what the degradation shrinks them by."""
        return self.degradation.scale

    @property
    def asked(self) -> int:
        """How often a batch asks for the distance."""
        phases = self.config.phases or phases_for(self.prior)
        return self.config.restarts * sum(phase.steps + 1 for phase in phases)

    def searches(self, y: Tensor) -> tuple[Inverted, ...]:
        """Returns what each restart finds for observed images in [0, 1], with shape (B, C, H, W)."""
        self._done = 0
        return tuple(self._search(y, restart) for restart in range(self.config.restarts))

    def forward(self, y: Tensor) -> Tensor:
        """Restores images.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).

        Returns:
            The best restart's images in [0, 1], of the prior's shape: (B, C, scale H, scale W).
        """
        return best_of(self.searches(y)).images.clamp(0, 1)

    def _search(self, y: Tensor, restart: int) -> Inverted:
        config = self.config
        # Streams of their own, so that what the estimate draws does not move the start.
        damage, start = (
            [generator_for(config.seed, restart, use) for _ in y] for use in ("damage", "start")
        )
        return invert(
            self.prior,
            y,
            self.degradation,
            self.estimate(y, damage),
            distance=self._counted,
            generator=start,
            phases=config.phases,
            free=config.free,
            project=self.project,
        )

    def _counted(self, damaged: Tensor, observed: Tensor) -> Tensor:
        self._done += 1
        self.tell(self._done)
        return self.distance(damaged, observed)


class _Search:
    """A search under way: the params as they have moved so far, and Adam's memory of their steps."""

    def __init__(
        self,
        prior: Prior,
        observed: Tensor,
        degradation: Degradation[Any],
        params: Params,
        distance: Distance,
        free: Free,
        project: Project | None,
    ) -> None:
        self.prior, self.observed, self.degradation = prior, observed, degradation
        self.distance, self.project = distance, project
        # Copies: they move, and what was made in inference mode could not stand in a graph.
        self.params = params.map(lambda t: t.detach().clone().to(observed.device))
        self.codes, self.noise = self._chosen(free.codes), self._chosen(free.noise)
        if project is None:
            _check_maps(self.noise)
        groups = [(self.codes, free.codes_lr), (self.noise, free.noise_lr)]
        self.adam = [torch.optim.Adam(list(kind.values()), lr) for kind, lr in groups if kind]

    def run(self, phase: Phase, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the latents after a phase, and the losses before each step and after the last: (steps + 1, B)."""
        latents = latents.detach().clone().requires_grad_()
        codes = self.codes if phase.codes else {}
        moving = {**codes, **(self.noise if phase.noise else {})}
        walk = _Walk(phase, latents)
        path = []
        for step in range(phase.steps):
            losses = self.losses(latents, phase.space)
            path.append(losses.detach())
            # The sum, not the mean: each sample has the slope that it has alone.
            slopes = torch.autograd.grad(
                losses.sum(), [latents, *moving.values()], allow_unused=True, materialize_grads=True
            )
            walk.step(slopes[0], step)
            self._move(moving, slopes[1:])
        with torch.no_grad():
            path.append(self.losses(latents, phase.space))
        return latents.detach(), torch.stack(path)

    def losses(self, latents: Tensor, space: Space) -> Tensor:
        """Returns d(f(G(w); e, n), y), with shape (B,)."""
        damaged = self.degradation(self.prior.synthesize(latents, space), self.params)
        losses = self.distance(damaged, self.observed)
        if losses.shape != self.observed.shape[:1]:
            raise ValueError(
                f"the distance has shape {tuple(losses.shape)}; give one number for each of the "
                f"{len(self.observed)} images"
            )
        return losses

    @torch.no_grad()
    def _move(self, moving: dict[str, Tensor], slopes: Sequence[Tensor]) -> None:
        """Takes a step with some of the free tensors, and makes them allowed again."""
        if not moving:
            return
        for tensor, slope in zip(moving.values(), slopes, strict=True):
            tensor.grad = finite(slope)
        for adam in self.adam:
            adam.step()
            adam.zero_grad()  # Adam passes over what has no gradient: what does not move next time
        if self.project is None:
            allowed = {name: standardised(n) for name, n in self.noise.items()}
        else:
            allowed = self.project(self.params.detach()).tensors()
        for name in moving.keys() & allowed.keys():
            moving[name].copy_(allowed[name])

    def _chosen(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Returns the tensors of some names, which from now on have gradients."""
        tensors = self.params.tensors()
        for name in names:
            if name not in tensors:
                raise ValueError(
                    f"the params have no {name!r} that could be free; they have {', '.join(tensors)}"
                )
            if not tensors[name].is_floating_point():
                raise ValueError(
                    f"{name!r} holds {tensors[name].dtype}; only real numbers can move"
                )
        return {name: tensors[name].requires_grad_() for name in names}


class _Walk:
    """How latents step in one phase.

    Arguments:
        phase: The phase.
        latents: The latents, a leaf that is changed in place.
    """

    def __init__(self, phase: Phase, latents: Tensor) -> None:
        self.phase, self.latents = phase, latents
        self.adam = torch.optim.Adam([latents], phase.lr) if phase.optimiser == "adam" else None
        self._return_to_sphere()

    @torch.no_grad()
    def step(self, slope: Tensor, n: int) -> None:
        """Takes the n-th step, n = 0, 1, ..."""
        phase = self.phase
        cycle = phase.schedule == "one-cycle"
        lr = phase.lr * (one_cycle_drop(n / phase.steps) if cycle else 1)
        if self.adam is None:
            self.latents.copy_(normalised_step(self.latents, slope, lr))
        else:
            self.adam.param_groups[0]["lr"] = lr
            self.latents.grad = finite(slope)
            self.adam.step()
        self._return_to_sphere()

    @torch.no_grad()
    def _return_to_sphere(self) -> None:
        if self.phase.sphere:
            radius = math.sqrt(self.latents.shape[-1])
            self.latents.copy_(onto_sphere(self.latents, radius))


def _check(
    prior: Prior,
    observed: Tensor,
    degradation: Degradation[Any],
    params: Params,
    phases: Sequence[Phase],
) -> None:
    """Refuses parts that do not fit together."""
    if not phases:
        raise ValueError("there are no phases; give at least one, or None for those of the prior")
    places = [prior.check_space(phase.space) for phase in phases]
    if places != sorted(places):
        order = ", ".join(phase.space for phase in phases)
        raise ValueError(f"the phases go through {order}; no space may come after a larger one")
    if not is_differentiable(degradation):
        raise ValueError(
            f"{type(degradation).__name__} has no gradients to the image; give a differentiable degradation"
        )
    channels, height, width = prior.shape
    expected = (channels, height // degradation.scale, width // degradation.scale)
    if tuple(observed.shape[1:]) != expected:
        raise ValueError(
            f"got images with shape {tuple(observed.shape)}; this prior and this degradation make "
            f"(B, {', '.join(map(str, expected))})"
        )
    if len(params) != len(observed):
        raise ValueError(f"got params of {len(params)} samples for {len(observed)} images")


def _check_maps(noise: dict[str, Tensor]) -> None:
    """Refuses noise that does not lie in maps."""
    for name, tensor in noise.items():
        if tensor.ndim < 3:
            raise ValueError(
                f"the noise {name!r} has shape {tuple(tensor.shape)}, and no maps to standardise; give a "
                "project that does"
            )
