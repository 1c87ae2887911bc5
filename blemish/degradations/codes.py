r"""A degradation as a file: a code of some hundred bytes that :class:`~.universal.UniversalDegradation` read.

======  =======================================================================================================
bytes   meaning
======  =======================================================================================================
4       ``BLMC``
1       the version of this layout, 1
8       the digest of the tables of probabilities, by which a model knows its codes
4 x 4   the sides of the picture, and of the map e_l
4 x 2   how many bytes the embedding and the map have
...     the embedding e_g and the map e_l, by a range coder (:mod:`blemish.functional.coding`)
======  =======================================================================================================

Whole numbers are little-endian and have no sign. The noise is no part of a code: it is drawn anew.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from ..functional.coding import Tables, decode, encode
from ..functional.random import Randomness
from .universal import UniversalDegradation, UniversalParams

__all__ = ["MAGIC", "Code", "pack_code", "unpack_code"]

MAGIC = b"BLMC"
_VERSION = 1
_HEAD = struct.Struct("<4sB8s6I")


@dataclass(frozen=True)
class Code:
    """What a file of a code holds.

    Attributes:
        params: The code of one image, and noise for its size.
        size: The sides (H, W) of the picture that it was read off.
        bytes_g: The size of the embedding in bytes.
        bytes_l: The size of the map in bytes.
    """

    params: UniversalParams
    size: tuple[int, int]
    bytes_g: int
    bytes_l: int


def pack_code(
    degradation: UniversalDegradation, params: UniversalParams, size: tuple[int, int]
) -> bytes:
    """Writes the code of one image.

    Arguments:
        degradation: The model that read it.
        params: What :meth:`~.universal.UniversalDegradation.encode` read, of one image.
        size: The sides (H, W) of the picture.

    Raises:
        ValueError: If there are codes of several images, or of none.
    """
    if len(params) != 1:
        raise ValueError(f"got the codes of {len(params)} images; a file holds one: params[0]")
    tables_g, tables_l = degradation.tables()
    symbols = degradation.global_density.symbols(params.e_g)
    g = encode(symbols.T, tables_g)
    local = b""
    if tables_l is not None and degradation.local_density is not None:
        local = encode(degradation.local_density.symbols(params.e_l)[0].flatten(1), tables_l)
    head = _HEAD.pack(
        MAGIC,
        _VERSION,
        _digest(tables_g, tables_l),
        *size,
        *params.e_l.shape[2:],
        len(g),
        len(local),
    )
    return head + g + local


def unpack_code(degradation: UniversalDegradation, data: bytes, *, generator: Randomness) -> Code:
    """Reads the code of one image.

    Arguments:
        degradation: The model that wrote it.
        data: The bytes.
        generator: The source of randomness, for the noise.

    Raises:
        ValueError: If the bytes are no code, are cut off, or were written by another model.
    """
    if len(data) < _HEAD.size or data[:4] != MAGIC:
        raise ValueError("this is no code of a degradation; blemish encode writes one")
    _, version, digest, H, W, h, w, n_g, n_l = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"this code has layout {version}; this version reads layout {_VERSION}")
    tables_g, tables_l = degradation.tables()
    if digest != _digest(tables_g, tables_l):
        raise ValueError(
            "this code was written by another model, which alone can read it: give the run that encoded it, or encode "
            "the picture again"
        )
    if len(data) != _HEAD.size + n_g + n_l or (h, w) != degradation.cells(H, W):
        raise ValueError(f"this code is damaged: {len(data)} bytes, where its head says otherwise")
    body = data[_HEAD.size :]
    numbers = degradation.global_density.numbers(decode(body[:n_g], tables_g, 1).T)
    shape = (1, degradation.channels, H, W)
    e_l = degradation.plain_map(shape)
    if tables_l is not None and degradation.local_density is not None:
        symbols = decode(body[n_g:], tables_l, h * w).reshape(1, -1, h, w)
        e_l = degradation.local_density.numbers(symbols)
    params = UniversalParams(numbers, e_l, degradation.noise(shape, generator))
    return Code(params, (H, W), n_g, n_l)


def _digest(tables_g: Tables, tables_l: Tables | None) -> bytes:
    """Returns what tells a model from others that code differently."""
    both = tables_g.digest() + (b"" if tables_l is None else tables_l.digest())
    return hashlib.sha256(both).digest()[:8]
