"""Whether a fish's reducers are pure: functions of state, payload and metadata, and of nothing else.

A node calls a reducer whenever it likes: again after an event that came late, on a state that came back from a
snapshot, in a process that hashes texts differently. A reducer that looks at the clock, changes what it is given or
leans on the order of a set agrees with itself for a while, and then no longer with the node beside it.

The way of an event. The fold goes through the events in key order. At an event that is looked at, the reducer is called
several times with inputs that are equal but not the same objects: under a watch for calls that ask the world; once more
as it is; with the state as it comes back from a snapshot; with sets laid out in another order and the payload's objects
written in another order. Inputs must be left as they were and all results must have the same bytes.

A set that the reducer makes for itself is walked the other way round (`fish.walks`). What cannot be seen in one process
is an order by the hash of texts in the functions that it calls; `pytest --swarm-hash-seeds` plays a test in processes
with other hash seeds for that.

A pond in development mode examines every event in this way, as it folds it (`examined`).
"""

import datetime as dt
import functools
import inspect
import os
import random
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from fish.definition import Fish, Metadata, State
from fish.errors import RAISED_BY_STRANGERS, FishImpure, StateCodecError
from fish.states import decode_state, encode_state
from fish.walks import place_that_matters
from lamport.event import Event
from lamport.ids import NodeId

LOOKED_AT = 100
"""Events of one fish that are looked at in one run, evenly spread; the others are only folded."""

SHOWN_PAYLOAD = 200
"""Characters of a payload that are shown."""

_CLOCKS = {
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("process_time", "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime"),
    *("clock_gettime_ns", "localtime", "sleep"),
}
_WORLD = (
    {("time", name) for name in _CLOCKS}
    | {("posix", name) for name in ("urandom", "getrandom", "getpid", "times", "stat", "listdir")}
    | {("nt", name) for name in ("urandom", "getpid", "times", "stat", "listdir")}
    | {("io", "open"), ("_io", "open"), ("_uuid", "generate_time_safe"), ("_thread", "get_ident")}
    | {("_asyncio", "get_running_loop"), ("_asyncio", "get_event_loop")}
)
"""Functions through which the world gets in, by module and name."""

_PUBLIC_NAME = {
    "posix": "os",
    "nt": "os",
    "_io": "io",
    "_uuid": "uuid",
    "_thread": "threading",
    "_asyncio": "asyncio",
}
_DATES = {"now", "utcnow", "today"}
_IDENTITY = {"id", "hash"}
_ENVIRONMENT: CodeType = type(os.environ).__getitem__.__code__
_OF_SETS = "the result depends on the order of a set's elements, which differs between processes"
_LIBRARY = sysconfig.get_paths()["stdlib"] + os.sep
_PACKAGES = sysconfig.get_paths()["purelib"] + os.sep


@dataclass(slots=True)
class _Checked:
    """One fish under examination, and where its fold stands."""

    fish: Fish[Any]
    state: Any
    number: int = 0
    event: Event | None = None

    def impure(self, what: str, function: object) -> FishImpure:
        at = "" if self.event is None else f", at event {self.event.key} {self._payload()}"
        return FishImpure(
            f"fish {self.fish.name!r} version {self.fish.version} is impure: {_where(function)}: {what}{at}"
        )

    def kept(self, state: Any) -> Any:
        """A state as a snapshot keeps it."""
        serialize = self.fish.serialize_state
        return state if serialize is None else serialize(state)

    def restored(self, kept: Any) -> Any:
        """A state as it comes back from a snapshot."""
        deserialize = self.fish.deserialize_state
        return kept if deserialize is None else deserialize(kept)

    def _payload(self) -> str:
        text = repr(self.event.payload if self.event is not None else None)
        return text if len(text) <= SHOWN_PAYLOAD else f"{text[:SHOWN_PAYLOAD]} ..."


def check_purity(fish: Fish[Any], events: Iterable[Event], node: NodeId) -> None:
    """Fold the events a fish selects, in this order, and see that its reducers depend on nothing else.

    A reducer that raises at an event ends the examination without a word: that stops the fish, which others tell.

    Raises:
        FishImpure: they do.
    """
    selected = [event for event in events if fish.selects(event, node)]
    step = max(1, -(-len(selected) // LOOKED_AT))
    checked = _Checked(fish, fish.initial)
    _bytes_of(checked, fish.initial, "the initial state")
    for number, event in enumerate(selected):
        checked.number, checked.event = number, event
        try:
            _fold(checked, event, Metadata.of(event, node), looks=number % step == 0)
        except _Raised:
            return


def examined(fish: Fish[State], state: State, event: Event, metadata: Metadata) -> State:
    """The next state, from a reducer that was called in every way that must make no difference.

    Raises:
        FishImpure: it did make a difference; the text names the line.
        Exception: whatever the reducer raises.
    """
    checked = _Checked(fish, state, event.offset, event)
    payload = encode_state(event.payload, ordered=True)
    try:
        if fish.is_reset is not None:
            _resets(checked, payload, metadata, looks=True)
        result: State = _look(checked, payload, metadata)
    except _Raised as raised:
        raise raised.error from None
    return result


def _fold(checked: _Checked, event: Event, metadata: Metadata, *, looks: bool) -> None:
    payload = encode_state(event.payload, ordered=True)
    fish = checked.fish
    if fish.is_reset is not None and _resets(checked, payload, metadata, looks=looks):
        checked.state = fish.initial
    if looks:
        checked.state = _look(checked, payload, metadata)
    else:
        checked.state = _called(fish.on_event, checked.state, decode_state(payload), metadata)


def _resets(checked: _Checked, payload: bytes, metadata: Metadata, *, looks: bool) -> bool:
    is_reset = checked.fish.is_reset
    assert is_reset is not None
    given = decode_state(payload)
    with _watching() as seen:
        first = bool(_called(is_reset, given, metadata))
    if looks:
        _blame(checked, seen, is_reset)
        if encode_state(given, ordered=True) != payload:
            raise checked.impure("it changes the payload it is given", is_reset)
        if bool(_called(is_reset, decode_state(payload), metadata)) is not first:
            raise checked.impure("two calls with equal inputs give different answers", is_reset)
        line = place_that_matters(is_reset, lambda one: _answer(one, payload, metadata), first)
        if line is not None:
            raise checked.impure(f"{_OF_SETS} (line {line})", is_reset)
    return first


def _answer(is_reset: Callable[..., Any], payload: bytes, metadata: Metadata) -> bool | None:
    """What it says; None where it raises now."""
    try:
        return bool(_called(is_reset, decode_state(payload), metadata))
    except _Raised:
        return None


def _look(checked: _Checked, payload: bytes, metadata: Metadata) -> Any:
    """Call the reducer in every way that must make no difference; returns the next state."""
    on_event, state, restored = checked.fish.on_event, checked.state, checked.restored
    before = _bytes_of(checked, state, "the state")
    given = decode_state(payload)
    with _watching() as seen:
        result = _called(on_event, state, given, metadata)
    _blame(checked, seen, on_event)
    if _bytes_of(checked, state, "the state") != before:
        raise checked.impure(
            "it changes the state it is given, instead of making a new one", on_event
        )
    if encode_state(given, ordered=True) != payload:
        raise checked.impure("it changes the payload it is given", on_event)
    _bytes_of(checked, result, "the new state")
    expected = encode_state(checked.kept(result))
    for what, make in _ways(checked, before, payload):
        if _next(checked, on_event, make, metadata) != expected:
            raise checked.impure(what, on_event)

    def again() -> tuple[Any, Any]:
        return restored(decode_state(before)), decode_state(payload)

    line = place_that_matters(on_event, lambda one: _next(checked, one, again, metadata), expected)
    if line is not None:
        raise checked.impure(f"{_OF_SETS} (line {line})", on_event)
    return result


def _ways(
    checked: _Checked, before: bytes, payload: bytes
) -> Iterator[tuple[str, Callable[[], tuple[Any, Any]]]]:
    """Inputs that are equal to the given ones, and what is wrong where the result is not."""
    state, number, restored = checked.state, checked.number, checked.restored
    yield (
        "two calls with equal inputs give different states",
        lambda: (state, decode_state(payload)),
    )
    yield (
        _OF_SETS
        if _holds_set(checked.kept(state))
        else "a state that comes back from a snapshot goes on differently",
        lambda: (restored(decode_state(before)), decode_state(payload)),
    )
    yield (
        _OF_SETS,
        lambda: (restored(_shuffled(decode_state(before), number)), decode_state(payload)),
    )
    yield (
        "the result depends on the order in which the payload's keys were written",
        lambda: (restored(decode_state(before)), _reversed(decode_state(payload))),
    )


def _next(
    checked: _Checked,
    on_event: Callable[..., Any],
    make: Callable[[], tuple[Any, Any]],
    metadata: Metadata,
) -> bytes | None:
    """The bytes of what the reducer makes of these inputs; None where it raises now."""
    state, payload = make()
    try:
        return encode_state(_called(checked.kept, _called(on_event, state, payload, metadata)))
    except (_Raised, StateCodecError):
        return None


class _Raised(Exception):
    """A reducer raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except RAISED_BY_STRANGERS as error:
        raise _Raised(error) from error


def _bytes_of(checked: _Checked, state: Any, what: str) -> bytes:
    """The bytes of a state, with dictionaries in their order, as a snapshot keeps it."""
    try:
        return encode_state(checked.kept(state), ordered=True)
    except StateCodecError as error:
        raise checked.impure(
            f"{what} has no bytes to compare: {error}", checked.fish.on_event
        ) from error


def _holds_set(value: Any) -> bool:
    if isinstance(value, set | frozenset):
        return True
    if isinstance(value, dict):
        return any(_holds_set(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_set(one) for one in value)
    fields = getattr(value, "__dataclass_fields__", ())
    return any(_holds_set(getattr(value, name)) for name in fields)


def _shuffled(value: Any, number: int) -> Any:
    """The same value with its sets laid out otherwise: a larger table puts elements in other places."""
    if type(value) is set:
        return _laid_out({_shuffled(one, number) for one in value}, number)
    if type(value) is frozenset:
        return _laid_out_frozen([_shuffled(one, number) for one in value])
    if type(value) is list:
        return [_shuffled(one, number) for one in value]
    if type(value) is tuple:
        return tuple(_shuffled(one, number) for one in value)
    if type(value) is dict:
        return {key: _shuffled(one, number) for key, one in value.items()}
    return _shuffled_fields(value, number)


def _shuffled_fields(value: Any, number: int) -> Any:
    """As `_shuffled`, for what has named fields; decoding made the value, so that it may be changed in place."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return tuple.__new__(type(value), [_shuffled(one, number) for one in value])
    for name in getattr(value, "__dataclass_fields__", ()):
        object.__setattr__(value, name, _shuffled(getattr(value, name), number))
    return value


def _laid_out(values: set[Any], number: int) -> set[Any]:
    """Sets never shrink when elements go: the table of many more remains, of a size that differs by event."""
    fillers = [_Filler() for _ in range(20 << number % 4 * 2)]
    values.update(fillers)
    for filler in fillers:
        values.discard(filler)
    return values


def _laid_out_frozen(values: Sequence[Any]) -> frozenset[Any]:
    """A difference leaves a frozen set in a larger table than making one does."""
    fillers = [_Filler() for _ in range(len(values) + 3)]
    return frozenset((*reversed(values), *fillers)).difference(fillers)


class _Filler:
    """Something that only takes up room in a set."""


def _reversed(value: Any) -> Any:
    """The same JSON value with the keys of its objects written in the opposite order."""
    if isinstance(value, dict):
        return {key: _reversed(one) for key, one in reversed(value.items())}
    return [_reversed(one) for one in value] if isinstance(value, list) else value


@dataclass(slots=True)
class _Seen:
    """What a reducer called that it must not, in order."""

    calls: list[str] = field(default_factory=list)


@contextmanager
def _watching() -> Iterator[_Seen]:
    """Watch every call for what asks the world. A profile hook sees functions however they were imported."""
    seen, before, state = _Seen(), sys.getprofile(), random.getstate()
    sys.setprofile(functools.partial(_saw, seen))
    try:
        yield seen
    finally:
        sys.setprofile(before)
    if not seen.calls and random.getstate() != state:
        seen.calls.append("it draws from the module `random`")


def _saw(seen: _Seen, frame: FrameType, event: str, called: Any) -> None:
    if event == "c_call":
        what = _asked(called, frame)
    elif event == "call" and frame.f_code is _ENVIRONMENT:
        what = "os.environ"
    else:
        return
    if what:
        seen.calls.append(f"it uses {what} {_user_of(frame)}")


def _asked(called: Any, frame: FrameType) -> str:
    """What part of the world a builtin function stands for, empty for none."""
    owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
    if owner is random._inst:  # noqa: SLF001 - the hidden generator is what is meant
        return f"the module random ({name})"
    if name in _DATES and isinstance(owner, type) and issubclass(owner, dt.date):
        return f"{owner.__name__}.{name}"
    module = getattr(called, "__module__", None) or ""
    if module == "builtins" and name in _IDENTITY:
        return "" if _is_library(frame.f_code) else f"{name}()"
    if name == "get_ident" and _is_library(frame.f_code):
        # The text of a dataclass takes note of who is at it, and shows nothing of that.
        return "threading.get_ident" if frame.f_globals.get("__name__") == "threading" else ""
    return f"{_PUBLIC_NAME.get(module, module)}.{name}" if (module, name) in _WORLD else ""


def _is_library(code: CodeType) -> bool:
    """Whether code is Python's own, or made by it (a dataclass's `__hash__`): that knows what it does."""
    path = code.co_filename
    made = path.startswith("<") or code.co_name == "__hash__"
    return made or (path.startswith(_LIBRARY) and not path.startswith(_PACKAGES))


def _user_of(frame: FrameType) -> str:
    """The line outside Python's own library from which a call came."""
    user: FrameType | None = frame
    while user is not None and _is_library(user.f_code):
        user = user.f_back
    user = user or frame
    return f"({_shown(user.f_code.co_filename)}:{user.f_lineno})"


def _blame(checked: _Checked, seen: _Seen, function: object) -> None:
    if seen.calls:
        raise checked.impure("; ".join(dict.fromkeys(seen.calls)), function)


def _where(function: object) -> str:
    """A reducer's name, file and line."""
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    plain = inspect.unwrap(plain) if callable(plain) else plain
    if not hasattr(plain, "__code__") and not hasattr(plain, "__func__"):
        plain = getattr(type(plain), "__call__", plain)  # noqa: B004 - its code is wanted
    code = getattr(plain, "__code__", None)
    name = getattr(plain, "__qualname__", repr(function))
    return f"{name} ({_shown(code.co_filename)}:{code.co_firstlineno})" if code else str(name)


def _shown(path: str) -> str:
    """A path below the current folder without that folder."""
    here = os.getcwd() + os.sep  # noqa: PTH109 - a text is made shorter
    return path.removeprefix(here)
