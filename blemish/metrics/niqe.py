r"""NIQE: how far the statistics of one image are from those of natural ones, without a reference.

The luma Y (0 to 255) is normalised by its local mean and deviation under a 7x7 Gaussian of width 7/6,

.. math:: \hat Y = \frac{Y - \mu}{\sigma + 1},

at full and at half size. In each block (96x96, then 48x48) :math:`\hat Y` and its products with its
four neighbours (right, below, and the two diagonals) are fitted by asymmetric generalised Gaussians

.. math:: f(v) \propto \exp(-(|v| / \beta_{l, r})^\alpha), \quad \beta_l \ \text{for}\ v < 0,
    \ \beta_r \ \text{for}\ v \ge 0,

by moments: with the ratio :math:`\gamma` of the left to the right root mean square,

.. math:: \frac{\Gamma(2/\alpha)^2}{\Gamma(1/\alpha) \Gamma(3/\alpha)}
    = \frac{(\mathrm{mean} |v|)^2}{\mathrm{mean}\, v^2}
      \frac{(\gamma^3 + 1)(\gamma + 1)}{(\gamma^2 + 1)^2} .

:math:`\alpha` and the mean of the :math:`\beta` describe :math:`\hat Y`; :math:`\alpha`, the mean
:math:`(\beta_r - \beta_l) \Gamma(2/\alpha) / \Gamma(1/\alpha)`, :math:`\beta_l` and :math:`\beta_r`
each product: 18 numbers at each of two sizes. Natural images have a Gaussian of these 36; an image
has the mean :math:`m` and covariance :math:`C` of its blocks, and its score is

.. math:: D = \sqrt{(m - m_0)^T \left( \tfrac{C + C_0}{2} \right)^+ (m - m_0)} ,

smaller for more natural images. It is computed in float64 and is not differentiable.

*Conventions.* Borders repeat the last pixel under the Gaussian, whereas a product at the border of a
block takes the pixel of the opposite border. The image is cut at the right and below to whole
blocks. Half size is MATLAB's: a bicubic kernel (a = -0.5) of 8 pixels, images mirrored at the border.
Colour images are read by their luma of BT.601 in the range 16 to 235, rounded to whole numbers, as
tables of restoration do; the authors' program takes MATLAB's grey values instead. Grey images are
read as they are, so give grey ones for that. In a flat area :math:`\hat Y` is 0: a difference from
the local mean below 1e-9 counts as none, where other programs fit its rounding error. (On 24
photographs of 500x500 pixels half of the scores agree with a port of the authors' program to 1e-4,
and all to 0.03; the largest differences have large flat areas.)

*Names.* The score is NIQE only with the authors' Gaussian, which is known by its numbers; with
another it is "NIQE-like (fitted on ...)".

References:
    | Making a "Completely Blind" Image Quality Analyzer (Mittal et al., 2013)
    | https://doi.org/10.1109/LSP.2012.2227726
    | Multiscale Skewed Heavy Tailed Model for Texture Analysis (Lasmar et al., 2009), for the fit
    | https://doi.org/10.1109/ICIP.2009.5414404
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .images import unit

__all__ = ["NIQEModel", "fit_aggd", "mscn", "niqe", "niqe_features"]

_FEATURES = 36
_BLOCK = 96
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_PUBLISHED = "f6284a2b53fd40bbc960472b76ec55b67a299a0270294b804c847e99b8cc1e30"
"""The digest of the mean and the covariance in the authors' ``modelparameters.mat``."""


@dataclass(frozen=True, eq=False)
class NIQEModel:
    """The Gaussian of natural images.

    Attributes:
        mean: The mean of the features, float64, with shape (36,).
        cov: Their covariance, float64, with shape (36, 36).
        fitted_on: The images it was fitted on, for the score's name.
        block: The side of a block in pixels, even.
    """

    mean: Tensor
    cov: Tensor
    fitted_on: str
    block: int = _BLOCK

    def __post_init__(self) -> None:
        n = _FEATURES
        if self.mean.shape != (n,) or self.cov.shape != (n, n):
            raise ValueError(
                f"got a mean of shape {tuple(self.mean.shape)} and a covariance of shape "
                f"{tuple(self.cov.shape)}; NIQE has {n} features, so they are ({n},) and ({n}, {n})"
            )
        if not (self.mean.isfinite().all() and self.cov.isfinite().all()):
            raise ValueError("the mean or the covariance is not finite; fit on other images")
        _check_block(self.block)

    @property
    def name(self) -> str:
        """What is written beside a score."""
        digest = hashlib.sha256()
        for part in (self.mean, self.cov):
            digest.update(part.double().contiguous().cpu().numpy().astype("<f8").tobytes())
        if digest.hexdigest() == _PUBLISHED and self.block == _BLOCK:
            return "NIQE"
        return f"NIQE-like (fitted on {self.fitted_on})"

    @classmethod
    def fit(
        cls,
        images: Iterable[Tensor],
        fitted_on: str,
        *,
        block: int = _BLOCK,
        threshold: float = 0.75,
    ) -> NIQEModel:
        """Fits the Gaussian to the sharp blocks of natural images.

        Arguments:
            images: Batches of images, uint8 or in [0, 1], each with shape (B, C, H, W); the sizes
                of batches may differ.
            fitted_on: What the images are, for the score's name.
            block: The side of a block in pixels, even.
            threshold: The share of the greatest sharpness in its image that a block must exceed;
                the sharpness of a block is its mean local deviation.

        Raises:
            ValueError: If fewer blocks are left than a covariance of 36 features needs.
        """
        kept = [_sharp(batch, block, threshold) for batch in images]
        rows = torch.cat(kept) if kept else torch.empty(0, _FEATURES)
        if len(rows) <= _FEATURES:
            raise ValueError(
                f"{len(rows)} blocks of {block}x{block} pixels are left to fit {_FEATURES} features "
                f"on; give more or larger images, for at least {_FEATURES + 1} blocks"
            )
        return cls(rows.mean(dim=0), torch.cov(rows.T), fitted_on, block)

    def save(self, path: Path | str) -> None:
        """Writes the Gaussian to a safetensors file."""
        about = {"fitted_on": self.fitted_on, "block": str(self.block)}
        tensors = {"mean": self.mean.contiguous(), "cov": self.cov.contiguous()}
        save_file(tensors, path, metadata=about)

    @classmethod
    def load(cls, path: Path | str) -> NIQEModel:
        """Reads a Gaussian.

        Arguments:
            path: A file of :meth:`save`, or the published parameters: the authors'
                ``modelparameters.mat`` (this needs SciPy) or their copy in NumPy's format,
                ``niqe_pris_params.npz``.

        Raises:
            FileNotFoundError: If there is no such file.
            ModuleNotFoundError: If a ``.mat`` is read without SciPy.
            ValueError: If it holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}; give the path of a fitted model")
        if path.suffix in (".mat", ".npz"):
            mean, cov = _published(path)
            return cls(mean, cov, path.name)
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata()
                mean, cov = file.get_tensor("mean"), file.get_tensor("cov")
            return cls(mean, cov, about["fitted_on"], int(about["block"]))
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path.name} is no model of NIQE ({error}); "
                "give a file written by NIQEModel.save, a .mat or a .npz"
            ) from error


@torch.no_grad()
def niqe(images: Tensor, model: NIQEModel) -> Tensor:
    """Returns the distance of each image from natural ones, float64, with shape (B,).

    Arguments:
        images: uint8 or in [0, 1], large enough for two blocks, with shape (B, C, H, W), C = 1 or 3.
        model: The Gaussian of natural images; its name is that of the score.
    """
    features, _ = niqe_features(images, model.block)
    if features.shape[1] < 2:
        raise ValueError(
            f"got images of {images.shape[-2]}x{images.shape[-1]} pixels; a covariance needs two "
            f"blocks of {model.block}x{model.block}"
        )
    mean, cov = _moments(features)
    difference = mean - model.mean.to(mean)
    # Mittal et al. (2013), Eq. 10.
    inverse = torch.linalg.pinv((cov + model.cov.to(mean)) / 2, hermitian=True)
    return torch.einsum("bi,bij,bj->b", difference, inverse, difference).clamp(min=0).sqrt()


@torch.no_grad()
def niqe_features(images: Tensor, block: int = _BLOCK) -> tuple[Tensor, Tensor]:
    """Returns the features of each block, and its sharpness.

    Arguments:
        images: uint8 or in [0, 1], of at least block x block pixels, with shape (B, C, H, W).
        block: The side of a block in pixels, even.

    Returns:
        Features, float64, with shape (B, N, 36), NaN where a block is flat; and the mean local
        deviation of each block, with shape (B, N).
    """
    _check_block(block)
    y = _luma(unit(images, torch.float64))
    rows, columns = y.shape[-2] // block, y.shape[-1] // block
    if not rows or not columns:
        raise ValueError(
            f"got images of {y.shape[-2]}x{y.shape[-1]} pixels; "
            f"NIQE needs at least one block of {block}x{block}"
        )
    y = y[..., : rows * block, : columns * block]
    full, sigma = mscn(y)
    half, _ = mscn(_half(y))
    features = [_describe(_blocks(full, block)), _describe(_blocks(half, block // 2))]
    return torch.cat(features, dim=-1), _blocks(sigma, block).mean(dim=(2, 3))


def mscn(y: Tensor) -> tuple[Tensor, Tensor]:
    """Normalises images by their local means and deviations.

    Arguments:
        y: Luma from 0 to 255, with shape (B, 1, H, W).

    Returns:
        The normalised images and the local deviations, each with the shape of y.
    """
    mu = _smooth(y)
    sigma = (_smooth(y.square()) - mu.square()).abs().sqrt()
    # In a flat area the difference is 0, and its rounding error would be fitted as a texture.
    difference = F.hardshrink(y - mu, 1e-9)
    # Mittal et al. (2013), Eq. 1.
    return difference / (sigma + 1), sigma


def fit_aggd(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fits asymmetric generalised Gaussians to samples, by moments.

    Arguments:
        v: Samples, with shape (..., n).

    Returns:
        The shape alpha, from 0.2 to 10 in steps of 0.001, and the scales beta of the left and the
        right side, each with shape (...); NaN where a side has no sample.
    """
    v = v.double()
    below, above = v.clamp(max=0).square().sum(dim=-1), v.clamp(min=0).square().sum(dim=-1)
    left, right = (below / (v < 0).sum(dim=-1)).sqrt(), (above / (v > 0).sum(dim=-1)).sqrt()
    gamma = left / right
    ratio = v.abs().mean(dim=-1).square() / ((below + above) / v.shape[-1])
    ratio = ratio * (gamma**3 + 1) * (gamma + 1) / (gamma.square() + 1).square()
    alpha = _shape(ratio)
    scale = (0.5 * (torch.lgamma(1 / alpha) - torch.lgamma(3 / alpha))).exp()
    return alpha, left * scale, right * scale


@functools.cache
def _shapes() -> tuple[Tensor, Tensor]:
    # The shapes that are tried, and the ratio of each, which grows with it.
    alpha = torch.arange(200, 10_001, dtype=torch.float64) / 1000
    log = 2 * torch.lgamma(2 / alpha) - torch.lgamma(1 / alpha) - torch.lgamma(3 / alpha)
    return alpha, log.exp()


def _shape(ratio: Tensor) -> Tensor:
    """Returns the shape whose ratio is nearest; NaN for NaN."""
    alpha, ratios = (part.to(ratio.device) for part in _shapes())
    above = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(ratios) - 1)
    below = above - 1
    nearer = (ratio - ratios[below]) <= (ratios[above] - ratio)
    return torch.where(ratio.isnan(), ratio, alpha[torch.where(nearer, below, above)])


def _describe(blocks: Tensor) -> Tensor:
    """Returns the 18 numbers of each block, (B, N, k, k), with shape (B, N, 18)."""
    alpha, left, right = fit_aggd(blocks.flatten(2))
    numbers = [alpha, (left + right) / 2]
    for shift in _SHIFTS:
        product = blocks * blocks.roll(shift, dims=(2, 3))
        alpha, left, right = fit_aggd(product.flatten(2))
        # Mittal et al. (2013), Eq. 8, the mean of a fitted product.
        mean = (right - left) * (torch.lgamma(2 / alpha) - torch.lgamma(1 / alpha)).exp()
        numbers += [alpha, mean, left, right]
    return torch.stack(numbers, dim=-1)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean and covariance over the blocks, (B, N, D), with shapes (B, D), (B, D, D)."""
    # As the authors: a mean of what is a number, a covariance of the blocks that are so altogether.
    mean = features.nanmean(dim=1)
    whole = ~features.isnan().any(dim=2, keepdim=True)
    count = whole.sum(dim=1, keepdim=True)
    rows = torch.where(whole, features, 0)
    rows = torch.where(whole, rows - rows.sum(dim=1, keepdim=True) / count, 0)
    cov = rows.transpose(1, 2) @ rows / (count - 1)
    if int(count.min()) < 2:
        raise ValueError(
            "an image has fewer than two blocks with a texture; its statistics cannot be fitted"
        )
    return mean, cov


def _sharp(images: Tensor, block: int, threshold: float) -> Tensor:
    """Returns the features of the blocks sharp enough, with shape (M, 36)."""
    features, sharpness = niqe_features(images, block)
    keep = sharpness > threshold * sharpness.amax(dim=1, keepdim=True)
    return features[keep & ~features.isnan().any(dim=2)]


def _luma(x: Tensor) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"got images with {x.shape[1]} channels; NIQE takes 1 or 3")
    if x.shape[1] == 1:
        return (255 * x).round()
    weights = x.new_tensor([65.481, 128.553, 24.966]).view(3, 1, 1)
    return (16 + (weights * x).sum(dim=1, keepdim=True)).round()


def _smooth(y: Tensor) -> Tensor:
    t = torch.arange(-3, 4, dtype=torch.float64)
    g = torch.exp(-t.square() / (2 * (7 / 6) ** 2))
    y = F.pad(y, (3, 3, 3, 3), mode="replicate")
    return _filter(_filter(y, g, dim=2), g, dim=3)


def _half(y: Tensor) -> Tensor:
    # The cubic of a = -0.5 at half the distance, of support 2 and so of 8 pixels.
    t = torch.tensor([0.25, 0.75, 1.25, 1.75], dtype=torch.float64)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    side = torch.where(t < 1, near, far)
    g = torch.cat([side.flip(0), side])
    for dim in (2, 3):
        n = y.shape[dim]
        ends = y.narrow(dim, 0, 3).flip(dim), y.narrow(dim, n - 3, 3).flip(dim)
        y = _filter(torch.cat([ends[0], y, ends[1]], dim=dim), g, dim=dim, stride=2)
    return y


def _filter(y: Tensor, g: Tensor, dim: int, stride: int = 1) -> Tensor:
    # A sum of shifted images: in float64 several times as fast as a convolution on a CPU.
    weights = (g / g.sum()).tolist()
    parts = y.unfold(dim, len(weights), stride).unbind(-1)
    out = torch.zeros_like(parts[0])
    for weight, part in zip(weights, parts, strict=True):
        out = out.add_(part, alpha=weight)
    return out


def _blocks(y: Tensor, side: int) -> Tensor:
    # (B, 1, H, W) to (B, N, side, side).
    B, _, H, W = y.shape
    y = y.reshape(B, H // side, side, W // side, side)
    return y.transpose(2, 3).reshape(B, -1, side, side)


def _check_block(block: int) -> None:
    if block < 8 or block % 2:
        raise ValueError(f"block is {block}; it is halved once, so use an even side of at least 8")


def _published(path: Path) -> tuple[Tensor, Tensor]:
    content, end = (
        (_mat(path), "_prisparam") if path.suffix == ".mat" else (_npz(path), "_pris_param")
    )
    missing = [key for key in ("mu" + end, "cov" + end) if key not in content]
    if missing:
        raise ValueError(
            f"{path.name} has no {missing[0]!r}; give the published parameters of NIQE"
        )
    mean, cov = (np.asarray(content[key + end], dtype=np.float64) for key in ("mu", "cov"))
    return torch.from_numpy(mean.reshape(-1)), torch.from_numpy(cov)


def _mat(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path.name} is a file of MATLAB, which SciPy reads; run: pip install scipy"
        ) from error
    try:
        content: dict[str, Any] = loadmat(path)
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(
            f"{path.name} is no file of MATLAB ({error}); download it again"
        ) from error
    return content


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path.name} is no file of NumPy ({error}); download it again") from error
