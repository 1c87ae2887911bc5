"""TIFF files of 8 and 16 bits: their tags, and how they are written.

A TIFF file is one structure of tags, which EXIF has borrowed; so the tags that describe the picture are carried
as EXIF, and those that say how its pixels lie in the file are made anew. Pillow writes no RGB of 16 bits, so the
writer is our own: strips of rows, each pixel as its difference from the one to the left, deflated.

References:
    | TIFF Revision 6.0 (Adobe, 1992), and its Technical Note on Deflate (2002)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from .metadata import Metadata

__all__ = ["encode", "exif_of"]

_HEAD = b"II*\0\x08\0\0\0"
_ICC, _XMP, _UNIT, _ACROSS, _DOWN, _OFFSETS = 34675, 700, 296, 282, 283, 273
_OWN_IFDS = (34665, 34853)  # EXIF and GPS
_INCH, _BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED = 2, 1, 2, 3, 4, 7
_STRIP = 2**18  # bytes

# How pixels lie in the file: sizes, compression, colours, strips, tiles, further pictures, inks.
_LAYOUT = (
    frozenset(
        (
            *range(254, 260),
            262,
            263,
            264,
            265,
            266,
            _OFFSETS,
            *range(277, 282),
            284,
            288,
            289,
            290,
            291,
        )
    )
    | frozenset(
        (292, 293, 301, 317, 318, 319, *range(320, 326), 330, *range(332, 342), *range(342, 348))
    )
    | frozenset((*range(512, 522), *range(529, 533)))
)


def exif_of(image: Image.Image) -> bytes:
    """Returns the tags that describe the picture of a TIFF file, as EXIF; ICC profile and XMP are left out.

    Arguments:
        image: An opened TIFF file that is not loaded yet.
    """
    assert isinstance(image, TiffImageFile)
    inner, tags = image.getexif(), ImageFileDirectory_v2(prefix=b"II")
    for tag, value in dict(image.tag_v2).items():
        if tag not in (*_LAYOUT, _ICC, _XMP):
            _set(tags, tag, inner.get_ifd(tag) if tag in _OWN_IFDS else value)
    return _HEAD + tags.tobytes(len(_HEAD)) if len(tags) else b""


def encode(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    """Writes a TIFF file.

    Arguments:
        pixels: A picture as it is stored, uint8 or uint16, with shape (H, W, C): grey, grey and alpha, RGB, or
            RGB and alpha.
        metadata: What the file says about it.
    """
    height, width, channels = pixels.shape
    rows = max(1, _STRIP // (width * channels * pixels.dtype.itemsize))
    strips = list(_strips(pixels, rows))
    ends = np.cumsum([0, *map(len, strips)])[:-1].tolist()
    tags = _described(metadata)
    layout: dict[int, int | tuple[int, ...]] = {
        256: width,
        257: height,
        258: (8 * pixels.dtype.itemsize,) * channels,
        259: 8,
        262: 2 if channels >= 3 else 1,
        _OFFSETS: tuple(ends),
        277: channels,
        278: rows,
        279: tuple(map(len, strips)),
        284: 1,
        317: 2,
    }
    if channels in (2, 4):
        layout[338] = 2
    for tag, value in layout.items():
        tags.tagtype[tag] = _LONG if tag in (256, 257, _OFFSETS, 278, 279) else _SHORT
        tags[tag] = value
    return b"".join((_HEAD, tags.tobytes(len(_HEAD)), *strips))


def _strips(pixels: NDArray[Any], rows: int) -> Iterator[bytes]:
    for top in range(0, len(pixels), rows):
        band = pixels[top : top + rows]
        differences = band.copy()
        differences[:, 1:] -= band[:, :-1]
        yield zlib.compress(differences.astype(pixels.dtype.newbyteorder("<")).tobytes())


def _described(metadata: Metadata) -> ImageFileDirectory_v2:
    tags, exif = ImageFileDirectory_v2(prefix=b"II"), Image.Exif()
    exif.load(metadata.exif)
    for tag in exif:
        if tag not in _LAYOUT:
            _set(tags, tag, exif.get_ifd(tag) if tag in _OWN_IFDS else exif[tag])
    if metadata.dpi and _ACROSS not in tags:
        tags[_ACROSS], tags[_DOWN] = metadata.dpi
        tags[_UNIT] = _INCH
    for tag, kind, data in ((_ICC, _UNDEFINED, metadata.icc), (_XMP, _BYTE, metadata.xmp)):
        if data:
            tags.tagtype[tag] = kind
            tags[tag] = data
    return tags


def _set(tags: ImageFileDirectory_v2, tag: int, value: Any) -> None:
    if isinstance(value, str):
        tags.tagtype[tag] = _ASCII
    tags[tag] = _raw(value)


def _raw(value: Any) -> Any:
    """Returns the bytes of texts that are no ASCII: Pillow reads them as Latin-1 and would write question marks."""
    if isinstance(value, dict):
        return {tag: _raw(inner) for tag, inner in value.items()}
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value
