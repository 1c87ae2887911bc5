"""``blemish evaluate --pairs``: pictures one by one, beside their partners.

Partners have the same path in both sources, up to the ending. In sets for super-resolution they often differ by a mark at
the end of the name, or share a folder; so marks are left out where names alone do not fit: ``_LR``, ``_HR``, ``_GT``,
each perhaps with a factor, and ``_x1`` to ``_x9``, after a hyphen or an underscore.

=============  ===========================================  ===========================================
RealSR         Canon/Test/4/Canon_001_LR4.png               Canon/Test/4/Canon_001_HR.png (one folder)
DRealSR        Test_x4/test_LR/panasonic_1_x1.png           Test_x4/test_HR/panasonic_1_x4.png
SupER          a folder of each size, the same names        the same
ImagePairs     1_LR.png                                     1_HR.png
=============  ===========================================  ===========================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import torch
from torch import Tensor, nn

from ..data import Source
from ..degradations import to_uint8
from ..evaluation import Evaluation, Judges, chosen, pair_scores
from ..functional.resample import bicubic
from ..photos import restore_tiled, with_channels
from ..training.progress import waiting
from .restore import find_restorer

__all__ = ["Way", "aligned", "enlarging", "partners"]

Open = Callable[..., Source]

_MARK = re.compile(r"[-_](?:(LR|HR|GT)(?:x?\d)?|x\d)$", re.IGNORECASE)
_SMALL = ("lr",)


@dataclass(frozen=True)
class Way:
    """What is done to pictures before they are compared.

    Attributes:
        apply: Maps a picture, uint8 with shape (C, H, W), to one.
        words: What it is, for the protocol.
    """

    apply: Callable[[Tensor], Tensor]
    words: str


def enlarging(restorer: str | None, scale: int | None, device: torch.device) -> Way:
    """Returns how small pictures are brought to the size of their partners.

    Arguments:
        restorer: A run's folder or a restorer's; None means bicubic interpolation.
        scale: How many times larger the partners are; None means the restorer's.
        device: Where pictures are restored.

    Raises:
        ValueError: If the restorer has another scale.
    """
    if restorer is None:
        factor = scale or 1
        return Way(partial(_interpolated, factor), f"bicubic enlargement by {factor}")
    found = find_restorer(restorer, tell=print)
    if scale not in (None, found.scale):
        raise ValueError(
            f"{restorer} makes images {found.scale} times larger, not {scale}; leave --scale out"
        )
    if isinstance(found, nn.Module):
        found.to(device)

    def restored(picture: Tensor) -> Tensor:
        fitting = with_channels(found, picture.shape[0])
        return restore_tiled(fitting, picture[None], device=device)[0]

    return Way(restored, f"restored by {restorer}, scale {found.scale}")


class _Made(Source):
    """The pictures of a source, after something was done to them."""

    def __init__(self, source: Source, way: Way) -> None:
        self.source, self.way = source, way
        self.title, self.channels = source.title, source.channels
        self.size, self.skipped = None, source.skipped

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def read(self, index: int) -> Tensor:
        return self.way.apply(self.source.read(index))


def aligned(
    what: str,
    reference: str | None,
    metrics: list[str],
    judges: Judges,
    read: Open,
    *,
    count: int,
    seed: int,
    crop: int,
    way: Way | None = None,
) -> Evaluation:
    """Judges images one by one, beside their partners.

    Arguments:
        what: The images.
        reference: Their partners; None where no metric needs them.
        metrics: The names of the metrics.
        judges: What metrics need.
        read: Opens a source.
        count: How many pairs are compared at most; of more, as many at random.
        seed: The seed of what is taken.
        crop: Pixels at each border that PSNR and SSIM leave out.
        way: What is done to the images first.

    Raises:
        ValueError: If an image has no partner, or partners do not fit.
    """
    images = read(what, mixed=True)
    clean = None if reference is None else read(reference, mixed=True)
    pairs = [(i, i) for i in range(len(images))] if clean is None else partners(images, clean)
    taken = [pairs[i] for i in chosen(len(pairs), count, seed=seed)]
    shown = images if way is None else _Made(images, way)
    with waiting("comparing") as tell:
        scores = pair_scores(shown, clean, taken, metrics, judges, crop=crop, progress=tell)
    protocol = {
        "images": images.describe(),
        "count": f"{len(taken):,} of {len(pairs):,}",
        "seed": seed,
        "fit": "none: images as they are" if way is None else way.words,
    }
    if clean is not None:
        protocol |= {"reference": clean.describe(), "partners": "by name"}
        protocol["colour"] = "as it is; of a grey and an RGB image, the grey one as RGB"
    protocol["torch"] = torch.__version__
    notes = ("the PSNR of equal images, and so its mean, is infinite",)
    infinite = any(score.value == float("inf") for score in scores)
    return Evaluation(tuple(scores), protocol, notes if infinite else ())


def partners(images: Source, clean: Source) -> list[tuple[int, int]]:
    """Finds the partner of each image: the same path without its ending, else without its mark, too.

    Arguments:
        images: The images.
        clean: What holds their partners.

    Returns:
        The numbers of both.

    Raises:
        ValueError: If an image has no partner.
    """
    if images.title == clean.title and (pairs := _within(images)):
        return pairs
    mine, theirs = _by_stem(images), _by_stem(clean)
    if mine.keys() != theirs.keys():
        bare = [_without_marks(stems) for stems in (mine, theirs)]
        if bare[0] and bare[0].keys() == bare[1].keys():
            mine, theirs = bare
    _check_lonely(images, mine, clean, theirs)
    _check_lonely(clean, theirs, images, mine)
    pairs = [(i, theirs[stem]) for stem, i in mine.items() if stem in theirs]
    if not pairs:
        raise ValueError(f"no pair of {images.title} and {clean.title} can be read")
    return pairs


def _within(source: Source) -> list[tuple[int, int]]:
    """Returns the pairs of a folder that holds small and large pictures, told by their marks; none if it does not."""
    small: dict[str, int] = {}
    large: dict[str, int] = {}
    for stem, i in _by_stem(source).items():
        mark = _MARK.search(stem)
        if mark is None or mark[1] is None:
            return []
        (small if mark[1].lower() in _SMALL else large)[_MARK.sub("", stem)] = i
    if small.keys() != large.keys():
        return []
    return [(i, large[stem]) for stem, i in small.items()]


def _without_marks(stems: dict[str, int]) -> dict[str, int]:
    """Returns stems without their marks; nothing where two would be alike."""
    bare = {_MARK.sub("", stem): i for stem, i in stems.items()}
    return bare if len(bare) == len(stems) else {}


def _check_lonely(
    source: Source, stems: dict[str, int], other: Source, others: dict[str, int]
) -> None:
    """Refuses images without a partner; that of a broken one, which is skipped, is skipped with it."""
    broken = {_stem(name) for name, _ in other.skipped}
    lonely = [source.name(i) for stem, i in stems.items() if stem not in {*others, *broken}]
    if lonely:
        raise ValueError(
            f"{len(lonely)} of {len(source)} images of {source.title} have no partner of the same "
            f"name in {other.title}: {', '.join(lonely[:5])}; partners have the same path in both, "
            "up to the ending, or to a mark as _LR4 and _HR"
        )


def _by_stem(source: Source) -> dict[str, int]:
    found: dict[str, int] = {}
    for i in range(len(source)):
        stem = _stem(source.name(i))
        if stem in found:
            raise ValueError(
                f"{source.title} has {source.name(found[stem])} and {source.name(i)}; "
                "which one is the partner? Keep one of them"
            )
        found[stem] = i
    return found


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _interpolated(factor: int, picture: Tensor) -> Tensor:
    height, width = (factor * side for side in picture.shape[-2:])
    return to_uint8(bicubic(picture[None].float() / 255, (height, width))[0])
