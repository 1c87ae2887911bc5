r"""What a layout is: how a published file calls and stores the tensors of a style network.

A layout knows itself by a name that no other has, reads the network's shape from the shapes of the tensors, and lists for each
tensor of our network the file's name of it and how its numbers are turned. The turns are exact, but for shifts by a whole number
and what was stored in another precision than float32.

Nothing is lost in passing. A tensor that is missing, is left over or does not fit is an error that names it; what a file holds
beyond the network is listed with the reason.

*Maps of noise* are a part of some files; other programs draw them anew for each picture. Without any the network gets maps that
are drawn here, the same at each conversion, and the conversion says so.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..functional.random import generator_for, randn
from ..networks import StyleNetwork
from .checkpoint import Checkpoint
from .turns import same

__all__ = [
    "Converted",
    "Entry",
    "Layout",
    "Turn",
    "apply_layout",
    "count",
    "first_of",
    "number_of",
    "require",
    "shape_of",
]

Turn = Callable[[Tensor], Tensor]
"""How a tensor of a file becomes one of ours."""


@dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
        ours: Its name in our network.
        theirs: Its name in the file.
        turn: How its numbers become ours.
        noise: Whether it is a map of noise, which a file may do without.
    """

    ours: str
    theirs: str
    turn: Turn = same
    noise: bool = False


@dataclass(frozen=True)
class Layout:
    """How one program stores one kind of network.

    Attributes:
        name: A name for people.
        mark: A tensor's name that files of this layout have, and no others.
        read: Returns the shape of the network, after a look at what the file says of it.
        entries: Lists the tensors of a network of a shape.
        unused: Patterns of names that a file of this layout may hold beyond the network, each with the reason.
        check_unused: Raises a ValueError if a tensor that is left out is not what the network takes it for.
    """

    name: str
    mark: str
    read: Callable[[Checkpoint], StyleNetwork.Config]
    entries: Callable[[StyleNetwork.Config], Iterator[Entry]]
    unused: dict[str, str] = field(default_factory=dict)
    check_unused: Callable[[str, Tensor], None] = lambda name, tensor: None


@dataclass(frozen=True)
class Converted:
    """A network of a published file.

    Attributes:
        network: The network.
        layout: The name of the file's layout.
        used: How many tensors of the file are in it.
        left_out: What else is in the file, each with the reason why it is not taken.
        notes: What a user should know.
    """

    network: StyleNetwork
    layout: str
    used: int
    left_out: dict[str, str]
    notes: tuple[str, ...]


MOST_SIDES = 11
"""How many sides a network may have, from 4 to 4096 pixels; published ones have up to 9."""

_WHOLE = "give a whole checkpoint, or the other file of the two with --mapping"


def apply_layout(checkpoint: Checkpoint, layout: Layout) -> Converted:
    """Makes the network of a file.

    Arguments:
        checkpoint: The file.
        layout: Its layout.

    Raises:
        ValueError: If a tensor is missing, is left over, or does not fit; if the file's network is of another kind.
    """
    config = layout.read(checkpoint)
    expected = _shapes(checkpoint, config)
    entries = [entry for entry in layout.entries(config) if entry.ours in expected]
    left_out = {**checkpoint.left_out, **_left_over(checkpoint, layout, entries)}
    tensors: dict[str, Tensor] = {}
    for entry in _present(checkpoint, entries):
        turned = _turned(checkpoint, entry.theirs, entry.turn)
        _check(checkpoint, entry, turned, expected[entry.ours])
        tensors[entry.ours] = turned.to(torch.float32)
    used = len(tensors)
    drawn = {name: shape for name, shape in expected.items() if name not in tensors}
    tensors.update(_draw(drawn))
    network = config.build()
    network.load_state_dict(tensors)
    notes = (f"{checkpoint.source} has no maps of noise: they were drawn",) if drawn else ()
    return Converted(network.eval(), layout.name, used, left_out, notes)


def _shapes(checkpoint: Checkpoint, config: StyleNetwork.Config) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a network's tensors, without making them: a file may say that they are huge, and not hold them."""
    if len(config.channels) > MOST_SIDES:
        raise ValueError(
            f"the network of {checkpoint.source} has {len(config.channels)} sides; up to {MOST_SIDES} are converted"
        )
    try:
        with torch.device("meta"):
            return {name: tuple(t.shape) for name, t in config.build().state_dict().items()}
    except (RuntimeError, OverflowError):
        raise ValueError(
            f"the shapes in {checkpoint.source} ask for more numbers than there can be; get it from its publisher"
        ) from None


def shape_of(
    checkpoint: Checkpoint, name: str, dimensions: int, turn: Turn = same
) -> tuple[int, ...]:
    """Returns the shape of a tensor that tells the network's.

    Arguments:
        checkpoint: The file.
        name: The tensor's name.
        dimensions: How many dimensions it has once it is ours.
        turn: How it becomes ours.

    Raises:
        ValueError: If it is absent, or has another number of dimensions.
    """
    if name not in checkpoint.tensors:
        raise ValueError(f"{checkpoint.source} lacks {name!r}; {_WHOLE}")
    turned = _turned(checkpoint, name, turn)
    if turned.ndim != dimensions:
        raise ValueError(_misshaped(checkpoint, name, f"no tensor of {dimensions} dimensions"))
    return tuple(turned.shape)


def count(checkpoint: Checkpoint, name: Callable[[int], str]) -> int:
    """Returns how many tensors, numbered from 0, a file has without a gap.

    Arguments:
        checkpoint: The file.
        name: Returns the name of number i.

    Raises:
        ValueError: If it has none.
    """
    found = next(i for i in itertools.count() if name(i) not in checkpoint.tensors)
    if not found:
        raise ValueError(f"{checkpoint.source} lacks {name(0)!r}; {_WHOLE}")
    return found


def require(checkpoint: Checkpoint, name: str, *allowed: Any) -> None:
    """Raises a ValueError if a file says something else of its network than what is allowed."""
    value = checkpoint.settings.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(
            f"the network of {checkpoint.source} has {name}={value!r}; only {allowed[0]!r} is converted"
        )


def _turned(checkpoint: Checkpoint, name: str, turn: Turn) -> Tensor:
    try:
        return turn(checkpoint.tensors[name])
    except (RuntimeError, IndexError):
        raise ValueError(_misshaped(checkpoint, name, "not one that fits its name")) from None


def _misshaped(checkpoint: Checkpoint, name: str, what: str) -> str:
    shape = tuple(checkpoint.tensors[name].shape)
    return f"{name!r} of {checkpoint.source} has shape {shape}, which is {what}"


def first_of(names: Iterable[str], most: int = 5) -> str:
    """Returns a few names for a message."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(repr, listed[:most])) + more


def _present(checkpoint: Checkpoint, entries: list[Entry]) -> list[Entry]:
    """Returns the entries that are in a file: all, or all but the maps of noise."""
    missing = [entry for entry in entries if entry.theirs not in checkpoint.tensors]
    maps = [entry for entry in entries if entry.noise]
    if missing and missing != maps:
        raise ValueError(
            f"{checkpoint.source} lacks {first_of(entry.theirs for entry in missing)}; {_WHOLE}"
        )
    return [entry for entry in entries if entry not in missing]


def _left_over(checkpoint: Checkpoint, layout: Layout, entries: list[Entry]) -> dict[str, str]:
    known = {entry.theirs for entry in entries}
    found: dict[str, str] = {}
    strange = []
    for name in checkpoint.tensors:
        if name in known:
            continue
        reason = next((why for like, why in layout.unused.items() if re.fullmatch(like, name)), "")
        if reason:
            layout.check_unused(name, checkpoint.tensors[name])
            found[name] = reason
        else:
            strange.append(name)
    if strange:
        raise ValueError(
            f"{checkpoint.source} holds {first_of(strange)}, which no network of the layout {layout.name} has; it is "
            "perhaps of another kind, which is not converted"
        )
    return found


def _check(checkpoint: Checkpoint, entry: Entry, turned: Tensor, expected: tuple[int, ...]) -> None:
    source = f"{entry.theirs!r} of {checkpoint.source}"
    if tuple(turned.shape) != expected:
        what = f"one of {tuple(turned.shape)} where the other tensors ask for {expected}"
        raise ValueError(_misshaped(checkpoint, entry.theirs, what))
    if not turned.is_floating_point():
        raise ValueError(f"{source} holds {turned.dtype}; weights are floating-point numbers")
    if not turned.float().isfinite().all():
        raise ValueError(f"{source} holds numbers that are not finite; get it from its publisher")


def _draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {
        name: randn(shape, generator_for("map of noise", name)) for name, shape in shapes.items()
    }


def number_of(value: Any) -> float:
    """Returns a setting of a file as a number.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"the file has a {type(value).__name__} where a setting is a number")
    return float(value)
