r"""Reads pickles as data, and runs nothing that stands in them.

A pickle is a program for a machine with a stack and a memo. Some of its operations push values, some gather them in lists,
tuples and dictionaries, and four are dangerous: they name any object of any module, call it, make instances of it and hand
states to them. Published checkpoints use these four for a dozen things, among which is the source code of their networks, to
be run while loading.

This file is another machine for the same programs. It has no way to an object of a module:

* *Naming* pushes a :class:`Name`, the two strings that stand in the file, if the pair is in a list, letter by letter. There
  is no look-up that a dot in a name could lead astray, and nothing is imported.
* *Calling* or *making* gives a name's arguments to a function of this file, that looks at them and returns a value, most
  often a plain record of what was said.
* *Handing a state* is known to three records of this file, which read it; nothing has attributes set.
* All other ways out are refused by their operation: references to the outside, registered extensions, instances by keyword.

So what comes out consists of numbers, strings, bytes, lists, tuples, dictionaries, sets, tensors, and the records of
:mod:`~blemish.foreign.records`. Tensors lie in bytes that torch wrote, as a description and plain numbers; one
form of description is known, and ZIP files are refused there.

*Size.* No operation allots memory by a number alone, what calls may copy is counted, and so are operations: a file takes no
more memory than a small multiple of its own size, and some hundred bytes for each operation.
"""

from __future__ import annotations

import mmap
import pickletools
import warnings
from collections.abc import Callable, Iterable
from typing import IO, Any, cast

from .records import (
    ADVICE,
    ALLOWED,
    Array,
    Kind,
    Module,
    Name,
    Network,
    RefusedPickle,
    as_key,
    readable,
    reason_of,
    shown,
)

__all__ = ["Array", "Module", "Name", "Network", "RefusedPickle", "read_pickle"]

MOST_OPERATIONS = 2_000_000
"""How long a pickle's program may be; published ones have less than a tenth of it."""


_COPIED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


class _Machine:
    """Carries out a pickle's program, one operation at a time."""

    def __init__(self, budget: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.budget = budget

    def run(self, program: Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> None:
        """Carries out operations until one says that the program ends."""
        for count, (operation, argument, _) in enumerate(program):
            if operation.name == "STOP":
                return
            if count == MOST_OPERATIONS:
                raise RefusedPickle(f"it has more than {MOST_OPERATIONS} operations; {ADVICE}")
            self.carry_out(operation.name, argument)

    def carry_out(self, operation: str, argument: Any) -> None:
        """Carries out one operation.

        Raises:
            RefusedPickle: If no checkpoint needs it.
            ValueError: If its values are not there, or do not fit.
        """
        if operation not in _OPERATIONS:
            raise RefusedPickle(
                f"it uses {_WAYS_OUT.get(operation, operation)}, which no checkpoint needs; {ADVICE}"
            )
        _OPERATIONS[operation](self, argument)

    # The stack.

    def pop(self) -> Any:
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) <= floor:
            raise ValueError("it takes more values than it made")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise ValueError("it takes more values than it made")
        return self.stack[-1]

    def gather(self) -> list[Any]:
        """Takes all values since the last mark, and the mark."""
        if not self.marks:
            raise ValueError("it takes more values than it made")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    # Operations on containers.

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def extend(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise ValueError(f"it appends to {shown(target)}")
        target.extend(values)

    def fill(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError(f"it sets items of {shown(target)}")
        for i in range(0, len(values), 2):
            target[as_key(values[i])] = values[i + 1]

    def dictionary_of(self, values: list[Any]) -> None:
        self.push({})
        self.fill(values)

    def include(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, set):
            raise ValueError(f"it adds members to {shown(target)}")
        target.update(map(as_key, values))

    # The memo.

    def remember(self, place: int) -> None:
        self.memo[place] = self.top()

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise ValueError(f"it recalls {place}, which it never noted")
        self.push(self.memo[place])

    # The dangerous four.

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it names an object by what is no string")
        if (module, name) not in ALLOWED:
            asked = readable(f"{module}.{name}")
            raise RefusedPickle(f"it asks for {asked}, which no checkpoint needs; {ADVICE}")
        self.push(Name(module, name))

    def make(self) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise RefusedPickle(f"it calls {shown(name)}, which is no name; {ADVICE}")
        # What a call makes is no longer than what it is given, which the memo could give again and again.
        self.budget -= sum(len(item) for item in arguments if isinstance(item, _COPIED))
        if self.budget < 0:
            raise RefusedPickle(f"it copies its contents many times over; {ADVICE}")
        self.push(_called(name, arguments))

    def hand_state(self) -> None:
        state = self.pop()
        target = self.top()
        if not isinstance(target, Network | Array | Kind):
            raise RefusedPickle(
                f"it sets attributes of {shown(target)}, which no checkpoint does; {ADVICE}"
            )
        target.set_state(state)


def _called(name: Name, arguments: tuple[Any, ...]) -> Any:
    try:
        return ALLOWED[name.module, name.name](*arguments)
    except TypeError:
        raise ValueError(f"it calls {name} with arguments that do not fit") from None


_WAYS_OUT = {
    **dict.fromkeys(("PERSID", "BINPERSID"), "references to objects outside of the file"),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "objects registered elsewhere"),
    **dict.fromkeys(("INST", "OBJ", "NEWOBJ_EX"), "instances made in other ways"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "buffers outside of the file"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_Operation = Callable[[_Machine, Any], object]


def _pushing(make: Callable[[], Any]) -> _Operation:
    return lambda machine, _: machine.push(make())


_OPERATIONS: dict[str, _Operation] = {
    **{name: _pushing(make) for name, make in _CONSTANTS.items()},
    **dict.fromkeys(_LITERALS, lambda m, argument: m.push(argument)),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.gather() if m.marks and m.marks[-1] == len(m.stack) else m.pop(),
    "POP_MARK": lambda m, _: m.gather(),
    "DUP": lambda m, _: m.push(m.top()),
    "LIST": lambda m, _: m.push(m.gather()),
    "TUPLE": lambda m, _: m.push(tuple(m.gather())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "DICT": lambda m, _: m.dictionary_of(m.gather()),
    "FROZENSET": lambda m, _: m.push(frozenset(map(as_key, m.gather()))),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.gather()),
    "SETITEM": lambda m, _: m.fill([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.fill(m.gather()),
    "ADDITEMS": lambda m, _: m.include(m.gather()),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, place: m.remember(place)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.recall(place)),
    "GLOBAL": lambda m, argument: m.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*[m.pop(), m.pop()][::-1]),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, _: m.make()),
    "BUILD": lambda m, _: m.hand_state(),
}


def read_pickle(data: bytes | mmap.mmap) -> Any:
    """Returns what a pickle holds, as plain values and the records of this file.

    Arguments:
        data: The bytes of one pickle; what follows its end is not looked at.

    Raises:
        RefusedPickle: If it asks for a name, a call or a way out that no checkpoint needs; the message names it.
        ValueError: If it is broken.
    """
    machine = _Machine(budget=8 * len(data) + 1_000_000)
    program = pickletools.genops(cast(IO[bytes], data))
    try:
        with warnings.catch_warnings():
            # Old forms of strings make it warn of what is a broken file.
            warnings.filterwarnings("error", module="pickletools")
            machine.run(program)
        return machine.pop()
    except RefusedPickle:
        raise
    except (ValueError, TypeError, OverflowError, MemoryError, Warning) as error:
        raise ValueError(f"it is a broken pickle ({reason_of(error)}); copy it again") from None
