"""Features by name, as the command line and configurations give them.

A name is ``KIND``, ``KIND@SIZE``, or ``KIND:FILE`` where weights are read from a file: ``effnet-lite0``,
``effnet-lite0@64``, ``pixels@8``, ``inception:pt_inception-2015-12-05-6726825d.pth``. The extractor's own
name, with the size in it, is part of every score.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .dino import dinov2
from .features import Extractor, effnet_lite0, pixels
from .inception import inception

__all__ = ["FEATURES", "named_features"]


@dataclass(frozen=True)
class _Wish:
    """What a name asks for: the size, the file, and the channels of the images."""

    size: int | None
    file: str | None
    channels: int


def _dinov2(wish: _Wish) -> Extractor:
    if wish.file is None:
        raise ValueError("dinov2 needs its weights: write dinov2:FILE")
    return dinov2(wish.file)


FEATURES: dict[str, Callable[[_Wish], Extractor]] = {
    "effnet-lite0": lambda wish: effnet_lite0(wish.size or 64),
    "inception": lambda wish: inception(wish.file),
    "inception-clean": lambda wish: inception(wish.file, resize="clean"),
    "dinov2": _dinov2,
    "pixels": lambda wish: pixels(wish.size or 8, wish.channels),
}
"""What makes an extractor, by kind."""

_SIZED = ("effnet-lite0", "pixels")
_FIXED = {"inception": 299, "inception-clean": 299, "dinov2": 224}
"""The kinds that read a file; their sizes are part of what they are."""

_NAME = re.compile(r"(?P<kind>[a-z0-9-]+)(@(?P<size>[1-9][0-9]{0,2}))?(:(?P<file>.+))?")


def named_features(name: str, channels: int = 3) -> Extractor:
    """Returns the extractor that a name means.

    Arguments:
        name: ``KIND``, ``KIND@SIZE`` or ``KIND:FILE``. Inception without a file is downloaded once.
        channels: The channels of the images, 1 or 3.

    Raises:
        ValueError: If there is no such extractor, or its weights are not those it needs.
        OSError: If its weights cannot be read or downloaded.
        ModuleNotFoundError: If a package that it needs is not installed.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] not in FEATURES:
        raise ValueError(
            f"unknown features {name!r}; choose {', '.join(FEATURES)}, with @SIZE from 1 to 999 "
            f"({', '.join(_SIZED)}) or :FILE ({', '.join(_FIXED)})"
        )
    kind = match["kind"]
    size = int(match["size"]) if match["size"] else None
    if size is not None and _FIXED.get(kind, size) != size:
        raise ValueError(f"{name!r}: {kind} has one size, {_FIXED[kind]}; write {kind}")
    if match["file"] and kind not in _FIXED:
        raise ValueError(f"{name!r}: {kind} reads no file; write {kind}")
    return FEATURES[kind](_Wish(size, match["file"], channels))
