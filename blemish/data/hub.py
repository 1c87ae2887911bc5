"""Data sets of the Hugging Face Hub, through the optional library ``datasets``.

The first column of images is read, and the first column of class labels where there is one. Versions
before 3 are refused, since they can run code that comes with a data set.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any, final

from torch import Tensor

from .base import BadImage, Source
from .images import from_pillow

__all__ = ["Hub", "looks_like_hub_id"]

_ID = re.compile(r"(hub:)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*|hub:[A-Za-z0-9][\w.-]*")


def looks_like_hub_id(spec: str) -> bool:
    """Whether a text has the form of a Hub id, ``owner/name`` or ``hub:name``."""
    return _ID.fullmatch(spec) is not None


@final
class Hub(Source):
    """A data set of the Hub; it is downloaded to the library's cache when it is opened first.

    Arguments:
        spec: Its id, ``owner/name``, also with ``hub:`` before it.
        split: The split, such as ``train``.

    Raises:
        ValueError: If ``datasets`` is missing or too old, or the data set has no images.
    """

    def __init__(self, spec: str, split: str = "train") -> None:
        name = spec.removeprefix("hub:")
        if importlib.util.find_spec("datasets") is None:
            raise ValueError(
                f"{spec} does not exist here; if it is a data set of the Hub, install the library "
                "that reads it (pip install datasets), or download its images to a folder"
            )
        datasets = importlib.import_module("datasets")
        if int(datasets.__version__.partition(".")[0]) < 3:
            raise ValueError(
                f"datasets {datasets.__version__} may run code from the Hub; "
                "update it (pip install 'datasets>=3')"
            )
        try:
            self.rows: Any = datasets.load_dataset(name, split=split)
        except Exception as error:  # The library raises errors of every kind.
            raise ValueError(f"{spec} cannot be loaded from the Hub: {error}") from error
        kinds = {key: type(value).__name__ for key, value in self.rows.features.items()}
        images = [key for key, kind in kinds.items() if kind == "Image"]
        if not images:
            raise ValueError(f"{spec} has no column of images; its columns are {', '.join(kinds)}")
        self.column = images[0]
        self.label_column = next((k for k, kind in kinds.items() if kind == "ClassLabel"), None)
        self.title, self.split = f"{name} (Hub, {split})", split
        self.channels, self.size, self.skipped = 3, None, []

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Returns the split and the row's number."""
        return f"{self.split}/{index:06d}"

    def read(self, index: int) -> Tensor:
        """Reads one image as it is, uint8, with shape (1, H, W) or (3, H, W)."""
        try:
            return from_pillow(self.rows[index][self.column])
        except (BadImage, MemoryError):
            raise
        except Exception as error:  # A damaged row raises errors of every kind.
            raise BadImage(str(error)) from error

    def label(self, index: int) -> int | None:
        """Returns the row's class label."""
        return None if self.label_column is None else int(self.rows[index][self.label_column])
