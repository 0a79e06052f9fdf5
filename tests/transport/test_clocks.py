"""What is left of a session for the next one, and what a session that goes on from there costs."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lamport.ids import StreamId
from tests.lamport.keys import Author, member
from tests.transport.test_session import Holder, Side, talk
from transport.clocks import MAX_CLOCKS, Clocks, PeerClock
from transport.codec import encode_message
from transport.confirming import MARK_S, Confirming
from transport.frames import frame
from transport.journal import Journal
from transport.messages import Events, Fresh, Greeting, Heads, Mark, News

NODE = member("ada").node
STREAMS = [StreamId(NODE, number) for number in range(6)]
TOKEN, OTHER = b"a" * 8, b"b" * 8


class Device:
    """A holder that stays, and what it keeps of its one peer."""

    def __init__(self, name: str, token: bytes) -> None:
        self.holder = Holder(member(name))
        self.journal = Journal(token)
        self.clock = PeerClock()

    def note(self) -> None:
        """Note what is held by now; a node does so at each commit."""
        for stream in self.holder.heads:
            if stream not in self.journal.since(b"", 0):
                self.journal.note(stream)

    def publish(self, events: int = 1) -> None:
        self.holder.publish(events)
        self.journal.note(self.holder.author.stream)

    def side(self) -> Side:
        self.note()
        side = Side(self.holder)
        side.session = self.holder.session(journal=self.journal, clock=self.clock)
        return side


def meet(a: Device, b: Device, now: float = 0.0) -> tuple[Side, Side]:
    one, other = a.side(), b.side()
    talk(one, other, now)
    return one, other


def rest(one: Side, other: Side, now: float) -> None:
    """A little later, when all has been said and taken in."""
    for side in (one, other):
        side.session.elapsed(now)
    talk(one, other, now)


def cost(*sides: Side) -> int:
    """Bytes of all messages."""
    return sum(len(frame(encode_message(one))) for side in sides for one in side.sent)


def told(side: Side) -> list[StreamId]:
    heads = [head for one in side.sent if isinstance(one, Heads) for head in one.heads]
    return [head.stream for head in heads]


def full(streams: int) -> tuple[Device, Device]:
    """Two devices that hold the same, and have marked that."""
    a, b = Device("ada", TOKEN), Device("bob", OTHER)
    for number in range(streams):
        a.holder.hold(Author(member("carol"), number=number).count(1))
    a.publish(3)
    b.publish(2)
    one, other = meet(a, b)
    for device in (a, b):
        device.note()
    rest(one, other, 1.0)
    rest(one, other, 1.0 + MARK_S)
    assert a.holder.heads.keys() == b.holder.heads.keys()
    return a, b


def test_reconnecting_with_nothing_new_costs_less_than_200_bytes_however_many_streams() -> None:
    a, b = full(500)
    one, other = meet(a, b)
    rest(one, other, 20.0)
    assert told(one) == told(other) == []
    assert cost(one, other) < 200
    assert one.session.offsets == other.session.offsets
    assert len(one.session.offsets) == 502


def test_only_what_moved_meanwhile_is_told() -> None:
    a, b = full(20)
    a.publish()
    b.publish()
    b.publish()
    one, other = meet(a, b)
    assert told(one) == [a.holder.author.stream]
    assert told(other) == [b.holder.author.stream]
    assert a.holder.heads == b.holder.heads


def test_a_peer_with_another_token_is_told_everything_and_what_was_known_of_it_is_forgotten() -> (
    None
):
    a, _ = full(20)
    wiped = Device("bob", TOKEN)
    one, other = meet(a, wiped)
    assert len(told(one)) == 22
    assert told(other) == []
    assert wiped.holder.heads == a.holder.heads
    assert one.session.theirs.keys() == a.holder.heads.keys()
    assert a.clock.token == TOKEN


def test_what_was_not_taken_in_is_told_again() -> None:
    """The link breaks before the marks: what is then on the way is not counted as known."""
    a, b = full(5)
    one, _ = meet(a, b)
    one.session.push(a.holder.publish(), 0.0)
    a.journal.note(a.holder.author.stream)
    assert any(isinstance(lost, Fresh | Events) for lost in one.says())
    one, _ = meet(a, b)
    assert told(one) == [a.holder.author.stream]
    assert a.holder.heads == b.holder.heads


def test_what_was_pushed_and_confirmed_counts_as_held_by_the_peer() -> None:
    a, b = full(5)
    one, other = meet(a, b)
    stream = a.holder.author.stream
    one.session.push(a.holder.publish(), 0.0)
    talk(one, other)
    assert one.session.offsets.of(stream) == 2
    rest(one, other, 20.0)
    assert one.session.offsets.of(stream) == 3
    assert not any(isinstance(message, News) for message in other.sent)


def test_what_was_sent_is_held_by_the_peer_only_once_it_says_so() -> None:
    clock, stream = PeerClock(), STREAMS[0]
    confirming = Confirming(clock)
    for offset in (3, 4):
        confirming.sends(News(()))
        confirming.sends_range(stream, offset)
    confirming.take(Mark(7, 1), 0.0)
    assert clock.said == {}
    assert clock.sequence == 0
    confirming.is_level()
    assert clock.sequence == 7
    confirming.take(Mark(7, 2), 0.0)
    assert clock.said == {stream: 4}


def test_a_peer_of_an_older_version_is_told_everything_and_hears_no_marks() -> None:
    a, _ = full(5)
    side = a.side()
    side.says()
    side.hears([Greeting("old"), Heads((), complete=True)])
    side.says()
    side.session.elapsed(20.0)
    assert not any(isinstance(message, Mark) for message in side.says())
    assert len(told(side)) == 7


def test_so_many_clocks_are_kept_and_the_latest_of_them() -> None:
    clocks, nodes = Clocks(), [Author(member(f"m{n}")).stream.node for n in range(MAX_CLOCKS + 1)]
    for node in nodes:
        clocks.of(node).bind(TOKEN)
    assert clocks.known(nodes[0]) is None
    assert clocks.of(nodes[-1]).token == TOKEN


@given(st.lists(st.sampled_from(STREAMS)), st.integers(0, 40))
def test_a_journal_tells_exactly_what_moved_behind_a_number(
    moves: list[StreamId], known: int
) -> None:
    journal = moved(moves)
    assert set(journal.since(TOKEN, known)) == set(moves[known:])
    assert set(journal.since(OTHER, known)) == set(moves)
    assert set(journal.since(b"", known)) == set(moves)
    journal.renew(OTHER)
    assert set(journal.since(TOKEN, known)) == set(moves)


def moved(moves: Iterable[StreamId]) -> Journal:
    journal = Journal(TOKEN)
    for stream in moves:
        journal.note(stream)
    return journal
