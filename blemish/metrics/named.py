"""Features by name, as the command line and configurations give them.

A name is ``KIND`` or ``KIND@SIZE``: ``effnet-lite0``, ``effnet-lite0@64``, ``pixels@8``. What it means is
part of every score, so that the extractor's own name, with the size in it, is written beside each number.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .features import Extractor, effnet_lite0, pixels

__all__ = ["FEATURES", "named_features"]

FEATURES: dict[str, Callable[[int | None, int], Extractor]] = {
    "effnet-lite0": lambda size, channels: effnet_lite0(size or 96),
    "pixels": lambda size, channels: pixels(size or 8, channels),
}
"""What makes an extractor of a size (None: the default) for images of a number of channels."""

_NAME = re.compile(r"(?P<kind>[a-z0-9-]+)(@(?P<size>[1-9][0-9]*))?")


def named_features(name: str, channels: int = 3) -> Extractor:
    """Returns the extractor that a name means.

    Arguments:
        name: ``KIND`` or ``KIND@SIZE``.
        channels: The channels of the images, 1 or 3.

    Raises:
        ValueError: If there is no such extractor.
        ModuleNotFoundError: If a package that it needs is not installed.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] not in FEATURES:
        raise ValueError(
            f"unknown features {name!r}; choose {', '.join(FEATURES)}, with @SIZE for another size"
        )
    return FEATURES[match["kind"]](int(match["size"]) if match["size"] else None, channels)
