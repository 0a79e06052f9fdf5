"""One running machine as a frozen value: what a fold hands from event to event.

`rest` is the state the machine rests in while it holds no work ids; with open ids (`tokens`) it is in the cyclic
states instead, once for each id. Everything that someone must do because of the state stands in it as data: services
in flight, timers, intents. The reducer never does anything itself.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

ACTIVE, DONE, STOPPED, WAITING = "active", "done", "stopped", "waiting"
"""What becomes of a machine. One that waits has not been started by any event."""

KEPT_INTENTS = 1_024
"""Intents and ledger entries of one instance that are kept: older ones are past undoing."""

KEPT_DEDUPE_KEYS = 1_024
"""Idempotency keys of one instance that are remembered: a message is repeated soon or never."""


class Token(NamedTuple):
    """An open work id, and the cyclic state that it is in."""

    id: str
    state: str


class Flight(NamedTuple):
    """A service that ought to run. `entry` is the key that entered the state; `owner` the node that runs it."""

    id: str
    state: str
    entry: str
    work: str | None
    invoke: str
    src: str
    args: Any
    owner: str


class Timer(NamedTuple):
    """Something due `delay` seconds after `ts` (microseconds, by the owner's clock).

    It belongs to a state's `after` of that number, or carries an event: to this machine, or to `target`.
    """

    id: str
    state: str
    work: str | None
    number: int
    delay: float
    ts: int
    owner: str
    event: Mapping[str, Any] | None = None
    target: str | None = None
    name: str | None = None


class Parked(NamedTuple):
    """The error of a service that was aborted: delivered before the next event."""

    flight: Flight
    reason: str


class Intent(NamedTuple):
    """An effect that the log implies. `id` is the idempotency key; `cause` the key of the step; `root` of the event.

    `number` counts the intents of one root event, so that (root, number) is the order in which they are to be done.
    """

    id: str
    name: str
    args: Any
    undo: str | None
    cause: str
    root: str
    number: int
    owner: str


class Entry(NamedTuple):
    """What a node wrote into the ledger about an effect: how often it was done, and whether it stands."""

    id: str
    state: str
    attempt: int
    name: str
    args: Any
    undo: str | None
    cause: str
    root: str
    number: int
    node: str
    key: str


class Link(NamedTuple):
    """Who spawned a machine: the address, the invoke, and the key that entered the invoking state."""

    address: str
    invoke: str
    entry: str


class Instance(NamedTuple):
    """A machine at one point of the log. A tuple: each event makes one."""

    machine: str
    name: str
    version: int
    status: str
    rest: str
    context: Mapping[str, Any]
    tokens: tuple[Token, ...] = ()
    flights: tuple[Flight, ...] = ()
    timers: tuple[Timer, ...] = ()
    parked: tuple[Parked, ...] = ()
    children: tuple[tuple[str, str], ...] = ()
    parent: Link | None = None
    seen: tuple[str, ...] = ()
    intents: tuple[Intent, ...] = ()
    ledger: tuple[Entry, ...] = ()
    output: Any = None
    born: str = ""
    """The key of the event that started it."""
    external: str = ""
    """The key of the newest event that came from outside: neither a service's end nor a record about one."""

    @property
    def address(self) -> str:
        """How others name it."""
        return f"{self.machine}/{self.name}"

    @property
    def value(self) -> str:
        """The state it is in: that of the newest open work id, or where it rests."""
        return max(self.tokens).state if self.tokens else self.rest

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and nothing went wrong that it has not been told."""
        return not self.flights and not self.parked


class Passage(NamedTuple):
    """What one event did to one machine; the registry is made of these.

    `kind` is transition, internal, dropped, aborted, stopped, started or warning; `reason` says why it was dropped.
    """

    key: str
    root: str
    machine: str
    instance: str
    event: str
    before: str
    after: str
    kind: str
    reason: str | None = None
    words: tuple[str, ...] = ()
