r"""The distance of two textures, which does not ask for the same noise.

A network that adds noise shall not be blamed for the noise that it drew: two images :math:`y_1, y_2` with independent
noise of one deviation belong nearer to each other than to the clean x. Distances of pixels say the opposite, for
:math:`E\|y_1 - y_2\|^2 = 2 E\|y_1 - x\|^2`, and so does SSIM; a network that is trained with them gives no noise. DISTS,
which compares statistics of features, has the right order but needs the weights of two publications. This is what
stands in for it where they are absent: statistics of fixed filters.

*Texture.* The channels are rotated by an orthonormal DCT, which makes brightness and two differences of colours of
red, green and blue. At three scales, each the averages over 2x2 pixels of the one before, :math:`f_k` are the
derivatives along x and y and the Laplacian, each divided by the norm of its filter, so that white noise keeps its
deviation; at the last scale the image itself is one more. In windows w of 4x4 pixels, with :math:`\epsilon` of one grey
level so that the slope is finite where nothing is,

.. math::
    A_k(w) = \sqrt{\mathrm{mean}_w \, f_k(x)^2 + \epsilon^2}, \qquad
    T = \tfrac12 \, \mathrm{mean}_k \bigl( \mathrm{mean}_w |\Delta A_k| + |\mathrm{mean}_w \Delta A_k| \bigr)

where :math:`\Delta` is the difference of the two images. *Pattern.* A lattice can have the amplitudes of noise in a few
broad filters, but not in narrow ones. With the coefficients :math:`c_{ij}` of the DCT of windows of 8x8 pixels, four
pixels apart, over the whole image,

.. math::
    P = \mathrm{mean}_{ij \ne 00} \, \Bigl| \Delta \sqrt{\mathrm{mean}_w \, c_{ij}^2 + \epsilon^2} \Bigr|

*Structure.* Amplitudes do not know the sign or the place of
an edge within its window. The covariance over the whole image, as in DISTS, does:

.. math::
    S = \mathrm{mean}_s \Bigl( 1 - \frac{2 \sigma_{xy} + c}{\sigma_x^2 + \sigma_y^2 + c} \Bigr), \qquad
    D = \tfrac52 (T + P) + 0.25 S, \qquad c = 0.03

with the image at scale s alone, in the form of a squared difference, which does not cancel. The factor 5 brings D to
the size of other distances between 0 and 1: noise of 25/255 costs about 0.3.

*Why these numbers.* What counts is the ratio :math:`E D(y_1, y_2) / E D(y_1, x)`, which must be below 1. For deviations
of 5 to 50/255 the worst of 12 crops of photographs of 64x64 pixels has 0.31 in colour and 0.85 in grey.

* The rotation tells that natural textures are grey and noise is not, and coloured noise from grey, which energies of red,
  green and blue do not: without it the ratio of T and S more than doubles.
* The image itself at the two finer scales compares local means alone, which follow the draw of the noise; without it the
  ratio is lower.
* The mean over all windows is the statistic of the whole image, less random by the root of their number. Larger windows
  would be less random, too, but would see a local damage half as sharply.
* P is the least random of all: beside it, T alone says half as much against a lattice in the place of noise. A network
  that is taught by T and S learns lattices first, and stays there.
* A larger weight of S makes the noise that comes nearest to a given one too weak.
* Logarithms of amplitudes, that is relative differences, tell blurs below noise apart less well.

*Limits.* A texture that drowns the noise hides it, and smaller images know their statistics less well: crops of 32x32
pixels have 0.49 in colour and 1.03 in grey.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025)
    | https://arxiv.org/abs/2505.12860, technical report, section 1.2
    | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
    | https://arxiv.org/abs/2004.07728
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional.transforms import dct_matrix
from ..networks.inputs import check_size

__all__ = ["Distance", "clamped", "texture_distance"]

Distance = Callable[[Tensor, Tensor], Tensor]
"""What compares estimates with targets, both in [0, 1] with shape (B, C, H, W), and returns distances with shape (B,):
:func:`texture_distance`, or ``partial(dists, network=network)`` of :mod:`blemish.metrics`."""

_SCALES = 3
_WINDOW = 4
_SQUARE = 8
_EPSILON = 1 / 255
_C = 0.03
_TEXTURE, _STRUCTURE = 5.0, 0.25
_SMALLEST = _WINDOW << (_SCALES - 1)


def texture_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Returns the distance D of textures and structures, with shape (B,); 0 for equal images.

    It is symmetric, and its gradient finite everywhere.

    Arguments:
        estimate: Images of at least 16x16 pixels, about in [0, 1], with shape (B, C, H, W).
        target: Images to compare with, of the same shape.

    Raises:
        ValueError: If the shapes differ, or a side is shorter.
    """
    if estimate.shape != target.shape:
        raise ValueError(
            f"got shapes {tuple(estimate.shape)} and {tuple(target.shape)}; "
            "an image can only be compared with one of the same shape"
        )
    check_size(estimate, _SMALLEST, "the distance of textures needs")
    x, y = _rotated(estimate), _rotated(target)
    p = _pattern(x, y)
    texture, structure = [], []
    for scale in range(_SCALES):
        if scale:
            x, y = _pooled(x, 2), _pooled(y, 2)
        structure.append(_structure(x, y))
        filters = zip(_filtered(x), _filtered(y), strict=True)
        texture += [_texture(a, b) for a, b in filters]
    texture.append(_texture(x, y))
    t, s = torch.stack(texture).mean(dim=0), torch.stack(structure).mean(dim=0)
    return _TEXTURE * (t + p) / 2 + _STRUCTURE * s


def clamped(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Clamps values, and passes the gradient on as if it had not (a straight-through estimate).

    A distance of images in [0, 1] then still moves what a network put beyond them, where the clamp's own gradient,
    which is 0, would leave it there for good.

    Arguments:
        x: Values of any shape.
        low: The least value.
        high: The greatest value.
    """
    # The difference is 0 to the last bit, so that the value is the clamped one exactly.
    return x.detach().clamp(low, high) + (x - x.detach())


def _rotated(x: Tensor) -> Tensor:
    # Halves are compared in single precision.
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.einsum("kc,bchw->bkhw", dct_matrix(x.shape[1]).to(x), x)


def _pooled(x: Tensor, size: int) -> Tensor:
    # With what remains at the border in windows of their own, no pixel is left out.
    return F.avg_pool2d(x, size, ceil_mode=True)


def _filtered(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns both derivatives and the Laplacian where they need no border, with filters of norm 1."""
    laplacian = x.diff(n=2, dim=-1)[..., 1:-1, :] + x.diff(n=2, dim=-2)[..., 1:-1]
    root = math.sqrt(2)
    return x.diff(dim=-1) / root, x.diff(dim=-2) / root, laplacian / math.sqrt(20)


def _texture(x: Tensor, y: Tensor) -> Tensor:
    """Compares amplitudes in windows and over all of them, (B, C, H, W) to (B,)."""
    difference = _amplitude(x) - _amplitude(y)
    local, whole = difference.abs().mean(dim=(1, 2, 3)), difference.mean(dim=(2, 3)).abs()
    return (local + whole.mean(dim=1)) / 2


def _amplitude(x: Tensor) -> Tensor:
    return (_pooled(x.square(), _WINDOW) + _EPSILON**2).sqrt()


def _pattern(x: Tensor, y: Tensor) -> Tensor:
    """Compares amplitudes by frequency, (B, C, H, W) to (B,)."""
    return (_spectrum(x) - _spectrum(y)).abs().mean(dim=(1, 2))


def _spectrum(x: Tensor) -> Tensor:
    """Returns the amplitudes of all frequencies of windows but 0, with shape (B, C, 63)."""
    t = dct_matrix(_SQUARE).to(x)
    bank = torch.einsum("ku,lv->kluv", t, t).reshape(-1, 1, _SQUARE, _SQUARE)[1:]
    c = F.conv2d(x.flatten(0, 1)[:, None], bank, stride=_SQUARE // 2)
    amplitudes = (c.square().mean(dim=(2, 3)) + _EPSILON**2).sqrt()
    return amplitudes.view(*x.shape[:2], -1)


def _structure(x: Tensor, y: Tensor) -> Tensor:
    """Returns 1 - (2 cov + c) / (var + var + c), the mean over channels, (B, C, H, W) to (B,)."""
    x, y = (z - z.mean(dim=(2, 3), keepdim=True) for z in (x, y))
    variances = x.square().mean(dim=(2, 3)) + y.square().mean(dim=(2, 3))
    return ((x - y).square().mean(dim=(2, 3)) / (variances + _C)).mean(dim=1)
