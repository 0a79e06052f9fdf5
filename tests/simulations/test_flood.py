"""A member that floods one node gets its allowance, and others are served as if it were not there."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from lamport.chain import HASH_BYTES, Head
from lamport.event import draft
from lamport.ids import NodeId, StreamId
from lamport.log import EventLog
from lamport.notices import MAX_NOTICES, NOTICE_ID_BYTES
from lamport.tags import Tag
from simulations.device import Device
from simulations.loop import run_simulated
from simulations.network import PORT, SimulatedChannel, SimulatedNetwork
from simulations.world import World
from transport.buckets import MESSAGES_AT_ONCE, MESSAGES_PER_S
from transport.claims import Claims
from transport.codec import decode_message, encode_message
from transport.exchange import MAX_OWN
from transport.frames import FrameReader, frame
from transport.handshake import ClientHandshake
from transport.identity import Identity
from transport.journal import Journal
from transport.link import Link
from transport.messages import (
    MAX_HEADS,
    WEIGHED_IDS,
    Addresses,
    Eager,
    Greeting,
    Heads,
    Message,
    News,
    Noticed,
)
from transport.network import Address, Candidate
from transport.session import Session
from transport.tree import ANNOUNCED_TOGETHER_S, Tree
from transport.wants import LIVELY_EVENTS

X = Tag("x")
FLOOD_S = 20.0

BATCH = 40
"""Events of a commit of a flood: few enough to be relayed, and too many to be short."""

SLOW_S = 0.1
"""What a slow disk takes for a commit."""


def said(*messages: Message) -> bytes:
    return b"".join(frame(encode_message(message)) for message in messages)


async def linked(world: World, identity: Identity, target: Device) -> SimulatedChannel:
    """A session of a member that is no node: it says what a program of ours would never say."""
    network = SimulatedNetwork(world.air, "rogue", identity)
    channel = await network.dial(Address(target.name, PORT))
    handshake = ClientHandshake(identity, identity.certificate, channel.peer_certificate, bytes(32))
    await channel.write(handshake.start())
    while not handshake.done:
        await channel.write(handshake.receive(await channel.read(1_000)))
    await channel.write(said(Greeting("rogue"), Heads((), complete=True)))
    return channel


async def flood(channel: SimulatedChannel) -> None:
    """Say as much as gets through of what costs a node time and nobody else anything."""
    much = said(*[Eager(yes=True)] * 2_000)
    with suppress(OSError):
        while True:
            await channel.write(much)


async def drained(channel: SimulatedChannel) -> None:
    while await channel.read(100_000):
        pass


async def latencies(source: Device, target: Device, count: int = 40) -> list[float]:
    """How long events of one take to the other, one after the other."""
    clock, found = asyncio.get_running_loop().time, []
    for number in range(count):
        began = clock()
        event = await source.publish(X, number)
        while target.node.offsets.of(event.stream) < event.offset:
            await target.node.log.changed()
        found.append(clock() - began)
        await asyncio.sleep(0.1)
    return found


def test_a_flood_from_one_member_is_read_no_faster_than_allowed_and_delays_nobody() -> None:
    async def story() -> None:
        world = World(2, 3)
        async with world.started():
            a, b, rogue = world.nodes
            await rogue.stop()
            await world.run(seconds=2)
            before = await latencies(a, b)
            channel = await linked(world, rogue.identity, b)
            for source, target in (("rogue", b.name), (b.name, "rogue")):
                world.air.link(source, target).bandwidth = 1e9
            tasks = [asyncio.create_task(drained(channel)), asyncio.create_task(flood(channel))]
            began = asyncio.get_running_loop().time()
            during = await latencies(a, b)
            await world.run(seconds=FLOOD_S - 5)
            [status] = [one for one in b.node.peers.status() if one.node == rogue.identity.node]
            passed = asyncio.get_running_loop().time() - began
            assert status.connected
            size = len(said(Eager(yes=True)))
            allowed = (MESSAGES_AT_ONCE + MESSAGES_PER_S * passed) * size
            assert 0.8 * allowed < status.bytes_in < 1.1 * allowed + 2 * 256 * 1024
            assert sum(during) < 1.5 * sum(before)
            assert max(during) < 2 * max(before)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            channel.abort()

    run_simulated(story(), random.Random(2))


async def publish_much(source: Device) -> None:
    """Publish more than a slow device can take in."""
    while True:
        await source.node.publish_all([draft("flood", number) for number in range(BATCH)])
        await asyncio.sleep(SLOW_S / 10)


def test_who_publishes_more_than_a_node_can_take_in_delays_nobody_else_there() -> None:
    """Not even where the flood is relayed over the link on which the others' events come."""

    async def story() -> None:
        world = World(5, 3)
        async with world.started():
            a, b, flooding = world.nodes
            disk = b._disk  # noqa: SLF001 - this device is slow, and the others are ahead of it
            assert disk is not None
            disk._latency_s = SLOW_S  # noqa: SLF001 - see above
            await world.run(seconds=2)
            before = await latencies(a, b, 10)
            task = asyncio.create_task(publish_much(flooding))
            await world.run(seconds=2)
            async with asyncio.timeout(10):
                during = await latencies(a, b, 10)
            task.cancel()
            held = [one.node.offsets.of(flooding.node.log.stream) for one in (a, b)]
            assert max(during) < 3 * max(before)
            assert 0 < held[1] < held[0]
            await world.run(seconds=20)
            assert b.node.offsets.covers(flooding.node.offsets)
            for link in b.node.peers._links.values():  # noqa: SLF001 - nothing is left over in its lines
                assert all(one.may_be_overtaken_by(flooding.node.id) for one in link.intake.lines)

    run_simulated(story(), random.Random(5))


def test_a_node_that_has_something_to_say_itself_catches_up_in_smaller_steps() -> None:
    async def story() -> None:
        world = World(6, 2)
        async with world.started():
            a, b = world.nodes
            await world.run(seconds=2)
            b.node.peers.cut(a.node.id)
            for _ in range(20):
                await a.node.publish_all([draft("much", number) for number in range(100)])
            await b.publish(X, 0)
            b.node.peers.heal()
            asked = []
            while not b.node.offsets.covers(a.node.offsets):
                await b.publish(X, 0)
                for link in b.node.peers._links.values():  # noqa: SLF001 - what it is asked for
                    asked += [one.last - one.first + 1 for one in link.session.wants.open.values()]
            assert asked
            assert max(asked) <= LIVELY_EVENTS

    run_simulated(story(), random.Random(6))


class Dribble:
    """One end of a channel whose other end never stops talking, one message at a time."""

    def __init__(self, peer: NodeId, last: int, message: Message) -> None:
        self.peer = peer
        self.peer_certificate = b""
        self.remote = Address("dribble", 1)
        self.count = 0
        self.over = asyncio.Event()
        self._last = last
        self._said = said(message)
        self._opening = [said(Greeting("rogue")), said(Heads((), complete=True))]

    async def read(self, _limit: int) -> bytes:
        if self._opening:
            return self._opening.pop(0)
        if self.count == self._last:
            self.over.set()
            await asyncio.Event().wait()
        self.count += 1
        return self._said

    async def write(self, _data: bytes) -> None:
        """Take it."""

    def abort(self) -> None:
        self.over.set()


def heads_of(node: NodeId) -> Heads:
    return Heads(
        tuple(Head(StreamId(node, number), 0, bytes(HASH_BYTES)) for number in range(MAX_HEADS)),
        complete=True,
    )


def addresses_of(node: NodeId) -> Addresses:
    told = tuple(Address("10.0.0.1", port) for port in range(1, MAX_OWN + 1))
    return Addresses((Candidate(node, told),) * 50)


def noticed_of(_node: NodeId) -> Noticed:
    return Noticed(tuple(number.to_bytes(NOTICE_ID_BYTES) for number in range(MAX_NOTICES)))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda _: Eager(yes=True), 1),
        (heads_of, MAX_HEADS),
        (addresses_of, 50 * MAX_OWN),
        (noticed_of, MAX_NOTICES // WEIGHED_IDS),
    ],
    ids=["short messages", "heads", "addresses", "names of notices"],
)
def test_who_says_little_at_a_time_gets_no_more_than_who_says_much(
    make: Callable[[NodeId], Message], names: int
) -> None:
    """A message that names many things takes as long as many messages."""

    async def story() -> None:
        world = World(3, 2)
        async with world.started():
            a, b = world.nodes
            await b.stop()
            log, clock = a.node.log, asyncio.get_running_loop().time
            node = b.identity.node
            count = (MESSAGES_AT_ONCE + 3 * MESSAGES_PER_S) // names
            dribble = Dribble(node, count, make(node))
            link = Link(dribble, session_of(log), log, dialled=False)
            began = clock()
            running = asyncio.create_task(link.run())
            await dribble.over.wait()
            assert not running.done()
            assert 2.9 < clock() - began < 3.1
            link.end("over")
            await running

    run_simulated(story(), random.Random(3))


def session_of(log: EventLog) -> Session:
    store = log.store
    return Session(
        program="test",
        held=store.head,
        knows_author=store.authors.__contains__,
        claims=Claims(),
        tree=Tree(log.node, random.Random(1)),
        journal=Journal(bytes(8), store.heads),
        now=asyncio.get_running_loop().time(),
    )


def test_what_is_due_soon_does_not_wait_for_what_is_due_later() -> None:
    async def story() -> None:
        world = World(4, 4)
        async with world.started():
            a, b, c, rogue = world.nodes
            first, other = await a.publish(X, 1), await c.publish(X, 1)
            await world.run(seconds=2)
            await rogue.stop()
            await c.stop()
            channel = await linked(world, rogue.identity, b)
            lazy = [Eager(yes=False, author=one.identity.node) for one in (a, c)]
            await channel.write(said(*lazy))
            await world.run(seconds=1)
            more = Head(other.stream, other.offset + 1, bytes(32), other.lamport + 1)
            await channel.write(said(Heads((more,), complete=True)))
            reading = asyncio.create_task(told_of(channel, first.stream, first.offset + 1))
            await world.run(seconds=0.02)
            began = asyncio.get_running_loop().time()
            await a.publish(X, 2)
            assert ANNOUNCED_TOGETHER_S <= await reading - began < ANNOUNCED_TOGETHER_S + 0.03
            channel.abort()

    run_simulated(story(), random.Random(4))


async def told_of(channel: SimulatedChannel, stream: StreamId, offset: int) -> float:
    """When a member that is no node is told of a stream up to an offset, in full or by its number."""
    frames, told = FrameReader(), list[StreamId]()
    while data := await channel.read(100_000):
        for message in map(decode_message, frames.feed(data)):
            heads = message.heads if isinstance(message, Heads) else ()
            told += [one.stream for one in heads]
            news = message.news if isinstance(message, News) else ()
            moved = [(told[one.alias], one.offset) for one in news]
            if (stream, offset) in [*moved, *((one.stream, one.offset) for one in heads)]:
                return asyncio.get_running_loop().time()
    raise ConnectionError("the other end hung up")
