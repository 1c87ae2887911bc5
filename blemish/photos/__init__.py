"""Real photographs, in and out: restored in tiles, read and written with all that a file says about them."""

from __future__ import annotations

from .channels import recoloured, tensor_of, with_channels
from .files import lies_in, write_whole
from .metadata import Metadata
from .picture import FORMATS, Picture, read_picture, write_picture
from .tiles import LEAST_TILE, TILE, NotEnoughMemory, Tiling, deviation, restore_tiled, tiling
from .video import VIDEOS, restore_video

__all__ = [
    "FORMATS",
    "LEAST_TILE",
    "TILE",
    "VIDEOS",
    "Metadata",
    "NotEnoughMemory",
    "Picture",
    "Tiling",
    "deviation",
    "lies_in",
    "read_picture",
    "recoloured",
    "restore_tiled",
    "restore_video",
    "tensor_of",
    "tiling",
    "with_channels",
    "write_picture",
    "write_whole",
]
