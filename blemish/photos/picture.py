"""Pictures as photographers need them: pixels in full depth, and all that their file says about them.

Read are JPEG, PNG, WebP, TIFF and BMP, known by their first bytes. A picture is upright; grey stays grey, 16
bits stay 16 bits, and alpha is carried beside the colours. Animations and files of many pages are refused,
because the others would be lost; of a JPEG that holds further pictures (previews, other views) the main one is
read.

Written is the format that the file's name says; where the ending is that of the file read, the format of that
file, even if its name was wrong.

| format | pixels | metadata |
|---|---|---|
| JPEG | 8 bits, no alpha; quality 95, 4:4:4 | EXIF, ICC, XMP, DPI; from JPEG also IPTC, comments |
| PNG | 8 and 16 bits, alpha | EXIF, ICC, XMP, DPI; from PNG also texts, gamma, primaries |
| TIFF | 8 and 16 bits, alpha; deflated | EXIF, ICC, XMP, DPI; from TIFF also other tags |
| WebP | 8 bits, alpha; lossless; grey as RGB | EXIF, ICC, XMP |
| BMP | 8 bits, no alpha | DPI |

EXIF is kept byte for byte, with its small preview, which remains that of the picture before.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.base import BadImage
from ..data.images import format_of, reason_of
from . import jpeg, png, tiff
from .files import write_whole
from .metadata import EXIF_HEAD, Metadata, stored, xmp_of
from .pixels import decode, raw_mode

__all__ = ["FORMATS", "Picture", "read_picture", "write_picture"]

FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    ".png": "PNG",
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".bmp": "BMP",
}
"""The formats that are written, by the endings of names in lower case."""

_ORIENTATION = 0x0112
_ICC = (("APP2", b"ICC_PROFILE\0"), ("iCCP", b""))


@dataclass(frozen=True)
class Picture:
    """A picture and what its file says about it.

    Attributes:
        colours: The upright picture, uint8 or uint16, with shape (H, W, 1) for grey or (H, W, 3) for RGB.
        alpha: How opaque it is, of the same type, with shape (H, W); None means everywhere.
        format: The format of the file it was read from, in Pillow's words.
        suffix: The ending of that file's name, in lower case.
        metadata: What the file says about it.
        notes: What of the file was not kept, in a few words each.
    """

    colours: NDArray[Any]
    alpha: NDArray[Any] | None = None
    format: str = "PNG"
    suffix: str = ".png"
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()


def read_picture(path: Path) -> Picture:
    """Reads a picture.

    Raises:
        BadImage: If it is broken, of an unknown kind, or holds several pictures; without the file's name.
        OSError: If the file cannot be read.
    """
    data = path.read_bytes()
    try:
        with warnings.catch_warnings():
            # Pillow's words on metadata that it cannot read, and on very large pictures.
            warnings.simplefilter("ignore")
            return replace(_read(data), suffix=path.suffix.lower())
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise errors of every kind.
        raise BadImage(reason_of(error)) from error


def write_picture(picture: Picture, path: Path) -> tuple[str, ...]:
    """Writes a picture, so that the file is whole or as it was before.

    Arguments:
        picture: The picture.
        path: The file; its ending says the format.

    Returns:
        What of the picture the format cannot hold, in a few words each.

    Raises:
        ValueError: If the ending is that of no format which is written, or the format cannot hold the picture,
            as when it is too large.
        OSError: If there is no space or no permission.
    """
    kind = _format_for(picture, path)
    same = kind == picture.format
    metadata = picture.metadata if same else picture.metadata.upright()
    layers, lost = _fitted(picture, kind)
    pixels = stored(layers, metadata.orientation)
    try:
        content = _encoded(pixels, kind, metadata)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's encoders, as its decoders, raise errors of every kind.
        height, width = layers.shape[:2]
        raise ValueError(
            f"{width}x{height} pixels cannot be written as {kind}: {reason_of(error)}"
        ) from error
    write_whole(path, content)
    return (*lost, *_unsaid(metadata, kind))


def _read(data: bytes) -> Picture:
    notes: list[str] = []
    kind = format_of(data)
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and kind != "JPEG":
            raise BadImage(f"it holds {pages} pictures; save them one by one")
        if pages > 1:
            notes.append(f"only the main one of its {pages} pictures is kept")
        inks, raw = image.mode == "CMYK", raw_mode(image)
        metadata = _metadata(image, data, kind)
        colours, alpha = decode(image, raw, data, notes.append)
        return Picture(
            np.ascontiguousarray(colours),
            alpha,
            kind,
            metadata=_without_profile(metadata) if inks else metadata,
            notes=tuple(notes),
        )


def _metadata(image: Image.Image, data: bytes, kind: str) -> Metadata:
    kept: tuple[tuple[str, bytes], ...] = ()
    if kind == "TIFF":
        exif = tiff.exif_of(image)
        tags = Image.Exif()
        tags.load(exif)
        orientation = tags.get(_ORIENTATION, 1)
    else:
        image.load()  # what stands behind the pixels, too
        exif, orientation = image.info.get("exif", b""), image.getexif().get(_ORIENTATION, 1)
    if kind == "JPEG":
        kept = jpeg.segments_of(image)
    if kind == "PNG":
        kept = png.chunks_of(data)
    info = image.info
    return Metadata(
        exif.removeprefix(EXIF_HEAD),
        info.get("icc_profile") or b"",
        xmp_of(info),
        info.get("dpi"),
        orientation,
        kept,
    )


def _without_profile(metadata: Metadata) -> Metadata:
    kept = (
        part
        for part in metadata.kept
        if not any(part[0] == name and part[1].startswith(head) for name, head in _ICC)
    )
    return replace(metadata, icc=b"", kept=tuple(kept))


def _format_for(picture: Picture, path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{path}: pictures are written to names ending in {' '.join(FORMATS)}")
    return picture.format if suffix == picture.suffix else FORMATS[suffix]


def _fitted(picture: Picture, kind: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Returns the layers (H, W, C) that a format can hold, and what it cannot."""
    lost = []
    colours, alpha = picture.colours, picture.alpha
    if colours.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        lost.append(f"{kind} holds 8 bits")
        colours = _eight(colours)
        alpha = None if alpha is None else _eight(alpha)
    if alpha is not None and kind in ("JPEG", "BMP"):
        lost.append(f"{kind} holds no alpha channel")
        alpha = None
    if alpha is None:
        return colours, tuple(lost)
    if kind == "WEBP" and colours.shape[2] == 1:
        colours = colours.repeat(3, axis=2)
    return np.concatenate((colours, alpha[..., None]), axis=2), tuple(lost)


def _eight(levels: NDArray[Any]) -> NDArray[Any]:
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _encoded(pixels: NDArray[Any], kind: str, metadata: Metadata) -> bytes:
    own = {"JPEG": jpeg.encode, "PNG": png.encode, "TIFF": tiff.encode}
    if kind in own:
        return own[kind](pixels, metadata)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    if kind == "BMP":
        image.save(buffer, format=kind, **({"dpi": metadata.dpi} if metadata.dpi else {}))
    else:
        described = {"exif": metadata.exif, "icc_profile": metadata.icc, "xmp": metadata.xmp}
        image.save(buffer, format=kind, lossless=True, exact=True, **described)
    return buffer.getvalue()


def _unsaid(metadata: Metadata, kind: str) -> tuple[str, ...]:
    """Returns what of the metadata a format cannot hold."""
    if kind == "BMP" and (metadata.exif or metadata.icc or metadata.xmp):
        return ("BMP holds no EXIF, ICC profile or XMP",)
    longest = max(len(metadata.exif), len(metadata.xmp)) + 32
    if kind == "JPEG" and not metadata.kept and longest > jpeg.LARGEST:
        return ("JPEG holds no EXIF or XMP above 64 KiB",)
    return ()
