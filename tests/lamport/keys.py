"""Members of a swarm with real Ed25519 keys, streams they write, and logs on a real disk: what the tests act with."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lamport.chain import (
    Head,
    Keys,
    Seal,
    SealedRange,
    VerifiedRange,
    chained,
    check_range,
    connect_range,
    genesis,
)
from lamport.codec import encode_draft, encode_event
from lamport.event import Draft, Event, draft
from lamport.follower import Follower
from lamport.ids import MIN_DRAWN_STREAM_NUMBER, NodeId, StreamId
from lamport.log import EventLog
from lamport.notices import Notice
from lamport.offsets import NOTHING, OffsetMap
from lamport.reader import Order
from lamport.routes import NO_ROUTES, Routes
from lamport.seams import Disk, WallClock
from lamport.sqlite import SqliteDisk
from lamport.store import Store
from lamport.stream_check import Finding
from lamport.tags import ALL_EVENTS, Where
from lamport.verification import Verification

NOW_US = 1_700_000_000_000_000


def key_of(text: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(text.encode()).digest())


def signed_by(node: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(node).verify(signature, data)
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True)
class Member:
    """A node's keys. A certificate is the authority's signature on the node id."""

    key: Ed25519PrivateKey
    authority: Ed25519PrivateKey

    @property
    def node(self) -> NodeId:
        return NodeId(self.key.public_key().public_bytes_raw())

    @property
    def swarm(self) -> bytes:
        return self.authority.public_key().public_bytes_raw()

    @property
    def certificate(self) -> bytes:
        return self.authority.sign(self.node)

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)

    def verify(self, node: NodeId, signature: bytes, data: bytes) -> bool:
        return signed_by(node, signature, data)

    def certifies(self, certificate: bytes, node: NodeId) -> bool:
        return signed_by(self.swarm, certificate, node)

    @property
    def admin(self) -> Ed25519PrivateKey:
        """The admin's key, which no device has."""
        return key_of(f"admin of {self.swarm.hex()}")

    def learn(self, notices: Iterable[Notice]) -> None:
        """These certificates know of one authority."""

    def verifies_admin(self, signature: bytes, data: bytes) -> bool:
        return signed_by(self.admin.public_key().public_bytes_raw(), signature, data)


def member(name: str = "ada", swarm: str = "swarm") -> Member:
    return Member(key_of(f"node {name}"), key_of(f"authority {swarm}"))


def event_bytes(
    lamport: int, tags: Iterable[str] = (), payload: Any = None, timestamp: int = NOW_US
) -> bytes:
    return encode_event(lamport, timestamp, encode_draft(Draft(tuple(tags), payload)))


class Author:
    """Writes a stream without a log, so that tests choose every byte of it."""

    def __init__(self, keys: Keys, number: int = MIN_DRAWN_STREAM_NUMBER) -> None:
        self.keys = keys
        self.stream = StreamId(keys.node, number)
        self.head: Head = genesis(keys.swarm, self.stream)
        self.horizon = 0

    def write(self, *events: bytes, lamport: int = 0, clock: int | None = None) -> SealedRange:
        """Seal these events behind the head. `lamport` is that of the last; the head moves."""
        first = self.head.offset + 1
        offset, hash_ = self.head.offset + len(events), chained(self.head.hash, events)
        top = lamport if clock is None else clock
        self.head = Head(self.stream, offset, hash_, lamport)
        seal = Seal(self.stream, offset, hash_, top, self.horizon).signed(self.keys)
        return SealedRange(first, events, seal, self.keys.certificate)

    def give_up(self, horizon: int) -> Seal:
        """Announce a horizon, by a seal on the head."""
        self.horizon = horizon
        head = self.head
        seal = Seal(self.stream, head.offset, head.hash, head.lamport, horizon)
        return seal.signed(self.keys)

    def say(self, *lamports: int, tags: Iterable[str] = ("said",)) -> SealedRange:
        """Events with these timestamps."""
        tags = tuple(tags)
        events = [event_bytes(one, tags, {"n": one}) for one in lamports]
        return self.write(*events, lamport=lamports[-1])

    def count(self, events: int, tags: Iterable[str] = ("said",)) -> SealedRange:
        """So many events, each one tick behind the other."""
        start = self.head.lamport + 1
        return self.say(*range(start, start + events), tags=tags)


@asynccontextmanager
async def open_store(
    folder: Path, keys: Member, disk: Disk | None = None, names: Iterable[str] = ()
) -> AsyncIterator[Store]:
    numbers = itertools.count(MIN_DRAWN_STREAM_NUMBER)
    store = await Store.open(disk or SqliteDisk(folder), keys, lambda: next(numbers), names)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_log(
    folder: Path,
    keys: Member | None = None,
    disk: Disk | None = None,
    routes: Routes = NO_ROUTES,
    wall_clock: WallClock = lambda: NOW_US,
) -> AsyncIterator[EventLog]:
    """A log that is being written while the context is open."""
    keys = keys or member()
    async with open_store(folder, keys, disk, routes.policies) as store:
        log = EventLog(store, keys, wall_clock, routes=routes)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log.write())
            try:
                yield log
            finally:
                log.close()


def taken(received: SealedRange, head: Head, keys: Member) -> VerifiedRange | None:
    """What a log that stands at this head takes of a range: both checks in turn."""
    return connect_range(check_range(received, keys), head)


def drafts(count: int, *tags: str) -> list[Draft]:
    return [draft(tags, {"n": number}) for number in range(count)]


async def findings(folder: Path, keys: Member | None = None) -> list[Finding]:
    """What verifying a log's database finds, beside whoever writes it."""
    reader = await SqliteDisk(folder).open_reader()
    try:
        looked = Verification(reader, keys or member())
        return [step async for step in looked.run() if isinstance(step, Finding)]
    finally:
        await reader.close()


async def read_all(
    log: EventLog,
    where: Where = ALL_EVENTS,
    order: Order = Order.ASCENDING,
    lower: OffsetMap | None = None,
    upper: OffsetMap | None = None,
) -> list[Event]:
    pages = log.read(where, lower=lower, upper=upper, order=order)
    return [event async for page in pages for event in page]


async def drained(follower: Follower, until: OffsetMap) -> list[Event]:
    """Everything the follower hands over until it has reached these offsets."""
    events: list[Event] = []
    while not follower.offsets.covers(until):
        events.extend((await follower.next()).events)
    return events


def offsets_per_stream(events: Sequence[Event]) -> dict[StreamId, list[int]]:
    """The offsets seen, stream by stream, in the order they were seen."""
    seen: dict[StreamId, list[int]] = {}
    for event in events:
        seen.setdefault(event.stream, []).append(event.offset)
    return seen


def gapless(head: Head) -> list[int]:
    """All offsets up to a head."""
    return list(range(NOTHING + 1, head.offset + 1))
