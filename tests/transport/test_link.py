"""A link ends when it is told to, whatever else happens at that moment."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from lamport.chain import genesis
from lamport.errors import StoreFailed
from lamport.log import EventLog
from lamport.notices import Notice, NoticeKind
from lamport.repair import Piece
from lamport.sqlite import DATABASE_NAME
from tests.lamport.keys import Author, member, open_log
from transport.claims import Claims
from transport.codec import decode_message, encode_message
from transport.errors import LinkEnded
from transport.frames import FrameReader, frame
from transport.journal import Journal
from transport.link import Link
from transport.messages import Addresses, Events, Goodbye, Greeting, Heads, Message, Notify, Want
from transport.network import Address
from transport.repairs import Question
from transport.session import Session
from transport.tree import Tree


class Pipe:
    """One end of a channel in memory: says nothing until it hangs up, and takes everything."""

    def __init__(self) -> None:
        self.peer = member("bob").node
        self.peer_certificate = b""
        self.remote = Address("pipe", 1)
        self.read_from = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.said_goodbye = asyncio.Event()
        self.said_more = self.is_dropped = False
        self.written = 0

    async def read(self, _limit: int) -> bytes:
        self.read_from.set()
        await self.hung_up.wait()
        return b""

    async def write(self, data: bytes) -> None:
        """Take it."""
        self.written += 1
        self.said_more = self.said_goodbye.is_set()
        if any(isinstance(decode_message(raw), Goodbye) for raw in FrameReader().feed(data)):
            self.said_goodbye.set()

    def abort(self) -> None:
        self.is_dropped = True
        self.hung_up.set()


class TalkingPipe(Pipe):
    """One over which the peer says this much, and then nothing until it hangs up."""

    def __init__(self, *messages: Message) -> None:
        super().__init__()
        self._unread = b"".join(frame(encode_message(one)) for one in messages)

    async def read(self, limit: int) -> bytes:
        unread, self._unread = self._unread, b""
        return unread or await super().read(limit)


class FailingPipe(Pipe):
    """One over which nothing can be said, and whose disk fails meanwhile."""

    async def write(self, _data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise StoreFailed("the disk failed") from None


def link_over(
    pipe: Pipe, log: EventLog, learn: Callable[[Notice], Awaitable[object]] | None = None
) -> Link:
    store = log.store
    session = Session(
        program="test",
        held=store.head,
        knows_author=store.authors.__contains__,
        claims=Claims(),
        tree=Tree(log.node, Random(1)),
        journal=Journal(bytes(8), store.heads),
        now=asyncio.get_running_loop().time(),
    )
    return Link(pipe, session, log, dialled=True, learn=learn)


def test_a_link_whose_peer_hangs_up_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            pipe = Pipe()
            running = asyncio.create_task(link_over(pipe, log).run())
            await pipe.read_from.wait()
            pipe.hung_up.set()
            assert isinstance(await running, LinkEnded)

    asyncio.run(story())


def test_a_link_that_is_ended_by_its_node_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            pipe = Pipe()
            link = link_over(pipe, log)
            running = asyncio.create_task(link.run())
            await pipe.read_from.wait()
            link.end("cut by the operator")
            assert str(await running) == "cut by the operator"

    asyncio.run(story())


def test_who_is_to_hear_why_the_link_ends_hangs_up_first_and_is_told_nothing_more(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            pipe = Pipe()
            link = link_over(pipe, log)
            running = asyncio.create_task(link.run())
            await pipe.read_from.wait()
            link.end("revoked", to_be_heard=True)
            await pipe.said_goodbye.wait()
            link.session.say(Addresses(()))
            link.wake()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not pipe.is_dropped
            assert not pipe.said_more
            pipe.hung_up.set()
            assert str(await running) == "revoked"
            assert pipe.is_dropped

    asyncio.run(story())


def test_a_link_that_is_cancelled_while_its_peer_hangs_up_stays_cancelled(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            pipe = Pipe()
            running = asyncio.create_task(link_over(pipe, log).run())
            await pipe.read_from.wait()
            pipe.hung_up.set()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(story())


def test_a_disk_that_fails_while_a_link_ends_is_told_of_rather_than_that_end(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            pipe = FailingPipe()
            running = asyncio.create_task(link_over(pipe, log).run())
            await pipe.read_from.wait()
            pipe.hung_up.set()
            assert isinstance(await running, StoreFailed)

    asyncio.run(story())


def test_a_notice_that_is_being_taken_in_when_the_link_ends_is_taken_in_all_the_same(
    tmp_path: Path,
) -> None:
    first, second = (Notice(NoticeKind.RELEASE, body, bytes(64)) for body in (b"1", b"2"))
    begun, kept = asyncio.Event(), []

    async def learn(notice: Notice) -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        kept.append(notice)

    async def story() -> None:
        async with open_log(tmp_path) as log:
            pipe = TalkingPipe(Greeting("peer"), Notify(first), Notify(second))
            running = asyncio.create_task(link_over(pipe, log, learn).run())
            await begun.wait()
            pipe.hung_up.set()
            await running
            assert kept == [first, second]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("altered", "sent"),
    [("proof", 1), ("substr(proof, 1, length(proof) - 1) || x'00'", 0), ("x'00'", 0)],
    ids=["as it was", "one byte is another", "nothing is left"],
)
def test_a_proof_that_the_disk_altered_is_not_sent(tmp_path: Path, altered: str, sent: int) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            original = Author(member("bob"))
            await log.receive(original.count(2))
            copy = Author(member("bob"), original.stream.number)
            copy.head = original.head
            for one in (original.count(2, ["one"]), copy.count(2, ["other"])):
                await log.receive(one)
            [fork] = log.forks.prover.forks()
            with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
                database.execute(f"UPDATE forks SET proof = CAST({altered} AS BLOB)")  # noqa: S608 - of ours
                database.commit()
            pipe = Pipe()
            await link_over(pipe, log)._disclose(fork.branches[0].branch)  # noqa: SLF001 - without a peer
            assert pipe.written == sent

    asyncio.run(story())


def test_a_stream_is_asked_for_though_its_range_was_the_answer_to_a_repair(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            link, bob = link_over(Pipe(), log), Author(member("bob"))
            answer = bob.count(3)
            piece = Piece(genesis(member().swarm, bob.stream), bob.head)
            link.question = Question(log.repair.mending(piece))
            told: list[Message] = [Greeting("peer"), Heads((), complete=True), Events(answer)]
            for message in told:
                await link._take(message)  # noqa: SLF001 - without frames
            assert await link.question.answered
            asked = []
            while (said := link.session.next_message()) is not None:
                asked += [said.stream] if isinstance(said, Want) else []
            assert asked == [bob.stream]

    asyncio.run(story())
