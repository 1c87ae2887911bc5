r"""Letters and digits, drawn: a data set that needs no download.

Image :math:`i` shows one character of Aileron, the font that ships inside Pillow, in one of several
stroke widths. Its appearance is a function of (seed, i) alone: 16 numbers from U[0, 1) choose the
character, the stroke width, a rotation :math:`\varphi`, a shear :math:`s`, a stretch :math:`t`, the
size, the position and the colours. With the mask :math:`m(p) \in [0, 1]` of the upright character,
which is drawn once at high resolution, the image is

.. math:: x(q) = b + (f - b) \, m(A^{-1} (q - c)), \qquad
    A = \sigma \, R(\varphi) \begin{pmatrix} t & s \\ 0 & 1 / t \end{pmatrix},

evaluated on a finer grid and reduced by area averages, so that edges are as crisp as pixels allow.
Characters are light (f) on dark (b), well inside of the image. The label is the character's number.

The same seed gives the same images, whatever the number of threads. Another version of Pillow may
bring another FreeType: between 10.3 and 13.0 one image in 2,000 differed, by one level.
"""

from __future__ import annotations

import functools
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..functional.random import generator_for, rand
from .base import Source

__all__ = ["ALPHABET", "Glyphs"]

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The characters that are drawn unless others are chosen."""

_STROKES = 5  # Stroke widths: the font's own, and up to 4 steps bolder.
_DRAWS = 16  # Uniform numbers for each image.
_CHUNK = 64 * 16 * 16  # Pixels that are drawn at once; more would leave the cache.


@final
class Glyphs(Source):
    """Drawn characters.

    Arguments:
        count: The number N of images; any, since image i does not depend on it.
        size: The side of the square images, from 16 to 128 pixels.
        channels: 1 for grey, 3 for RGB.
        seed: The seed from which all images follow.
        alphabet: The characters that are drawn.
        rotation: The largest rotation, in degrees.
        shear: The largest shear.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        count: int = 20_000,
        *,
        size: int = 16,
        channels: int = 1,
        seed: int = 0,
        alphabet: str = ALPHABET,
        rotation: float = 10.0,
        shear: float = 0.15,
    ) -> None:
        if count < 1:
            raise ValueError(f"glyphs: count={count}; draw at least 1 image")
        if not 16 <= size <= 128:
            raise ValueError(f"glyphs: size={size} is not in 16..128; choose a size in between")
        if channels not in (1, 3):
            raise ValueError(f"glyphs: channels={channels}; choose 1 (grey) or 3 (RGB)")
        if not alphabet or not alphabet.isascii() or not alphabet.isalnum():
            raise ValueError(f"glyphs: alphabet={alphabet!r}; give ASCII letters and digits")
        self.count, self.channels, self.side = count, channels, size
        self.size = (size, size)
        self.seed, self.alphabet, self.rotation, self.shear = seed, alphabet, rotation, shear
        self.title = f"glyphs (seed {seed}, {len(alphabet)} characters)"
        self.skipped = []

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """Returns ``glyphs/000012`` for image 12."""
        return f"glyphs/{index:06d}"

    def read(self, index: int) -> Tensor:
        """Draws one image, uint8, with shape (C, H, W)."""
        return self.draw(range(index, index + 1))[0]

    def label(self, index: int) -> int:
        """Returns the number of the image's character in the alphabet."""
        return int(self._character(self._uniforms(range(index, index + 1)))[0])

    def draw(self, indices: range) -> Tensor:
        """Draws many images at once.

        Arguments:
            indices: Their numbers, each at least 0 and less than the count.

        Returns:
            A uint8 tensor, with shape (N, C, H, W).

        Raises:
            IndexError: If a number is out of range.
        """
        if len(indices) and not 0 <= min(indices) <= max(indices) < self.count:
            raise IndexError(f"{indices} is out of range: there are {self.count} glyphs")
        step = max(1, _CHUNK // self.side**2)
        parts = [self._draw(indices[k : k + step]) for k in range(0, len(indices), step)]
        return (
            torch.cat(parts)
            if parts
            else torch.empty((0, self.channels, self.side, self.side), dtype=torch.uint8)
        )

    def _draw(self, indices: range) -> Tensor:
        u = self._uniforms(indices)
        side = self.side
        finer = _finer(side)
        bank, extents = _bank(self.alphabet, _bank_side(side))
        stroke = (u[:, 1] * _STROKES).long()
        which = self._character(u) * _STROKES + stroke
        grid = _grid(u, extents[which], side * finer, self.rotation, self.shear)
        masks = bank[which].float().div_(255)
        fine = F.grid_sample(masks, grid, mode="bilinear", align_corners=False)
        mask = F.avg_pool2d(fine, finer)
        background, foreground = _colours(u, self.channels)
        image = background + (foreground - background) * mask
        return (255 * image + 0.5).to(torch.uint8)

    def _uniforms(self, indices: range) -> Tensor:
        # One stream for each image, so that neither the count nor the chunks change an image.
        generators = [generator_for(self.seed, "glyphs", index) for index in indices]
        return rand((len(indices), _DRAWS), generators).double()

    def _character(self, u: Tensor) -> Tensor:
        return (u[:, 0] * len(self.alphabet)).long()


def _finer(side: int) -> int:
    return 4 if side <= 32 else 3 if side <= 64 else 2


def _bank_side(side: int) -> int:
    return 128 if side <= 32 else 256


def _grid(u: Tensor, extents: Tensor, fine: int, rotation: float, shear: float) -> Tensor:
    """Returns where each fine pixel lies in the mask, with shape (B, fine, fine, 2).

    Positions in image and mask run from -1 to 1. All is computed in float64 and element by element,
    so that rounding depends on nothing but the image's own numbers.
    """
    signed = 2 * u - 1
    angle = torch.deg2rad(rotation * signed[:, 2])
    slant, stretch = shear * signed[:, 3], torch.exp(0.1 * signed[:, 4])
    cos, sin = torch.cos(angle), torch.sin(angle)
    # A = R(angle) [[t, s], [0, 1/t]], still without the size.
    a, b = cos * stretch, cos * slant - sin / stretch
    c, d = sin * stretch, sin * slant + cos / stretch
    half_x = a.abs() * extents[:, 0] + b.abs() * extents[:, 1]
    half_y = c.abs() * extents[:, 0] + d.abs() * extents[:, 1]
    size = (0.62 + 0.18 * u[:, 5]) / torch.maximum(half_x, half_y)
    room_x, room_y = 0.84 - size * half_x, 0.84 - size * half_y
    x = signed[:, 6] * room_x.clamp(0, 0.2)
    y = signed[:, 7] * room_y.clamp(0, 0.2)
    ticks = (torch.arange(fine, dtype=torch.float64) + 0.5) * (2 / fine) - 1
    dx = ticks[None, None, :] - x[:, None, None]
    dy = ticks[None, :, None] - y[:, None, None]
    # A has determinant 1 before it is scaled: the inverse is [[d, -b], [-c, a]] / size.
    a, b, c, d = ((v / size)[:, None, None] for v in (a, b, c, d))
    return torch.stack((d * dx - b * dy, a * dy - c * dx), dim=-1).float()


def _colours(u: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Returns background and foreground, with shape (B, channels, 1, 1) each.

    Both are a grey level, at least 0.5 apart, plus, for RGB, a tint. As in well-exposed photographs,
    many reach the ends of the range: half of the backgrounds are black, 3 in 10 characters white.
    """
    dark = (0.2 * u[:, 8:9] - 0.1).clamp(min=0)
    light = (0.65 + 0.5 * u[:, 9:10]).clamp(max=1)
    if channels == 3:
        dark = (dark + 0.25 * u[:, 10:13]).clamp(0, 1)
        light = (light + 0.4 * (u[:, 13:16] - 0.5)).clamp(0, 1)
    return dark.float()[:, :, None, None], light.float()[:, :, None, None]


@functools.lru_cache(maxsize=4)
def _bank(alphabet: str, side: int) -> tuple[Tensor, Tensor]:
    """Draws every character in every stroke width.

    Returns:
        Masks, uint8 of shape (A * strokes, 1, side, side), each centred; and half their widths and
        heights, float64 of shape (A * strokes, 2), on the scale where the mask reaches from -1 to 1.
    """
    font = ImageFont.load_default(size=side * 5 / 8)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError("glyphs need a Pillow with FreeType; install Pillow's official wheel")
    masks, extents = [], []
    for character in alphabet:
        for stroke in range(_STROKES):
            mask = _mask(font, character, stroke * side // 128, side)
            masks.append(mask)
            ys, xs = np.nonzero(mask)
            extents.append(((np.ptp(xs) + 1) / side, (np.ptp(ys) + 1) / side))
    stacked = torch.from_numpy(np.stack(masks))[:, None]
    return stacked, torch.tensor(extents, dtype=torch.float64)


def _mask(
    font: ImageFont.FreeTypeFont, character: str, stroke: int, side: int
) -> NDArray[np.uint8]:
    drawn = Image.new("L", (2 * side, 2 * side), 0)
    corner = (side // 2, side // 2)
    ImageDraw.Draw(drawn).text(corner, character, fill=255, font=font, stroke_width=stroke)
    ink = drawn.crop(drawn.getbbox())
    mask = Image.new("L", (side, side), 0)
    mask.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return np.array(mask)
