"""Decoding pictures and making them fit.

A decoded picture is a uint8 tensor (C, H, W) with C = 1 (grey) or 3 (RGB), read thus:

* Formats: JPEG, PNG, WebP, TIFF and BMP, known by their first bytes, not by the file's name. Of
  animations and many-paged files the first picture is taken.
* The EXIF orientation is applied. Colour profiles and gamma chunks are not.
* Palettes become RGB, bilevel pictures grey 0 and 255, YCbCr and (naively) CMYK RGB.
* Alpha is composited over black: c <- round(c alpha / 255). The colours under transparent pixels
  are arbitrary, so that dropping alpha would teach a generator garbage.
* Grey of 16 bits becomes round(v / 257), so that 65535 is white. (RGB of 16 bits is reduced by
  Pillow, which takes the high byte: at most one level lower.) Pictures of 32 bits or floating
  point have no fixed white level and are refused.
* RGB becomes grey by ITU-R BT.601, Y = 0.299 R + 0.587 G + 0.114 B; grey becomes RGB by repetition.

Making them fit a square of S x S pixels (:class:`Preparation`):

* ``none``: nothing is changed; every picture must have that size already.
* ``crop``: the S x S pixels at the centre. JPEG codes blocks of 8x8 pixels, whose position is part
  of the evidence of the damage; the corner is therefore rounded down to multiples of 8, unless
  ``keep_jpeg_grid=False``. (The grid counts from the picture's upper left corner: a rotation in the
  EXIF data moves it where a side is no multiple of 8.)
* ``resize``: the central square, reduced by exact area averages (enlarged by bicubic interpolation
  where it is smaller than S), rounded to the nearest level.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..functional.resample import area, bicubic
from .base import BadImage

__all__ = [
    "SUFFIXES",
    "Fit",
    "Preparation",
    "decode",
    "format_of",
    "from_pillow",
    "peek",
    "reason_of",
    "to_channels",
]

Fit = Literal["none", "crop", "resize"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
"""The file names' endings (in lower case) that are taken for pictures."""

_GREY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112


def decode(data: bytes) -> Tensor:
    """Decodes one picture.

    Arguments:
        data: The content of a file.

    Returns:
        A uint8 tensor, with shape (1, H, W) or (3, H, W).

    Raises:
        BadImage: If the picture is broken or of an unknown kind.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[format_of(data)]) as image:
            return from_pillow(image)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise errors of every kind.
        raise BadImage(reason_of(error)) from error


def peek(file: BinaryIO) -> tuple[int, int, int]:
    """Returns the shape (C, H, W) that :func:`decode` would give, and reads no more than it needs.

    Arguments:
        file: An open picture, at its beginning; it must be seekable.

    Raises:
        BadImage: If the header is broken or of an unknown kind.
    """
    try:
        kind = format_of(file.read(12))
        decoded = kind == "TIFF" or (kind == "PNG" and _has_metadata(file))
        file.seek(0)
        with Image.open(file, formats=[kind]) as image:
            if decoded:
                channels, height, width = from_pillow(image).shape
                return channels, height, width
            width, height = image.size
            if kind != "PNG" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            return (1 if image.mode in _GREY else 3), height, width
    except (BadImage, MemoryError):
        raise
    except Exception as error:
        raise BadImage(reason_of(error)) from error


def from_pillow(image: Image.Image) -> Tensor:
    """Turns a Pillow image into a tensor, as the head of this file says.

    Returns:
        A uint8 tensor, with shape (1, H, W) or (3, H, W).

    Raises:
        BadImage: If its pixels have no fixed white level.
    """
    sixteen_bits = image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format == "PNG")
    image = ImageOps.exif_transpose(image)
    if sixteen_bits:
        levels = np.asarray(image).astype(np.uint32)
        return torch.from_numpy(((levels + 128) // 257).astype(np.uint8))[None]
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating point"
        raise BadImage(f"its pixels are {kind} without a white level; save it with 8 or 16 bits")
    grey = image.mode in _GREY
    if image.has_transparency_data:
        return _over_black(_array(image.convert("LA" if grey else "RGBA")))
    return _array(image.convert("L" if grey else "RGB"))


def to_channels(images: Tensor, channels: int | None) -> Tensor:
    """Converts between grey and RGB.

    Arguments:
        images: A uint8 tensor, with shape (..., 1, H, W) or (..., 3, H, W).
        channels: 1 for grey, 3 for RGB, None to change nothing.

    Returns:
        A uint8 tensor, with shape (..., channels, H, W).
    """
    if channels is None or images.shape[-3] == channels:
        return images
    if channels == 3:
        return images.repeat_interleave(3, dim=-3)
    # BT.601 in fixed point: 19595 + 38470 + 7471 = 65536.
    red, green, blue = images.int().unbind(dim=-3)
    grey = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return grey.to(torch.uint8).unsqueeze(-3)


@dataclass(frozen=True)
class Preparation:
    """How pictures are made to fit.

    Arguments:
        size: The side S of the square, at least 1; None leaves the sizes as they are.
        fit: ``none``, ``crop`` or ``resize``.
        channels: 1 for grey, 3 for RGB, None to change nothing.
        keep_jpeg_grid: Whether crops start at multiples of 8 pixels.
    """

    size: int | None = None
    fit: Fit = "none"
    channels: int | None = None
    keep_jpeg_grid: bool = True

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.size is not None and self.size < 1:
            raise ValueError(f"size={self.size}: the side of an image is at least 1 pixel")
        if self.fit not in ("none", "crop", "resize"):
            raise ValueError(f"fit={self.fit!r} is not allowed; choose 'none', 'crop' or 'resize'")
        if self.fit != "none" and self.size is None:
            raise ValueError(f"fit={self.fit!r} needs a size (--size N)")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels={self.channels} is not allowed; choose 1 (grey) or 3 (RGB)")

    def objection(self, height: int, width: int) -> str | None:
        """Says why a picture of this size cannot be made to fit, or returns None if it can."""
        if self.size is None or self.fit == "resize":
            return None
        if self.fit == "crop":
            return None if min(height, width) >= self.size else "smaller"
        return None if (height, width) == (self.size, self.size) else "different"

    def __call__(self, images: Tensor) -> Tensor:
        """Makes images fit.

        Arguments:
            images: A uint8 tensor to which there is no objection, with shape (..., C, H, W).

        Returns:
            A uint8 tensor, with shape (..., C', S, S).
        """
        if self.size is not None and self.fit == "crop":
            images = _central(images, self.size, self.size, 8 if self.keep_jpeg_grid else 1)
        elif self.size is not None and self.fit == "resize":
            images = _resized(images, self.size)
        return to_channels(images, self.channels).contiguous()


def _central(images: Tensor, height: int, width: int, grid: int) -> Tensor:
    top = (images.shape[-2] - height) // 2 // grid * grid
    left = (images.shape[-1] - width) // 2 // grid * grid
    return images[..., top : top + height, left : left + width]


def _resized(images: Tensor, size: int) -> Tensor:
    side = min(images.shape[-2:])
    if tuple(images.shape[-2:]) == (size, size):
        return images
    square = _central(images, side, side, 1).double()
    if size <= side:
        fitted = area(square, size)
    else:
        fitted = bicubic(square.reshape(-1, 1, side, side), size)
        fitted = fitted.reshape(*square.shape[:-2], size, size)
    # The small shift decides ties, which are common in averages, alike on every machine.
    return (fitted + 0.5 + 1e-6).floor().clamp(0, 255).to(torch.uint8)


def _over_black(layers: Tensor) -> Tensor:
    colour, alpha = layers[:-1].int(), layers[-1:].int()
    return ((colour * alpha + 127) // 255).to(torch.uint8)


def _array(image: Image.Image) -> Tensor:
    array = np.array(image)
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


def _has_metadata(file: BinaryIO) -> bool:
    """Whether a PNG may hold an orientation; it may stand behind the pixels, which are skipped."""
    keywords = (b"Raw profile type", b"XML:com.adobe.xmp")
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        start = file.tell()
        text = kind in (b"tEXt", b"zTXt", b"iTXt") and file.read(20).startswith(keywords)
        if kind == b"eXIf" or text:
            return True
        # The chunk's data and its checksum.
        file.seek(start + length + 4)
    return False


def format_of(data: bytes) -> str:
    """Returns what Pillow calls a picture's format, from the file's first 12 bytes.

    Raises:
        BadImage: If it is none of those that are read.
    """
    heads = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"BM": "BMP"}
    heads |= {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"}
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    for head, name in heads.items():
        if data.startswith(head):
            return name
    raise BadImage("empty file" if not data else "not a JPEG, PNG, WebP, TIFF or BMP picture")


def reason_of(error: Exception) -> str:
    """Returns in one line why a picture could not be decoded."""
    if isinstance(error, UnidentifiedImageError):  # Its message holds an address in memory.
        return "its header is broken"
    return (str(error).splitlines() or [type(error).__name__])[0]
