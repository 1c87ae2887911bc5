"""Configurations as frozen dataclasses, to and from JSON.

Every configurable class nests a frozen dataclass ``Config`` with a ``build`` method. This file turns trees of such dataclasses into
JSON and back. The classes that may appear are given by the caller as one explicit dictionary: nothing is imported by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["complete", "decode", "encode", "kind", "override", "read_json"]

Kinds = Mapping[str, type]


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
        ValueError: If the file holds something else; the message names it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy it again") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds a {type(document).__name__} and no JSON object")
    return document


def kind(cls: type) -> str:
    """Returns the name under which a configuration class is written: ``Blur`` for ``Blur.Config``."""
    return cls.__qualname__.removesuffix(".Config")


def encode(value: Any) -> Any:
    """Turns a configuration into JSON values; each dataclass carries its kind under ``type``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": kind(type(value)), **fields}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{value!r} cannot stand in a configuration; allowed are dataclasses, lists, numbers, strings and None"
    )


def decode(data: Any, kinds: Kinds) -> Any:
    """Rebuilds a configuration from JSON values.

    Arguments:
        data: What :func:`encode` returned.
        kinds: The classes that may appear, by their :func:`kind`.

    Raises:
        ValueError: If a kind or a field is unknown; the message names it and the nearest allowed one.
    """
    if isinstance(data, list):
        return tuple(decode(item, kinds) for item in data)
    if not isinstance(data, Mapping):
        return data
    if "type" not in data:
        return {key: decode(item, kinds) for key, item in data.items()}
    name = data["type"]
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(
            f"unknown kind {name!r} in a configuration{_nearest(str(name), kinds)}; allowed: {', '.join(sorted(kinds))}"
        )
    values = {key: decode(item, kinds) for key, item in data.items() if key != "type"}
    known = {f.name for f in dataclasses.fields(kinds[name])}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"{name} has no field {unknown[0]!r}{_nearest(unknown[0], known)}; it has {', '.join(sorted(known))}"
        )
    needed = {f.name for f in dataclasses.fields(kinds[name]) if _is_required(f)}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"{name} needs the field {missing[0]!r}, which is not given")
    return kinds[name](**values)


def complete(data: Any, like: Any) -> Any:
    """Adds the fields that JSON values lack, at their defaults: an older version did not know them.

    Arguments:
        data: What :func:`encode` returned.
        like: A configuration that says which fields there are. Where it is of another kind, the data stay as they are.
    """
    if isinstance(like, tuple) and isinstance(data, list):
        pairs = itertools.zip_longest(data, like[: len(data)])
        return [complete(item, model) for item, model in pairs]
    same = isinstance(data, Mapping) and data.get("type") == kind(type(like))
    if not same or not dataclasses.is_dataclass(like):
        return data
    known = {f.name: getattr(like, f.name) for f in dataclasses.fields(like)}
    present = {name: complete(item, known.get(name)) for name, item in data.items()}
    absent = {f.name: encode(_default(f)) for f in dataclasses.fields(like) if not _is_required(f)}
    return {**absent, **present}


def override(config: Any, path: str, text: str) -> Any:
    """Returns a configuration with one field changed, as the command line's ``--set training.batch=64`` does.

    Arguments:
        config: A dataclass.
        path: Field names joined by dots; a member of a list of groups is named by its number, as in
            ``system.degradation.stages.0.mask_bias``.
        text: The new value; it is read as the type of the field.

    Raises:
        ValueError: If there is no such field, or the text does not fit its type.
    """
    head, _, rest = path.partition(".")
    names = [f.name for f in dataclasses.fields(config)]
    if head not in names:
        raise ValueError(
            f"{kind(type(config))} has no field {head!r}{_nearest(head, names)}; it has {', '.join(names)}"
        )
    current = getattr(config, head)
    if rest:
        return dataclasses.replace(config, **{head: _override_inside(current, head, rest, text)})
    if _is_groups(current):
        raise ValueError(f"{head!r} is {_numbered(head, current)}")
    hint = typing.get_type_hints(type(config))[head]
    if dataclasses.is_dataclass(current) and not _is_none(text, hint):
        raise ValueError(
            f"{head!r} is a group of fields; set one of {', '.join(f.name for f in dataclasses.fields(current))}"
        )
    return dataclasses.replace(config, **{head: _parse(text, hint, head)})


def _override_inside(value: Any, name: str, path: str, text: str) -> Any:
    """Returns a group, or a list of groups, with the field at a path within it changed."""
    if _is_groups(value):
        number, _, rest = path.partition(".")
        if not number.isdecimal() or int(number) >= len(value) or not rest:
            raise ValueError(f"{name!r} has no field {path!r}: it is {_numbered(name, value)}")
        i = int(number)
        return (*value[:i], override(value[i], rest, text), *value[i + 1 :])
    if not dataclasses.is_dataclass(value):
        raise ValueError(f"{name!r} is {value!r}: it has no field {path!r}")
    return override(value, path, text)


def _is_groups(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(dataclasses.is_dataclass, value))


def _numbered(name: str, groups: tuple[Any, ...]) -> str:
    members = ", ".join(f"{name}.{i} ({kind(type(group))})" for i, group in enumerate(groups))
    return f"a list of groups; set a field of {members}"


def _parse(text: str, hint: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if _is_none(text, hint):
            return None
        return _parse_any(text, [a for a in arguments if a is not type(None)], name)
    if origin is typing.Literal:
        if text not in map(str, arguments):
            raise ValueError(
                f"{name}={text!r} is not allowed; choose {', '.join(map(repr, arguments))}"
            )
        return next(a for a in arguments if str(a) == text)
    if origin is tuple:
        return _parse_tuple(text, arguments, name)
    if hint is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(f"{name}={text!r} is not a truth value; write true or false")
        return text.lower() in ("true", "1", "yes")
    if dataclasses.is_dataclass(hint):
        raise ValueError(f"{name} is a group of fields and cannot be set to {text!r}")
    try:
        return hint(text)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}={text!r} cannot be read as {getattr(hint, '__name__', hint)}"
        ) from None


def _parse_any(text: str, hints: list[Any], name: str) -> Any:
    """Reads a text as the first of several types that it fits."""
    for hint in hints[:-1]:
        try:
            return _parse(text, hint, name)
        except ValueError:
            continue
    return _parse(text, hints[-1], name)


def _parse_tuple(text: str, hints: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    items = [item.strip() for item in text.strip("()[] ").split(",") if item.strip()]
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(items)
    if len(items) != len(hints):
        raise ValueError(
            f"{name}={text!r} has {len(items)} values; it takes {len(hints)}, joined by commas"
        )
    return tuple(_parse(item, hint, name) for item, hint in zip(items, hints, strict=True))


def _is_none(text: str, hint: Any) -> bool:
    return type(None) in typing.get_args(hint) and text.lower() in ("none", "null")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return (
        field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _nearest(name: str, names: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
