"""Published checkpoints, opened by what they contain and not by what they are called.

========================  =============================================================================================
container                 what is taken of it
========================  =============================================================================================
PyTorch modules, pickled  a dictionary of modules; ``G_ema``, the mean of the generators of training
TensorFlow, pickled       a tuple of three networks; the third, likewise
torch                     a dictionary of tensors by name, or one that has such a dictionary as ``g_ema``
========================  =============================================================================================

The first two are programs to be run on loading, and are read by :mod:`.unpickler` instead, which runs nothing. Files of
torch's go through torch's restricted reader. Nothing here knows the names within: that is for :mod:`.layouts`.

What is not taken is listed with the reason.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .records import ADVICE, OLD_TORCH, Array, Module, Network, RefusedPickle, readable, reason_of
from .unpickler import read_pickle

__all__ = ["Checkpoint", "Container", "read_checkpoint"]

Container = Literal["pickled modules", "TensorFlow", "torch"]

LARGEST = 4 * 2**30
"""The largest file that is opened, in bytes; published ones have up to half of it."""

MOST_PARTS = 100_000
"""How many modules and tensors a network may have; published ones have a few hundred."""

_ZIP = b"PK\x03\x04"
_KNOWN = "give a checkpoint of StyleGAN or StyleGAN2: a .pkl file of its authors, or a .pt file of tensors"


@dataclass(frozen=True)
class Checkpoint:
    """A network of a file, as tensors by name.

    Attributes:
        source: The file's name.
        sha256: The digest of the file, 64 hexadecimal digits; of two files, both digests with "and" between them.
        container: How it was written.
        tensors: The tensors of the network, on the CPU, under the names of the file.
        settings: The numbers and strings that the file says of the network, by name.
        left_out: What else is in the file, each with the reason why it is not taken.
    """

    source: str
    sha256: str
    container: Container
    tensors: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def read_checkpoint(path: Path, *, largest: int = LARGEST) -> Checkpoint:
    """Reads a checkpoint, and runs nothing that stands in it.

    Arguments:
        path: The file.
        largest: The most bytes that it may have.

    Raises:
        FileNotFoundError: If there is no such file.
        RefusedPickle: If it asks for what no checkpoint needs; the message names it.
        ValueError: If it is too large, broken or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; {_KNOWN}")
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"{path.name} has {size} bytes, more than the {largest} that are read")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        container, tensors, settings, left_out = _open(path, size)
    except RefusedPickle as error:
        raise RefusedPickle(f"{path.name} is not read: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is not read: {error}") from None
    return Checkpoint(path.name, digest, container, tensors, settings, left_out)


_Opened = tuple[Container, dict[str, Tensor], dict[str, Any], dict[str, str]]


def _open(path: Path, size: int) -> _Opened:
    with path.open("rb") as file:
        start = file.read(len(OLD_TORCH))
    if start.startswith(_ZIP) or start == OLD_TORCH:
        return _open_torch(path, size)
    if not start.startswith(b"\x80"):
        raise ValueError(f"it begins like no checkpoint ({start[:8]!r}); {_KNOWN}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        content = read_pickle(data)
    if isinstance(content, tuple):
        return _open_tensorflow(content, size)
    if isinstance(content, dict):
        return _open_modules(content, size)
    raise ValueError(f"it is a pickle of a {type(content).__name__}; {_KNOWN}")


# PyTorch modules, pickled.


def _open_modules(content: dict[Any, Any], size: int) -> _Opened:
    network = content.get("G_ema")
    if not isinstance(network, Module):
        raise ValueError(f"it has no network 'G_ema', but {_listed(content)}; {_KNOWN}")
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for name, value in _limited(_walk(network), size):
        table = tensors if isinstance(value, Tensor) else settings
        table[name] = value
    reasons = {name: _why(name) for name in map(str, content) if name != "G_ema"}
    return "pickled modules", tensors, settings, reasons


def _walk(network: Module) -> Iterator[tuple[str, Any]]:
    """Yields the tensors and the plain attributes of a module and of those in it, by dotted names."""
    waiting = [("", network)]
    while waiting:
        prefix, module = waiting.pop()
        yield prefix + "type", module.kind
        yield from ((prefix + name, value) for name, value in _attributes(module.state))
        held = {**_table(module, "_parameters"), **_table(module, "_buffers")}
        for name, value in held.items():
            if value is not None and not isinstance(value, Tensor):
                raise ValueError(f"its {readable(prefix + name)} is no tensor")
            if value is not None:
                yield f"{prefix}{name}", value
        for name, inner in reversed(_table(module, "_modules").items()):
            if inner is not None and not isinstance(inner, Module):
                raise ValueError(f"its {readable(prefix + name)} is no module")
            if inner is not None:
                waiting.append((f"{prefix}{name}.", inner))


def _limited(parts: Iterator[tuple[str, Any]], size: int) -> Iterator[tuple[str, Any]]:
    """Yields parts, of a network in a file of a size, which cannot have more of them, or more numbers, than fit in it."""
    total = 0
    for count, (name, value) in enumerate(parts):
        total += value.nbytes if isinstance(value, Tensor) else 0
        if count > MOST_PARTS or len(name) > 1000 or total > 2 * size:
            raise RefusedPickle(f"its network repeats its parts; {ADVICE}")
        yield name, value


def _attributes(state: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        plain = value is None or isinstance(value, bool | int | float | str)
        if isinstance(name, str) and not name.startswith("_") and plain:
            yield name, value


def _table(module: Module, name: str) -> dict[str, Any]:
    table = module.state.get(name)
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise ValueError(f"its module {readable(module.kind)} has no {name}")
    return table


# TensorFlow, pickled.


def _open_tensorflow(content: tuple[Any, ...], size: int) -> _Opened:
    if len(content) != 3 or not all(isinstance(item, Network) for item in content):
        raise ValueError(f"it is a pickle of {_listed(content)} and not of G, D and Gs; {_KNOWN}")
    network: Network = content[2]
    tensors = dict(_limited(_variables(network, ""), size))
    given = network.state.get("static_kwargs")
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ValueError(f"its network's static_kwargs are a {type(given).__name__}, no dictionary")
    settings = dict(_attributes(given))
    settings.update({key: v for key, v in given.items() if isinstance(v, list | tuple)})
    return "TensorFlow", tensors, settings, {name: _why(name) for name in ("G", "D")}


def _variables(network: Network, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yields the variables of a network, and of its components below their names."""
    if prefix.count("/") > 4:
        raise RefusedPickle(f"its network has components within components; {ADVICE}")
    variables, components = network.state.get("variables"), network.state.get("components", {})
    if not isinstance(variables, list) or not isinstance(components, dict):
        raise ValueError("its network has no list of variables")
    for pair in variables:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("its network has a variable without a name")
        yield prefix + pair[0], _number(pair[1])
    for name, inner in components.items():
        if not isinstance(inner, Network):
            raise ValueError(f"its component {name!r} is no network")
        yield from _variables(inner, f"{prefix}{name}/")


def _number(value: Any) -> Tensor:
    if isinstance(value, Array):
        return value.tensor()
    if isinstance(value, bool | int | float):
        return torch.tensor(value)
    raise ValueError(f"a variable of its network is a {type(value).__name__} and no array")


# Files of torch.


def _open_torch(path: Path, size: int) -> _Opened:
    try:
        if zipfile.is_zipfile(path) and _unpacked(path) > 2 * size:
            raise RefusedPickle(f"it unpacks to many times its size; {ADVICE}")
        # Some were saved with the command line of their training, a bag of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RefusedPickle(f"torch refuses it, as {reason_of(error)}; {ADVICE}") from None
    except RefusedPickle:
        raise
    except Exception as error:  # A broken file raises errors of every kind.
        raise ValueError(f"it is broken ({reason_of(error)}); copy it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__} and no tensors by name; {_KNOWN}")
    if "g_ema" not in content:
        return "torch", _named(content, size), {}, {}
    tensors = dict(content["g_ema"]) if isinstance(content["g_ema"], dict) else content["g_ema"]
    left_out = {name: _why(name) for name in map(str, content) if name != "g_ema"}
    if left_out.pop("latent_avg", None) is not None and isinstance(tensors, dict):
        tensors["latent_avg"] = content["latent_avg"]
    arguments = content.get("args")
    given = vars(arguments) if isinstance(arguments, argparse.Namespace) else {}
    return "torch", _named(tensors, size), dict(_attributes(given)), left_out


def _unpacked(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def _named(content: Any, size: int) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__} and no tensors by name; {_KNOWN}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"it holds a {type(value).__name__} as {name!r}; {_KNOWN}")
        if not _is_plain(value):
            raise ValueError(f"its {readable(name)} is no plain tensor of numbers; {_KNOWN}")
    return {name: value.detach() for name, value in _limited(iter(content.items()), size)}


def _is_plain(tensor: Tensor) -> bool:
    held = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return held and not tensor.is_quantized and not tensor.is_nested


# What is left.

_WHY = {
    "G": "the generator as it was trained; the mean of those before is taken",
    "g": "the generator as it was trained; the mean of those before is taken",
    "D": "a discriminator makes no pictures",
    "d": "a discriminator makes no pictures",
    "g_optim": "the state of an optimiser",
    "d_optim": "the state of an optimiser",
    "args": "the options of its training",
    "training_set_kwargs": "the options of its training",
    "augment_pipe": "what its training did to pictures",
    "ada_aug_p": "what its training did to pictures",
}


def _why(name: str) -> str:
    return _WHY.get(name, "no part of the generator")


def _listed(content: Any, most: int = 6) -> str:
    if isinstance(content, tuple):
        return f"{len(content)} values"
    names = ", ".join(repr(name) for name in list(content)[:most])
    return names or "nothing"
