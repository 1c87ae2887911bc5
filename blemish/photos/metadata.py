"""What a file says about its picture, beside the pixels.

EXIF, ICC profile, XMP and resolution are known to most formats, and go from one to another. What only one
format has (IPTC in JPEG, text and gamma in PNG) is kept as it is in ``kept``, for a file of that format.

A camera that was turned writes the picture as the sensor sees it, and how to turn it: the orientation, 1 to
8. In a file of the same format the pixels stay where they were and the metadata is kept byte for byte, with
the orientation. In another format, whose readers may look for the orientation elsewhere or not at all, the
picture is upright and the orientation is set to 1 (:meth:`Metadata.upright`).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXIF_HEAD", "Metadata", "stored", "xmp_of"]

EXIF_HEAD = b"Exif\0\0"
"""What stands before EXIF in JPEG."""

_ORIENTATION = 0x0112
_SHORT = 3
_IN_XMP = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)[1-8]")


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture.

    Attributes:
        exif: EXIF, from its TIFF header on; empty where there is none.
        icc: The ICC profile; empty where there is none.
        xmp: The XMP packet; empty where there is none.
        dpi: The resolution in pixels per inch, across and down.
        orientation: How the stored pixels are turned, 1 to 8.
        kept: Segments or chunks of the file's own format, by name.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    orientation: int = 1
    kept: tuple[tuple[str, bytes], ...] = ()

    def upright(self) -> Metadata:
        """Returns what suits a file of another format, whose pixels are upright."""
        exif, xmp = _turned_exif(self.exif), _IN_XMP.sub(rb"\g<1>1", self.xmp)
        return replace(self, exif=exif, xmp=xmp, orientation=1, kept=())


def stored(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turns an upright picture as a file of this orientation stores it.

    Arguments:
        pixels: An upright picture, with shape (H, W, C).
        orientation: EXIF's orientation; all but 2 to 8 mean upright.

    Returns:
        The stored picture, with shape (H, W, C), or (W, H, C) for orientations from 5 on.
    """
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7):
        pixels = pixels[::-1]
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (6, 8):
        pixels = np.rot90(pixels, 1 if orientation == 6 else -1)
    return np.ascontiguousarray(pixels)


def xmp_of(info: dict[Any, Any]) -> bytes:
    """Returns the XMP packet from what Pillow knows about a picture."""
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp)


def _turned_exif(exif: bytes) -> bytes:
    """Sets the orientation to 1, and changes nothing else."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return exif
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return exif
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
        if (tag, kind) == (_ORIENTATION, _SHORT):
            return exif[: entry + 8] + struct.pack(f"{order}H", 1) + exif[entry + 10 :]
    return exif
