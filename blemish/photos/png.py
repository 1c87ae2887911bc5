r"""PNG files of 8 and 16 bits: their chunks, and how they are written.

Pillow writes no RGB of 16 bits, so the writer is our own. A row of pixels is coded as its difference from a
prediction, and deflated. With a, b, c the same byte of the pixels to the left, above, and above left, the
predictions are 0, a, b, the mean of a and b, and Paeth's: whichever of a, b, c is nearest to a + b - c. Each row takes the
one whose differences, as signed bytes, have the least sum of magnitudes.

References:
    | Portable Network Graphics (PNG) Specification (Third Edition), https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metadata import Metadata

__all__ = ["chunks_of", "encode"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_KEPT = ("cHRM", "gAMA", "iCCP", "sRGB", "cICP", "mDCV", "cLLI", "pHYs", "eXIf")
_TEXTS = ("tEXt", "zTXt", "iTXt", "tIME")
_INCH = 0.0254  # metres
_BAND = 2**20  # bytes that are filtered at a time


def chunks_of(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Returns the chunks of a PNG file that also describe its restored picture: colour, resolution, EXIF, texts."""
    found, place = [], len(_SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if (name := kind.decode("latin-1")) in (*_KEPT, *_TEXTS):
            found.append((name, data[place + 8 : place + 8 + length]))
        place += length + 12
    return tuple(found)


def encode(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    """Writes a PNG file.

    Arguments:
        pixels: A picture as it is stored, uint8 or uint16, with shape (H, W, C): grey, grey and alpha, RGB, or
            RGB and alpha.
        metadata: What the file says about it.
    """
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    head = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPES[channels], 0, 0, 0)
    described = metadata.kept or _chunks(metadata)
    chunks = itertools.chain([("IHDR", head)], described, _data(pixels), [("IEND", b"")])
    return b"".join((_SIGNATURE, *itertools.starmap(_chunk, chunks)))


def _chunk(name: str, data: bytes) -> bytes:
    body = name.encode("latin-1") + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _chunks(metadata: Metadata) -> Iterator[tuple[str, bytes]]:
    if metadata.icc:
        yield "iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        across, down = (round(n / _INCH) for n in metadata.dpi)
        yield "pHYs", struct.pack(">IIB", across, down, 1)
    if metadata.exif:
        yield "eXIf", metadata.exif
    if metadata.xmp:
        yield "iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp


def _data(pixels: NDArray[Any]) -> Iterator[tuple[str, bytes]]:
    """Yields the chunks of the pixels, band by band."""
    height, width, channels = pixels.shape
    step = channels * pixels.dtype.itemsize
    band = max(1, _BAND // (width * step))
    deflate, above = (
        zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED),
        np.zeros((1, width * step), np.uint8),
    )
    for top in range(0, height, band):
        big_endian = pixels[top : top + band].astype(pixels.dtype.newbyteorder(">"))
        rows = big_endian.reshape(len(big_endian), -1).view(np.uint8)
        yield "IDAT", deflate.compress(_filtered(np.concatenate((above, rows)), step).tobytes())
        above = rows[-1:]
    yield "IDAT", deflate.flush()


def _filtered(rows: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Filters rows of bytes, the first of which is only looked at, with shape (n + 1, m) -> (n, m + 1)."""
    x, b = rows[1:], rows[:-1]
    a, c = (np.pad(part, ((0, 0), (step, 0)))[:, : part.shape[1]] for part in (x, b))
    average = (a & b) + ((a ^ b) >> 1)  # in bytes
    candidates = [x, x - a, x - b, x - average, x - _paeth(a, b, c)]
    costs = [np.minimum(d, -d).sum(axis=1, dtype=np.int64) for d in candidates]
    best = np.argmin(costs, axis=0)
    filtered = np.empty((x.shape[0], x.shape[1] + 1), np.uint8)
    filtered[:, 0] = best
    filtered[:, 1:] = np.choose(best[:, None], candidates)
    return filtered


def _paeth(a: NDArray[np.uint8], b: NDArray[np.uint8], c: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # The distances of a + b - c from a, b and c are |b - c|, |a - c| and |a + b - 2 c|.
    wide = c.astype(np.int16)
    p, q = b - wide, a - wide
    to_a, to_b, to_c = np.abs(p), np.abs(q), np.abs(p + q)
    nearer = np.where(to_b <= to_c, b, c)
    return np.where((to_a <= to_b) & (to_a <= to_c), a, nearer)
