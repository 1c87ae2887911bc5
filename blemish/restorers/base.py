"""What a restorer is: observed images to estimates of the clean ones."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Restorer"]


@runtime_checkable
class Restorer(Protocol):
    """Anything that maps observed images to estimates of clean ones."""

    @property
    def scale(self) -> int:
        """The factor by which images grow; 1 keeps their size."""
        ...

    @property
    def receptive_field(self) -> int | None:
        """The side of the square of pixels of y that one pixel of the estimate depends on, which is odd.

        The square lies around that pixel. None means that every pixel may depend on all: such images
        cannot be restored in parts.
        """
        ...

    @property
    def multiple(self) -> int:
        """What both coordinates of a part's corner must be multiples of to be restored as in the whole."""
        ...

    def __call__(self, y: Tensor) -> Tensor:
        """Restores images.

        Arguments:
            y: Observed images in [0, 1], with shape (B, C, H, W).

        Returns:
            Estimates in [0, 1], with shape (B, C, scale H, scale W).
        """
        ...
