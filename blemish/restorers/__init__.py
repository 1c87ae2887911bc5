"""Restorers: observed images to estimates of clean ones."""

from __future__ import annotations

from .base import Restorer
from .classical import Deblock, Deblur, Denoise, Keep, Sequence, Where, restorer_for

__all__ = ["Deblock", "Deblur", "Denoise", "Keep", "Restorer", "Sequence", "Where", "restorer_for"]
