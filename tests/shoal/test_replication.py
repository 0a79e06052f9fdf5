"""Stories of replication between real nodes, and of those who do not belong."""

import asyncio
import random
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fish import Fish
from fish.errors import FishStopped
from lamport import OffsetMap, Tag, draft
from lamport.chain import SealedRange
from lamport.codec import encode_draft, encode_event
from lamport.log import EventLog
from lamport.sqlite import DATABASE_NAME
from lamport.store import Store
from shoal.keys import IdentityKeys
from shoal.node import Node
from shoal.system import system_seams
from tests.shoal.swarm import (
    LOOPBACK,
    Device,
    Home,
    converged,
    cut,
    heal,
    linked,
    make_homes,
    unlinked,
    until,
)
from transport.codec import decode_message, encode_message
from transport.errors import PeerRejected
from transport.frames import FrameReader, frame
from transport.handshake import ClientHandshake
from transport.identity import make_swarm
from transport.messages import Events, Greeting, Heads, Message, Want
from transport.network import Address, Channel
from transport.tls import TlsNetwork


def free_address() -> Address:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address(*probe.getsockname())


def test_three_nodes_in_a_line_converge(tmp_path: Path) -> None:
    async def story() -> None:
        first, middle, last = make_homes(tmp_path, "ABC")
        async with (
            middle.started() as b,
            first.started([b.node.listening]) as a,
            last.started([b.node.listening]) as c,
        ):
            for number, device in enumerate([a, b, c] * 10):
                await device.publish("x", number)
            await converged(a, b, c)
            assert a.node.offsets == b.node.offsets == c.node.offsets
            assert c.node.id not in a.node.peers.linked
            payloads = [[e.payload async for e in d.node.query(Tag("x"))] for d in (a, b, c)]
            assert payloads[0] == payloads[1] == payloads[2]
            assert sorted(payloads[0]) == list(range(30))

    asyncio.run(story())


def test_a_node_that_was_down_catches_up(tmp_path: Path) -> None:
    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_a.started() as a:
            async with home_b.started([a.node.listening]) as b:
                await b.publish("x", "from b")
                await converged(a, b)
            await unlinked(a.node, b.node)
            await a.node.publish_all(draft("x", number) for number in range(3_000))
            async with home_b.started([a.node.listening]) as b:
                await converged(a, b)
                assert a.node.offsets == b.node.offsets
                assert not b.node.status().missing

    asyncio.run(story())


def test_a_node_started_again_goes_on_in_its_stream_and_clock(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as a:
            before = [await a.publish("x", 1), await a.publish("x", 2)]
        async with home.started() as a:
            after = await a.publish("x", 3)
            assert after.stream == before[0].stream
            assert (after.offset, after.lamport) == (2, 3)
            assert [e.payload async for e in a.node.query("FROM 'x'")] == [1, 2, 3]

    asyncio.run(story())


def test_two_nodes_that_dial_each_other_keep_one_link(tmp_path: Path) -> None:
    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        at_a, at_b = free_address(), free_address()
        async with home_a.started([at_b], at_a) as a, home_b.started([at_a], at_b) as b:
            await linked(a.node, b.node)
            await linked(b.node, a.node)
            for number in range(10):
                await a.publish("x", number)
                await converged(a, b)
            assert len(a.node.status().peers) == len(b.node.status().peers) == 1

    asyncio.run(story())


def test_a_cut_node_is_refused_until_healed(tmp_path: Path) -> None:
    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_a.started() as a, home_b.started([a.node.listening]) as b:
            await linked(a.node, b.node)
            await cut(a, b)
            b.node.peers.heal()  # one side is not enough
            await a.publish("x", 1)
            await until(lambda: "cut this link" in b.node.status().peers[0].last_error)
            assert b.node.offsets == OffsetMap()
            heal(a, b)
            await converged(a, b)
            assert b.node.offsets == a.node.offsets

    asyncio.run(story())


def test_two_subscribers_see_every_matching_event_once(tmp_path: Path) -> None:
    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_a.started() as a, home_b.started([a.node.listening]) as b:
            await a.node.publish_all(draft("x", number) for number in range(50))
            early = asyncio.create_task(seen(b, 150))
            await converged(a, b)
            late = asyncio.create_task(seen(b, 150))
            for number in range(50, 100):
                await a.publish("x", number)
                await b.publish("other", None)
                await b.publish("x", number + 50)
            for payloads in (await early, await late):
                assert sorted(payloads) == list(range(150))

    async def seen(device: Device, count: int) -> list[int]:
        payloads: list[int] = []
        async for event in device.node.subscribe(Tag("x")):
            payloads.append(event.payload)
            if len(payloads) == count:
                return payloads
        raise AssertionError("a subscription has no end")

    asyncio.run(story())


def test_publishing_returns_while_no_peer_answers(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started([free_address()]) as a:
            event = await a.publish("x", 1)
            assert a.node.offsets[event.stream] == 0

    asyncio.run(story())


def test_a_node_of_another_swarm_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        [stranger] = make_homes(tmp_path, "X")
        async with home.started() as a, stranger.started([a.node.listening]) as x:
            await a.publish("x", "secret")
            assert "membership" in await refused(x.node)
            assert not a.node.status().peers
            assert x.node.offsets == OffsetMap()

    asyncio.run(story())


def test_a_made_up_certificate_is_refused_although_the_rest_is_stolen(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        [stranger] = make_homes(tmp_path, "X")
        theirs = home.identity
        # Everything of the swarm but a certificate that its authority signed.
        stolen = replace(
            stranger.identity,
            swarm=theirs.swarm,
            hello_server=theirs.hello_server,
            hello_client=theirs.hello_client,
        )
        impostor = Home(stranger.folder, stolen)
        async with home.started() as a, impostor.started([a.node.listening]) as x:
            await a.publish("x", "secret")
            assert "membership" in await refused(x.node)
            assert not a.node.status().peers
            assert x.node.offsets == OffsetMap()

    asyncio.run(story())


@pytest.mark.parametrize("place", ["tags", "hash", "signature", "certificate"])
def test_a_batch_that_does_not_hold_is_refused_whole_and_its_sender_banned(
    tmp_path: Path, place: str
) -> None:
    async def story() -> None:
        swarm_key, _ = make_swarm(random.Random(7))
        home, hostile = make_homes(tmp_path, "AX", swarm_key)
        sealed = await a_sealed_range(hostile)
        async with home.started() as a:
            async with session(hostile, a.node.listening) as channel:
                await insist(channel, forged(sealed, place))
            assert a.node.offsets == OffsetMap()
            with pytest.raises(PeerRejected):
                async with session(hostile, a.node.listening):
                    pass
            [status] = a.node.status().peers
            assert not status.connected
            assert status.last_error

    asyncio.run(story())


def test_a_batch_that_does_not_chain_to_its_seal_is_refused_whole(tmp_path: Path) -> None:
    """Its seal is the author's, so somebody holds another history: that stream is set aside, and told."""

    async def story() -> None:
        swarm_key, _ = make_swarm(random.Random(7))
        home, hostile = make_homes(tmp_path, "AX", swarm_key)
        sealed = await a_sealed_range(hostile)
        async with home.started() as a, session(hostile, a.node.listening) as channel:
            insisting = asyncio.create_task(insist(channel, forged(sealed, "event")))
            await until(lambda: any(peer.diverged for peer in a.node.status().peers))
            assert a.node.offsets == OffsetMap()
            insisting.cancel()

    asyncio.run(story())


def test_a_batch_that_holds_is_taken_from_the_same_peer(tmp_path: Path) -> None:
    async def story() -> None:
        swarm_key, _ = make_swarm(random.Random(7))
        home, other = make_homes(tmp_path, "AX", swarm_key)
        sealed = await a_sealed_range(other)
        async with home.started() as a, session(other, a.node.listening) as channel:
            await say(channel, Events(sealed))
            while a.node.offsets.of(sealed.stream) != sealed.seal.offset:
                await a.node.log.changed()

    asyncio.run(story())


async def refused(stranger: Node) -> str:
    """Wait until an attempt of the stranger's to connect has failed; returns why."""

    def why() -> str:
        status = stranger.status()
        errors = [*status.unreached.values(), *(peer.last_error for peer in status.peers)]
        return "; ".join(error for error in errors if error)

    await until(lambda: bool(why()))
    return why()


async def a_sealed_range(home: Home) -> SealedRange:
    """Ten events of a device, as it would send them."""
    seams = system_seams(home.folder, home.identity, listen=LOOPBACK, mdns=False)
    store = await Store.open(seams.disk, IdentityKeys(home.identity), lambda: 10**15)
    log = EventLog(store, IdentityKeys(home.identity), lambda: 0)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log.write())
            await log.publish([draft("x", number) for number in range(10)])
            sealed = await log.sealed_range(log.stream, 0, 1_000)
            log.close()
    finally:
        await store.close()
    assert sealed is not None
    return sealed


def forged(sealed: SealedRange, place: str) -> SealedRange:
    """The range with one bit flipped in one place."""
    match place:
        case "event":
            events = (*sealed.events[:5], flipped(sealed.events[5]), *sealed.events[6:])
            return replace(sealed, events=events)
        case "tags":
            broken = encode_event(1, 0, encode_draft(draft("x", 1))).replace(b"\xa1x", b"\xa0y", 1)
            return replace(sealed, events=(broken, *sealed.events[1:]))
        case "certificate":
            return replace(sealed, certificate=flipped(sealed.certificate))
        case "hash":
            seal = sealed.seal
            return replace(sealed, seal=replace(seal, hash=flipped(seal.hash)))
        case _:
            seal = sealed.seal
            return replace(sealed, seal=replace(seal, signature=flipped(seal.signature)))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@asynccontextmanager
async def session(home: Home, address: Address) -> AsyncIterator[Channel]:
    """A peer by hand: the hello, the greeting, and heads that claim nothing."""
    network = TlsNetwork(home.identity, listen=LOOPBACK, mdns=False)
    channel = await network.dial(address)
    try:
        own, theirs = home.identity.certificate, channel.peer_certificate
        handshake = ClientHandshake(home.identity, own, theirs, bytes(32))
        await channel.write(handshake.start())
        while not handshake.done:
            await channel.write(handshake.receive(await channel.read(4_096)))
        await say(channel, Greeting("by hand"))
        await say(channel, Heads((), complete=True))
        yield channel
    finally:
        channel.abort()


async def say(channel: Channel, message: Message) -> None:
    await channel.write(frame(encode_message(message)))


async def insist(channel: Channel, sealed: SealedRange) -> None:
    """Push a range, and send it again to whoever asks for it, until the peer hangs up."""
    frames = FrameReader()
    await say(channel, Events(sealed))
    with suppress(OSError):
        while data := await channel.read(65_536):
            for raw in frames.feed(data):
                if isinstance(decode_message(raw), Want):
                    await say(channel, Events(sealed))


def test_what_a_disk_altered_is_told_and_not_sent_and_nobody_is_banned_for_it(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_a.started() as a:
            stream = a.node.log.stream
            for number in range(3):
                await a.publish("x", number)
        with closing(sqlite3.connect(home_a.folder / DATABASE_NAME)) as database:
            [(data,)] = database.execute('SELECT bytes FROM events WHERE "offset" = 1')
            altered = data[:-1] + bytes([data[-1] ^ 1])
            database.execute('UPDATE events SET bytes = ? WHERE "offset" = 1', (altered,))
            database.commit()
        async with home_a.started() as a, home_b.started([a.node.listening]) as b:
            await until(lambda: stream in a.node.status().damaged)
            await until(lambda: b.node.offsets.of(stream) == 0)
            await b.publish("x", "from b")
            await until(lambda: b.node.log.stream in a.node.offsets)
            assert "are damaged on this disk" in a.node.status().damaged[stream]
            assert [one.connected for one in b.node.status().peers] == [True]

    asyncio.run(story())


def test_a_fish_that_needs_an_event_the_disk_lost_stops_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    count = Fish("count", Tag("x"), 0, lambda state, _event, _metadata: state + 1)
    other = Fish("other", Tag("y"), 0, lambda state, _event, _metadata: state + 1)

    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as a:
            for tag in "xxy":
                await a.publish(tag, 1)
        with closing(sqlite3.connect(home.folder / DATABASE_NAME)) as database:
            database.execute("UPDATE events SET bytes = x'95' WHERE \"offset\" = 1")
            database.commit()
        async with home.started() as a:
            with pytest.raises(FishStopped, match=r"event 1 of stream .* is damaged on this disk"):
                await a.node.pond.current_state(count)
            assert await a.node.pond.current_state(other) == 1
            await a.publish("y", 2)
            assert await a.node.pond.current_state(other) == 2
            assert "is damaged on this disk" in a.node.status().stopped["count"]

    asyncio.run(story())
