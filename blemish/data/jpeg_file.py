r"""What a JPEG file says about its compression: tables, quality, colour resolution.

A file holds the tables T by which its coefficients were divided. libjpeg and what builds on it make them from the
standard ones and a quality (see :mod:`blemish.functional.jpeg`), so that the quality is read off by comparison.
Cameras and some editors have tables of their own; of these the nearest quality is told, in the mean of
:math:`| \log T - \log T(q) |` over all entries.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import torch
from PIL import Image, JpegImagePlugin
from torch import Tensor

from ..functional.jpeg import quantisation_tables

__all__ = ["JPEGFile", "jpeg_file"]

_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


@dataclass(frozen=True)
class JPEGFile:
    """The compression of a JPEG file.

    Attributes:
        quality: The quality of libjpeg's tables that are equal or nearest, 1 to 100.
        exact: Whether the tables are libjpeg's for that quality.
        distance: The mean absolute difference of the logarithms of the tables, 0 if exact.
        subsampling: ``4:4:4``, ``4:2:2``, ``4:2:0``, ``grey``, or ``other``.
        luma: The table of the luma, rows by vertical frequency, with shape (8, 8).
    """

    quality: int
    exact: bool
    distance: float
    subsampling: str
    luma: Tensor


def jpeg_file(content: bytes) -> JPEGFile | None:
    """Reads how a file was compressed, from its header alone.

    Arguments:
        content: The content of a file.

    Returns:
        What the file says, or None if it is no JPEG file or a broken one.
    """
    if not content.startswith(b"\xff\xd8\xff"):
        return None
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            tables = image.quantization  # type: ignore[attr-defined]
            sampling = JpegImagePlugin.get_sampling(image)
            colours = len(image.getbands())
    except Exception:  # A broken header raises errors of every kind; whoever decodes it names them.
        return None
    if 0 not in tables:
        return None
    # A file with one table uses it for all planes.
    found = torch.tensor([tables[0], tables.get(1, tables[0])], dtype=torch.float32).clamp_min(1)
    used = 1 if colours == 1 or 1 not in tables else 2
    distances = (found[:used].log() - _standard()[:, :used].log()).abs().mean(dim=(1, 2))
    best = int(distances.argmin())
    subsampling = "grey" if colours == 1 else _SUBSAMPLING.get(sampling, "other")
    distance = float(distances[best])
    return JPEGFile(best + 1, distance < 1e-6, distance, subsampling, found[0].reshape(8, 8))


@functools.cache
def _standard() -> Tensor:
    """Returns libjpeg's tables of luma and chroma for the qualities 1 to 100, with shape (100, 2, 64)."""
    luma, chroma = quantisation_tables(torch.arange(1, 101))
    return torch.stack([luma, chroma], dim=1).flatten(2)
