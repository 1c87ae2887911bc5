"""The page that shows pictures before and after: a slider for each, and the place that changed most at 100 %.

The slider shows whole pictures, reduced where they are large, as JPEG files of high quality. The crops
below it are pixels as they are, in lossless files: judge those.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..functional.resample import area
from .pages import render
from .pictures import Picture, picture

__all__ = ["CROP", "BeforeAfter", "Shown", "before_after_page", "most_changed", "show"]

CROP = 192
"""The side in pixels of the crops at 100 %."""

_LARGEST = 800
"""The longest side in pixels of the pictures under the slider."""

_QUALITY = 92


@dataclass(frozen=True)
class BeforeAfter:
    """A picture before and after.

    Attributes:
        name: What it is called.
        before: The picture before, in [0, 1], with shape (C, H, W), C = 1 or 3.
        after: The picture after, of the same shape.
        note: A few words below its name.
    """

    name: str
    before: Tensor
    after: Tensor
    note: str = ""

    def __post_init__(self) -> None:
        """Checks that both are pictures of one shape."""
        if self.before.shape != self.after.shape or self.before.ndim != 3:
            raise ValueError(
                f"{self.name} is {tuple(self.before.shape)} before and {tuple(self.after.shape)} after; both must "
                "have one shape (C, H, W)"
            )


@dataclass(frozen=True)
class Shown:
    """What a page needs of one picture; some hundred kilobytes, however large that is.

    Attributes:
        name: What it is called.
        note: A few words below its name.
        before: The reduced picture before.
        after: The same after.
        crop_before: The place that changed most, before.
        crop_after: The same after.
        ratio: Width over height.
    """

    name: str
    note: str
    before: Picture
    after: Picture
    crop_before: Picture
    crop_after: Picture
    ratio: float


def before_after_page(
    pictures: Sequence[Shown],
    *,
    title: str = "Before and after",
    lead: str = "",
    facts: dict[str, str] | None = None,
) -> str:
    """Writes the page.

    Arguments:
        pictures: The pictures, see :func:`show`.
        title: The heading.
        lead: A sentence below it.
        facts: Short facts by name.

    Returns:
        The HTML document.
    """
    return render(
        "before_after.html.j2",
        title=title,
        lead=lead,
        facts=facts or {},
        pairs=pictures,
    )


def most_changed(before: Tensor, after: Tensor, side: int = CROP) -> tuple[int, int]:
    """Returns where the square lies that changed most, by the mean squared difference.

    Arguments:
        before: A picture, with shape (C, H, W).
        after: Another one, of the same shape.
        side: The side of the square in pixels; of smaller pictures it is cut off.

    Returns:
        The row and the column of its upper left pixel.
    """
    change = (after - before).float().square().mean(dim=0)[None, None]
    window = (min(side, change.shape[-2]), min(side, change.shape[-1]))
    # Every eighth position is near enough, and an eighth of the work in each direction.
    means = F.avg_pool2d(change, window, stride=8)
    row, column = divmod(int(means.argmax()), means.shape[-1])
    return 8 * row, 8 * column


def show(pair: BeforeAfter) -> Shown:
    """Reduces a picture to what a page shows of it.

    Arguments:
        pair: The picture before and after.
    """
    top, left = most_changed(pair.before, pair.after)
    rows, columns = slice(top, top + CROP), slice(left, left + CROP)
    crops = [one[:, rows, columns] for one in (pair.before, pair.after)]
    height, width = crops[0].shape[-2:]
    where = f"{width} x {height} pixels at 100 %, from row {top}, column {left}"
    return Shown(
        pair.name,
        pair.note,
        _reduced(pair.before, f"{pair.name} before"),
        _reduced(pair.after, f"{pair.name} after"),
        picture(crops[0], f"{pair.name} before: {where}", "before"),
        picture(crops[1], f"{pair.name} after: {where}", "after"),
        round(pair.before.shape[-1] / pair.before.shape[-2], 4),
    )


def _reduced(image: Tensor, alt: str) -> Picture:
    """Returns a picture whose longest side is at most 800 pixels, as a JPEG file."""
    height, width = image.shape[-2:]
    if max(height, width) > _LARGEST:
        share = _LARGEST / max(height, width)
        size = (max(1, round(height * share)), max(1, round(width * share)))
        image = area(image[None].float(), size)[0]
    pixels = (image.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu()
    array = pixels.squeeze(-1).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="JPEG", quality=_QUALITY, subsampling=0)
    uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(uri, array.shape[1], array.shape[0], alt, crisp=False)
