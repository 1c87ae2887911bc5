r"""BM3D: removal of white Gaussian noise by filtering groups of similar blocks.

Observed are images :math:`y = x + \sigma \varepsilon`. Around each reference block (every third row
and column of blocks of 8x8 pixels) the most similar blocks are stacked into a group, which is a
sparse signal in a separable transform :math:`T_{3D}`: a two-dimensional one of each block, then a Haar
transform across the group. A group is filtered by shrinking its coefficients, twice:

.. math::
    \text{1. hard threshold:} \quad & \hat c = c \, [\, |c| > 2.7 \sigma \,], \quad
        & w &= 1 / \#\{|c| > 2.7 \sigma\}, \\
    \text{2. Wiener:} \quad & \hat c = W c, \; W = \frac{b^2}{b^2 + \sigma^2}, \quad
        & w &= 1 / \|W\|^2,

where the second pass finds similar blocks in the result of the first, whose groups give b. All
filtered blocks are put back into place, and a pixel becomes their average with weights
:math:`w \kappa`, :math:`\kappa` a Kaiser window.

Blocks are similar if their mean squared difference is at most :math:`\tau`; the search goes 19
pixels to each side and takes at most 16 (second pass: 32) blocks, of which the largest power of two is
kept. Where noise is louder than 40/255, differences are taken of DCT coefficients above
:math:`2 \sigma` and :math:`\tau` is larger. These are the numbers of the paper's normal profile, but
for its larger blocks at :math:`\sigma > 40/255`.

*Colour* is brought to an opponent space, :math:`(R+G+B)/3, (R-B)/2, (R-2G+B)/4`, in which the noise of the
three planes is independent, with levels :math:`\sigma` times the norms of these rows. Similar blocks are
looked for in the first plane alone, and used for all three.

*How it is computed.* All blocks of a tile are transformed by one convolution; the groups are rows
that are picked from it by index and added back to it by index, still transformed: as the inverse is linear, it is
applied once to each block at the end.

References:
    | Image Denoising by Sparse 3-D Transform-Domain Collaborative Filtering (Dabov et al., 2007)
    | https://doi.org/10.1109/TIP.2007.901238
    | Color Image Denoising via Sparse 3D Collaborative Filtering with Grouping Constraint in
      Luminance-Chrominance Space (Dabov et al., 2007)
    | https://doi.org/10.1109/ICIP.2007.4378954
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .transforms import biorthogonal_matrix, dct_matrix, haar_matrix

__all__ = ["bm3d", "bm3d_planes", "noise_levels"]

# B images, C channels, h x w pixels; P blocks of N x N pixels in a tile, R of them references; n blocks in a
# group, G groups of that size.

_BLOCK = 8
_STEP = 3
_REACH = 19
_LOUD = 40 / 255
_PREFILTER = 2.0
_THRESHOLD = 2.7
_TILE = 12  # references to a side that are worked on together
_MEMORY = 2**22  # numbers in the groups that are worked on together


@dataclass(frozen=True)
class _Pass:
    """What differs between the two passes: blocks in a group, and the limits of similarity."""

    group: int
    limit: float
    loud_limit: float


_FIRST = _Pass(group=16, limit=2500 / 255**2, loud_limit=5000 / 255**2)
_SECOND = _Pass(group=32, limit=400 / 255**2, loud_limit=3500 / 255**2)


def bm3d(y: Tensor, sigma: float | Tensor) -> Tensor:
    """Removes white Gaussian noise of known level.

    Arguments:
        y: Noisy images, with shape (B, C, H, W); three channels are filtered together as RGB, other
            numbers of channels one by one. The limits of similarity suppose a range near [0, 1].
        sigma: The standard deviation of the noise on that scale, one for all images, or one for each
            with shape (B,). Where it is 0, the image is returned as it is.

    Returns:
        The estimates, with the shape and dtype of y, not clamped and without gradient.

    Raises:
        ValueError: If a shape or dtype does not fit, or sigma is negative or not finite.
    """
    levels = noise_levels(sigma, y)
    wide = y if y.dtype == torch.float64 else y.float()
    if y.shape[1] != 3:
        clean = bm3d_planes(
            wide.flatten(0, 1)[:, None], levels.repeat_interleave(y.shape[1])[:, None]
        )
        return clean.view(y.shape).to(y.dtype)
    opponent = _opponent(wide.dtype, wide.device)
    planes = torch.einsum("oc,bchw->bohw", opponent, wide)
    clean = bm3d_planes(planes, levels[:, None] * opponent.norm(dim=1))
    clean = torch.einsum("co,bohw->bchw", opponent.inverse(), clean)
    return torch.where(levels.view(-1, 1, 1, 1) > 0, clean, wide).to(y.dtype)


@torch.no_grad()
def bm3d_planes(planes: Tensor, sigma: Tensor) -> Tensor:
    """Filters planes with groups that are found in the first of them.

    Arguments:
        planes: Noisy planes, with shape (B, C, H, W); the first one has a range near [0, 1].
        sigma: The standard deviations of their noise, with shape (B, C).

    Returns:
        The estimates, with the shape and dtype of the planes; those without noise as they are.
    """
    parts = zip(torch.split(planes, n := _batch(planes)), torch.split(sigma, n), strict=True)
    clean = torch.cat([_both_passes(part, level) for part, level in parts])
    return torch.where(sigma[..., None, None] > 0, clean, planes)


def _both_passes(planes: Tensor, sigma: Tensor) -> Tensor:
    basic = _filter(planes, None, sigma, _FIRST)
    return _filter(planes, basic, sigma, _SECOND)


def _filter(planes: Tensor, basic: Tensor | None, sigma: Tensor, stage: _Pass) -> Tensor:
    """Filters planes (B, C, h, w) with levels (B, C): by threshold, or by Wiener with a basic estimate."""
    bank = _bank(_block_size(planes), basic is not None, planes.dtype, planes.device)
    total, weight = torch.zeros_like(planes), torch.zeros_like(planes)
    guide = (planes if basic is None else basic)[:, :1]
    for tile in _tiles(planes.shape[-2], planes.shape[-1], bank.size):
        view = tile.pixels
        index, count = _similar(guide[view], sigma[:, 0], tile, stage, bank)
        pilot = None if basic is None else bank.analyse(basic[view])
        sums, weights = _filter_groups(bank.analyse(planes[view]), pilot, sigma, index, count)
        total[view] += bank.synthesise(sums, planes[view].shape)
        weight[view] += bank.spread(weights, planes[view].shape)
    return total / weight


@dataclass(frozen=True)
class _Tile:
    """References that are worked on together, and all blocks that they may be similar to.

    Attributes:
        pixels: The index of the tile's pixels in images (B, C, h, w).
        references: The references among the tile's P blocks, with shape (R,).
        far: Whether a block is out of a reference's reach, with shape (R, P).
    """

    pixels: tuple[Any, ...]
    references: Tensor
    far: Tensor


def _tiles(height: int, width: int, size: int) -> Iterator[_Tile]:
    for top, bottom, rows, low in _lines(height - size + 1):
        for left, right, columns, near in _lines(width - size + 1):
            pixels = (..., slice(top, bottom + size - 1), slice(left, right + size - 1))
            references = (rows[:, None] * (right - left) + columns).flatten()
            close = (low[:, None, :, None] & near[None, :, None, :]).flatten(2).flatten(0, 1)
            yield _Tile(pixels, references, ~close)


def _lines(count: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Cuts a line of blocks: where each part starts and ends, its references, and who is near them."""
    every = torch.tensor(sorted({*range(0, count, _STEP), count - 1}))
    for part in torch.split(every, _TILE):
        start, stop = max(0, int(part[0]) - _REACH), min(count, int(part[-1]) + _REACH + 1)
        near = (torch.arange(start, stop) - part[:, None]).abs() <= _REACH
        yield start, stop, part - start, near


def _similar(
    guide: Tensor, sigma: Tensor, tile: _Tile, stage: _Pass, bank: _Bank
) -> tuple[Tensor, Tensor]:
    """Finds the blocks most similar to each reference.

    Returns:
        Their indices, best first, with shape (B, R, K), and how many of them form the group, a power
        of two, with shape (B, R).
    """
    level = sigma.view(-1, 1, 1)
    loud = level > _LOUD
    features = F.conv2d(guide, bank.dct).flatten(2).transpose(1, 2)
    if stage is _FIRST and bool(loud.any()):
        features = features * ((features.abs() > _PREFILTER * level) | ~loud)
    references = tile.references.to(guide.device)
    chosen = features[:, references]
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a b
    squares = features.square().sum(-1)
    distance = torch.baddbmm(squares[:, None], chosen, features.mT, alpha=-2)
    distance = (distance + squares[:, references, None]) / bank.size**2
    distance.masked_fill_(tile.far.to(guide.device), torch.inf)
    # A reference belongs to its group, even where others are equal to it.
    distance[:, torch.arange(len(references), device=guide.device), references] = -1
    best, index = distance.topk(min(stage.group, distance.shape[-1]), largest=False)
    limit = torch.where(loud, stage.loud_limit, stage.limit)
    count = (best <= limit).sum(-1)
    return index, 2 ** count.log2().floor().long()


def _filter_groups(
    noisy: Tensor, pilot: Tensor | None, sigma: Tensor, index: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Shrinks the groups and adds them up by block.

    Arguments:
        noisy: The transformed blocks, with shape (B, P, C, N*N).
        pilot: Those of the basic estimate, or None in the first pass.
        sigma: The levels of the noise, with shape (B, C).
        index: The blocks similar to each reference, with shape (B, R, K).
        count: How many of them form its group, with shape (B, R).

    Returns:
        Weighted sums of filtered blocks, with shape (B, P, C, N*N), and sums of weights, with shape
        (B, P, C).
    """
    b, p, c, area = noisy.shape
    sums = noisy.new_zeros(b * p, c * area)
    weights = noisy.new_zeros(b * p, c)
    for n in (2**i for i in range(index.shape[-1].bit_length())):
        image, reference = (count == n).nonzero(as_tuple=True)
        rows = (index[image, reference, :n] + p * image[:, None]).T.flatten()
        haar = haar_matrix(n).to(noisy)
        groups = [
            (haar @ blocks.view(b * p, -1)[rows].view(n, -1)).view(n, -1, c, area)
            for blocks in (noisy, pilot)
            if blocks is not None
        ]
        shrunk, weight = _shrink(groups, sigma[image][..., None])
        shrunk = haar.T @ (shrunk * weight).view(n, -1)
        sums.index_add_(0, rows, shrunk.view(-1, c * area))
        weights.index_add_(0, rows, weight[..., 0].repeat(n, 1))
    return sums.view(noisy.shape), weights.view(b, p, c)


def _shrink(groups: list[Tensor], sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Shrinks groups (n, G, C, N*N) with levels (G, C, 1); returns them and weights (G, C, 1)."""
    c = groups[0]
    if len(groups) == 1:
        # Dabov et al. (2007), Eq. 6 and 10; what is common to all groups of an image is left out.
        kept = (c.abs() > _THRESHOLD * sigma).to(c.dtype)
        return c * kept, 1 / kept.sum((0, 3)).clamp(min=1)[..., None]
    # Eq. 8, 9 and 11
    power = groups[1].square()
    gain = power / (power + sigma.square()).clamp(min=torch.finfo(c.dtype).tiny)
    return c * gain, 1 / gain.square().sum((0, 3)).clamp(min=1e-6)[..., None]


@dataclass(frozen=True)
class _Bank:
    """The transform of blocks of N x N pixels.

    Attributes:
        size: The side N.
        forward: Its filters, with shape (N*N, 1, N, N).
        inverse: The inverse times the window, which right-multiplies transformed blocks, (N*N, N*N).
        window: The Kaiser window, with shape (N*N,).
        dct: The filters of the DCT, in which blocks are compared.
    """

    size: int
    forward: Tensor
    inverse: Tensor
    window: Tensor
    dct: Tensor

    def analyse(self, planes: Tensor) -> Tensor:
        """Transforms all blocks of planes (B, C, h, w): ``(B, P, C, N*N)``."""
        b, c = planes.shape[:2]
        blocks = F.conv2d(planes.flatten(0, 1)[:, None], self.forward)
        return blocks.view(b, c, self.size**2, -1).permute(0, 3, 1, 2).contiguous()

    def synthesise(self, blocks: Tensor, shape: torch.Size) -> Tensor:
        """Inverts the transform of blocks (B, P, C, N*N), and adds them up under the window."""
        return self._place(blocks @ self.inverse, shape)

    def spread(self, weights: Tensor, shape: torch.Size) -> Tensor:
        """Adds up windows with the weights (B, P, C) of the blocks."""
        return self._place(weights[..., None] * self.window, shape)

    def _place(self, blocks: Tensor, shape: torch.Size) -> Tensor:
        columns = blocks.permute(0, 2, 3, 1).flatten(1, 2)
        planes: Tensor = F.fold(columns, (shape[-2], shape[-1]), self.size)
        return planes


@lru_cache(maxsize=16)
def _bank(size: int, wiener: bool, dtype: torch.dtype, device: torch.device) -> _Bank:
    with torch.inference_mode(False):
        dct = dct_matrix(size)
        line = dct if wiener else biorthogonal_matrix(size)
        kaiser = torch.kaiser_window(size, periodic=False, beta=2.0, dtype=torch.float64)
        window = torch.kron(kaiser, kaiser)
        back = line.inverse().contiguous()
        forward, inverse = torch.kron(line, line), torch.kron(back, back).T * window
        shape = (-1, 1, size, size)
        parts = (forward.view(shape), inverse, window, torch.kron(dct, dct).view(shape))
        return _Bank(size, *(part.to(dtype=dtype, device=device) for part in parts))


@lru_cache(maxsize=16)
def _opponent(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the matrix from RGB to the opponent space, with shape (3, 3)."""
    rows = ((1 / 3, 1 / 3, 1 / 3), (1 / 2, 0.0, -1 / 2), (1 / 4, -1 / 2, 1 / 4))
    with torch.inference_mode(False):
        return torch.tensor(rows, dtype=dtype, device=device)


def _block_size(planes: Tensor) -> int:
    """Returns the largest power of two that is a side of blocks and fits into the planes."""
    side: int = min(_BLOCK, planes.shape[-2], planes.shape[-1])
    return 1 << (side.bit_length() - 1)


def _batch(planes: Tensor) -> int:
    """Returns how many images are filtered at once."""
    c, h, w = planes.shape[1:]
    references = min(_TILE, h // _STEP) * min(_TILE, w // _STEP)
    return max(1, _MEMORY // max(1, references * _SECOND.group * c * _BLOCK**2))


def _check_images(y: Tensor) -> None:
    if y.ndim != 4 or 0 in y.shape or not y.is_floating_point():
        raise ValueError(
            f"got {y.dtype} images with shape {tuple(y.shape)}; "
            "expected floats in [0, 1] with shape (B, C, H, W), none of them 0"
        )


def noise_levels(sigma: float | Tensor, y: Tensor, *, name: str = "sigma") -> Tensor:
    """Checks images and the levels of their noise, and returns the levels with shape (B,).

    Arguments:
        sigma: One level for all images, or one for each, with shape (B,).
        y: The images, with shape (B, C, H, W).
        name: What an error calls them.

    Raises:
        ValueError: If a shape or dtype does not fit, or a level is negative or not finite.
    """
    _check_images(y)
    dtype = torch.float64 if y.dtype == torch.float64 else torch.float32
    levels = torch.as_tensor(sigma, dtype=dtype, device=y.device).detach()
    if levels.shape not in ((), (1,), (len(y),)):
        raise ValueError(
            f"got {name} with shape {tuple(levels.shape)} for {len(y)} images; "
            f"give one number, or a tensor with shape ({len(y)},)"
        )
    bad = levels[~((levels >= 0) & levels.isfinite())]
    if bad.numel():
        raise ValueError(f"{name}={float(bad.flatten()[0]):g} is no level of noise; give 0 or more")
    return levels.reshape(-1).expand(len(y))
