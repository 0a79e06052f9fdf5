"""Typed events and the decorator: fish as plain functions that `match` on dataclasses.

    @dataclass(frozen=True)
    class Started: ...

    @dataclass(frozen=True)
    class Stopped:
        ended: tuple[str, ...]

    @fish(where=Tag("worker").with_id("w1"), initial=WorkIds())
    def worker(state: WorkIds, event: Started | Stopped, meta: Metadata) -> WorkIds:
        match event:
            case Started():
                return state.opened(meta.event_key)
            case Stopped(ended):
                return state.closed(ended)

On the wire an event is a JSON object whose `type` is the name of its class with a small first letter (or what the class
gives as `event_type`), beside its fields. The way of a datum: the reducer's annotation says which classes it takes; a
payload becomes an instance of the one it names and goes to the reducer. A payload that names none of them was written
for others and changes nothing. One that names a class and does not fit it raises `UnreadableEvent` in the reducer's
place. Fields that a class does not have are passed over: a newer program may have added them.
"""

import dataclasses
import hashlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from fish.definition import MAX_NAME_BYTES, Fish, Metadata, check_function
from fish.errors import InvalidFish, UnreadableEvent
from lamport.tags import Where

_State = TypeVar("_State")
_Event = TypeVar("_Event")

_PLAIN = (str, int, float, bool, type(None))

_AS_THEY_ARE = frozenset({str, int, float, bool})
"""Types of fields whose values need no reading."""

KNOWN_CLASSES = 1_024
"""Classes of events whose fields are remembered."""


def fish(
    *,
    where: Where,
    initial: Any,
    name: str | None = None,
    version: int = 1,
    **more: Any,
) -> Callable[[Callable[[_State, _Event, Metadata], _State]], Fish[_State]]:
    """Make a fish of the reducer below. `more` are the other fields of `Fish`; `is_reset` gets typed events, too.

    Without a name it has the function's, and the tags of single things in its selection: `worker (worker:w1)`.

    Raises:
        InvalidFish: a rule of `Fish` is broken, or the reducer's annotation cannot be read.
    """

    def make(reduce: Callable[[_State, _Event, Metadata], _State]) -> Fish[_State]:
        given = dict(more)
        check_function(reduce, "on_event")
        classes = event_types(reduce)
        on_event: Any = Typed(reduce, classes, _shapes(classes)) if classes else reduce
        is_reset = given.get("is_reset")
        if classes and is_reset is not None:
            check_function(is_reset, "is_reset")
            given["is_reset"] = TypedReset(is_reset, classes, _shapes(classes))
        chosen = _usual_name(reduce, where) if name is None else name
        return Fish(chosen, where, initial, on_event, version=version, **given)

    return make


def event_types(reduce: Callable[..., Any]) -> tuple[type, ...]:
    """The dataclasses that a reducer's second parameter is annotated with; none where it takes payloads as they are.

    Raises:
        InvalidFish: the annotation cannot be read, or mixes dataclasses with others.
    """
    try:
        parameters = list(inspect.signature(reduce).parameters)
        hints = typing.get_type_hints(reduce)
    except (NameError, TypeError, ValueError) as error:
        raise InvalidFish(f"the annotations of {reduce!r} cannot be read: {error}") from error
    hint = hints.get(parameters[1]) if len(parameters) > 1 else None
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    classes = tuple(
        one for one in options if isinstance(one, type) and dataclasses.is_dataclass(one)
    )
    if classes and len(classes) != len(options):
        raise InvalidFish(f"a reducer takes dataclasses or payloads, not {hint}")
    named = {event_type(one) for one in classes}
    if len(named) != len(classes):
        raise InvalidFish(f"two classes of {hint} have the same event type")
    return classes


def event_type(cls: type) -> str:
    """What `type` says in the payload of such an event."""
    given = getattr(cls, "event_type", None)
    return given if isinstance(given, str) else cls.__name__[0].lower() + cls.__name__[1:]


def payload_of(event: Any) -> Any:
    """The JSON value of a typed event; anything else is a payload already."""
    if not dataclasses.is_dataclass(event) or isinstance(event, type):
        return event
    return {"type": event_type(type(event)), **_fields_of(event)}


def decode_event(payload: Any, classes: Sequence[type]) -> Any:
    """The typed event of a payload; None where it names none of these classes.

    Raises:
        UnreadableEvent: it names one and does not fit it.
    """
    if type(payload) is not dict and not isinstance(payload, Mapping):
        return None
    named = payload.get("type")
    if type(named) is not str:
        return None
    cls = _by_type(tuple(classes)).get(named)
    return None if cls is None else _made(cls, payload, named)


@dataclass(frozen=True, slots=True)
class Typed(Generic[_State]):
    """A reducer of typed events, as the engine calls it. `shapes` is for the fingerprint."""

    reduce: Callable[[_State, Any, Metadata], _State]
    classes: tuple[type, ...]
    shapes: tuple[str, ...]

    def __call__(self, state: _State, payload: Any, metadata: Metadata) -> _State:
        """The next state; the same where the payload names no class of these."""
        event = decode_event(payload, self.classes)
        return state if event is None else self.reduce(state, event, metadata)


@dataclass(frozen=True, slots=True)
class TypedReset:
    """`is_reset` for typed events."""

    is_reset: Callable[[Any, Metadata], bool]
    classes: tuple[type, ...]
    shapes: tuple[str, ...]

    def __call__(self, payload: Any, metadata: Metadata) -> bool:
        """Whether it resets; not where the payload names no class of these."""
        event = decode_event(payload, self.classes)
        return event is not None and self.is_reset(event, metadata)


def _usual_name(reduce: Callable[..., Any], where: Where) -> str:
    base = getattr(reduce, "__name__", "fish")
    ids = sorted({tag for one in where.alternatives for tag in one.tags if ":" in tag})
    name = f"{base} ({', '.join(ids)})" if ids else base
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{base} ({hashlib.sha256(str(where).encode()).hexdigest()[:16]})"


def _shapes(classes: Sequence[type]) -> tuple[str, ...]:
    """What these classes look like, as text: a change of it is a change of the fish."""
    return tuple(
        f"{event_type(cls)}({', '.join(f'{one.name}: {one.type}' for one in dataclasses.fields(cls))})"
        for cls in classes
    )


def _fields_of(value: Any) -> dict[str, Any]:
    return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value


class _Field(NamedTuple):
    """A field of a class of events: its name, what it is annotated with, and whether a payload must have it."""

    name: str
    hint: Any
    is_required: bool


@lru_cache(maxsize=KNOWN_CLASSES)
def _by_type(classes: tuple[type, ...]) -> dict[str, type]:
    return {event_type(cls): cls for cls in reversed(classes)}


@lru_cache(maxsize=KNOWN_CLASSES)
def _fields(cls: type) -> tuple[_Field, ...]:
    hints, missing = typing.get_type_hints(cls), dataclasses.MISSING
    return tuple(
        _Field(one.name, hints[one.name], one.default is missing is one.default_factory)
        for one in dataclasses.fields(cls)
    )


def _made(cls: type, payload: Any, where: str) -> Any:
    """An instance, from the values of an object; one that is just what is wanted is taken as it is."""
    if type(payload) is not dict and not isinstance(payload, Mapping):
        raise UnreadableEvent(f"{where}: an object is wanted, not {payload!r}")
    values = {}
    for name, hint, is_required in _fields(cls):
        if name in payload:
            value = payload[name]
            as_it_is = type(value) is hint and hint in _AS_THEY_ARE
            values[name] = value if as_it_is else _read(hint, value, f"{where}.{name}")
        elif is_required:
            raise UnreadableEvent(f"{where}: {name!r} is missing")
    return cls(**values)


def _read(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as what a field is annotated with."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin is Literal:
        return _one_of(get_args(hint), value, where)
    if origin in (Union, types.UnionType):
        return _read_union(get_args(hint), value, where)
    if origin is tuple or hint is tuple:
        return _read_tuple(get_args(hint), value, where)
    if origin in (list, Sequence):
        return [_read(get_args(hint)[0], one, where) for one in _wanted(list, value, where)]
    if origin in (dict, Mapping):
        inside = get_args(hint)[1]
        return {key: _read(inside, one, where) for key, one in _wanted(dict, value, where).items()}
    if dataclasses.is_dataclass(hint):
        return _made(typing.cast("type", hint), value, where)
    return _read_plain(hint, value, where)


def _read_plain(hint: Any, value: Any, where: str) -> Any:
    if hint not in _PLAIN and hint not in (list, dict):
        raise UnreadableEvent(f"{where}: a field of an event cannot be a {hint}")
    if hint is float and type(value) is int:
        return float(value)
    if hint is int and isinstance(value, bool):
        raise UnreadableEvent(f"{where}: a number is wanted, not {value!r}")
    return _wanted(hint, value, where)


def _wanted(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise UnreadableEvent(f"{where}: {kind.__name__} is wanted, not {value!r}")
    return value


def _one_of(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in options:
        raise UnreadableEvent(f"{where}: one of {options} is wanted, not {value!r}")
    return value


def _read_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    for option in options:
        try:
            return _read(option, value, where)
        except UnreadableEvent:
            continue
    raise UnreadableEvent(f"{where}: {value!r} is none of {options}")


def _read_tuple(inside: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    values = _wanted(list, value, where)
    if not inside:
        return tuple(values)
    if inside[-1] is Ellipsis:
        return tuple(_read(inside[0], one, where) for one in values)
    if len(values) != len(inside):
        raise UnreadableEvent(f"{where}: {len(inside)} values are wanted, not {len(values)}")
    return tuple(_read(hint, one, where) for hint, one in zip(inside, values, strict=True))
