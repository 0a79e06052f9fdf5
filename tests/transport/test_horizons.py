"""Horizons in a session: nobody is asked for what was pruned on purpose, and each is told once."""

from random import Random

from lamport.chain import Head, Seal
from lamport.ids import StreamId
from tests.lamport.keys import Author, member
from tests.transport.test_session import HASH, Holder
from transport.claims import Claims
from transport.journal import Journal
from transport.messages import ANY_HASH, Declined, Greeting, Heads, Message, Want, Why
from transport.session import Session
from transport.tree import Tree

BOB = Author(member("bob"))
STREAM = BOB.stream


class Knowing(Holder):
    """A holder that has heard of horizons."""

    def __init__(self) -> None:
        super().__init__(member())
        self.announced: dict[StreamId, Seal] = {}

    def live_session(self) -> Session:
        session = Session(
            program="",
            held=self.held,
            announced=self.announced.get,
            knows_author=self.authors.__contains__,
            claims=Claims(),
            tree=Tree(self.keys.node, Random(1)),
            journal=Journal(bytes(8), self.heads),
            now=0,
        )
        session.take(Greeting("peer"), 0)
        session.take(Heads((), complete=True), 0)
        said(session)
        return session


def said(session: Session) -> list[Message]:
    messages: list[Message] = []
    while (message := session.next_message()) is not None:
        messages.append(message)
    return messages


def seal(horizon: int, offset: int = 99) -> Seal:
    return Seal(STREAM, offset, HASH, 100, horizon, bytes(64))


def told(offset: int, *horizons: Seal) -> Heads:
    return Heads((Head(STREAM, offset, HASH),), complete=False, horizons=horizons)


def wants(session: Session) -> list[Want]:
    return [message for message in said(session) if isinstance(message, Want)]


def test_a_newcomer_asks_from_the_horizon_that_it_is_told() -> None:
    session = Knowing().live_session()
    session.take(told(99, seal(50)), 0)
    assert wants(session) == [Want(STREAM, 50, 99, ANY_HASH, certificate=True)]


def test_one_that_knows_a_higher_horizon_asks_from_there() -> None:
    holder = Knowing()
    holder.announced[STREAM] = seal(70)
    session = holder.live_session()
    session.take(told(99, seal(50)), 0)
    assert wants(session) == [Want(STREAM, 70, 99, ANY_HASH, certificate=True)]


def test_a_horizon_that_is_no_gap_changes_nothing() -> None:
    holder = Knowing()
    holder.hold(holder.publish(3), Author(member("bob")).count(50))
    session = holder.live_session()
    session.take(told(99, seal(50)), 0)
    head = holder.held(STREAM)
    assert wants(session) == [Want(STREAM, 50, 99, head.hash, certificate=False)]


def test_a_peer_that_holds_nothing_behind_the_horizon_is_not_asked() -> None:
    holder = Knowing()
    holder.announced[STREAM] = seal(70)
    session = holder.live_session()
    session.take(told(60), 0)
    assert wants(session) == []
    session.take(told(80), 0)
    assert wants(session) == [Want(STREAM, 70, 80, ANY_HASH, certificate=True)]


def test_a_horizon_is_told_once_and_never_back_to_who_told_it() -> None:
    holder = Knowing()
    holder.hold(BOB.count(100))
    session = holder.live_session()
    said(session)
    session.take(told(99, seal(50)), 0)
    holder.announced[STREAM] = seal(50)
    session.horizon_moved(STREAM)
    assert not session.has_to_send
    holder.announced[STREAM] = seal(60)
    session.horizon_moved(STREAM)
    session.horizon_moved(STREAM)
    [message] = said(session)
    assert isinstance(message, Heads)
    assert message.horizons == (seal(60),)
    session.horizon_moved(STREAM)
    assert not session.has_to_send


def test_a_decline_at_the_horizon_leaves_the_stream_to_others() -> None:
    session = Knowing().live_session()
    session.take(told(99, seal(50)), 0)
    assert wants(session)
    session.take(Declined(STREAM, Why.UNKNOWN), 0)
    assert wants(session) == []
