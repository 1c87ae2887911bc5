"""JPEG files: their segments, and how they are written.

The pixels are coded anew, at quality 95 and with full resolution of colour; the segments that describe the
picture are spliced in as they were. Left out is what would no longer be true: Adobe's mark of the colour
transform, the list of further pictures in the file (MPF), and signatures of the old content.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from .metadata import EXIF_HEAD, Metadata

__all__ = ["LARGEST", "QUALITY", "encode", "segments_of"]

QUALITY = 95
"""The quality of the JPEG files that are written."""

LARGEST = 65533
"""The bytes that a segment can hold."""

_JFIF, _ICC, _XMP = b"JFIF\0", b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0"
_MARKERS = {"COM": 0xFE, **{f"APP{n}": 0xE0 + n for n in range(16)}}
_HEADER = 20  # of what Pillow writes: the start of the image and the segment JFIF


def segments_of(image: Image.Image) -> tuple[tuple[str, bytes], ...]:
    """Returns the segments of an opened JPEG that also describe its restored picture."""
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    return tuple((name, data) for name, data in image.applist if _describes(name, data))


def encode(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    """Writes a JPEG file.

    Arguments:
        pixels: A picture as it is stored, uint8, with shape (H, W, 1) or (H, W, 3).
        metadata: What the file says about it. Of EXIF and XMP, what exceeds a segment is left out.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    coded = buffer.getvalue()
    segments = metadata.kept or _segments(metadata)
    header, own = coded[:2], coded[2:_HEADER]
    if any(data.startswith(_JFIF) for _, data in segments):
        own = b""
    packed = (
        struct.pack(">BBH", 0xFF, _MARKERS[name], len(data) + 2) + data
        for name, data in segments
        if len(data) <= LARGEST
    )
    return b"".join((header, own, *packed, coded[_HEADER:]))


def _describes(name: str, data: bytes) -> bool:
    if name == "APP0":
        return data.startswith(_JFIF)
    if name == "APP2":
        return data.startswith(_ICC)
    return name in ("APP1", "APP13", "COM")


def _segments(metadata: Metadata) -> list[tuple[str, bytes]]:
    segments = []
    if metadata.dpi:
        across, down = (min(max(round(n), 1), 65535) for n in metadata.dpi)
        segments.append(("APP0", _JFIF + struct.pack(">BBBHHBB", 1, 1, 1, across, down, 0, 0)))
    if metadata.exif:
        segments.append(("APP1", EXIF_HEAD + metadata.exif))
    if metadata.xmp:
        segments.append(("APP1", _XMP + metadata.xmp))
    room = LARGEST - len(_ICC) - 2
    pieces = [metadata.icc[i : i + room] for i in range(0, len(metadata.icc), room)]
    for number, piece in enumerate(pieces, start=1):
        segments.append(("APP2", _ICC + bytes((number, len(pieces))) + piece))
    return segments
