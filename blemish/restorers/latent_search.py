r"""Restoration by a search of a prior's latents: PULSE, and perceptual restoration under MMD and a likelihood.

Among the images of a prior g one is searched that explains the observed image y and whose latents look like draws of the
prior; :mod:`.terms` lists what is minimised. Nothing is trained, and nobody needs to know the damage exactly: a learned
law of it, p(y | x), may stand in place of a distance between pixels.

*Latents.* A style generator has one style for each of its k layers. They are searched separately (W+) and taken for k
draws of an unknown law that has to agree with the prior's. A prior without styles is searched in Z.

*Steps.* Adam's step has the same length in each number whatever the slope, so its learning rate means something only
beside the length of the vectors: PULSE's 0.4 belongs to latents on a sphere of radius :math:`\sqrt D`, and would jump
across a sphere of radius 1.5. So what moves are vectors v in units of :math:`r / \sqrt D`,

.. math:: w = c + \frac{r}{\sqrt D} v, \qquad \lVert v \rVert = \sqrt D,

which is Adam with the learning rate :math:`0.4 \, r / \sqrt D`. After each step v goes back to its sphere. The centre c is
the origin as in PULSE, or the mean style, and the radius r that of the start, as printed, or that of draws of the prior.
The mean style is much shorter than draws are, and its sphere much smaller than where they lie.

*Start.* All styles at the mean, or a draw of the prior for each, as where a search from the mean is begun again.

*Seeds.* Every image's search starts from the same random numbers, which follow from the seed and the restart, and the loss
is a sum over images: an image is restored as it would be alone.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning
    | (Han, Duan, Tao & Lu, a preprint), Sections 3 and 4.1
    | PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models
    | (Menon et al., 2020), https://arxiv.org/abs/2003.03808
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final, get_args

import torch
from torch import Tensor, nn

from ..degradations import Degradation, Identity, Likelihood, is_differentiable, is_likelihood
from ..functional.descent import Sphere, finite, one_cycle_drop, sphere_lr
from ..functional.random import Randomness, generator_for, randn
from ..losses import MMD
from ..priors import Prior, Space
from ..types import Params
from .charts import Straightened
from .inversion import picker
from .terms import Bits, Candidate, Discrepancy, Geocross, Objective, PixelDistance, Term

__all__ = [
    "MMD_SEARCH",
    "PULSE_SEARCH",
    "SEARCHES",
    "Found",
    "LatentSearch",
    "best_found",
]

_CHUNK = 8
"""The length of the chunks into which a latent z is cut where it is compared with draws of the prior."""


@dataclass(frozen=True)
class Found:
    """What one search found for each image.

    Attributes:
        images: The images, as the prior makes them, with shape (B, C, H, W).
        latents: Their latents.
        space: The space of the latents.
        losses: Their objective, with shape (B,).
        last: The images after the last step, with shape (B, C, H, W).
        noise: The maps of noise of the images, with shapes (B, 1, side, side); none where the prior's own were left.
        path: The terms before each step and after the last, without their weights, and the objective as ``total``; each
            with shape (steps + 1, B).
    """

    images: Tensor
    latents: Tensor
    space: Space
    losses: Tensor
    last: Tensor
    noise: tuple[Tensor, ...]
    path: dict[str, Tensor]

    def path_of(self, i: int) -> dict[str, list[float]]:
        """Returns the path of one image as plain numbers: a list for each term."""
        return {name: values[:, i].tolist() for name, values in self.path.items()}


def best_found(results: Sequence[Found]) -> Found:
    """Returns, for each image, what the search with the lowest objective found."""
    losses = [found.losses for found in results]
    pick = picker(losses)
    return Found(
        images=pick([found.images for found in results]),
        latents=pick([found.latents for found in results]),
        space=results[0].space,
        losses=pick(losses),
        last=pick([found.last for found in results]),
        noise=tuple(pick(maps) for maps in zip(*(found.noise for found in results), strict=True)),
        path={name: pick([found.path[name].T for found in results]).T for name in results[0].path},
    )


@final
class LatentSearch(nn.Module):
    """Restores images by a search of a prior's latents.

    The modules are used in the mode that they are in: call ``eval()`` if they have dropout or batch statistics.

    Arguments:
        prior: The prior.
        degradation: How images are damaged: differentiable, for a distance between pixels, or a likelihood; by default
            not at all.
        config: What is minimised, and how.
        estimate: Tells the degradation's parameters for observed images, with one generator for each sample; by
            default they are drawn.

    Raises:
        ValueError: If the degradation has no use in this search, or the prior lacks the space.
    """

    receptive_field: ClassVar[int | None] = None
    multiple: ClassVar[int] = 1

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """What is minimised, and how.

        Attributes:
            space: The space that is searched; None takes W+ where the prior has it, else Z.
            start: Where styles start, at the mean or at draws; latents of Z, whose mean lies on no sphere, at draws. There
                is one mean, and restarts after the first begin at draws, too.
            straightened: Whether styles are searched in PULSE's coordinates.
            sphere: The radius to which each vector returns: that of its start, that of draws of the prior, or none.
            centre: The centre of the spheres of styles.
            steps: The number of steps.
            lr: Adam's learning rate for vectors of length sqrt(D).
            schedule: Whether the rate stays, or rises and falls as PULSE's does.
            kept: Which image is the result: the one with the lowest objective on the path, or the last.
            pixels: The weight of the distance between pixels; None takes 0 where bits count, else 100.
            norm: That distance: the mean of squares, or of amounts.
            floor: Its least value.
            cross: The weight of the cross loss.
            mmd: The weight of the discrepancy.
            bits: The weight of the bits; None takes 1 where the damage is a likelihood without gradients, else 0.
            power: The kernel's exponent: 1 as printed, 2 is Gaussian.
            gamma: The kernel's bandwidth; None takes the median of distances between draws, to that power.
            scales: In place of one bandwidth, factors on this median, whose kernels are averaged.
            unbiased: Whether the discrepancy leaves out what a style has in common with itself (the U-statistic).
            draws: The draws of the prior that the latents are compared with.
            noise: How many of the first maps of noise move, too, each on a sphere; then all maps are drawn, and the others
                stay as they were drawn. With 0 they are the prior's own.
            side: The height of the observed images where bits alone compare with them, and the law knows smaller images
                than the prior makes; None stands for the prior's.
            restarts: The number of searches; the one with the lowest objective is kept.
            seed: The seed of all random numbers.
        """

        space: Space | None = None
        start: Literal["mean", "random"] = "mean"
        straightened: bool = False
        sphere: Literal["start", "prior", "none"] = "start"
        centre: Literal["origin", "mean"] = "origin"
        steps: int = 100
        lr: float = 0.4
        schedule: Literal["fixed", "one-cycle"] = "one-cycle"
        kept: Literal["best", "last"] = "best"
        pixels: float | None = None
        norm: Literal["L2", "L1"] = "L2"
        floor: float = 2e-3
        cross: float = 0.05
        mmd: float = 0.0
        bits: float | None = None
        power: Literal[1, 2] = 1
        gamma: float | None = None
        scales: tuple[float, ...] = ()
        unbiased: bool = False
        draws: int = 1000
        noise: int = 0
        side: int | None = None
        restarts: int = 1
        seed: int = 0

        def __post_init__(self) -> None:
            """Checks that this is a search."""
            for name, kinds in _CHOICES.items():
                if getattr(self, name) not in kinds:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} is not known; choose {', '.join(map(str, kinds))}"
                    )
            least = {"steps": 1, "draws": 2, "restarts": 1, "noise": 0, "floor": 0, "side": 1}
            for name, bound in least.items():
                if getattr(self, name) is not None and getattr(self, name) < bound:
                    raise ValueError(f"{name}={getattr(self, name)}; give at least {bound}")
            if not min(self.lr, self.gamma or 1, *self.scales, 1) > 0 or self.gamma == 0:
                raise ValueError(
                    f"lr={self.lr}, gamma={self.gamma}, scales={self.scales}; give numbers above 0"
                )
            if self.gamma is not None and self.scales:
                raise ValueError(
                    f"gamma={self.gamma} and scales={self.scales}: give one of them, scales are factors on the median"
                )
            weights = (self.pixels or 0.0, self.cross, self.mmd, self.bits or 0.0)
            if not all(0 <= weight < math.inf for weight in weights):
                raise ValueError(f"pixels, cross, mmd, bits={weights}; give weights from 0 on")

    def __init__(
        self,
        prior: Prior,
        degradation: Degradation[Any] | None = None,
        config: Config | None = None,
        *,
        estimate: Callable[[Tensor, Randomness], Params] | None = None,
    ) -> None:
        super().__init__()
        self.prior, self.degradation = prior, degradation or Identity()
        self.config = _settled(config or LatentSearch.Config(), prior, self.degradation)
        self.estimate = estimate
        self._mmds: dict[tuple[torch.device, torch.dtype], MMD] = {}
        self.tell: Callable[[int], object] = lambda done: None
        """Is told how often the objective was asked, for a display."""

    @property
    def scale(self) -> int:
        """The factor by which images grow: what the degradation shrinks them by."""
        return self.degradation.scale

    @property
    def observed(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the images that are restored."""
        channels, height, width = self.prior.shape
        side = self.config.side or height
        return channels, side // self.scale, side * width // height // self.scale

    @property
    def asked(self) -> int:
        """How often a batch asks for the objective."""
        return self.config.restarts * (self.config.steps + 1)

    def searches(self, y: Tensor) -> tuple[Found, ...]:
        """Returns what each restart finds for observed images in [0, 1], with shape (B, C, H, W)."""
        if tuple(y.shape[1:]) != self.observed:
            raise ValueError(
                f"got images with shape {tuple(y.shape)}; this search takes (B, {', '.join(map(str, self.observed))})"
            )
        with torch.inference_mode(mode=False), torch.enable_grad():
            y = y.clone()
            return tuple(self._search(y, restart) for restart in range(self.config.restarts))

    def forward(self, y: Tensor) -> Tensor:
        """Restores images.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).

        Returns:
            The best restart's images in [0, 1], of the prior's shape.
        """
        return best_found(self.searches(y)).images.clamp(0, 1)

    def objective(self, y: Tensor, *, generator: Randomness) -> Objective:
        """Returns what is minimised for observed images.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).
            generator: The source of randomness for parameters of the damage that are drawn.
        """
        config = self.config
        terms: list[tuple[Term, float]] = []
        if config.pixels:
            # A law without gradients has nothing to say of pixels but that they are about where they were.
            damage = self.degradation if is_differentiable(self.degradation) else Identity()
            params = self._params(damage, y, generator)
            known = PixelDistance(y, damage, params, config.norm, config.floor)
            terms.append((known, config.pixels))
        if config.bits:
            assert isinstance(self.degradation, Likelihood)
            terms.append((Bits(self.degradation.prepared(y), self.degradation), config.bits))
        if config.cross:
            terms.append((Geocross(), config.cross))
        # Looked at where it does not count, too: searches with and without it can be compared.
        terms.append((Discrepancy(self._mmd(y)), config.mmd))
        return Objective([term for term, _ in terms], [weight for _, weight in terms])

    def _search(self, y: Tensor, restart: int) -> Found:
        config = self.config
        # Streams of their own, so that what the damage draws does not move the start.
        damage, start, noise = (
            [generator_for(config.seed, restart, use) for _ in y]
            for use in ("damage", "start", "noise")
        )
        objective = self.objective(y, generator=damage)
        drawn = config.start == "random" or restart > 0
        walk = _Walk(self.prior, config, self._start(y, start, drawn=drawn), self._maps(y, noise))
        path: dict[str, list[Tensor]] = {}
        best = _Best()
        for step in range(config.steps + 1):
            self.tell(restart * (config.steps + 1) + step + 1)
            candidate = self._candidate(walk)
            values = objective(candidate)
            losses = objective.total(values)
            for name, value in {**values, "total": losses}.items():
                path.setdefault(name, []).append(value.detach())
            if config.kept == "last":
                best = _Best()
            best.see(losses, candidate.images, walk.latents(), *walk.maps)
            if step < config.steps:
                walk.step(losses.sum(), step)
        images, latents, *maps = best.tensors
        return Found(
            images=images,
            latents=latents,
            space=_space(config),
            losses=best.losses,
            last=candidate.images.detach(),
            noise=tuple(maps),
            path={name: torch.stack(values) for name, values in path.items()},
        )

    def _candidate(self, walk: _Walk) -> Candidate:
        latents = walk.latents()
        images = self.prior.synthesize(latents, _space(self.config), walk.maps or None)
        styles = latents[:, None] if latents.ndim == 2 else latents
        return Candidate(images, styles, chunked(latents))

    def _start(self, y: Tensor, generator: Randomness, *, drawn: bool) -> Tensor:
        """Returns where the latents start."""
        space = _space(self.config)
        if space != "W+" or not drawn:
            return self.prior.start(len(y), space, generator=generator).to(y)
        # A draw for each layer, of a stream of its own for each image.
        layers = len(self.prior.features)
        z = torch.stack(
            [self.prior.latents(len(y), generator=generator) for _ in range(layers)], dim=1
        )
        with torch.no_grad():
            w = self.prior.map(z.to(y).flatten(0, 1))
        return w.view(*z.shape[:2], -1)

    def _maps(self, y: Tensor, generator: Randomness) -> list[Tensor]:
        """Returns maps of noise to start from, if some move."""
        if not self.config.noise:
            return []
        return [m.to(y) for m in self.prior.noise(len(y), generator=generator)]

    def _mmd(self, y: Tensor) -> MMD:
        config, key = self.config, (y.device, y.dtype)
        # The draws are those of all batches and restarts, and their part of the discrepancy is a constant.
        if key not in self._mmds:
            median: tuple[float, ...] | Literal["median"] = config.scales or "median"
            self._mmds[key] = MMD.of(
                draws_of(self.prior, _space(config), config.draws, like=y),
                power=config.power,
                gamma=median if config.gamma is None else config.gamma,
                unbiased=config.unbiased,
            )
        return self._mmds[key]

    def _params(self, damage: Degradation[Any], y: Tensor, generator: Randomness) -> Params:
        if self.estimate is not None and damage is self.degradation:
            return self.estimate(y, generator).to(y.device)
        drawn: Params = damage.sample((len(y), *self.prior.shape), generator=generator)
        return drawn.to(y.device)


def draws_of(prior: Prior, space: Space, count: int, *, like: Tensor) -> Tensor:
    """Returns draws that the latents of an image are compared with, always the same.

    Arguments:
        prior: The prior.
        space: W+ for style vectors, with shape (count, D), or Z for chunks of latents, with shape (count, m).
        count: Their number.
        like: A tensor with the device and the type.
    """
    generator = generator_for("draws of the prior")
    if space == "Z":
        m = _chunk_length(prior.latents(1, generator=generator).shape[-1])
        return randn((count, m), generator).to(like)
    with torch.no_grad():
        return prior.map(prior.latents(count, generator=generator).to(like))


def chunked(latents: Tensor) -> Tensor:
    """Returns styles as they are, and latents z, with shape (B, D), cut into chunks: (B, D / m, m)."""
    if latents.ndim == 3:
        return latents
    return latents.view(len(latents), -1, _chunk_length(latents.shape[1]))


def _chunk_length(length: int) -> int:
    """Returns the length of chunks: 8, or the largest below that divides."""
    return next(m for m in range(min(_CHUNK, length), 0, -1) if length % m == 0)


class _Best:
    """The candidate with the lowest objective so far, for each image."""

    losses: Tensor
    tensors: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def see(self, losses: Tensor, *tensors: Tensor) -> None:
        """Keeps what belongs to a lower objective than what was seen before."""
        losses = losses.nan_to_num(nan=math.inf)
        if not self.tensors:
            # Copies: maps of noise move in place.
            self.losses, self.tensors = losses, tuple(t.detach().clone() for t in tensors)
            return
        better = losses < self.losses
        self.losses = torch.where(better, losses, self.losses)
        pairs = zip(tensors, self.tensors, strict=True)
        self.tensors = tuple(torch.where(_like(better, new), new, old) for new, old in pairs)


def _like(rows: Tensor, tensor: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (tensor.ndim - 1))


class _Walk:
    """Latents, and maps of noise, on their way.

    Arguments:
        prior: The prior.
        config: How is searched.
        start: The latents to start from.
        maps: Maps of noise to start from, the first of which move.
    """

    def __init__(
        self, prior: Prior, config: LatentSearch.Config, start: Tensor, maps: list[Tensor]
    ) -> None:
        self.config, self.maps = config, maps
        self.chart: Straightened | None = None
        centre = torch.zeros_like(start[0])
        space = _space(config)
        draws = draws_of(prior, space, config.draws, like=start) if space != "Z" else None
        if draws is not None and config.straightened:
            self.chart = Straightened.of(draws)
            start, draws = self.chart.coordinates(start), self.chart.coordinates(draws)
        if draws is not None and config.centre == "mean":
            centre = draws.mean(dim=0).expand_as(start[0])
        width = start.shape[-1]
        self.centre, self.on_sphere = centre, config.sphere != "none"
        self.sphere = _sphere(config, start, centre, draws)
        # The rate of Adam that belongs to a sphere's radius, as the unit of the numbers that it moves.
        self.unit = sphere_lr(1.0, self.sphere.radius, width)
        if self.on_sphere:
            start = self.sphere(start)
        self.v = ((start - centre) / self.unit).requires_grad_()
        self.moving = [m.requires_grad_() for m in maps[: config.noise]]
        self.spheres = [Sphere.through(m.flatten(1)) for m in self.moving]
        self.adam = torch.optim.Adam([self.v, *self.moving], config.lr)

    def latents(self) -> Tensor:
        """Returns the latents."""
        u = self.centre + self.unit * self.v
        return u if self.chart is None else self.chart.styles(u)

    def step(self, loss: Tensor, n: int) -> None:
        """Takes the n-th step, n = 0, 1, ..., down the slope of a loss."""

        (slope, *slopes) = torch.autograd.grad(loss, [self.v, *self.moving])
        self._rate(n)
        self.v.grad = finite(slope)
        for m, rise in zip(self.moving, slopes, strict=True):
            m.grad = finite(rise)
        self.adam.step()
        with torch.no_grad():
            if self.on_sphere:
                p = self.sphere(self.centre + self.unit * self.v)
                self.v.copy_((p - self.centre) / self.unit)
            for m, sphere in zip(self.moving, self.spheres, strict=True):
                m.copy_(sphere(m.flatten(1)).view_as(m))

    def _rate(self, n: int) -> None:
        factor = one_cycle_drop(n / self.config.steps) if self.config.schedule == "one-cycle" else 1
        for group in self.adam.param_groups:
            group["lr"] = self.config.lr * factor


def _sphere(
    config: LatentSearch.Config, start: Tensor, centre: Tensor, draws: Tensor | None
) -> Sphere:
    """Returns the sphere of the vectors; of a search without one, its radius is their usual length."""
    if config.sphere == "start":
        return Sphere.through(start, centre)
    if draws is None:
        return Sphere(centre, math.sqrt(start.shape[-1]))
    found = Sphere.typical(draws, centre if centre.ndim == 1 else centre[0])
    return Sphere(centre, found.radius)


def _space(config: LatentSearch.Config) -> Space:
    assert config.space is not None, "_settled has chosen one"
    return config.space


def _settled(
    config: LatentSearch.Config, prior: Prior, degradation: Degradation[Any]
) -> LatentSearch.Config:
    """Returns a configuration whose open choices are made, or says what does not fit."""
    space = config.space or ("W+" if "W+" in prior.spaces else "Z")
    prior.check_space(space)
    if space not in ("Z", "W+"):
        raise ValueError(f"space={space!r} is not searched this way; choose Z or W+")
    likely, smooth = is_likelihood(degradation), is_differentiable(degradation)
    bits = config.bits if config.bits is not None else float(likely and not smooth)
    pixels = config.pixels if config.pixels is not None else (0.0 if bits else 100.0)
    name = type(degradation).__name__
    if bits and not likely:
        raise ValueError(
            f"bits={bits}: {name} is no likelihood, and no image has a probability under it; give a run of the recipe "
            "likelihood, or noise, or set bits=0"
        )
    if pixels and not smooth and not (likely and degradation.scale == 1):
        raise ValueError(
            f"pixels={pixels}: {name} has no gradients to the image; set pixels=0, or give another degradation"
        )
    if not bits and not pixels:
        raise ValueError("pixels=0 and bits=0: nothing would ask for the observed image; set one")
    if config.side is not None and pixels:
        raise ValueError(
            f"side={config.side}: pixels are compared at the prior's size; set pixels=0 and bits, or leave side out"
        )
    if space == "W+" and config.centre == config.start == "mean" and config.sphere == "start":
        raise ValueError(
            "the search starts in the centre of its spheres, and no step could leave it; set sphere=prior or "
            "sphere=none, start=random, or centre=origin"
        )
    if config.noise > len(prior.noise_sides):
        raise ValueError(
            f"noise={config.noise}: this {type(prior).__name__} has {len(prior.noise_sides)} maps of noise; give at most "
            "as many"
        )
    straightened = config.straightened and space == "W+"
    return replace(config, space=space, bits=bits, pixels=pixels, straightened=straightened)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "space": (None, *get_args(Space)),
    "start": ("mean", "random"),
    "sphere": ("start", "prior", "none"),
    "centre": ("origin", "mean"),
    "schedule": ("fixed", "one-cycle"),
    "kept": ("best", "last"),
    "norm": ("L2", "L1"),
    "power": (1, 2),
}

PULSE_SEARCH = LatentSearch.Config(start="random", straightened=True)
"""PULSE: draws to start from, in coordinates whose law is normal, pixels and the cross loss."""

MMD_SEARCH = LatentSearch.Config(mmd=3.0)
"""Perceptual restoration: from the mean style, with the discrepancy; pixels, or bits where a likelihood is given."""

SEARCHES: dict[str, LatentSearch.Config] = {"pulse": PULSE_SEARCH, "mmd": MMD_SEARCH}
"""The configurations of these searches by name."""
