r"""How well a likelihood tells which clean image an observed one is of.

All scores are bits for each value, :math:`-\log_2 p(y \mid c) / (C H W)`, of observed images y, for conditions c:

=========  ==================================================================================================
score      condition
=========  ==================================================================================================
paired     the clean image
unpaired   another clean image: a derangement by the seed
zero       middle grey, zero for the network: what y costs for who knows nothing
blurred    the clean image, blurred by a Gaussian of one pixel: a guess that is nearly right
observed   y itself. Commonly less than *paired*, which is why a likelihood alone is no aim of a restoration
logistic   the clean image, for a rival of six numbers instead of a network
=========  ==================================================================================================

The rival knows that y is near the clean image, and how near: in each channel :math:`y - x` follows a logistic law with a
location and a scale, all pixels alike and independently, over the same 256 values; they are fitted by maximum
likelihood. What a network is better by, it knows of the damage's structure.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021), Table 1
    | https://arxiv.org/abs/2103.03010
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..degradations import GaussianBlur, GaussianBlurParams, Likelihood, bits_per_dim
from ..functional import mixtures
from ..functional.random import generator_for

__all__ = [
    "CONDITIONS",
    "Likelihoods",
    "LogisticLaw",
    "derangement",
    "judge_likelihood",
]

CONDITIONS = ("paired", "unpaired", "zero", "blurred", "observed", "logistic")
"""The names of the scores."""

FINE = 64
"""The parts of a step of 1/255 to which residuals are rounded for the rival's fit; of 8-bit images they are whole steps."""

STEPS = 60
"""The steps of the rival's fit, each Newton-like; it needs about ten."""

Follow = Callable[[int, int], object]


@dataclass(frozen=True)
class LogisticLaw:
    """The rival: the residual y - x of a channel is logistic.

    Attributes:
        locations: The locations on the [0, 1] scale, one a channel.
        scales: The scales, one a channel.
    """

    locations: tuple[float, ...]
    scales: tuple[float, ...]

    @classmethod
    def fitted(cls, y: Tensor, x: Tensor) -> LogisticLaw:
        """Returns the law under which observed images are likeliest.

        The law of a value depends on the residual alone, but in the outer bins; so values are counted, and the fit takes
        the same memory for any number of images.

        Arguments:
            y: Observed images, multiples of 1/255, with shape (B, C, H, W).
            x: Clean images, with shape (B, C, H, W).
        """
        shares, pixels, residual = _counted(y, x)
        # The start: the scale of a logistic law is its deviation times sqrt(3) / pi.
        order = residual.argsort()
        middle = (shares[:, order].cumsum(dim=1) < 0.5).sum(dim=1).clamp(max=len(order) - 1)
        location = residual[order][middle]
        mean = (shares * residual).sum(dim=1, keepdim=True)
        deviation = (shares * (residual - mean).square()).sum(dim=1).sqrt()
        log_scale = (deviation * 3**0.5 / torch.pi).clamp_min(1e-3).log()
        free = torch.cat([location, log_scale]).requires_grad_()
        channels = len(shares)
        y = pixels.expand(channels, 1, 1, -1)
        x = y - residual
        search = torch.optim.LBFGS(
            [free], max_iter=STEPS, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            search.zero_grad()
            # Each channel is a batch of its own, of one channel.
            law = torch.stack([torch.zeros_like(free[:channels]), *free.view(2, channels)], dim=1)
            parameters = law[:, :, None, None].expand(-1, -1, 1, y.shape[-1])
            logs = mixtures.log_prob(
                parameters, y, components=1, family="logistic", coupled=False, base=x
            )
            loss = -(logs.squeeze(1) * shares).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        search.step(closure)  # type: ignore[no-untyped-call]
        found, floor = free.detach(), mixtures.FLOOR
        return cls(
            tuple((found[:channels] / 2).tolist()),
            tuple((found[channels:].clamp(min=floor).exp() / 2).tolist()),
        )

    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        """Returns log-probabilities in nats, with shape (B,).

        Arguments:
            y: Observed images, multiples of 1/255, with shape (B, C, H, W).
            x: Clean images, with shape (B, C, H, W).
        """
        locations = 2 * torch.tensor(self.locations, dtype=y.dtype, device=y.device)
        scales = 2 * torch.tensor(self.scales, dtype=y.dtype, device=y.device)
        return _logistic(torch.cat([locations, scales.log()]), y, x).flatten(1).sum(dim=1)


@dataclass(frozen=True)
class Likelihoods:
    """The scores of a likelihood.

    Attributes:
        bits: Bits for each value by the names of :data:`CONDITIONS`, each with shape (n,).
        rival: The fitted rival.
    """

    bits: dict[str, Tensor]
    rival: LogisticLaw

    def mean(self, name: str) -> float:
        """Returns a mean score."""
        return float(self.bits[name].mean())

    @property
    def told(self) -> float:
        """The share of observed images that are likelier given their clean partner than given another one."""
        return float((self.bits["paired"] < self.bits["unpaired"]).double().mean())

    @property
    def margin(self) -> float:
        """By how many bits, in the mean."""
        return self.mean("unpaired") - self.mean("paired")

    def told_by(self, margin: float) -> float:
        """Returns the share of observed images of which this is so by a margin in bits."""
        gaps = self.bits["unpaired"] - self.bits["paired"]
        return float((gaps >= margin).double().mean())

    @property
    def gain(self) -> float:
        """By how many bits the likelihood is better than the rival."""
        return self.mean("logistic") - self.mean("paired")


def derangement(n: int, *, seed: int) -> Tensor:
    """Returns a permutation without a fixed point, int64, with shape (n,): a cycle through all in random order.

    Raises:
        ValueError: If there are fewer than two.
    """
    if n < 2:
        raise ValueError(f"{n} images have no other ones among them; give at least 2")
    order = torch.randperm(n, generator=generator_for(seed, "derangement"))
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    return found


@torch.no_grad()
def judge_likelihood(
    likelihood: Likelihood[Any],
    y: Tensor,
    x: Tensor,
    *,
    seed: int,
    fitted_to: tuple[Tensor, Tensor] | None = None,
    groups: Sequence[int] | None = None,
    batch: int = 16,
    progress: Follow | None = None,
) -> Likelihoods:
    """Judges a likelihood by pairs.

    Arguments:
        likelihood: The likelihood.
        y: Observed images, multiples of 1/255, with shape (n, C, H, W).
        x: Their clean partners, with shape (n, C, H, W), on the device of y.
        seed: Decides which image is whose other.
        fitted_to: The pairs (y, x) that the rival is fitted to; None means the judged ones themselves, which flatters it.
        groups: What photograph each crop is of: another clean image is then one of another photograph.
        batch: The number of images at a time.
        progress: Is told how many images are done, of how many.

    Raises:
        ValueError: If y is not on the grid, or there are fewer than two images or photographs.
    """
    y = likelihood.prepared(y)
    other = derangement(len(y), seed=seed) if groups is None else _apart(groups, seed)
    with torch.enable_grad():
        rival = LogisticLaw.fitted(*(fitted_to or (y, x)))
    found: dict[str, list[Tensor]] = {name: [] for name in CONDITIONS}
    for rows in torch.split(torch.arange(len(y)), batch):
        seen, clean = y[rows], x[rows]
        logs = {
            "paired": likelihood.log_prob(seen, clean),
            "unpaired": likelihood.log_prob(seen, x[other[rows]]),
            "zero": likelihood.log_prob(seen, torch.full_like(clean, 0.5)),
            "blurred": likelihood.log_prob(seen, _blurred(clean)),
            "observed": likelihood.log_prob(seen, seen),
            "logistic": rival.log_prob(seen, clean),
        }
        for name, log_prob in logs.items():
            found[name].append(bits_per_dim(log_prob, seen.shape).double().cpu())
        if progress is not None:
            progress(int(rows[-1]) + 1, len(y))
    return Likelihoods({name: torch.cat(parts) for name, parts in found.items()}, rival)


def _apart(groups: Sequence[int], seed: int) -> Tensor:
    """Returns for each crop one of another photograph: groups are deranged, and each crop takes a crop of the other."""
    names = list(dict.fromkeys(groups))
    members = {name: [i for i, g in enumerate(groups) if g == name] for name in names}
    partner = derangement(len(names), seed=seed).tolist()
    place = {name: names[partner[k]] for k, name in enumerate(names)}
    seen: dict[int, int] = dict.fromkeys(names, 0)
    found = []
    for group in groups:
        crops = members[place[group]]
        found.append(crops[seen[group] % len(crops)])
        seen[group] += 1
    return torch.tensor(found)


def _blurred(x: Tensor) -> Tensor:
    """Returns images blurred by a Gaussian of one pixel."""
    width = torch.ones(len(x), device=x.device)
    blurred: Tensor = GaussianBlur((1.0, 1.0))(x, GaussianBlurParams(width))
    return blurred


def _counted(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts the residuals of images, those of the outer values of y apart, whose bins have one end.

    Arguments:
        y: Observed images, multiples of 1/255, with shape (B, C, H, W).
        x: Clean images, with shape (B, C, H, W).

    Returns:
        The shares of M kinds of values in each channel, with shape (C, M), their pixels and their residuals in units of
        [-1, 1], both with shape (M,); float64, on the CPU.
    """
    finest = 255 * FINE
    width = 2 * finest + 1
    counts = torch.zeros(y.shape[1], 3 * width, dtype=torch.long)
    # A few images at a time: indices are wider than pixels.
    for seen, clean in zip(*(torch.split(t.detach(), 8) for t in (y, x)), strict=True):
        seen, clean = (t.cpu().transpose(0, 1).flatten(1).double() for t in (seen, clean))
        place = ((seen - clean) * finest).round().long().clamp(-finest, finest) + finest
        kind = (seen < 0.5 / 255).long() + 2 * (seen > 1 - 0.5 / 255).long()
        for channel, places in enumerate(place + width * kind):
            counts[channel] += places.bincount(minlength=3 * width)
    (there,) = counts.sum(dim=0).nonzero(as_tuple=True)
    found = counts[:, there].double()
    # Which inner value it is does not matter.
    pixels = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)[there // width]
    residual = 2 * (there % width - finest).double() / finest
    return found / found.sum(dim=1, keepdim=True), pixels, residual


def _logistic(law: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Returns the rival's log-probabilities of pixels, with shape (B, H, W); its numbers are those of [-1, 1]."""
    B, _, H, W = y.shape
    parameters = torch.cat([law.new_zeros(1), law])[None, :, None, None].expand(B, -1, H, W)
    return mixtures.log_prob(
        parameters, 2 * y - 1, components=1, family="logistic", coupled=False, base=2 * x - 1
    )
