r"""What a run reports: running means of its losses, a file of JSON lines, TensorBoard.

``metrics.jsonl`` has one line for each ``log_every`` images:

.. code-block:: json

    {"images": 6400, "iteration": 100, "seconds": 12.5, "images_per_second": 512.0,
     "loss/D/adversarial": 1.27, "grad/D/adversarial": 0.4, "strength/radius": 1.8}

A loss is the mean over the iterations since the last line in which its phase ran, and over all processes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import write_atomically

__all__ = ["Meter", "MetricsFile", "TensorBoard", "read_metrics"]


class Meter:
    """Running means and largest magnitudes of named scalars; they stay on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], int] = {}
        self._largest: dict[tuple[str, ...], Tensor] = {}

    def add(self, names: Sequence[str], values: Tensor) -> None:
        """Adds one observation.

        Arguments:
            names: The n scalars' names.
            values: Their values, with shape (n,).
        """
        key = tuple(names)
        dtype = torch.float32 if values.device.type == "mps" else torch.float64
        values = values.detach().to(dtype)
        magnitudes = values.abs()
        if key in self._sums:
            self._sums[key] += values
        else:
            self._sums[key] = values.clone()
        self._counts[key] = self._counts.get(key, 0) + 1
        if key in self._largest:  # maximum, unlike max of Python, keeps NaN
            magnitudes = torch.maximum(self._largest[key], magnitudes)
        self._largest[key] = magnitudes

    def largest(self) -> dict[str, float]:
        """Returns the largest magnitudes since the last call."""
        found: dict[str, float] = {}
        for key, values in self._largest.items():
            for name, value in zip(key, values.tolist(), strict=True):
                found[name] = value if value != value else max(found.get(name, 0.0), value)
        self._largest.clear()
        return found

    def means(self) -> dict[str, float]:
        """Returns the means since the last call."""
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for key, values in self._sums.items():
            for name, value in zip(key, values.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + self._counts[key]
        self._sums.clear()
        self._counts.clear()
        return {name: sums[name] / counts[name] for name in sums}

    def state_dict(self) -> list[dict[str, Any]]:
        """Returns the sums as JSON values, so that a resumed run's next line is that of an unbroken one."""
        return [
            {"names": list(key), "sums": values.tolist(), "count": self._counts[key]}
            for key, values in self._sums.items()
        ]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]], device: torch.device) -> None:
        """Takes over sums written by :meth:`state_dict`."""
        for item in state:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            key = tuple(item["names"])
            self._sums[key] = torch.tensor(item["sums"], dtype=dtype, device=device)
            self._counts[key] = item["count"]


class MetricsFile:
    """A file of JSON lines.

    Arguments:
        path: The file; new lines are appended to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, source: Path | None, images: int) -> None:
        """Takes over the lines of a run up to its checkpoint; without a source, starts an empty file.

        Arguments:
            source: The file of the run that goes on, perhaps this one.
            images: The checkpoint's progress; later lines are dropped, and so is a torn one.
        """
        lines = read_metrics(source) if source is not None and source.exists() else []
        kept = [json.dumps(line) + "\n" for line in lines if line["images"] <= images]
        write_atomically(self.path, "".join(kept).encode())

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line; a number that JSON does not have (NaN, infinity) becomes null."""
        line = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a ``metrics.jsonl``; a torn last line, as a killed run leaves it, is skipped."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


class TensorBoard:
    """Event files for TensorBoard where that package is installed, else nothing.

    Arguments:
        folder: Where the files go.
        images: The progress from which on this run writes.
    """

    def __init__(self, folder: Path, images: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(log_dir=str(folder), purge_step=images + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Adds the numbers of a metrics line at its number of images."""
        if self._writer is None:
            return
        for name, value in line.items():
            if isinstance(value, (int, float)) and name != "images":
                self._writer.add_scalar(name, value, line["images"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the files."""
        if self._writer is not None:
            self._writer.close()
