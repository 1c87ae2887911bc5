r"""What JPEG left in the pixels: the grid of blocks, and the quality.

*Quality.* Let c be the DCT coefficients of the decoded luma at the grid, T(q) libjpeg's table of
quality q. Of an image that was compressed with q each c is a multiple of its T up to what rounding to
8 bits adds, :math:`c = k T + e, \; e \sim N(0, s^2), \; s \approx 0.3`; otherwise its law is smooth, so that the
remainder :math:`r = c - T \, \mathrm{round}(c / T)` is uniform. The likelihood ratio of one coefficient is
therefore that of the remainder (after Fan & de Queiroz, 2003; Neelamani et al., 2006),

.. math:: L_T(c) = T \sum_j N(r + j T; 0, s^2), \qquad L_T(c) \le 1 \text{ for } |c| < T / 2 ,

where the bound keeps a coefficient that is small anyhow from counting as one that was rounded to zero. The
law of unquantised coefficients is symmetric and falls on either side of zero, and then the mean of
:math:`L_T` is at most 1: its product over coefficients is an evidence
that rarely exceeds N, at most once in N images, where there was no JPEG and coefficients are independent. (Blocks with
clipped pixels are left out, and a floor bounds what a single coefficient can say.)
The posterior of q, with prior 1/2 for no JPEG and 1/200 for each quality,

.. math:: p(q \mid x) \propto \tfrac{1}{200} \prod_{c} L_{T(q)}(c) ,

gives the chance that the image was compressed, and the quality with the range that holds 90 %. Coefficients
are not quite independent; the logarithm of the evidence is tempered.

*Grid.* The image need not start with a whole block. Blocking makes the second difference across their
borders larger than elsewhere; its mean over each of 8 phases of columns and of rows is compared with that of the
other phases,

.. math:: z_\phi = \frac{D_\phi - \mathrm{mean}_{\psi \ne \phi} D_\psi}{\mathrm{std}_{\psi \ne \phi} D_\psi} .

The phase of the largest z and the phase (0, 0) are both tried, with a prior of 1/64 for the former. Strong
JPEG that was disturbed afterwards (by noise, say) still has a grid, but no quality.

*How well.* With the chance 0.9 as the bound, none of 2,500 images of CIFAR-10 and of 24 photographs passes for compressed;
compressed with qualities from 20 to 95 all photographs do, with the exact quality, and 95 to 98 % of the CIFAR-10 images,
nearly all with the exact quality. The others have hardly a block that is free of black and full pixels: without any,
the probability is 1/2. Of small crops off the grid half are found, as the phase is uncertain. What cannot be
seen: JPEG followed by resizing or by anything else that changes all pixels, and tables that are not libjpeg's. Of several
compressions the last one is found. Qualities 99 and 100 are hard to tell apart.

References:
    | Identification of Bitmap Compression History (Fan & de Queiroz, 2003)
    | JPEG Compression History Estimation for Color Images (Neelamani et al., 2006)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.jpeg import BLUE, GREEN, RED, quantisation_tables
from .images import unit

__all__ = ["Grid", "JPEGTrace", "jpeg_grid", "jpeg_trace"]

# B images, N blocks, K frequencies, Q = 100 qualities

FREQUENCIES = tuple((v, u) for v in range(8) for u in range(8) if 0 < u + v <= 7)
"""The (vertical, horizontal) frequencies that are looked at: not the mean, nor those that are mostly zero."""

_SPREAD = 0.32  # The standard deviation s, in grey levels, of what rounding to 8 bits adds.
_FLOOR = 1e-3  # The least likelihood ratio of one coefficient.
_TEMPER = 0.5
_BLOCKS = 1024  # More blocks of an image decide nothing that these leave open.
_CHUNK = 1 << 17  # Coefficients of one frequency that are compared at once.


@dataclass(frozen=True)
class Grid:
    """The grid of 8x8 blocks that is seen in the pixels.

    Attributes:
        phase: The (row, column) of the first border between blocks modulo 8, where differences are largest,
            int64, with shape (B, 2); (0, 0) for images that were compressed as they are.
        strength: How far the differences there stand out, in standard deviations of the other
            phases; the smaller one of rows and columns, with shape (B,).
        excess: By which share they are larger than elsewhere, the mean of rows and columns, with shape (B,).
    """

    phase: Tensor
    strength: Tensor
    excess: Tensor


@dataclass(frozen=True)
class JPEGTrace:
    """How images were compressed, as far as their pixels tell.

    Attributes:
        probability: The chance that an image was compressed, with shape (B,).
        quality: The most likely quality, as if it had been compressed, int64, with shape (B,).
        low: The lower end of the range that holds 90 % of the posterior, int64, with shape (B,).
        high: Its upper end.
        evidence: The logarithm of the evidence for that quality against none, in nats, with shape (B,).
        phase: The (row, column) where blocks begin, modulo 8, int64, with shape (B, 2).
        grid: The grid by differences alone.
    """

    probability: Tensor
    quality: Tensor
    low: Tensor
    high: Tensor
    evidence: Tensor
    phase: Tensor
    grid: Grid


def jpeg_grid(images: Tensor) -> Grid:
    """Looks for borders of 8x8 blocks.

    Arguments:
        images: uint8 or in [0, 1], of at least 16x16 pixels, with shape (B, C, H, W).

    Raises:
        ValueError: If the images are too small.
    """
    x = _luma(images)
    rows, columns = _phases(x.mT), _phases(x)
    best, strength, excess = zip(*(_outstanding(d) for d in (rows, columns)), strict=True)
    return Grid(
        torch.stack(best, dim=1),
        torch.minimum(*strength),
        (excess[0] + excess[1]) / 2,
    )


def jpeg_trace(images: Tensor, *, pooled: bool = False) -> JPEGTrace:
    """Estimates whether images were compressed, and with which quality of libjpeg.

    Arguments:
        images: uint8 or multiples of 1/255 in [0, 1], of at least 16x16 pixels, with shape (B, C, H, W).
        pooled: Whether all images are taken for compressed with one quality, on the grid that begins at
            their corner; B is then 1.

    Raises:
        ValueError: If the images are too small.
    """
    grid = jpeg_grid(images)
    x, clipped = _luma(images), _clipped(images)
    log = _log_evidence(x, clipped, torch.zeros_like(grid.phase))
    phase = torch.zeros_like(grid.phase)
    if pooled:
        log = log.sum(dim=0, keepdim=True)
        return _posterior(log, phase[:1], _pooled(grid))
    # Elsewhere is only looked where the usual place shows nothing.
    elsewhere = ((grid.phase != 0).any(dim=1) & (log.amax(dim=1) < math.log(100))).nonzero()[:, 0]
    if len(elsewhere):
        moved = grid.phase[elsewhere]
        shifted = _log_evidence(x[elsewhere], clipped[elsewhere], moved) - math.log(64)
        better = shifted.amax(dim=1) > log[elsewhere].amax(dim=1).clamp_min(0)
        log[elsewhere[better]], phase[elsewhere[better]] = shifted[better], moved[better]
    return _posterior(log, phase, grid)


def _pooled(grid: Grid) -> Grid:
    """Returns the middle of the grids of images; only (0, 0) is looked at for all together."""
    return Grid(
        torch.zeros_like(grid.phase[:1]),
        grid.strength.median()[None],
        grid.excess.median()[None],
    )


def _posterior(log: Tensor, phase: Tensor, grid: Grid) -> JPEGTrace:
    """Turns the log evidence of each quality, with shape (B, 100), into an estimate."""
    evidence, best = log.max(dim=1)
    posterior = log.softmax(dim=1)
    total = posterior.cumsum(dim=1)
    low = (total < 0.05).sum(dim=1) + 1
    high = (total < 0.95).sum(dim=1) + 1
    marginal = log.logsumexp(dim=1) - math.log(log.shape[1])
    return JPEGTrace(
        marginal.sigmoid().float(),
        best + 1,
        torch.minimum(low, best + 1),
        torch.maximum(high.clamp_max(100), best + 1),
        evidence.float(),
        phase,
        grid,
    )


def _log_evidence(x: Tensor, clipped: Tensor, phase: Tensor) -> Tensor:
    """Returns the logarithm of the evidence of each quality, float64, with shape (B, Q)."""
    blocks, valid = _blocks(x, phase), ~_blocks(clipped, phase).any(dim=2)
    coefficients = _transform(blocks)
    tables = quantisation_tables(torch.arange(1, 101))[0]
    total = torch.zeros(len(x), 100, dtype=torch.float64)
    for k, (v, u) in enumerate(FREQUENCIES):
        # Neighbouring qualities share most of their steps.
        steps, which = torch.unique(tables[:, v, u], return_inverse=True)
        total += _log_ratio(coefficients[:, k], valid.float(), steps)[:, which]
    return _TEMPER * total


def _log_ratio(c: Tensor, valid: Tensor, steps: Tensor) -> Tensor:
    """Sums log L over the blocks of one frequency: c (B, N), steps (S,) to (B, S)."""
    found = torch.empty(len(c), len(steps), dtype=torch.float64)
    rows = max(1, _CHUNK // c.shape[1])
    peak = 1 / (_SPREAD * math.sqrt(2 * math.pi))
    for start in range(0, len(c), rows):
        part, use = c[start : start + rows], valid[start : start + rows]
        for i, step in enumerate(steps.tolist()):
            r = part - step * (part / step).round()
            ratio = (r * r).mul_(-0.5 / _SPREAD**2).exp_()
            if step < 4:
                # The tails of the neighbouring multiples.
                for side in (-step, step):
                    ratio += ((r + side) ** 2).mul_(-0.5 / _SPREAD**2).exp_()
            ratio.mul_(step * peak).clamp_min_(_FLOOR)
            ratio = torch.where(part.abs() < step / 2, ratio.clamp_max(1), ratio)
            found[start : start + rows, i] = (ratio.log_() * use).sum(dim=1).double()
    return found


def _blocks(x: Tensor, phase: Tensor) -> Tensor:
    """Cuts planes (B, H, W) into whole blocks, which start at a phase, with shape (B, N, 64)."""
    height, width = x.shape[-2:]
    rows, columns = height // 8 - 1, width // 8 - 1
    if not phase.any():
        rows, columns = height // 8, width // 8
    else:
        i = torch.arange(8 * rows)[None] + phase[:, :1]
        j = torch.arange(8 * columns)[None] + phase[:, 1:]
        x = x[torch.arange(len(x))[:, None, None], i[:, :, None], j[:, None, :]]
    whole = x[:, : 8 * rows, : 8 * columns].reshape(len(x), rows, 8, columns, 8)
    blocks: Tensor = whole.transpose(2, 3).reshape(len(x), rows * columns, 64)
    if blocks.shape[1] > _BLOCKS:
        blocks = blocks[:, torch.linspace(0, blocks.shape[1] - 1, _BLOCKS).long()]
    return blocks


def _transform(blocks: Tensor) -> Tensor:
    """Returns the DCT coefficients of blocks (B, N, 64), with shape (B, K, N)."""
    k = torch.arange(8, dtype=torch.float64)
    line = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    line[0] /= math.sqrt(2)
    chosen = torch.stack([torch.outer(line[v], line[u]).flatten() for v, u in FREQUENCIES])
    return (blocks @ chosen.float().T).mT


def _clipped(images: Tensor) -> Tensor:
    """Returns where a channel is black or full: clipping moves coefficients off their multiples; (B, H, W)."""
    x = unit(images)
    return ((x <= 0) | (x >= 1)).any(dim=1)


def _luma(images: Tensor) -> Tensor:
    """Returns the luma, rounded to whole grey levels as in the file, with shape (B, H, W)."""
    x = unit(images) * 255
    if min(x.shape[-2:]) < 16:
        raise ValueError(
            f"got images of {x.shape[-2]}x{x.shape[-1]} pixels; a grid needs at least 16x16"
        )
    if x.shape[1] == 1:
        return x[:, 0].round()
    return (RED * x[:, 0] + GREEN * x[:, 1] + BLUE * x[:, 2]).round()


def _phases(x: Tensor) -> Tensor:
    """Returns the mean second difference across column borders of each phase, with shape (B, 8)."""
    # Between columns j - 1 and j: what the step exceeds the slopes on both sides.
    step = x[..., 2:-1] - x[..., 1:-2]
    slopes = (x[..., 1:-2] - x[..., :-3] + x[..., 3:] - x[..., 2:-1]) / 2
    # A bound, as a single contour of the scene must not decide.
    d = (step - slopes).abs().clamp_max(20).mean(dim=1)
    border = torch.arange(2, x.shape[-1] - 1) % 8
    return torch.stack([d[:, border == phase].mean(dim=1) for phase in range(8)], dim=1)


def _outstanding(d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the phase that stands out, its z and its excess, each with shape (B,)."""
    value, phase = d.max(dim=1)
    others = (d.sum(dim=1) - value) / 7
    spread = ((d.square().sum(dim=1) - value.square()) / 7 - others.square()).clamp_min(0).sqrt()
    # Of flat images, and of few phases, nothing is known.
    z = (value - others) / (spread + 0.01 * others + 1e-3)
    return phase, z, (value - others) / others.clamp_min(1e-3)
