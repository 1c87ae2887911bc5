"""What stands for the names that a checkpoint's pickle may mention: records of what was said, and functions that look at it.

None of them is the real thing. They are called with what stands in a file, hence each looks at its arguments, and none
makes more than it is given.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ADVICE",
    "ALLOWED",
    "OLD_TORCH",
    "Array",
    "Kind",
    "Module",
    "Name",
    "Network",
    "RefusedPickle",
    "as_key",
    "readable",
    "reason_of",
    "shown",
]

ADVICE = "nothing of the file was run; get it from its publisher"
_CODE = re.compile(r"[<>=|]?([fiu][248]|[iub]1)")
_LONGEST_HEADER = (
    200  # operations of one of the pickles before a tensor's numbers; real ones have 30
)
# The number that the files of torch began with before they were ZIP files, as a pickle of its own.
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
_COUNTS = ("BININT", "BININT1", "BININT2", "LONG1")
_PLAIN = (str, bytes, int, float, type(None))


class RefusedPickle(ValueError):
    """A pickle that asks for what no checkpoint needs."""


@dataclass(frozen=True)
class Name:
    """What a file calls an object of a module; never the object.

    Attributes:
        module: The module's name.
        name: The object's name in it.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Module:
    """A module of PyTorch that a checkpoint describes by its class's name and its state, without its source code.

    Attributes:
        kind: The name of its class.
        state: Its attributes, among them ``_parameters``, ``_buffers`` and ``_modules``.
    """

    kind: str
    state: dict[Any, Any]


@dataclass
class Network:
    """A network of TensorFlow: what its state says, without its source code."""

    state: dict[Any, Any] = field(default_factory=dict)

    def set_state(self, state: Any) -> None:
        """Takes a state."""
        if not isinstance(state, dict):
            raise ValueError("a network's state is no dictionary")
        self.state = {key: value for key, value in state.items() if key != "build_module_src"}


class Kind:
    """A type of numbers: a code such as ``f4``, and an order of bytes."""

    def __init__(self, code: Any = None, *flags: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not _CODE.fullmatch(text):
            raise ValueError(f"an array holds {shown(code)}, which are no plain numbers")
        self.code = text

    def set_state(self, state: Any) -> None:
        """Takes the order of bytes, the second item; fields and objects are refused."""
        items = state if isinstance(state, tuple) else ()
        if len(items) < 5 or items[1] not in ("<", ">", "=", "|") or items[2:5] != (None,) * 3:
            raise ValueError("an array holds what is no plain number")
        self.code = items[1] + self.code.lstrip("<>=|")

    def read(self, data: Any, shape: Any, order: Any = "C") -> np.ndarray[Any, Any]:
        """Returns the array of these bytes.

        Raises:
            ValueError: If there are more or fewer of them than the shape says.
        """
        if not isinstance(data, bytes | bytearray) or not _are_sizes(shape) or order not in "CF":
            raise ValueError("an array has no bytes, or no shape")
        kind = np.dtype(self.code)
        if len(data) != math.prod(shape) * kind.itemsize:
            raise ValueError(f"an array of shape {shape} has {len(data)} bytes")
        return np.frombuffer(data, dtype=kind).reshape(shape, order=order)


class Array:
    """An array of numpy.

    Attributes:
        value: The array; None until its state was read.
    """

    def __init__(self, value: np.ndarray[Any, Any] | None = None) -> None:
        self.value = value

    def set_state(self, state: Any) -> None:
        """Takes (version, shape, type, whether in Fortran's order, bytes)."""
        items = state[-4:] if isinstance(state, tuple) and len(state) in (4, 5) else (None,) * 4
        shape, kind, fortran, data = items
        if not isinstance(kind, Kind):
            raise ValueError("an array has no type of numbers")
        self.value = kind.read(data, shape, "F" if fortran is True else "C")

    def tensor(self) -> Tensor:
        """Returns its numbers.

        Raises:
            ValueError: If the file gave it none.
        """
        if self.value is None:
            raise ValueError("an array has no state")
        native = self.value.dtype.newbyteorder("=")
        return torch.from_numpy(self.value.astype(native, order="C", copy=True))


# What stands for the names that a checkpoint may mention.


def _ordered(*items: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for pair in items[0] if items else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError("an ordered dictionary is not made of pairs")
        made[as_key(pair[0])] = pair[1]
    return made


def _set(*items: Any) -> set[Any]:
    return {as_key(item) for item in (items[0] if items else ())}


def _no_bytes() -> bytes:
    return b""


def _empty_dictionary() -> dict[Any, Any]:
    return {}


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes are written as {shown(encoding)}; only latin1 is read")
    return text.encode("latin1")


def _array(kind: Any, shape: Any, code: Any) -> Array:
    return Array()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> Array:
    if not isinstance(kind, Kind):
        raise ValueError("an array has no type of numbers")
    return Array(kind.read(data, shape, order if order in ("C", "F") else "C"))


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, Kind):
        raise ValueError("a number has no type")
    return kind.read(data, ()).item()


def _storage(data: Any) -> Tensor:
    """Reads numbers that torch wrote, as one vector, without torch's reader.

    They are the last of six parts: a pickle of a mark, of a version, of the machine's sizes, of a description of the numbers
    and of their key, and then their count, in 8 bytes, and themselves. Only the description says anything, and only descriptions
    of one form are read. So no more numbers come out than went in, and nothing is called.
    """
    if not isinstance(data, bytes | bytearray):
        raise ValueError("the numbers of a tensor are no bytes")
    if not data.startswith(OLD_TORCH):
        raise RefusedPickle(f"the numbers of a tensor are no plain storage of torch's; {ADVICE}")
    file = io.BytesIO(data)
    try:
        parts = [_operations(file) for _ in range(5)]
    except Exception as error:  # A broken file raises errors of every kind.
        raise ValueError(f"the numbers of a tensor are broken ({reason_of(error)})") from None
    dtype, count = _described(parts[3])
    size = count * dtype.itemsize
    start = file.tell() + 8
    if int.from_bytes(data[start - 8 : start], "little") != count or len(data) != start + size:
        raise ValueError(f"the numbers of a tensor are broken: they are no {count} of {dtype}")
    if not count:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(data[start:]), dtype=dtype)


def _operations(file: io.BytesIO) -> list[tuple[str, Any]]:
    """Returns the operations of the next pickle of a file, but for those that only note or begin."""
    passed = ("PROTO", "FRAME", "BINPUT", "LONG_BINPUT", "MEMOIZE")
    found = [(op.name, value) for op, value, _ in islice(pickletools.genops(file), _LONGEST_HEADER)]
    if found[-1][0] != "STOP":
        raise ValueError("a description is too long")
    return [(name, value) for name, value in found if name not in passed]


def _described(operations: list[tuple[str, Any]]) -> tuple[torch.dtype, int]:
    """Returns the type of numbers and their count, as ('storage', type, key, place, count, None) describes them."""
    for name, value in operations:
        if name == "GLOBAL" and value not in _STORAGES:
            asked = readable(value.replace(" ", "."))
            raise RefusedPickle(f"the numbers of a tensor ask for {asked}; {ADVICE}")
    names = [name for name, _ in operations]
    values = [value for _, value in operations]
    form = ["MARK", "BINUNICODE", "GLOBAL", "BINUNICODE", "BINUNICODE", "", "NONE", "TUPLE"]
    form += ["BINPERSID", "STOP"]
    form[5:6] = [name for name in names[5:6] if name in _COUNTS]
    if names != form or values[1] != "storage" or values[5] < 0:
        raise RefusedPickle(f"the numbers of a tensor are no plain storage of torch's; {ADVICE}")
    return _STORAGES[values[2]], values[5]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *unused: Any) -> Tensor:
    """Returns a part of a storage; each number of it is at most once in the tensor."""
    size, stride = tuple(size), tuple(stride)
    sound = isinstance(storage, Tensor) and _are_sizes((offset, *size, *stride))
    if not sound or len(size) != len(stride):
        raise ValueError("a tensor is not described by a storage, an offset, sizes and strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count, held = math.prod(size), len(storage)
    if count and (last >= held or count > held):
        raise ValueError(
            f"a tensor of shape {size} reaches beyond the {held} numbers it is part of"
        )
    part: Tensor = storage.as_strided(size, stride, offset)
    return part


def _parameter(data: Any, *unused: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter holds no tensor")
    return data


def _module(meta: Any) -> Module:
    """Keeps a module's class and state; its source code is dropped."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise ValueError("a module is not described by its class and state")
    kind, state = meta.get("class_name"), meta.get("state")
    if not isinstance(kind, str) or not isinstance(state, dict):
        raise ValueError("a module is not described by its class and state")
    return Module(kind, state)


_NUMPY = ("numpy.core", "numpy._core")

ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): Kind,
    ("numpy", "ndarray"): Array,
    **{(f"{root}.multiarray", "_reconstruct"): _array for root in _NUMPY},
    **{(f"{root}.multiarray", "scalar"): _scalar for root in _NUMPY},
    **{(f"{root}.numeric", "_frombuffer"): _from_buffer for root in _NUMPY},
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
    ("dnnlib.util", "EasyDict"): _empty_dictionary,
    ("dnnlib.tflib.network", "Network"): Network,
}
"""The names that a pickle may mention, and the function of this file that stands for each."""


def reason_of(error: BaseException) -> str:
    """Returns why torch or another library read no file, in a few words: its first sentence, or the name it refused."""
    text = str(error)
    refused = re.search(r"[Uu]nsupported (?:global|GLOBAL|class):? (?:GLOBAL )?([\w.]+)", text)
    if refused:
        return f"it asks for {refused.group(1)}"
    # Torch begins with advice to trust the file, which is not ours to give.
    text = re.sub(r"(?s)^Weights only load failed.*?\n\n+", "", text)
    first = text.strip().splitlines() or [type(error).__name__]
    text = readable(first[0], 200).removeprefix("WeightsUnpickler error:").strip(" .")
    return text or type(error).__name__


def as_key(value: Any) -> Any:
    """Returns what may be a dictionary's key or a set's member: a string, bytes, a number or None.

    Raises:
        ValueError: If it is anything else, whose hash might take long.
    """
    if not isinstance(value, _PLAIN):
        raise ValueError(f"it uses {shown(value)} as a key")
    return value


def _are_sizes(values: Any) -> bool:
    """Whether these are a few numbers that can be the sizes of an array."""
    return (
        isinstance(values, tuple)
        and len(values) <= 40
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )


def readable(text: str, most: int = 100) -> str:
    """Returns a text of a file as a terminal may show it: what would steer the terminal is written as codes."""
    short = text[:most]
    return short if short.isprintable() else ascii(short)


def shown(value: Any) -> str:
    """Returns a few words for a value of a file."""
    if isinstance(value, Name):
        return str(value)
    return repr(value[:40]) if isinstance(value, str | bytes) else f"a {type(value).__name__}"
