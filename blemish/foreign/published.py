"""From a published file to a network: the layouts that are known, and the file that is one of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from . import stylegan1, stylegan2
from .checkpoint import Checkpoint, read_checkpoint
from .layouts import Converted, Layout, apply_layout, first_of

__all__ = ["LAYOUTS", "convert", "find_layout", "read_files"]

LAYOUTS: tuple[Layout, ...] = (*stylegan2.LAYOUTS, *stylegan1.LAYOUTS)
"""The layouts of files that are converted."""


def convert(checkpoint: Checkpoint) -> Converted:
    """Makes the network of a file.

    Arguments:
        checkpoint: What the file holds.

    Raises:
        ValueError: If it is of no layout that is known, or is not whole.
    """
    return apply_layout(checkpoint, find_layout(checkpoint))


def find_layout(checkpoint: Checkpoint) -> Layout:
    """Returns the layout of a file.

    Raises:
        ValueError: If it is none that is known.
    """
    for layout in LAYOUTS:
        if layout.mark in checkpoint.tensors:
            return layout
    known = ", ".join(f"{layout.name} ({layout.mark!r})" for layout in LAYOUTS)
    raise ValueError(
        f"{checkpoint.source} holds {first_of(checkpoint.tensors) or 'no tensors'}, and nothing that tells a layout; "
        f"known are {known}"
    )


def read_files(source: Path, mapping: Path | None = None) -> Checkpoint:
    """Reads a network from one file, or from two that were published together.

    Arguments:
        source: The file.
        mapping: The file of the mapping network, if ``source`` holds the synthesis network alone.

    Returns:
        All tensors and settings, under the digest of ``source``, or of both files, with "and" between; names that lack their
        first part have got it.

    Raises:
        FileNotFoundError: If one is not there.
        ValueError: If one is not read, if two tensors come to have one name, or if both say different things of the network.
    """
    main = read_checkpoint(source)
    tensors = _whole(main)
    if mapping is None:
        return replace(main, tensors=tensors)
    other = read_checkpoint(mapping)
    for name, tensor in _whole(other).items():
        if name in tensors:
            raise ValueError(
                f"{mapping.name} and {source.name} both hold {name!r}; give one of them"
            )
        tensors[name] = tensor
    for name, value in other.settings.items():
        if main.settings.get(name, value) != value:
            raise ValueError(
                f"{source.name} has {name}={main.settings[name]!r} and {mapping.name} {value!r}; give two files of one network"
            )
    return replace(
        main,
        source=f"{main.source} and {other.source}",
        sha256=f"{main.sha256} and {other.sha256}",
        tensors=tensors,
        settings={**main.settings, **other.settings},
        left_out={**main.left_out, **other.left_out},
    )


def _whole(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Returns the tensors under whole names."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        whole = _whole_name(name)
        if whole in tensors:
            raise ValueError(
                f"{checkpoint.source} holds {whole!r} twice, once as {name!r}; get it from its publisher"
            )
        tensors[whole] = tensor
    return tensors


def _whole_name(name: str) -> str:
    """Returns one name for what the ports to PyTorch call differently: with its network's, and noise in one place."""
    if re.match(r"dense\d+\.", name):
        name = f"g_mapping.{name}"
    elif re.match(r"(blocks\.\d+x\d+|torgb)\.", name):
        name = f"g_synthesis.{name}"
    return re.sub(r"^(g_synthesis\..*)\.top_epi\.noise\.", r"\1.noise.", name)
