"""Pixels as files have them, in 8 and in 16 bits.

Pillow has no RGB of 16 bits: of each sample it keeps the byte that it takes for the high one. A picture of two
bytes a sample is therefore decoded twice, the second time with the order of bytes reversed, and the two are put
together. So whatever Pillow decodes comes in full depth, in any compression, interlaced or not.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps

from ..data.base import BadImage

__all__ = ["Layers", "decode", "raw_mode"]

Layers = tuple[NDArray[Any], NDArray[Any] | None]
"""Colours, with shape (H, W, 1) or (H, W, 3), and alpha, with shape (H, W), or None; uint8 or uint16."""

_GREY = ("1", "L", "LA", "La")
_WIDE = ("RGB;16", "RGBA;16", "RGBX;16")
_BITS, _PLANES = 258, 284  # tags of TIFF
_SWAPPED = {"B": "L", "L": "B", "N": "B"}


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Returns how the decoder is to unpack the bytes of a picture that is not loaded yet, in Pillow's words."""
    arguments = image.tile[0][3] if image.tile else ""
    mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return mode if isinstance(mode, str) else ""


def decode(image: Image.Image, raw: str, data: bytes, tell: Callable[[str], object]) -> Layers:
    """Returns the pixels of an opened picture, upright.

    Palettes become RGB, with alpha where they have transparent colours; so does a colour that stands for
    transparency. CMYK becomes RGB: sRGB by its ICC profile if it has one, else plainly.

    Arguments:
        image: An opened picture.
        raw: How its bytes lie, from :func:`raw_mode` before it was loaded.
        data: Its file.
        tell: Is told, in a few words, what of the picture is not kept.

    Raises:
        BadImage: If its pixels have no fixed white level, or lie in a way that is not read.
    """
    _refuse(image)
    if raw.startswith("LA;16"):
        return _split(_wide_grey(image, data))
    if raw[:-1] in _WIDE:
        return _with_key(_split(_wide(image, data)), image)
    if image.mode.startswith("I"):
        grey = np.asarray(_upright(image)).astype(np.uint16)[..., None]
        return _with_key((grey, None), image)
    if ";16" in raw:
        tell("it is read with 8 of its 16 bits")
    if image.mode == "CMYK":
        tell("CMYK becomes RGB, without the profile of its inks")
        return _split(np.array(_rgb_of_inks(_upright(image))))
    return _split(_eight_bits(_upright(image)))


def _refuse(image: Image.Image) -> None:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        kind = "32-bit integers" if image.mode == "I" else "floating point"
        raise BadImage(f"its pixels are {kind} without a white level; save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PLANES, 1) == 2 and tags.get(_BITS, ())[:2] == (16, 16):
        raise BadImage("its 16-bit channels lie apart; save it with interleaved channels")


def _upright(image: Image.Image) -> Image.Image:
    # Some versions of Pillow have turned a TIFF when it is loaded: then nothing is left to do here.
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _eight_bits(image: Image.Image) -> NDArray[Any]:
    grey = image.mode in _GREY
    if image.has_transparency_data:
        return np.array(image.convert("LA" if grey else "RGBA"))
    return np.array(image.convert("L" if grey else "RGB"))


def _rgb_of_inks(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, inks, srgb, outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile, or one of something else than inks
    return image.convert("RGB")


def _wide(image: Image.Image, data: bytes) -> NDArray[Any]:
    high = np.array(_upright(image))
    low = np.array(_again(image, data, lambda raw: raw[:-1] + _SWAPPED[raw[-1]]))
    levels: NDArray[Any] = high.astype(np.uint16) << 8 | low
    return levels


def _wide_grey(image: Image.Image, data: bytes) -> NDArray[Any]:
    """Returns grey and alpha of 16 bits, whose four bytes pass for a pixel of RGBA."""
    _upright(image)
    four = np.array(_again(image, data, lambda raw: "RGBA")).astype(np.uint16)
    return four[..., 0::2] << 8 | four[..., 1::2]


def _again(image: Image.Image, data: bytes, change: Callable[[str], str]) -> Image.Image:
    """Decodes a picture with another way of unpacking its bytes."""
    assert image.format is not None
    with Image.open(io.BytesIO(data), formats=[image.format]) as again:
        raw = raw_mode(again)
        tiles = []
        for codec, extents, offset, given in again.tile:
            tail = given[1:] if isinstance(given, tuple) else ()
            arguments: Any = (change(raw), *tail) if isinstance(given, tuple) else change(raw)
            tiles.append(type(again.tile[0])(codec, extents, offset, arguments))
        again.tile = tiles
        again.load()
        return _upright(again)


def _split(layers: NDArray[Any]) -> Layers:
    if layers.ndim == 2:
        return layers[..., None], None
    channels = layers.shape[2]
    if channels in (2, 4):
        return layers[..., :-1], layers[..., -1]
    return layers, None


def _with_key(layers: Layers, image: Image.Image) -> Layers:
    """Adds alpha where one colour of 16 bits stands for transparency."""
    colours, alpha = layers
    key = image.info.get("transparency")
    if alpha is not None or key is None:
        return layers
    clear = (colours == np.array(key, np.uint16)).all(axis=2)
    return colours, np.where(clear, 0, 65535).astype(np.uint16)
