"""Sources of images, and batches of them."""

from .base import BadImage, MemorySource, Source
from .batches import (
    Draw,
    ImageBatches,
    Images,
    StreamedImages,
    batch_indices,
    draw,
    load_images,
    open_images,
)
from .glyphs import Glyphs
from .images import Preparation, decode, from_pillow, to_channels
from .jpeg_file import JPEGFile, jpeg_file
from .open import open_source

__all__ = [
    "BadImage",
    "Draw",
    "Glyphs",
    "ImageBatches",
    "Images",
    "JPEGFile",
    "MemorySource",
    "Preparation",
    "Source",
    "StreamedImages",
    "batch_indices",
    "decode",
    "draw",
    "from_pillow",
    "jpeg_file",
    "load_images",
    "open_images",
    "open_source",
    "to_channels",
]
