"""What a fish is: a named, versioned fold over a selection of events.

A `Fish` is a definition and holds no state. The pond runs it: it hands every selected event, in key order, to
`on_event` together with the state so far and with `Metadata`, and what `on_event` returns is the next state. Reducers
are pure, and states are never changed in place: the engine calls a reducer as often as it likes, and keeps earlier
states as they are.

The `definition` is a fingerprint of selection, initial state and code (`fish.fingerprint`). It tells two fish apart
that claim the same name and version, and keeps a stored snapshot from being read by other code than wrote it.
"""

import dataclasses
import datetime as dt
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from fish.errors import InvalidFish
from fish.fingerprint import described_by, digest
from lamport.event import Event
from lamport.ids import EventKey, NodeId, StreamId
from lamport.tags import Where
from lamport.upcasters import Upcasters

State = TypeVar("State")
State_co = TypeVar("State_co", covariant=True)
"""A definition only gives states out: what calls its reducer is the engine, with states of its own making. A fish of
sets is thus a fish of collections, and `len(await pond.current_state(fish))` is well typed."""

MAX_NAME_BYTES = 128
"""Longest name of a fish in bytes of UTF-8, as for tags."""


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Metadata(NamedTuple):
    """What the log knows of an event besides its payload.

    `timestamp` is the author's wall clock, microseconds since the epoch: for display, never for order. `is_local` says
    that this node wrote the event: a state that depends on it differs between nodes.
    """

    event_key: EventKey
    offset: int
    timestamp: int
    tags: tuple[str, ...]
    app_id: str
    is_local: bool

    @classmethod
    def of(cls, event: Event, node: NodeId) -> "Metadata":
        """The metadata of an event as seen at a node."""
        stream = event.stream
        is_local = stream.node == node
        # A key is what it was before anybody knew of two branches: states must not change with that knowledge.
        key = EventKey(event.lamport, stream.base) if stream.branch else event.key
        return cls(key, event.offset, event.timestamp, event.tags, event.app_id, is_local)

    @property
    def lamport(self) -> int:
        """The event's Lamport timestamp."""
        return self.event_key.lamport

    @property
    def stream(self) -> StreamId:
        """The stream it stands in."""
        return self.event_key.stream

    @property
    def recorded_at(self) -> dt.datetime:
        """The timestamp as a date and time in UTC; the latest that there is, where the author's clock was beyond it."""
        try:
            return _EPOCH + dt.timedelta(microseconds=self.timestamp)
        except OverflowError:
            return dt.datetime.max.replace(tzinfo=dt.UTC)

    @property
    def event_id(self) -> str:
        """The text form of its key; the id of the work it opens."""
        return str(self.event_key)


_NOT_PLAIN = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction

OnEvent = Callable[[State, Any, Metadata], State]
"""The next state from the state, an event's payload and its metadata."""

IsReset = Callable[[Any, Metadata], bool]
"""Whether an event (payload, metadata), folded into the initial state, says everything by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Fish(Generic[State_co]):
    """A definition. `version` rises with every change of meaning; same name and version means same definition.

    With `is_reset` the state is the fold from the newest reset event on; whatever sorts before it is irrelevant,
    whenever it arrives.

    Where reset events bear tags of their own, `reset_where` selects them in the place of `is_reset`: the newest is then
    found by the index of tags, and a start folds nothing before it.

    `commutative` claims that the state does not depend on the order of events (streams, each in its own order, may be
    mixed in any way). A late event is then folded in where the fold stands, and nothing is replayed. `fish.testing`
    refutes a false claim.

    Where a reducer raises, the fish stops at its last good state. With `on_error="skip"` it goes on as if that event
    had not been, and the pond reports the event (`Pond.reports`).

    A state that is made of what `encode_state` does not know is kept across restarts by way of `serialize_state`, which
    gives values that it does know, and `deserialize_state`, which makes the state of these again.

    With `isolated` the reducers run in a process of their own, which is killed where one stands still, whatever it is
    at. That costs a process, and the states' way out of it: they must be picklable.

    With `mutates` the reducers may change the state and the payload they are given; the engine pays for that with a
    deep copy of both for every call.

    Raises:
        InvalidFish: the name is empty or longer than 128 bytes, or the version is no integer from 0 on.
    """

    name: str
    where: Where
    initial: State_co
    on_event: OnEvent[State_co]
    version: int = field(default=1, kw_only=True)
    is_reset: IsReset | None = field(default=None, kw_only=True)
    serialize_state: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    deserialize_state: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    mutates: bool = field(default=False, kw_only=True)
    isolated: bool = field(default=False, kw_only=True)
    commutative: bool = field(default=False, kw_only=True)
    reset_where: Where | None = field(default=None, kw_only=True)
    on_error: Literal["stop", "skip"] = field(default="stop", kw_only=True)
    definition: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_version(self.version)
        check_function(self.on_event, "on_event")
        check_function(self.is_reset, "is_reset")
        self._settle_reset()
        if self.on_error not in {"stop", "skip"}:
            raise InvalidFish(f"on an error a fish does 'stop' or 'skip', not {self.on_error!r}")
        if self.commutative and self.is_reset is not None:
            raise InvalidFish(
                "a fish with `is_reset` depends on the order of events: it is not commutative"
            )
        object.__setattr__(self, "definition", _fingerprint(self))

    def _settle_reset(self) -> None:
        where = self.reset_where
        if where is None:
            return
        if self.is_reset is not None:
            raise InvalidFish("a fish has `is_reset` or `reset_where`, not both")

        def is_reset(_payload: Any, metadata: Metadata) -> bool:
            return where.matches(metadata.tags, is_local=metadata.is_local)

        object.__setattr__(self, "is_reset", is_reset)

    def selects(self, event: Event, node: NodeId) -> bool:
        """Whether an event belongs to this fish, as seen at a node."""
        return self.where.matches(event.tags, is_local=event.stream.node == node)

    def concerns(self, retracted: Event, node: NodeId) -> bool:
        """Whether a retracted event may be in this fish's state; one that is damaged tells no tags."""
        return not retracted.tags or self.selects(retracted, node)

    def definition_with(self, upcasters: Upcasters) -> str:
        """The fingerprint of this fish where these upcasters change what its reducer is given."""
        if not upcasters:
            return self.definition
        described = [(one.tag, one.version, described_by(one.change)) for one in upcasters]
        return digest(self.definition, upcasters.version_key, described).hex()


def _refuse(_fish: object, name: str, _value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


Fish.__setattr__ = _refuse  # type: ignore[method-assign]
# The one that `dataclass` writes speaks of the class before it had slots (Python 3.11), and `Fish[int](...)`, where
# `typing` tries to leave a note on what is made and minds no AttributeError, would raise a TypeError by it.


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidFish(f"a fish has a name, a non-empty text, not {name!r}")
    size = len(name.encode(errors="surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise InvalidFish(f"the name of a fish has at most {MAX_NAME_BYTES} bytes, not {size}")


def check_function(function: object, name: str) -> None:
    """See that a reducer returns when it is called.

    Raises:
        InvalidFish: it would wait, or yield.
    """
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its code is wanted
    if any(kind(one) for one in (function, call) for kind in _NOT_PLAIN):
        raise InvalidFish(
            f"{name} is a plain function: a reducer neither waits nor yields nor asks the world"
        )


def _check_version(version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise InvalidFish(f"the version of a fish is an integer from 0 on, not {version!r}")


def _fingerprint(fish: Fish[Any]) -> str:
    resets = fish.is_reset if fish.reset_where is None else str(fish.reset_where)
    parts = (str(fish.where), fish.initial, fish.on_event, resets, fish.commutative, fish.on_error)
    return digest("fish", *map(described_by, parts)).hex()
