"""How a typed record is stored: a dataclass, or a pydantic model, as JSON that other languages read as well.

A dataclass's fields may be str, int, float, bool, None, bytes (base64), datetime, date, timedelta (seconds), UUID,
Decimal, enumerations (by value), dataclasses, and lists, tuples, sets, frozensets and dicts (with text as keys) of
these; a union of one of them and None. A field that is not stored takes its default, so that a class may grow; what is
stored beside its fields is passed over.
"""

import base64
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

T = TypeVar("T")

JSON: Final = "application/json"


class RecordInvalid(ValueError):
    """What is stored is not what the class says, or cannot be stored as it says. ``path`` is the field."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path or 'the record'}: {what}")
        self.path = path


class Codec(Protocol[T]):
    """Between values and bytes. ``content_type`` is stored with them."""

    @property
    def content_type(self) -> str: ...

    def encode(self, value: T) -> bytes:
        """Raises RecordInvalid."""

    def decode(self, data: bytes) -> T:
        """Raises RecordInvalid."""


def codec_for(kind: type[T]) -> Codec[T]:
    """The codec of a class: a dataclass, or one with pydantic's ``model_validate_json`` and ``model_dump_json``. Raises
    TypeError for others, and for a field that JSON cannot hold."""
    if dataclasses.is_dataclass(kind):
        return DataclassCodec(kind)
    if hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump_json"):
        return ModelCodec(kind)
    raise TypeError(f"{kind.__name__} is neither a dataclass nor a pydantic model; give a codec for it")


class DataclassCodec(Generic[T]):
    """JSON of a dataclass, its fields by name in their order."""

    content_type = JSON

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._write, self._read = _pair(typing.cast(Any, kind))

    def encode(self, value: T) -> bytes:
        """As ``Codec.encode``."""
        if not isinstance(value, self._kind):
            raise RecordInvalid("", f"is {type(value).__name__}, not {self._kind.__name__}")
        try:
            return json.dumps(self._write(value, ""), ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            raise error if isinstance(error, RecordInvalid) else RecordInvalid("", str(error)) from None

    def decode(self, data: bytes) -> T:
        """As ``Codec.decode``."""
        try:
            words = json.loads(data)
        except ValueError:
            raise RecordInvalid("", "what is stored is no JSON") from None
        value: T = self._read(words, "")
        return value


class ModelCodec(Generic[T]):
    """JSON of a pydantic model, as it writes and checks it itself."""

    content_type = JSON

    def __init__(self, kind: type[T]) -> None:
        self._kind: Any = kind

    def encode(self, value: T) -> bytes:
        """As ``Codec.encode``."""
        text: str = typing.cast(Any, value).model_dump_json()
        return text.encode()

    def decode(self, data: bytes) -> T:
        """As ``Codec.decode``."""
        try:
            value: T = self._kind.model_validate_json(data)
        except ValueError as error:
            raise RecordInvalid("", str(error)) from None
        return value


_Write = Callable[[Any, str], Any]
_Read = Callable[[Any, str], Any]
_Pair = tuple[_Write, _Read]


def _seconds(value: datetime.timedelta) -> float:
    return value.total_seconds()


def _duration(word: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=word)


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_TEXTS: Final[dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    bytes: (lambda value: base64.b64encode(value).decode(), _decoded),
    datetime.datetime: (datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.date: (datetime.date.isoformat, datetime.date.fromisoformat),
    uuid.UUID: (str, uuid.UUID),
    decimal.Decimal: (str, decimal.Decimal),
}


@functools.cache
def _pair(kind: Any) -> _Pair:
    """How values of a type are written and read. Raises TypeError for one that JSON cannot hold."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(kind, inner)
    if origin in (list, tuple, set, frozenset):
        return _collection(kind, origin, inner)
    if origin is dict and inner and inner[0] is str:
        return _mapping(inner[1])
    if not isinstance(kind, type):
        raise TypeError(f"{kind} cannot be stored; {__name__} says what can")
    if dataclasses.is_dataclass(kind):
        return _inner(kind)
    if issubclass(kind, enum.Enum):
        return _enumeration(kind)
    if kind in _TEXTS:
        return _text(kind)
    if kind is datetime.timedelta:
        return _plain(kind, _seconds, _duration, (int, float))
    if kind in (str, bool, int, float, type(None)):
        accepted = (int, float) if kind is float else (kind,)
        return _plain(kind, lambda value: value, lambda word: float(word) if kind is float else word, accepted)
    raise TypeError(f"{kind.__name__} cannot be stored; {__name__} says what can")


def _plain(kind: type, write: Callable[[Any], Any], read: Callable[[Any], Any], accepted: tuple[type, ...]) -> _Pair:
    def writing(value: Any, path: str) -> Any:
        if not isinstance(value, kind if kind is not float else (int, float)) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise RecordInvalid(path, f"is {type(value).__name__}, not {kind.__name__}")
        return write(value)

    def reading(word: Any, path: str) -> Any:
        if not isinstance(word, accepted) or (isinstance(word, bool) and kind is not bool):
            raise RecordInvalid(path, f"what is stored is {type(word).__name__}, not {kind.__name__}")
        return read(word)

    return writing, reading


def _text(kind: type) -> _Pair:
    to_text, from_text = _TEXTS[kind]

    def read(word: str, path: str) -> Any:
        try:
            return from_text(word)
        except (ValueError, ArithmeticError):
            raise RecordInvalid(path, f"what is stored is no {kind.__name__}") from None

    writing, checked = _plain(kind, to_text, lambda word: word, (str,))
    return writing, lambda word, path: read(checked(word, path), path)


def _enumeration(kind: type[enum.Enum]) -> _Pair:
    def writing(value: Any, path: str) -> Any:
        if not isinstance(value, kind):
            raise RecordInvalid(path, f"is {type(value).__name__}, not {kind.__name__}")
        return value.value

    def reading(word: Any, path: str) -> Any:
        try:
            return kind(word)
        except ValueError:
            raise RecordInvalid(path, f"what is stored is no {kind.__name__}") from None

    return writing, reading


def _optional(kind: Any, inner: tuple[Any, ...]) -> _Pair:
    others = [one for one in inner if one is not type(None)]
    if len(others) != 1 or len(inner) != 2:
        raise TypeError(f"{kind} cannot be stored: a union is of one type and None")
    write, read = _pair(others[0])
    return (
        lambda value, path: None if value is None else write(value, path),
        lambda word, path: None if word is None else read(word, path),
    )


def _collection(kind: Any, origin: type, inner: tuple[Any, ...]) -> _Pair:
    if not inner or (origin is tuple and (len(inner) != 2 or inner[1] is not Ellipsis)):
        raise TypeError(f"{kind} cannot be stored: write list[X], tuple[X, ...], set[X] or frozenset[X]")
    write, read = _pair(inner[0])

    def writing(value: Any, path: str) -> list[Any]:
        if not isinstance(value, origin):
            raise RecordInvalid(path, f"is {type(value).__name__}, not {origin.__name__}")
        items: Any = value
        words = [write(one, f"{path}[{index}]") for index, one in enumerate(items)]
        return sorted(words, key=json.dumps) if origin in (set, frozenset) else words

    def reading(word: Any, path: str) -> Any:
        if not isinstance(word, list):
            raise RecordInvalid(path, f"what is stored is {type(word).__name__}, not a list")
        made: Any = origin
        return made(read(one, f"{path}[{index}]") for index, one in enumerate(word))

    return writing, reading


def _mapping(inner: Any) -> _Pair:
    write, read = _pair(inner)

    def writing(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise RecordInvalid(path, "is no dict with text as keys")
        return {key: write(one, f"{path}[{key!r}]") for key, one in value.items()}

    def reading(word: Any, path: str) -> dict[str, Any]:
        if not isinstance(word, dict):
            raise RecordInvalid(path, f"what is stored is {type(word).__name__}, not an object")
        return {key: read(one, f"{path}[{key!r}]") for key, one in word.items()}

    return writing, reading


_making: set[Any] = set()
"""Dataclasses that are being looked at: one that holds itself is looked up when a value comes."""


def _inner(kind: Any) -> _Pair:
    if kind in _making:
        return lambda value, path: _pair(kind)[0](value, path), lambda word, path: _pair(kind)[1](word, path)
    _making.add(kind)
    try:
        return _dataclass(kind)
    finally:
        _making.discard(kind)


def _dataclass(kind: Any) -> _Pair:
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    pairs = {field.name: _pair(hints[field.name]) for field in fields}

    def writing(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, kind):
            raise RecordInvalid(path, f"is {type(value).__name__}, not {kind.__name__}")
        return {name: write(getattr(value, name), _below(path, name)) for name, (write, _) in pairs.items()}

    def reading(word: Any, path: str) -> Any:
        if not isinstance(word, dict):
            raise RecordInvalid(path, f"what is stored is {type(word).__name__}, not an object")
        given: dict[str, Any] = {}
        for field in fields:
            if field.name in word:
                given[field.name] = pairs[field.name][1](word[field.name], _below(path, field.name))
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise RecordInvalid(_below(path, field.name), "is not stored, and has no default")
        return kind(**given)

    return writing, reading


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
