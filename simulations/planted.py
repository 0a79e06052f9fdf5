"""Bugs planted on purpose: the proof that the laws bite.

Each replaces one function of the production code by one with a mistake that somebody could make. It must be found by
the ordinary laws on ordinary seeds; nothing in the production code knows of this.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import transport.session
from fish.snapshots import SnapshotShelf
from fish.timeline import Timeline
from fish.work import WorkIds
from lamport.clock import LamportClock
from lamport.commit import Commit
from lamport.log import EventLog, Follower
from lamport.reader import Reader
from lamport.store import Store
from simulations.plan import draw_plan
from simulations.play import Outcome, play
from transport.peers import Peers
from transport.session import Session


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake: whose attribute is replaced by what. `make` gets the right one and gives the wrong one."""

    name: str
    owner: Any
    attribute: str
    make: Callable[[Any], Any]


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Plant a bug while the context is open."""
    right = bug.owner.__dict__[bug.attribute]
    setattr(bug.owner, bug.attribute, bug.make(right))
    try:
        yield
    finally:
        setattr(bug.owner, bug.attribute, right)


def hunt(bug: Bug, seeds: range) -> Outcome | None:
    """The first seed that finds the bug; None where none of them does."""
    with planted(bug):
        outcomes = (play(draw_plan(seed)) for seed in seeds)
        return next((outcome for outcome in outcomes if outcome.failure), None)


def _acknowledged_too_early(_right: Any) -> Any:
    async def commit(self: Store, commit: Commit) -> None:
        self._number_streams(commit)
        statements = list(self._statements(commit))
        asyncio.ensure_future(self._writer.transact(statements)).add_done_callback(_forgotten)
        self.heads.update(commit.heads)
        self.authors.update(commit.certificates)
        self.clock = commit.clock

    return commit


def _forgotten(task: "asyncio.Future[None]") -> None:
    if not task.cancelled():
        task.exception()


def _unsorted(_right: Any) -> Any:
    def decoded(self: Reader, rows: Any, where: Any, bounds: Any, *, descending: bool) -> Any:
        rows = sorted(rows, reverse=descending)
        return list(self._admitted(rows, where, bounds))

    return decoded


def _shifted(right: Any) -> Any:
    async def sealed_range(self: Reader, stream: Any, first: int, limit: int) -> Any:
        return await right(self, stream, first + 1, limit)

    return sealed_range


def _deaf_every_seventh(right: Any) -> Any:
    def publish_batch(self: EventLog, commit: Commit) -> None:
        waited_for = self._changed
        if self._recent.sequence % 7 == 0:
            self._changed = asyncio.Event()
        right(self, commit)
        if self._recent.sequence % 7 == 1:
            self._changed = waited_for

    return publish_batch


def _doubled(right: Any) -> Any:
    def from_memory(self: Follower, sequence: int) -> Any:
        batch = right(self, sequence)
        if batch is not None and len(batch.events) > 1:
            return batch._replace(events=(batch.events[0], *batch.events))
        return batch

    return from_memory


def _never(value: Any) -> Callable[[Any], Any]:
    """A function that always gives this."""
    return lambda _right: lambda *_args, **_named: value


def _never_async(value: Any) -> Callable[[Any], Any]:
    def make(_right: Any) -> Any:
        async def nothing(*_args: Any, **_named: Any) -> Any:
            return value

        return nothing

    return make


BUGS: tuple[Bug, ...] = (
    Bug("acknowledged before the commit", Store, "commit", _acknowledged_too_early),
    Bug("no clock raise on receive", LamportClock, "raised", lambda _: lambda self, _lamport: self),
    Bug("ties broken by arrival", Reader, "_decoded", _unsorted),
    Bug("range off by one", Reader, "sealed_range", _shifted),
    Bug("lost wake-up of followers", EventLog, "_publish_batch", _deaf_every_seventh),
    Bug("an event handed over twice", Follower, "_from_memory", _doubled),
    Bug("stale snapshot kept", SnapshotShelf, "_spoilt_from", _never_async(None)),
    Bug("late events folded at the end", Timeline, "late", _never(None)),
    Bug("resets ignored", Timeline, "_resets", _never(False)),  # noqa: FBT003 - the value that is always given
    Bug("relayed events told to nobody", Session, "committed", _never(None)),
    Bug("a stop ends all work", WorkIds, "closed", lambda _: lambda _self, _keys: WorkIds()),
    Bug("a silent peer is waited for", transport.session, "SILENCE_LIMIT_S", lambda _: 3_600.0),
    Bug("a dialler that waits for a minute", Peers, "_backoff_s", _never(60.0)),
    Bug("no heads told at the beginning", Session, "_take_heads", _never(None)),
    Bug("news forgotten after the first", Peers, "_spread", _never_async(None)),
)
