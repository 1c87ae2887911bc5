"""Any degradation as a callable for somebody else's data loader."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from ..functional.random import generator_for
from .base import Degradation
from .frozen import to_uint8

__all__ = ["Transform", "as_transform"]


class Transform:
    """Damages one image, or a batch, at each call.

    The k-th call in a data loader's worker draws from (seed, worker's seed, k): workers and epochs
    differ, and a loader that is seeded repeats itself. Outside of workers it draws from (seed, k).

    Arguments:
        degradation: What damages the images.
        seed: A seed; with None, calls outside of workers draw one from torch's global generator.
    """

    def __init__(self, degradation: Degradation[Any], seed: int | None = None) -> None:
        self.degradation = degradation.eval()
        self.seed = seed
        self.calls = 0
        self._stream: int | None = None

    @torch.no_grad()
    def __call__(self, image: Any) -> Any:
        """Damages an image and returns the same type.

        Arguments:
            image: A float tensor in [0, 1] or a uint8 tensor, with shape (C, H, W) or (B, C, H, W),
                or a PIL image in mode L or RGB.

        Raises:
            TypeError: If it is something else.
            ValueError: If a tensor has another shape, or a float tensor leaves [0, 1].
        """
        if isinstance(image, Image.Image):
            return self._pil(image)
        if not isinstance(image, Tensor):
            raise TypeError(f"got {type(image).__name__}; give a tensor or a PIL image")
        if image.ndim not in (3, 4):
            raise ValueError(f"got shape {tuple(image.shape)}; give (C, H, W) or (B, C, H, W)")
        if image.dtype == torch.uint8:
            return to_uint8(self._tensor(image.float() / 255))
        if not image.is_floating_point():
            raise TypeError(f"got a tensor of {image.dtype}; give uint8, or floats in [0, 1]")
        if image.numel() and (image.min() < 0 or image.max() > 1):
            raise ValueError(
                f"values lie in [{image.min():g}, {image.max():g}]; give images in [0, 1]"
            )
        return self._tensor(image)

    def _pil(self, image: Image.Image) -> Image.Image:
        if image.mode not in ("L", "RGB"):
            raise TypeError(f"mode {image.mode!r} is not supported; convert the image to L or RGB")
        array = np.array(image)
        x = torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)
        y = to_uint8(self._tensor(x.float() / 255)).permute(1, 2, 0).numpy()
        return Image.fromarray(y if y.shape[2] == 3 else y[..., 0])

    def _tensor(self, x: Tensor) -> Tensor:
        batch = x if x.ndim == 4 else x[None]
        shape = (batch.shape[0], batch.shape[1], batch.shape[2], batch.shape[3])
        params = self.degradation.sample(shape, generator=self._generator(x.device))
        y = self.degradation(batch, params)
        return y if x.ndim == 4 else y[0]

    def _generator(self, device: torch.device) -> torch.Generator:
        worker = get_worker_info()
        if worker is not None:
            # A worker starts from a copy of this object, which may have been called before.
            if self._stream != worker.seed:
                self._stream, self.calls = worker.seed, 0
        elif self._stream is None:
            drawn = torch.empty((), dtype=torch.int64).random_() if self.seed is None else 0
            self._stream = int(drawn)
        seed = "drawn" if self.seed is None else self.seed
        self.calls += 1
        return generator_for("transform", seed, self._stream or 0, self.calls, device=device)


def as_transform(degradation: Degradation[Any], *, seed: int | None = None) -> Transform:
    """Returns a degradation as a callable for a data loader or a ``Compose``.

    Arguments:
        degradation: Any degradation, known or learned.
        seed: A seed for reproducible damage; None draws one from torch's global generator.
    """
    return Transform(degradation, seed)
