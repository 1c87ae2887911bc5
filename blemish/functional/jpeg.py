r"""JPEG, differentiable and real.

An image :math:`x` becomes a luma plane :math:`Y` and two chroma planes :math:`C_b, C_r` (with 4:2:0 averaged over
2x2 pixels). Each plane is cut into 8x8 blocks :math:`p`, and each block is transformed by the orthonormal DCT, a
64x64 matrix :math:`D`, divided by a table :math:`T(q)`, rounded, and brought back:

.. math:: c = D p, \qquad u = c / T, \qquad \hat c = T R(u), \qquad \hat p = D^\top \hat c.

The decoder clips the planes, enlarges the chroma with weights 3/4 and 1/4 (libjpeg's "fancy upsampling"), returns to
RGB and clips again. Borders are replicated up to whole blocks exactly as libjpeg does, so any height and width work.

*Tables.* With the standard tables :math:`t` and the scale :math:`S(q) = 5000 / q` for :math:`q < 50`, else
:math:`200 - 2 q`, libjpeg uses :math:`T = \lfloor (t \lfloor S \rfloor + 50) / 100 \rfloor` clamped to [1, 255].

*Rounding.* The cubic (Shin & Song, 2017) :math:`R(u) = r + d^3` with :math:`r = \mathrm{round}(u)` and
:math:`d = u - r` has the derivative :math:`3 d^2`, which is what gradients to the image see.

*Gradient to the quality.* The derivative of :math:`T R(c / T)` with respect to T is :math:`R(u) - u R'(u)`. It leaves
out the jumps of R, so that large coefficients contribute terms of the size of r and of random sign: even the gradient
of the distortion then has the wrong sign on some photographs, at q = 90 on a quarter of them. Integer tables need a
substitute for their derivative anyway; theirs is that of the quantisation noise model (Widrow & Kollár, 2008):
:math:`\hat c = c + T e`, where the law of the noise :math:`e = R(u) - u` does not depend on T, so that

.. math:: \frac{\partial \hat c}{\partial T} = R(u) - u, \qquad \frac{\partial T}{\partial q} = \frac{t \, S'(q)}{100},

the latter zero where T is clamped. (A straight-through quantiser has the same.) In the distortion each coefficient then
has the share :math:`2 T e^2 \ge 0`: coarser tables are worse, though about twice as much as in truth at low qualities,
as this holds for coefficients rounded to zero, too. Continuous tables keep the plain derivative.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

__all__ = [
    "Chroma",
    "Rounding",
    "Subsampling",
    "Table",
    "jpeg",
    "pillow_jpeg",
    "quantisation_tables",
]

Subsampling = Literal["4:2:0", "4:4:4"]
"""Whether chroma has half the resolution in both directions (4:2:0) or the full one (4:4:4)."""

Rounding = Literal["cubic", "straight-through", "hard"]
"""How coefficients are rounded; ``hard`` has no gradient to the image."""

Table = Literal["integer", "continuous"]
"""Whether quantisation tables are libjpeg's whole numbers or vary continuously with the quality."""

Chroma = Literal["bilinear", "nearest"]
"""How a decoder enlarges chroma."""

# Annex K of ITU-T T.81 (tables K.1 and K.2), rows from low to high vertical frequency.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)

# JFIF: Y = .299 R + .587 G + .114 B, Cb = (B - Y) / 1.772, Cr = (R - Y) / 1.402.
RED, GREEN, BLUE = 0.299, 0.587, 0.114


def jpeg(
    x: Tensor,
    quality: float | Tensor,
    *,
    subsampling: Subsampling = "4:2:0",
    rounding: Rounding = "cubic",
    table: Table = "integer",
    chroma: Chroma = "bilinear",
) -> Tensor:
    """Compresses and decompresses images, with gradients to the images and to the quality.

    Source of the cubic rounding: JPEG-resistant Adversarial Images (Shin & Song, 2017). The table and chroma options
    ``continuous`` and ``nearest`` give their codec; the defaults are 1 to 4 dB nearer to libjpeg.

    Arguments:
        x: Images in [0, 1], with shape (B, C, H, W); C is 1 (grey) or 3 (RGB), H and W are free. They are not
            rounded to 8 bits.
        quality: One quality, or one for each image with shape (B,); any real numbers, clamped to [1, 100].
        subsampling: The resolution of the chroma.
        rounding: The rounding of coefficients: ``cubic``; ``straight-through``, true rounding with the derivative 1;
            or ``hard``, true rounding with no gradient to the image.
        table: ``integer`` tables equal libjpeg's and have the noise model's gradient to the quality; ``continuous``
            ones have the plain derivative.
        chroma: How 4:2:0 chroma is enlarged; ``bilinear`` is what libjpeg does.

    Returns:
        Images in [0, 1] with the shape and dtype of x.

    Raises:
        ValueError: If a shape, dtype or name is not among those above.
    """
    _check_images(x)
    _check_name("subsampling", subsampling, Subsampling)
    _check_name("rounding", rounding, Rounding)
    _check_name("chroma", chroma, Chroma)
    # Half precision cannot hold coefficients up to 1024 to less than a step of the table.
    wide = x if x.dtype == torch.float64 else x.float()
    q = _qualities(quality, len(x), wide)
    with torch.autocast(x.device.type, enabled=False):
        tables = _tables(q, table)
        codec = _Codec(subsampling, rounding, chroma, exact=table == "continuous")
        y = codec.grey(wide, tables) if x.shape[1] == 1 else codec.colour(wide, tables)
    return y.to(x.dtype)


def quantisation_tables(
    quality: float | Tensor, *, table: Table = "integer"
) -> tuple[Tensor, Tensor]:
    r"""Returns the tables by which JPEG divides DCT coefficients.

    Arguments:
        quality: One quality, or several with shape (B,); clamped to [1, 100].
        table: ``integer`` for libjpeg's :math:`\lfloor (t \lfloor S \rfloor + 50) / 100 \rfloor`, ``continuous`` for
            :math:`t S / 100`; both clamped to [1, 255]. The gradients to the quality are the same.

    Returns:
        The tables of luma and of chroma, each with shape (B, 8, 8), rows by vertical frequency. They have the
        quality's dtype, or float32 if that is not floating. B is 1 for a single quality.

    Raises:
        ValueError: If the quality has another shape, or the table's name is not known.
    """
    floating = isinstance(quality, Tensor) and quality.is_floating_point()
    q = torch.as_tensor(quality, dtype=None if floating else torch.float32)
    if q.ndim > 1:
        raise ValueError(f"got qualities with shape {tuple(q.shape)}; expected () or (B,)")
    luma, chroma = _tables(q.reshape(-1), table)
    return luma.reshape(-1, 8, 8), chroma.reshape(-1, 8, 8)


def pillow_jpeg(x: Tensor, quality: int | Tensor, *, subsampling: Subsampling = "4:2:0") -> Tensor:
    """Compresses and decompresses images with Pillow, that is libjpeg, in memory.

    Arguments:
        x: Images, with shape (B, C, H, W); C is 1 (grey) or 3 (RGB). They are clipped to [0, 1] and rounded to 8 bits.
        quality: One quality, or one for each image with shape (B,); whole numbers in [1, 100], of any dtype.
        subsampling: The resolution of the chroma.

    Returns:
        Images in [0, 1], multiples of 1/255, float32, with the shape and on the device of x; without gradient.

    Raises:
        ValueError: If a shape, dtype or name is wrong, or a quality is not a whole number in [1, 100].
    """
    _check_images(x)
    _check_name("subsampling", subsampling, Subsampling)
    q = _whole_qualities(quality, len(x))
    pixels = x.detach().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    arrays = pixels.cpu().contiguous().numpy()
    images = [array[..., 0] if array.shape[-1] == 1 else array for array in arrays]
    # Threads gained nothing for images of 32 to 1024 pixels: Pillow encodes under the interpreter's lock.
    decoded = [_recompress(image, v, subsampling) for image, v in zip(images, q, strict=True)]
    stack = np.stack(decoded) if decoded else np.empty(pixels.shape, np.uint8)
    y = torch.from_numpy(stack).reshape(pixels.shape).to(x.device)
    return y.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _recompress(pixels: np.ndarray[Any, Any], quality: int, subsampling: str) -> Any:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(file) as image:
        return np.asarray(image)


class _Codec:
    """The way from pixels to coefficients and back, for given options."""

    def __init__(
        self, subsampling: Subsampling, rounding: Rounding, chroma: Chroma, *, exact: bool
    ) -> None:
        self.step = 2 if subsampling == "4:2:0" else 1
        self.rounding, self.chroma, self.exact = rounding, chroma, exact

    def grey(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Passes ``(B, 1, H, W)`` in [0, 1] through the codec."""
        return ((self.plane(x * 255 - 128, tables[0]) + 128) / 255).clamp(0, 1)

    def colour(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Passes ``(B, 3, H, W)`` in [0, 1] through the codec."""
        height, width = x.shape[-2:]
        # libjpeg replicates columns before it averages chroma, and rows after (up to the second of a pair).
        x = _replicate(x, -height % self.step, -width % (8 * self.step))
        to_luma, to_chroma, to_rgb = _colours(x.dtype, x.device)
        luma = (x * to_luma).sum(1, keepdim=True) - 128
        chroma = _mix(to_chroma, _halve(x) if self.step == 2 else x)
        luma = _crop(self.plane(luma, tables[0]), height, width)
        chroma = self.enlarge(self.plane(chroma, tables[1]), height, width)
        colours = _mix(to_rgb, chroma)
        y: Tensor = (_crop(colours, height, width) + (luma + 128) / 255).clamp(0, 1)
        return y

    def plane(self, p: Tensor, table: Tensor) -> Tensor:
        """Quantises planes ``(B, P, H, W)``, centred at 0, with tables ``(B, 64)``."""
        b, n, height, width = p.shape
        p = _replicate(p, -height % 8, -width % 8)
        rows, columns = p.shape[-2] // 8, p.shape[-1] // 8
        dct = _dct(p.dtype, p.device)
        blocks = p.reshape(b, n * rows, 8, columns, 8).transpose(2, 3).reshape(b, -1, 64)
        blocks = _quantise(blocks @ dct.T, table[:, None], self.rounding, self.exact) @ dct
        p = blocks.reshape(b, n * rows, columns, 8, 8).transpose(2, 3)
        p = p.reshape(b, n, 8 * rows, 8 * columns)
        return _crop(p, height, width).clamp(-128, 127)

    def enlarge(self, chroma: Tensor, height: int, width: int) -> Tensor:
        """Brings chroma ``(B, 2, h, w)`` to at least the size of the image."""
        if self.step == 1:
            return chroma
        # Only true samples are interpolated, not those that fill the last block.
        chroma = _crop(chroma, (height + 1) // 2, (width + 1) // 2)
        # libjpeg, too, leaves out the interpolation of planes up to two samples wide.
        if self.chroma == "nearest" or chroma.shape[-1] <= 2:
            return F.interpolate(chroma, scale_factor=2, mode="nearest")
        return F.interpolate(chroma, scale_factor=2, mode="bilinear")


class _Quantise(torch.autograd.Function):
    """T R(c / T), with the gradients of the module's docstring."""

    generate_vmap_rule = True

    @staticmethod
    def forward(c: Tensor, table: Tensor, rounding: Rounding, exact: bool) -> Tensor:
        u = c / table
        r = u.round()
        if rounding == "cubic":
            d = u - r
            r = torch.addcmul(r, d * d, d)
        return r * table

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        c, table, ctx.rounding, ctx.exact = inputs
        ctx.save_for_backward(c, table)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        c, table = ctx.saved_tensors
        u = c / table
        r = u.detach().round()
        d = u - r
        if ctx.rounding == "cubic":
            slope, error = 3 * d * d, d * d * d - d
        else:
            slope = (
                torch.ones_like(d) if ctx.rounding == "straight-through" else torch.zeros_like(d)
            )
            error = -d
        to_table = None
        if ctx.needs_input_grad[1]:
            change = error + u * (1 - slope) if ctx.exact else error
            to_table = (grad * change).sum(-2, keepdim=True)
        return grad * slope, to_table, None, None


def _quantise(c: Tensor, table: Tensor, rounding: Rounding, exact: bool) -> Tensor:
    y: Tensor = _Quantise.apply(c, table, rounding, exact)  # type: ignore[no-untyped-call]
    return y


def _tables(q: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """Returns the tables of luma and chroma, each with shape (B, 64), for qualities (B,)."""
    _check_name("table", table, Table)
    q = q.clamp(1, 100)
    scale = torch.where(q < 50, 5000 / q, 200 - 2 * q)[:, None, None]
    base = _base(q.dtype, q.device)
    smooth = (base * scale / 100).clamp(1, 255)
    if table == "integer":
        whole = ((base * scale.detach().floor() + 50) / 100).floor().clamp(1, 255)
        # In this order the sum is exactly a whole number.
        smooth = whole + (smooth - smooth.detach())
    return smooth[:, 0], smooth[:, 1]


def _mix(matrix: Tensor, planes: Tensor) -> Tensor:
    """Applies a matrix ``(m, n)`` to the channels of planes ``(B, n, h, w)``."""
    b, _, h, w = planes.shape
    return (matrix @ planes.flatten(2)).reshape(b, -1, h, w)


def _halve(planes: Tensor) -> Tensor:
    """Averages 2x2 pixels of planes ``(B, P, H, W)``, whose width is a multiple of 16."""
    b, n, h, w = planes.shape
    # Both passes together take half the time of avg_pool2d.
    rows = planes.reshape(b, n, h // 2, 2, w).sum(3)
    return (rows.reshape(-1, 16) @ _pairs(planes.dtype, planes.device)).reshape(b, n, h // 2, -1)


def _replicate(p: Tensor, rows: int, columns: int) -> Tensor:
    return F.pad(p, (0, columns, 0, rows), mode="replicate") if rows or columns else p


def _crop(p: Tensor, height: int, width: int) -> Tensor:
    # A slice that takes all would still cost a copy in the backward pass.
    return p if p.shape[-2:] == (height, width) else p[..., :height, :width]


# Constant matrices, made once for each dtype and device. They are made outside of inference mode, as inference
# tensors could not take part in training later.


@lru_cache(maxsize=32)
def _dct(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns D of shape (64, 64): D p is the orthonormal two-dimensional DCT of a block p of 64 pixels."""
    with torch.inference_mode(False):
        k = torch.arange(8, dtype=torch.float64, device="cpu")
        line = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
        line[0] /= math.sqrt(2)
        return torch.kron(line, line).to(dtype=dtype, device=device)


@lru_cache(maxsize=32)
def _pairs(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the matrix ``(16, 8)`` that adds pairs of neighbours and divides by 4."""
    with torch.inference_mode(False):
        pair = torch.full((2, 1), 0.25, dtype=dtype, device=device)
        return torch.kron(torch.eye(8, dtype=dtype, device=device), pair)


@lru_cache(maxsize=32)
def _base(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the standard tables of luma and chroma, with shape (2, 64)."""
    with torch.inference_mode(False):
        return torch.tensor((LUMA, CHROMA), dtype=dtype, device=device).flatten(1)


@lru_cache(maxsize=32)
def _colours(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns 255 times the rows of Y (3, 1, 1) and of Cb, Cr (2, 3), and 1/255 of Cb's and Cr's columns (3, 2)."""
    cb, cr = 2 * (1 - BLUE), 2 * (1 - RED)
    rows = ((-RED / cb, -GREEN / cb, 0.5), (0.5, -GREEN / cr, -BLUE / cr))
    columns = ((0.0, cr), (-BLUE * cb / GREEN, -RED * cr / GREEN), (cb, 0.0))
    with torch.inference_mode(False):
        to_luma = torch.tensor((RED, GREEN, BLUE), dtype=dtype, device=device)[:, None, None]
        to_chroma = torch.tensor(rows, dtype=dtype, device=device)
        to_rgb = torch.tensor(columns, dtype=dtype, device=device)
        return 255 * to_luma, 255 * to_chroma, to_rgb / 255


def _check_images(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape[2:]:
        raise ValueError(
            f"got images with shape {tuple(x.shape)}; expected (B, C, H, W) with 1 or 3 channels"
        )
    if not x.is_floating_point():
        raise ValueError(f"got images of {x.dtype}; convert them to floats in [0, 1]")


def _check_name(option: str, value: str, allowed: Any) -> None:
    if value not in get_args(allowed):
        raise ValueError(f"{option}={value!r} is not known; choose {', '.join(get_args(allowed))}")


def _qualities(quality: float | Tensor, batch: int, like: Tensor) -> Tensor:
    """Returns qualities with shape (B,), or (1,) if one is for all."""
    q = torch.as_tensor(quality, dtype=like.dtype, device=like.device)
    if q.shape not in ((), (1,), (batch,)):
        raise ValueError(
            f"got qualities with shape {tuple(q.shape)} for {batch} images; "
            f"give one number, or a tensor with shape ({batch},)"
        )
    return q.reshape(-1)


def _whole_qualities(quality: int | Tensor, batch: int) -> list[int]:
    q = _qualities(quality, batch, torch.empty(0, dtype=torch.float64)).expand(batch).tolist()
    for value in q:
        if not 1 <= value <= 100 or value != int(value):
            raise ValueError(f"quality {value} is not possible; use whole numbers from 1 to 100")
    return [int(value) for value in q]
