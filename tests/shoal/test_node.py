"""Stories of one node: its verbs, its disk, its stop."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fish import Fish
from lamport import ALL_EVENTS, InvalidInput, InvalidQuery, LogError, Order, Tag, draft
from lamport.errors import StoreFailed, StoreFull
from lamport.leaps import encode_release
from lamport.notices import Notice, NoticeKind, signed_bytes
from lamport.seams import Connection, Disk, Statement
from shoal.daemon import unwrapped
from shoal.node import Node
from shoal.system import system_seams
from tests.shoal.swarm import LOOPBACK, PATIENCE_S, Home, converged, linked, make_homes
from transport.identity import make_swarm
from transport.network import Address

COUNT: Fish[int] = Fish("count", Tag("x"), 0, lambda count, _event, _metadata: count + 1)


class FailingDisk:
    """A real disk that fails transactions, or reads, with an SQLite error code while it is told to."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.code: int | None = None
        self.reading_code: int | None = None

    async def open_writer(self) -> Connection:
        return _FailingConnection(await self._disk.open_writer(), self)

    async def open_reader(self) -> Connection:
        return _FailingReader(await self._disk.open_reader(), self)

    async def read_token(self) -> bytes:
        return await self._disk.read_token()

    async def write_token(self, token: bytes) -> None:
        await self._disk.write_token(token)


class _FailingConnection:
    def __init__(self, connection: Connection, disk: FailingDisk) -> None:
        self._connection = connection
        self._disk = disk

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self._connection.fetch(sql, parameters)

    async def transact(self, statements: Iterable[Statement]) -> None:
        _fail_with(self._disk.code)
        await self._connection.transact(statements)

    async def close(self) -> None:
        await self._connection.close()


class _FailingReader(_FailingConnection):
    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        _fail_with(self._disk.reading_code)
        return await super().fetch(sql, parameters)


def _fail_with(code: int | None) -> None:
    if code is not None:
        error = sqlite3.OperationalError("made to fail")
        error.sqlite_errorcode = code
        raise error


@asynccontextmanager
async def on_failing_disk(
    home: Home, peers: Sequence[Address] = ()
) -> AsyncIterator[tuple[Node, FailingDisk]]:
    seams = system_seams(home.folder, home.identity, listen=LOOPBACK, mdns=False)
    disk = FailingDisk(seams.disk)
    node = Node(home.identity, replace(seams, disk=disk), peers=tuple(peers))
    async with asyncio.timeout(PATIENCE_S), node:
        yield node, disk


def test_a_published_event_is_found_by_query_subscription_and_fish(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as device:
            node = device.node
            event = await node.publish(Tag("x").with_id("7"), {"n": 1})
            assert event.tags == ("x", "x:7")
            assert [e async for e in node.query("FROM 'x' & 'x:7'")] == [event]
            assert await anext(node.subscribe(Tag("x"))) == event
            assert await node.pond.current_state(COUNT) == 1

    asyncio.run(story())


def test_queries_go_up_down_and_stream_by_stream(tmp_path: Path) -> None:
    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_a.started() as a, home_b.started([a.node.listening]) as b:
            await linked(a.node, b.node)
            for number in range(3):
                await a.publish("x", f"a{number}")
                await converged(a, b)
                await b.publish("x", f"b{number}")
                await converged(a, b)
            up = [e.payload async for e in a.node.query(Tag("x"))]
            assert up == ["a0", "b0", "a1", "b1", "a2", "b2"]
            down = [e.payload async for e in a.node.query(Tag("x"), order=Order.DESCENDING)]
            assert down == up[::-1]
            single = [e.payload async for e in a.node.query(Tag("x"), order=Order.PER_STREAM)]
            assert sorted(single[:3]) in (["a0", "a1", "a2"], ["b0", "b1", "b2"])
            local = [e.payload async for e in a.node.query("FROM 'x' & isLocal")]
            assert local == ["a0", "a1", "a2"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("tags", "payload"),
    [
        ("", 1),
        ("x" * 129, 1),
        ("shoal:mine", 1),
        ("x", float("nan")),
        ("x", 2**63),
        ("x", b"bytes"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_stored(
    tmp_path: Path, tags: str, payload: object
) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as device:
            with pytest.raises(InvalidInput):
                await device.node.publish(tags, payload)
            with pytest.raises(InvalidInput):
                await device.node.publish_all([draft("x", 1), draft("x", float("inf"))])
            assert not device.node.offsets
            assert (await device.publish("x", 1)).lamport == 1

    asyncio.run(story())


def test_a_malformed_query_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as device:
            with pytest.raises(InvalidQuery):
                await anext(device.node.query("FROM x"))
            with pytest.raises(InvalidQuery):
                device.node.subscribe("FROM x")

    asyncio.run(story())


def test_a_full_disk_refuses_appends_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with on_failing_disk(home) as (node, disk):
            await node.publish("x", 1)
            disk.code = sqlite3.SQLITE_FULL
            with pytest.raises(StoreFull):
                await node.publish("x", 2)
            assert [e.payload async for e in node.query("FROM 'x'")] == [1]
            assert await node.pond.current_state(COUNT) == 1
            disk.code = None
            event = await node.publish("x", 3)
            assert (event.offset, event.lamport) == (1, 2)

    asyncio.run(story())


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_FSYNC])
def test_a_failing_disk_stops_the_node_and_acknowledges_nothing_past_it(
    tmp_path: Path, code: int
) -> None:
    async def until_it_stops(home: Home, acknowledged: list[object]) -> None:
        async with on_failing_disk(home) as (node, disk):
            acknowledged.append((await node.publish("x", 1)).payload)
            assert await node.pond.current_state(COUNT) == 1
            disk.code = code
            with pytest.raises(LogError):
                await node.publish("x", 2)
            await asyncio.Event().wait()

    async def story() -> list[object]:
        [home] = make_homes(tmp_path, "A")
        acknowledged: list[object] = []
        with pytest.raises(BaseExceptionGroup) as stopped:
            await until_it_stops(home, acknowledged)
        assert isinstance(unwrapped(stopped.value), StoreFailed)
        async with home.started() as device:
            assert [e.payload async for e in device.node.query("FROM 'x'")] == acknowledged
        return acknowledged

    assert asyncio.run(story()) == [1]


def test_a_disk_that_fails_at_a_notice_which_a_peer_brought_stops_the_node(tmp_path: Path) -> None:
    key, admin = make_swarm(random.Random("AB"))
    body = encode_release(7)
    signature = admin.sign(signed_bytes(key.swarm, NoticeKind.RELEASE, body))
    notice = Notice(NoticeKind.RELEASE, body, signature)

    async def until_it_stops(home: Home, peer: Node) -> None:
        async with on_failing_disk(home, [peer.listening]) as (node, disk):
            await linked(node, peer)
            disk.code = sqlite3.SQLITE_IOERR_FSYNC
            await peer.learn(notice)
            await asyncio.Event().wait()

    async def story() -> None:
        home, other = make_homes(tmp_path, "AB", key)
        async with other.started() as peer:
            with pytest.raises(BaseExceptionGroup) as stopped:
                await until_it_stops(home, peer.node)
            assert isinstance(unwrapped(stopped.value), StoreFailed)

    asyncio.run(story())


def test_a_disk_that_fails_when_a_peer_is_answered_stops_the_node(tmp_path: Path) -> None:
    async def until_it_stops(home: Home, other: Home) -> None:
        async with on_failing_disk(home) as (node, disk):
            await node.publish("x", 1)
            disk.reading_code = sqlite3.SQLITE_IOERR_READ
            async with other.started([node.listening]):
                await asyncio.Event().wait()

    async def story() -> None:
        home, other = make_homes(tmp_path, "AB")
        with pytest.raises(BaseExceptionGroup) as stopped:
            await until_it_stops(home, other)
        assert isinstance(unwrapped(stopped.value), StoreFailed)

    asyncio.run(story())


def test_leaving_the_block_keeps_what_was_submitted_before(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as device:
            writing = asyncio.gather(*(device.publish("x", number) for number in range(100)))
            await device.publish("x", 100)
        assert len(await writing) == 100
        async with home.started() as device:
            payloads = [e.payload async for e in device.node.query("FROM 'x'")]
            assert sorted(payloads) == list(range(101))

    asyncio.run(story())


def test_an_error_in_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as device:
            await device.publish("x", 1)
            raise KeyError("mine")

    with pytest.raises(BaseException) as raised:  # noqa: PT011 - which kind it is, is what is asked
        asyncio.run(story())
    assert isinstance(unwrapped(raised.value), KeyError)


def test_a_reader_may_see_a_new_stream_before_its_writer_goes_on(tmp_path: Path) -> None:
    """A commit is on the disk a moment before the log knows of it; a reader's thread may be that quick."""

    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_a.started() as a:
            await a.publish("x", 1)
            seams = system_seams(home_b.folder, home_b.identity, listen=LOOPBACK, mdns=False)
            disk = PeekingDisk(seams.disk)
            peers = [a.node.listening]
            async with Node(home_b.identity, replace(seams, disk=disk), peers=peers) as node:
                disk.peek = lambda: read_all(node)
                while node.offsets != a.node.offsets:
                    await node.log.changed()
                assert disk.peeked >= 1

    async def read_all(node: Node) -> None:
        assert [event async for event in node.query(ALL_EVENTS, upper=node.offsets)] == []

    asyncio.run(story())


class PeekingDisk(FailingDisk):
    """A real disk that lets somebody read between the end of a commit and the writer's hearing of it."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.peek: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.peeked = 0

    async def open_writer(self) -> Connection:
        return _PeekingConnection(await self._disk.open_writer(), self)


class _PeekingConnection(_FailingConnection):
    def __init__(self, connection: Connection, disk: PeekingDisk) -> None:
        super().__init__(connection, disk)
        self._peeking = disk

    async def transact(self, statements: Iterable[Statement]) -> None:
        await super().transact(statements)
        if self._peeking.peek is not None:
            self._peeking.peeked += 1
            await self._peeking.peek()
