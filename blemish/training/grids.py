"""Pictures of many images side by side."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import write_atomically

__all__ = ["save_grid"]


def save_grid(images: Tensor, path: Path, columns: int) -> None:
    """Writes images as one PNG file, row by row, with a thin gap; a reader never sees half a file.

    Arguments:
        images: Images in [0, 1], with shape (N, C, H, W) and C = 1 or 3; values outside are clipped.
        path: The file; its folder is made.
        columns: The number of images in a row.

    Raises:
        ValueError: If the shape or the number of columns is not allowed.
    """
    from PIL import Image

    if images.dim() != 4 or images.shape[1] not in (1, 3) or not images.shape[0]:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; expected (N, 1, H, W) or (N, 3, H, W) with N >= 1"
        )
    if columns < 1:
        raise ValueError(f"columns={columns}; it must be at least 1")
    pixels = _tile(
        (images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8), columns
    )
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1).numpy()).save(file, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, file.getvalue())


def _tile(images: Tensor, columns: int, gap: int = 1) -> Tensor:
    """Arranges uint8 images (N, C, H, W) on a white sheet with shape (H', W', C)."""
    n, c, h, w = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    sheet = torch.full(
        (rows * (h + gap) - gap, columns * (w + gap) - gap, c), 255, dtype=torch.uint8
    )
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = image.permute(1, 2, 0)
    return sheet
