from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from blemish.configuration import complete, decode, encode, kind, override


@dataclass(frozen=True)
class Law:
    low: float
    high: float = 1.0
    sizes: tuple[int, ...] = (3, 5)


@dataclass(frozen=True)
class Noise:
    law: Law | None = None
    range: tuple[float, float] = (0.0, 1.0)
    rate: float | Literal["auto"] = "auto"
    limit: int | None = 7


class Blur:
    @dataclass(frozen=True)
    class Config:
        law: Law
        stages: tuple[Any, ...] = ()
        padding: Literal["reflect", "zeros"] = "reflect"
        factor: Literal[1, 2, 4] = 1
        enabled: bool = True
        name: str = "blur"
        extra: dict[str, float] = field(default_factory=dict)


KINDS = {"Law": Law, "Noise": Noise, "Blur": Blur.Config}


def config() -> Blur.Config:
    noise = Noise(law=Law(0.25), range=(0.0, 0.5), limit=None)
    return Blur.Config(Law(-1.0, sizes=()), (noise, Law(2.0)), enabled=False, extra={"a": 1.5})


def test_kind_names_the_outer_class() -> None:
    assert kind(Blur.Config) == "Blur"
    assert kind(Law) == "Law"


def test_text_gives_the_same_configuration_back() -> None:
    text = json.dumps(encode(config()))
    assert decode(json.loads(text), KINDS) == config()
    assert json.dumps(encode(decode(json.loads(text), KINDS))) == text


def test_every_field_is_written() -> None:
    data = encode(config())
    assert data["type"] == "Blur"
    assert data["law"] == {"type": "Law", "low": -1.0, "high": 1.0, "sizes": []}
    assert data["stages"][0]["law"]["low"] == 0.25
    assert data["stages"][0]["limit"] is None


def test_a_missing_field_takes_its_default() -> None:
    assert decode({"type": "Law", "low": 3.0}, KINDS) == Law(3.0)


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), Law, 1j])
def test_only_plain_values_are_written(value: object) -> None:
    with pytest.raises(TypeError, match="cannot stand in a configuration"):
        encode({"a": [value]})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"type": "Lew", "low": 1}, "unknown kind 'Lew'.*did you mean 'Law'.*Blur, Law, Noise"),
        ({"type": "os.system"}, "unknown kind 'os.system'"),
        ({"type": "Law", "low": 1, "hihg": 2}, "Law has no field 'hihg'.*mean 'high'.*high, low"),
        ({"type": "Law"}, "Law needs the field 'low'"),
        ({"type": "Blur", "law": {"type": "Low"}}, "did you mean 'Law'"),
    ],
)
def test_says_what_is_wrong_in_a_file(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(data, KINDS)


def get(value: object, path: str) -> object:
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    return value


SET = [
    ("law.low", "3", 3.0),
    ("law.low", "-1e-4", -1e-4),
    ("law.sizes", "7,9, 11", (7, 9, 11)),
    ("law.sizes", "(7)", (7,)),
    ("law.sizes", "", ()),
    ("padding", "zeros", "zeros"),
    ("factor", "4", 4),
    ("enabled", "yes", True),
    ("enabled", "False", False),
    ("enabled", "0", False),
    ("name", "a=b, c", "a=b, c"),
    ("stages.0.range", "0.25,0.5", (0.25, 0.5)),
    ("stages.0.law.high", "2", 2.0),
    ("stages.1.sizes", "9", (9,)),
]


@pytest.mark.parametrize(("path", "text", "value"), SET)
def test_setting_a_field_sets_it_alone(path: str, text: str, value: object) -> None:
    given = config()
    made = override(given, path, text)
    assert get(made, path) == value
    assert type(get(made, path)) is type(value)
    assert override(made, path, _as_text(get(given, path))) == given
    assert given == config()


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("limit", "12", 12),
        ("limit", "none", None),
        ("limit", "Null", None),
        ("rate", "0.5", 0.5),
        ("rate", "auto", "auto"),
        ("range", "[0.1, 0.2]", (0.1, 0.2)),
        ("law", "none", None),
    ],
)
def test_setting_a_field_of_several_types(path: str, text: str, value: object) -> None:
    assert get(override(Noise(law=Law(1.0)), path, text), path) == value


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("law.hihg", "1", "Law has no field 'hihg'.*did you mean 'high'.*it has low, high, sizes"),
        ("lew.high", "1", "Blur has no field 'lew'.*did you mean 'law'"),
        ("law", "1", "'law' is a group of fields; set one of low, high, sizes"),
        (
            "stages",
            "1",
            r"'stages' is a list of groups; set a field of stages.0 \(Noise\), stages.1",
        ),
        ("stages.2.low", "1", r"'stages' has no field '2.low'.*stages.1 \(Law\)"),
        ("stages.-1.low", "1", "'stages' has no field '-1.low'"),
        ("stages.low", "1", "'stages' has no field 'low'"),
        ("stages.1", "1", "'stages' has no field '1'"),
        ("stages.1.lwo", "1", "Law has no field 'lwo'.*did you mean 'low'"),
        ("name.first", "1", "'name' is 'blur': it has no field 'first'"),
        ("law.low", "wide", "low='wide' cannot be read as float"),
        ("law.sizes", "3,x", "sizes='x' cannot be read as int"),
        ("law.sizes", "3.5", "sizes='3.5' cannot be read as int"),
        ("padding", "mirror", "padding='mirror' is not allowed; choose 'reflect', 'zeros'"),
        ("factor", "3", "factor='3' is not allowed; choose 1, 2, 4"),
        ("enabled", "maybe", "enabled='maybe' is not a truth value"),
    ],
)
def test_says_what_is_wrong_in_a_setting(path: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(config(), path, text)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("range", "1", "has 1 values; it takes 2"),
        ("range", "1,2,3", "has 3 values; it takes 2"),
        ("limit", "many", "limit='many' cannot be read as int"),
        ("rate", "fast", "choose 'auto'"),
        ("law", "5", "law is a group of fields and cannot be set to '5'"),
    ],
)
def test_says_what_does_not_fit_several_types(path: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Noise(), path, text)


def test_fields_that_an_older_version_did_not_know_take_their_defaults() -> None:
    whole = encode(config())
    old = encode(config())
    del old["padding"], old["extra"], old["law"]["high"], old["stages"][1]["sizes"]
    new = complete(old, config())
    assert new == {**whole, "extra": {}, "stages": [whole["stages"][0], encode(Law(2.0))]}
    assert "padding" not in old
    # What is no field any more stays, so that it is not overlooked.
    assert complete({**whole, "gone": 1}, config()) == {**whole, "gone": 1}
    # The defaults are the classes', not those of the other configuration.
    assert complete({"type": "Law", "low": 0.0}, Law(1.0, 5.0)) == encode(Law(0.0))


@pytest.mark.parametrize("data", [[], 5, None, {"type": "Law", "low": 1}, [{"type": "Law"}]])
def test_what_is_of_another_kind_is_not_completed(data: Any) -> None:
    assert complete(data, Noise()) == data
    assert complete(data, (Noise(), Noise())) == data


def test_union_spellings_are_read_alike() -> None:
    hints = typing.get_type_hints(Noise)
    assert typing.get_origin(hints["limit"]) is types.UnionType
    old = typing.Optional[int]  # noqa: UP045 - the older spelling is what is tested

    @dataclass(frozen=True)
    class Old:
        limit: object = 1

    Old.__annotations__["limit"] = old
    assert override(Old(), "limit", "none").limit is None
    assert override(Old(), "limit", "5").limit == 5
