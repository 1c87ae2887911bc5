"""Sources of images, and batches of them."""

from .base import BadImage, MemorySource, Source
from .batches import (
    Draw,
    ImageBatches,
    ImageReader,
    Images,
    JoinedBatches,
    StreamedImages,
    Subset,
    batch_indices,
    draw,
    hold_out,
    load_images,
    open_images,
    read_images,
)
from .glyphs import Glyphs
from .images import Preparation, decode, from_pillow, to_channels
from .jpeg_file import JPEGFile, jpeg_file
from .manifest import Manifest, clean_of
from .open import open_source
from .shrunk import SHRINK, Shrunk, shrink

__all__ = [
    "SHRINK",
    "BadImage",
    "Draw",
    "Glyphs",
    "ImageBatches",
    "ImageReader",
    "Images",
    "JPEGFile",
    "JoinedBatches",
    "Manifest",
    "MemorySource",
    "Preparation",
    "Shrunk",
    "Source",
    "StreamedImages",
    "Subset",
    "batch_indices",
    "clean_of",
    "decode",
    "draw",
    "from_pillow",
    "hold_out",
    "jpeg_file",
    "load_images",
    "open_images",
    "open_source",
    "read_images",
    "shrink",
    "to_channels",
]
