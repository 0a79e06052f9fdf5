"""States as bytes, and as JSON for people.

`encode_state` gives canonical msgpack: equal states give equal bytes, so that two nodes can compare a state by its
digest. `decode_state` gives back values of the very same types. What a snapshot keeps must moreover behave the same
when the fold goes on from it, and the order of a dictionary's entries is behaviour that equality does not see: so a
snapshot is encoded with `ordered=True`, which leaves the entries in their order instead of sorting them.

The way of a datum. Each value is encoded by its exact type; what msgpack has no type for becomes an extension whose
data are again msgpack. Dataclasses, named tuples and enums are named as `module:qualname` and found again only among
the modules already imported: bytes never make this program import or call anything. Whatever is not listed here,
subclasses of the builtin containers included, raises `StateCodecError`; a state must come back whole or not at all.

A zero keeps its sign, so 0.0 and -0.0, 1 and 1.0 and True have different bytes although Python calls them equal.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Generator, Iterable
from enum import Enum, Flag, IntEnum
from typing import Any

import msgpack

from fish.errors import StateCodecError
from fish.work import WorkIds
from lamport.ids import EventKey, NodeId, StreamId

MAX_DEPTH = 100
"""Deepest nesting of a state: Python's own stack holds this with room to spare."""

KNOWN_CLASSES = 1_024
"""Classes whose names are remembered: a state of many small parts is of few classes."""

LAYERS_IN_STEPS = 5
"""Outer layers of a state between whose parts there are pauses; what lies deeper is small."""

_MIN_PACKED, _MAX_PACKED = -(2**63), 2**64 - 1


class _Kind(IntEnum):
    """The extension codes. They stand in stored snapshots: never reuse one."""

    INTEGER = 1
    TUPLE = 2
    SET = 3
    FROZENSET = 4
    DATACLASS = 5
    NAMED_TUPLE = 6
    ENUM = 7
    NODE_ID = 8
    STREAM_ID = 9
    EVENT_KEY = 10
    WORK_IDS = 11


_NO_VALUES: bytes = msgpack.packb(msgpack.ExtType(_Kind.TUPLE, msgpack.packb([])))
"""The bytes of an empty tuple."""


def encode_state(state: object, *, ordered: bool = False) -> bytes:
    """The bytes of a state; with `ordered` dictionaries keep the order of their entries.

    Raises:
        StateCodecError: a part of it has no bytes, or it is nested too deeply.
    """
    return _Encoder(ordered).encode(state, 0)


def encode_in_steps(state: object) -> Generator[None, None, bytes]:
    """The bytes of `encode_state(state, ordered=True)`, made in steps: between two of them others may have their turn.

    Raises:
        StateCodecError: as `encode_state`.
    """
    return _Encoder(True).steps(state, 0)  # noqa: FBT003 - as in `encode_state`


def decode_state(data: bytes) -> Any:
    """The state behind bytes that `encode_state` made, in this process or an earlier one.

    Raises:
        StateCodecError: they are no such bytes, or a class among them is not here or has other fields now.
    """
    try:
        return _decode(data)
    except StateCodecError:
        raise
    except Exception as error:  # bytes can break in every way, and it only costs time
        raise StateCodecError(f"these bytes are no state: {error}") from error


class _Encoder:
    """One encoding. Methods return the bytes of one value each."""

    def __init__(self, ordered: bool) -> None:  # noqa: FBT001 - internal, and made at one place
        self._ordered = ordered
        self._packer = msgpack.Packer()

    def encode(self, value: Any, depth: int) -> bytes:
        if depth > MAX_DEPTH:
            raise StateCodecError(f"a state is nested at most {MAX_DEPTH} deep")
        encoder = _ENCODERS.get(type(value))
        if encoder is not None:
            return encoder(self, value, depth + 1)
        return self._instance(value, depth + 1)

    def steps(self, value: Any, depth: int) -> Generator[None, None, bytes]:
        """Encode with a pause behind each part of the outer layers."""
        parts = self._parts(value)
        if parts is None:
            return self.encode(value, depth)
        encoded, is_deep = [], depth + 1 >= LAYERS_IN_STEPS
        for part in parts:
            if is_deep or type(part) is str:
                encoded.append(self.encode(part, depth + 1))
            else:
                encoded.append((yield from self.steps(part, depth + 1)))
            yield
        return self._joined(value, encoded)

    def _parts(self, value: Any) -> Iterable[Any] | None:
        """What a value is made of, where it is made of parts in a certain order."""
        if type(value) in (list, tuple):
            return value or None
        if type(value) is dict:
            return (one for entry in value.items() for one in entry)
        if type(value) in _ENCODERS:
            return None
        return _named(value.__class__), *_taken_apart(value)[1]

    def _joined(self, value: Any, encoded: list[bytes]) -> bytes:
        """The bytes of a value from those of its parts."""
        if type(value) is dict:
            header: bytes = self._packer.pack_map_header(len(value))
            return header + b"".join(encoded)
        array = self._array(encoded)
        if type(value) is list:
            return array
        kind = _Kind.TUPLE if type(value) is tuple else _taken_apart(value)[0]
        return self._extension(kind, array)

    def plain(self, value: Any, _: int) -> bytes:
        packed: bytes = self._packer.pack(value)
        return packed

    def text(self, value: str, _: int) -> bytes:
        try:
            return self.plain(value, _)
        except UnicodeEncodeError as error:
            raise StateCodecError(f"a text is no valid Unicode: {error.reason}") from error

    def integer(self, value: int, depth: int) -> bytes:
        if _MIN_PACKED <= value <= _MAX_PACKED:
            return self.plain(value, depth)
        size = value.bit_length() // 8 + 1
        return self._extension(_Kind.INTEGER, value.to_bytes(size, "big", signed=True))

    def real(self, value: float, depth: int) -> bytes:
        return self.plain(math.nan if math.isnan(value) else value, depth)

    def array(self, values: Iterable[Any], depth: int) -> bytes:
        return self._array([self.encode(value, depth) for value in values])

    def mapping(self, values: dict[Any, Any], depth: int) -> bytes:
        entries = [(self.encode(k, depth), self.encode(v, depth)) for k, v in values.items()]
        header: bytes = self._packer.pack_map_header(len(entries))
        chosen = entries if self._ordered else sorted(entries)
        return header + b"".join(key + value for key, value in chosen)

    def tuple(self, values: tuple[Any, ...], depth: int) -> bytes:
        if not values:  # states of many small parts hold these above all
            return _NO_VALUES
        return self._extension(_Kind.TUPLE, self.array(values, depth))

    def set(self, values: Iterable[Any], depth: int) -> bytes:
        kind = _Kind.SET if isinstance(values, set) else _Kind.FROZENSET
        return self._extension(kind, self._array(sorted(self.encode(one, depth) for one in values)))

    def node(self, value: NodeId, _: int) -> bytes:
        return self._extension(_Kind.NODE_ID, bytes(value))

    def stream(self, value: StreamId, depth: int) -> bytes:
        return self._extension(
            _Kind.STREAM_ID, self.array([bytes(value.node), value.number], depth)
        )

    def key(self, value: EventKey, depth: int) -> bytes:
        return self._extension(_Kind.EVENT_KEY, self.array(value, depth))

    def work(self, value: WorkIds, depth: int) -> bytes:
        return self._extension(
            _Kind.WORK_IDS, self.array([value.keys, value.early, value.seen], depth)
        )

    def _array(self, encoded: list[bytes]) -> bytes:
        header: bytes = self._packer.pack_array_header(len(encoded))
        return header + b"".join(encoded)

    def _extension(self, kind: _Kind, data: bytes) -> bytes:
        packed: bytes = self._packer.pack_ext_type(kind, data)
        return packed

    def _instance(self, value: Any, depth: int) -> bytes:
        name = _named(value.__class__)
        kind, parts = _taken_apart(value)
        return self._extension(kind, self.array([name, *parts], depth))


_ENCODERS: dict[type, Callable[[_Encoder, Any, int], bytes]] = {
    type(None): _Encoder.plain,
    bool: _Encoder.plain,
    int: _Encoder.integer,
    float: _Encoder.real,
    str: _Encoder.text,
    bytes: _Encoder.plain,
    list: _Encoder.array,
    tuple: _Encoder.tuple,
    dict: _Encoder.mapping,
    set: _Encoder.set,
    frozenset: _Encoder.set,
    NodeId: _Encoder.node,
    StreamId: _Encoder.stream,
    EventKey: _Encoder.key,
    WorkIds: _Encoder.work,
}


@functools.lru_cache(maxsize=KNOWN_CLASSES)
def _named(cls: type) -> str:
    """The name under which a class is found again."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    if not _is_known(cls) or _found(name) is not cls:
        raise StateCodecError(f"a state cannot hold a {name}")
    return name


def _is_known(cls: type) -> bool:
    """Whether instances of the class are nothing but their fields."""
    if issubclass(cls, Enum) or _is_named_tuple(cls):
        return True
    builtin = (BaseException, bytes, dict, float, frozenset, int, list, set, str, tuple, type)
    return dataclasses.is_dataclass(cls) and not issubclass(cls, builtin)


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def _found(name: str) -> type:
    """The class behind `module:qualname`, if it is here and of a kind that a state may hold."""
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not _is_known(found):
        raise StateCodecError(f"there is no class {name} here whose instances a state can hold")
    return found


def _taken_apart(value: Any) -> tuple[_Kind, tuple[Any, ...]]:
    if isinstance(value, Flag):
        return _Kind.ENUM, (value.value,)
    if isinstance(value, Enum):
        return _Kind.ENUM, (value.name,)
    if isinstance(value, tuple):
        return _Kind.NAMED_TUPLE, value
    return _Kind.DATACLASS, _field_values(value)


def _field_values(value: Any) -> tuple[Any, ...]:
    """The fields of a dataclass; refused where it holds something beside them."""
    cls = type(value)
    names = [field.name for field in dataclasses.fields(value)]
    for name in getattr(value, "__dict__", {}):
        if name not in names and not isinstance(
            getattr(cls, name, None), functools.cached_property
        ):
            raise StateCodecError(f"a {cls.__qualname__} holds {name!r}, which is no field of it")
    try:
        return tuple(getattr(value, name) for name in names)
    except AttributeError as error:
        raise StateCodecError(f"a {cls.__qualname__} lacks a field: {error}") from error


def _decode(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=_decode_extension, strict_map_key=False)


def _decode_extension(code: int, data: bytes) -> Any:
    return _DECODERS[_Kind(code)](data)


def _decode_integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _decode_tuple(data: bytes) -> tuple[Any, ...]:
    return tuple(_decode(data))


def _decode_set(data: bytes) -> set[Any]:
    return set(_decode(data))


def _decode_frozenset(data: bytes) -> frozenset[Any]:
    return frozenset(_decode(data))


def _decode_stream(data: bytes) -> StreamId:
    node, number = _decode(data)
    return StreamId(NodeId(node), number)


def _decode_key(data: bytes) -> EventKey:
    lamport, stream = _decode(data)
    return EventKey(lamport, stream)


def _decode_work(data: bytes) -> WorkIds:
    return WorkIds(*_decode(data))


def _decode_dataclass(data: bytes) -> Any:
    """Fill the fields without running any code of the class: the state is to be what it was."""
    name, *values = _decode(data)
    cls = _found(name)
    if not dataclasses.is_dataclass(cls):
        raise StateCodecError(f"{name} is no dataclass any more")
    fields = dataclasses.fields(cls)
    instance = object.__new__(cls)
    for field, value in zip(fields, values, strict=True):
        object.__setattr__(instance, field.name, value)
    return instance


def _decode_named_tuple(data: bytes) -> Any:
    name, *values = _decode(data)
    cls: Any = _found(name)
    if not _is_named_tuple(cls) or len(cls._fields) != len(values):
        raise StateCodecError(f"{name} has other fields now")
    return tuple.__new__(cls, values)


def _decode_enum(data: bytes) -> Any:
    name, value = _decode(data)
    cls = _found(name)
    if not issubclass(cls, Enum):
        raise StateCodecError(f"{name} is no enum any more")
    return cls(value) if issubclass(cls, Flag) else cls[value]


_DECODERS: dict[_Kind, Callable[[bytes], Any]] = {
    _Kind.INTEGER: _decode_integer,
    _Kind.TUPLE: _decode_tuple,
    _Kind.SET: _decode_set,
    _Kind.FROZENSET: _decode_frozenset,
    _Kind.DATACLASS: _decode_dataclass,
    _Kind.NAMED_TUPLE: _decode_named_tuple,
    _Kind.ENUM: _decode_enum,
    _Kind.NODE_ID: NodeId,
    _Kind.STREAM_ID: _decode_stream,
    _Kind.EVENT_KEY: _decode_key,
    _Kind.WORK_IDS: _decode_work,
}


def state_to_json(state: Any) -> Any:
    """A state as a JSON value for people and programs that only look; there is no way back.

    Sets are sorted lists, keys of objects are texts, dataclasses and named tuples are objects, work ids and other
    names their texts, bytes hexadecimal digits, numbers that JSON does not have their names, anything else its `str`.
    """
    if state is None or isinstance(state, bool):
        return state
    for kinds, shown in _SHOWN:
        if isinstance(state, kinds):
            return shown(state)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return _shown_fields(
            (field.name, getattr(state, field.name)) for field in dataclasses.fields(state)
        )
    return str(state)


def _shown_fields(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: state_to_json(value) for name, value in fields}


def _shown_tuple(value: tuple[Any, ...]) -> Any:
    names = getattr(value, "_fields", None)
    if names is not None:
        return _shown_fields(zip(names, value, strict=True))
    return [state_to_json(one) for one in value]


def _shown_set(values: Iterable[Any]) -> list[Any]:
    return sorted((state_to_json(one) for one in values), key=_sort_key)


def _sort_key(value: Any) -> tuple[str, Any, str]:
    """Numbers by size, texts by their characters, everything else by its text."""
    if isinstance(value, int | float):
        return ("number", value, "")
    return (type(value).__name__, 0, value if isinstance(value, str) else repr(value))


def _shown_mapping(value: dict[Any, Any]) -> dict[str, Any]:
    return {_shown_key(key): state_to_json(one) for key, one in value.items()}


def _shown_key(key: Any) -> str:
    shown = state_to_json(key)
    return shown if isinstance(shown, str) else str(shown)


_SHOWN: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (Enum, lambda value: state_to_json(value.value)),
    (WorkIds, WorkIds.to_json),
    ((NodeId, StreamId, EventKey), str),
    ((str, int), lambda value: value),
    (float, lambda value: value if math.isfinite(value) else str(value)),
    ((bytes, bytearray), lambda value: value.hex()),
    (tuple, _shown_tuple),
    (list, lambda value: [state_to_json(one) for one in value]),
    (dict, _shown_mapping),
    ((set, frozenset), _shown_set),
)
