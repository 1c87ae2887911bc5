"""Pictures inside a page: tensors as PNG files in data URIs.

A page shows pixels as they are. Small images are enlarged by the browser without smoothing; sheets
of many images are one file with transparent gaps, so that they look right on any background.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["Picture", "cut", "heat", "picture", "sheet"]

SMALL = 64
"""Images with sides below this are enlarged without smoothing."""

# From black over violet and orange to pale yellow: brighter is more, in grey too.
_HEAT = torch.tensor(
    [
        [0, 0, 8],
        [54, 15, 96],
        [130, 35, 110],
        [203, 62, 78],
        [247, 128, 38],
        [252, 200, 78],
        [252, 255, 190],
    ],
    dtype=torch.float32,
)


@dataclass(frozen=True)
class Picture:
    """An image in a page.

    Attributes:
        uri: The PNG file as a data URI.
        width: The width in pixels of the file.
        height: The height in pixels of the file.
        alt: What a reader who does not see it is told.
        caption: A few words shown below it.
        crisp: Whether it is enlarged without smoothing.
    """

    uri: str
    width: int
    height: int
    alt: str
    caption: str = ""
    crisp: bool = True


def picture(image: Tensor, alt: str, caption: str = "") -> Picture:
    """Makes a picture of one image.

    Arguments:
        image: An image in [0, 1], with shape (C, H, W) and C = 1 or 3; values outside are clipped.
        alt: What a reader who does not see it is told.
        caption: A few words shown below it.
    """
    return _encode(_bytes(image[None])[0], alt, caption, crisp=_is_small(image))


def sheet(images: Tensor, columns: int, alt: str, caption: str = "") -> Picture:
    """Makes one picture of many images, row by row, with gaps of one pixel (more in large images).

    Arguments:
        images: Images in [0, 1], with shape (N, C, H, W), N >= 1 and C = 1 or 3.
        columns: The number of images in a row.
        alt: What a reader who does not see it is told.
        caption: A few words shown below it.

    Raises:
        ValueError: If there is no image.
    """
    n, _, h, w = images.shape
    if n < 1 or columns < 1:
        raise ValueError(f"a sheet of {n} images in {columns} columns is empty")
    columns = min(columns, n)
    rows, gap = -(-n // columns), max(1, h // 16)
    height, width = rows * (h + gap) - gap, columns * (w + gap) - gap
    paper = torch.zeros(height, width, 4, dtype=torch.uint8)
    for i, pixels in enumerate(_bytes(images)):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        cell = paper[top : top + h, left : left + w]
        cell[..., :3], cell[..., 3] = pixels, 255
    return _encode(paper, alt, caption, crisp=_is_small(images))


def heat(values: Tensor, limit: float, alt: str, caption: str = "") -> Picture:
    """Makes a picture of numbers: 0 is black, the limit is pale yellow.

    Arguments:
        values: Numbers, with shape (H, W).
        limit: The number that is shown brightest; larger ones look the same.
        alt: What a reader who does not see it is told.
        caption: A few words shown below it.
    """
    place = (values.float() / max(limit, 1e-12)).clamp(0, 1) * (len(_HEAT) - 1)
    below = place.long().clamp(max=len(_HEAT) - 2)
    share = (place - below)[..., None]
    colours = (1 - share) * _HEAT[below] + share * _HEAT[below + 1]
    return _encode(colours.round().to(torch.uint8), alt, caption, crisp=_is_small(values))


def cut(png: bytes, shape: tuple[int, int, int], gap: int = 1) -> Tensor:
    """Cuts a sheet of images on white paper into its images.

    Arguments:
        png: An image file.
        shape: The shape (C, H, W) of the images on it.
        gap: The number of pixels between images.

    Returns:
        The images in [0, 1], row by row, with shape (N, C, H, W).

    Raises:
        ValueError: If the sheet is not made of such images.
    """
    c, h, w = shape
    with Image.open(io.BytesIO(png)) as file:
        array = np.array(file.convert("L" if c == 1 else "RGB"))
    pixels = torch.from_numpy(array).reshape(*array.shape[:2], c).permute(2, 0, 1)
    (rows, rest_y), (columns, rest_x) = (
        divmod(side + gap, cell + gap) for side, cell in zip(pixels.shape[1:], (h, w), strict=True)
    )
    if rest_x or rest_y:
        raise ValueError(
            f"a sheet of {array.shape[1]}x{array.shape[0]} pixels is not made of images of {w}x{h}"
        )
    cells = [
        pixels[:, y * (h + gap) : y * (h + gap) + h, x * (w + gap) : x * (w + gap) + w]
        for y in range(rows)
        for x in range(columns)
    ]
    return torch.stack(cells).float() / 255


def _bytes(images: Tensor) -> Tensor:
    """Converts images in [0, 1] to uint8 RGB, with shape (N, H, W, 3)."""
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)


def _encode(pixels: Tensor, alt: str, caption: str, *, crisp: bool) -> Picture:
    height, width, _ = pixels.shape
    array = pixels.contiguous().numpy()
    grey = array.shape[2] == 3 and bool((array == array[..., :1]).all())
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if grey else array).save(file, format="PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(uri, width, height, alt, caption, crisp)


def _is_small(images: Tensor) -> bool:
    return max(images.shape[-2:]) < SMALL
