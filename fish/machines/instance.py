"""One running machine as a frozen value: what a fold hands from event to event.

`rest` is the state the machine rests in while it holds no work ids; with open ids (`tokens`) it is in the cyclic
states instead, once for each id. Everything that someone must do because of the state stands in it as data: services
in flight, timers, intents. The reducer never does anything itself.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fish.machines.expressions import Meta

ACTIVE, DONE, STOPPED, WAITING = "active", "done", "stopped", "waiting"
"""What becomes of a machine. One that waits has not been started by any event."""

KEPT_INTENTS = 1_024
"""Intents and ledger entries of one instance that are kept: older ones are past undoing."""

KEPT_DEFERRED = 1_024
"""Events of one instance that wait for its services: as many as people send to one thing in a minute and a half."""

KEPT_DEDUPE_KEYS = 1_024
"""Idempotency keys of one instance that are remembered: a message is repeated soon or never."""


MAX_DEDUPE_KEY = 256
"""Longest idempotency key in characters: an event's own key has a third of that."""


class Token(NamedTuple):
    """An open work id, and the cyclic state that it is in."""

    id: str
    state: str


class Worker(NamedTuple):
    """The child of an open work id: whose it is, the invoke that has borne it, and where it is."""

    token: Token
    invoke: str
    address: str


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
    is_stable: bool = False
    """Whether it waits until nothing can take its cause away any more."""


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
    """Who spawned a machine: the address, the invoke, the key that entered the invoking state; its work id, if any."""

    address: str
    invoke: str
    entry: str
    work: str | None = None


class Deferred(NamedTuple):
    """An event that waits until no service is in flight, and what the log knows of it."""

    event: Mapping[str, Any]
    meta: Meta


class Sighting(NamedTuple):
    """What a node said last of itself: by this Lamport timestamp its own streams reached these offsets."""

    node: str
    lamport: int
    heads: Mapping[str, int]


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
    deferred: tuple[Deferred, ...] = ()
    """Events that wait until no service is in flight, where the machine wants that."""
    owner: str = ""
    """The node that has claimed what is to be done for it; empty where that is up to who logs the event behind it."""
    workers: tuple[Worker, ...] = ()
    """The children of its open work ids; `children` are those of plain states and of actions."""

    @property
    def address(self) -> str:
        """How others name it."""
        return f"{self.machine}/{self.name}"

    @property
    def value(self) -> str:
        """The state it is in: that of the newest open work id, or where it rests."""
        return max(self.tokens).state if self.tokens else self.rest

    def matches(self, path: str) -> bool:
        """Whether it is in a state: in this very one, or in one inside of it; with work ids, whether any of them is."""
        return any(state == path or state.startswith(f"{path}.") for state in self.leaves)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The states it is in: one for each open work id, or where it rests."""
        return tuple(one.state for one in self.tokens) or (self.rest,)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and nothing went wrong that it has not been told."""
        return not self.flights and not self.parked


class Passage(NamedTuple):
    """What one event did to one machine; the registry is made of these.

    `kind` is transition, internal, dropped, deferred, aborted, stopped, started or warning; `reason` says why it was
    dropped.
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


def stopped(before: Instance) -> Instance:
    """A machine that was told to stop."""
    return before._replace(
        status=STOPPED, tokens=(), flights=(), timers=(), parked=(), output=None, workers=()
    )


def recorded(before: Instance, entry: Entry) -> Instance:
    """With what a node did about an effect. Where that is too much, what is over goes first.

    What still stands and is gone from the ledger would be done again.
    """
    ledger = [one for one in before.ledger if (one.id, one.node) != (entry.id, entry.node)]
    ledger.append(entry)
    if len(ledger) > KEPT_INTENTS:
        implied = {one.id for one in before.intents}
        over = (one for one in ledger if one.state == "undone" and one.id not in implied)
        ledger.remove(next(over, ledger[0]))
    return before._replace(ledger=tuple(ledger))


def owned(before: Instance, node: str) -> Instance:
    """An instance whose work belongs to a node from now on: what is under way, and what nobody has done.

    Where it is given back (an empty text) that stays with whoever has it: else nobody would do it.
    """
    if not node:
        return before._replace(owner="")
    done = {one.id for one in before.ledger if one.state == "done"}
    return before._replace(
        owner=node,
        flights=tuple(one._replace(owner=node) for one in before.flights),
        timers=tuple(one._replace(owner=node) for one in before.timers),
        intents=tuple(
            one if one.id in done else one._replace(owner=node) for one in before.intents
        ),
    )


def child_address(machine: str, parent: str, path: str, entry: str, invoke: str) -> str:
    """The address of a child without a name: the same on every node and in every fold, and not guessed by chance."""
    parts = f"{parent}|{path}|{entry}|{invoke}"
    return f"{machine}/{hashlib.sha256(parts.encode()).hexdigest()[:32]}"
