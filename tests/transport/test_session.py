"""Sessions, wired by hand: what two sides tell, ask and send each other, without a byte of network."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest

from lamport.chain import Head, SealedRange, genesis
from lamport.errors import DivergedStream
from lamport.ids import BRANCH_BYTES, MAX_LAMPORT, NodeId, StreamId
from tests.lamport.keys import Author, Member, event_bytes, member, taken
from transport.claims import CLAIM_S, RENEWING_EVENTS, Claims
from transport.clocks import PeerClock
from transport.codec import decode_message, encode_message
from transport.errors import LinkEnded, PeerFault
from transport.journal import Journal
from transport.liveness import MEASURED_S, PING_INTERVAL_S, SILENCE_LIMIT_S, UNHEARD_S
from transport.messages import (
    MAX_HEADS,
    ROOT_BYTES,
    SHORT_HASH_BYTES,
    Declined,
    Disclose,
    Eager,
    Events,
    Fresh,
    Goodbye,
    Greeting,
    Heads,
    Message,
    News,
    Novelty,
    Ping,
    Pong,
    Root,
    Want,
    Why,
)
from transport.outbox import MAX_PUSHED_BYTES
from transport.phases import Phase
from transport.roots import BEAT_S, SAMPLES, Branch
from transport.session import MAX_SERVED, Session
from transport.tree import ANNOUNCED_TOGETHER_S, GRACE_S, LONGEST_GRACE_S, Heard, Tree
from transport.wants import MAX_WANTS, TORN_TIMEOUT_S, WANT_TIMEOUT_S, WANTED_EVENTS

HASH, TOKEN = bytes(32), bytes(8)

_Kind = TypeVar("_Kind", bound=Message)

LATER = 8.0
"""When every node may take a link out of the tree."""


class Holder:
    """A node that keeps sealed ranges in memory and checks what it takes in."""

    def __init__(self, keys: Member) -> None:
        self.keys = keys
        self.author = Author(keys)
        self.claims = Claims()
        self.heads: dict[StreamId, Head] = {}
        self.ranges: dict[StreamId, list[SealedRange]] = {}
        self.authors: dict[NodeId, bytes] = {keys.node: keys.certificate}

    def held(self, stream: StreamId) -> Head:
        return self.heads.get(stream) or genesis(self.keys.swarm, stream)

    def hold(self, *ranges: SealedRange) -> None:
        """Take the ranges in as the log would."""
        for received in ranges:
            found = taken(received, self.held(received.stream), self.keys)
            if found is not None:
                self.heads[received.stream] = found.head
                self.ranges.setdefault(received.stream, []).append(received)
                if received.certificate:
                    self.authors[received.stream.node] = received.certificate

    def publish(self, events: int = 1) -> SealedRange:
        sealed = self.author.count(events)
        self.hold(sealed)
        return sealed

    def hash_before(self, stream: StreamId, first: int) -> bytes | None:
        ends = {one.seal.offset: one.seal.hash for one in self.ranges.get(stream, ())}
        return genesis(self.keys.swarm, stream).hash if first == 0 else ends.get(first - 1)

    def answer(self, session: Session, want: Want) -> Message:
        before = self.hash_before(want.stream, want.first)
        if before != want.hash:
            return session.serve(want, None, diverged=before is not None)
        found = [one for one in self.ranges.get(want.stream, ()) if one.first == want.first]
        if not found:
            return session.serve(want, None)
        certificate = self.authors[want.stream.node]
        return session.serve(want, replace(found[0], certificate=certificate))

    def session(
        self,
        now: float = 0.0,
        claims: Claims | None = None,
        journal: Journal | None = None,
        clock: PeerClock | None = None,
        *,
        reach: Callable[[], int] = lambda: MAX_LAMPORT,
        grows: Callable[[StreamId], bool] = lambda _: True,
        is_lively: Callable[[NodeId], bool] = lambda _author: False,
    ) -> Session:
        return Session(
            program=f"program of {self.keys.node.short}",
            held=self.held,
            knows_author=self.authors.__contains__,
            claims=claims or self.claims,
            tree=Tree(self.keys.node, Random(1)),
            journal=journal or Journal(TOKEN, self.heads),
            clock=clock,
            reach=reach,
            grows=grows,
            is_lively=is_lively,
            now=now,
        )


class Side:
    """A holder, its session, and all that the session sent."""

    def __init__(self, holder: Holder, now: float = 0.0) -> None:
        self.holder = holder
        self.session = holder.session(now)
        self.sent: list[Message] = []

    def says(self) -> list[Message]:
        """All that waits to be sent, answers included."""
        messages: list[Message] = []
        while True:
            message = self.session.next_message()
            want = self.session.next_serving()
            if message is not None:
                messages.append(message)
            if want is not None:
                messages.append(self.holder.answer(self.session, want))
            if message is None and want is None:
                self.sent.extend(messages)
                return messages

    def hears(self, messages: Iterable[Message], now: float = 0.0) -> None:
        for message in messages:
            carried = decode_message(encode_message(message))
            assert carried is not None
            self.session.liveness.heard(now)
            sealed = self.session.take(carried, now)
            if isinstance(sealed, SealedRange):
                self.takes_in(sealed, now)

    def takes_in(self, sealed: SealedRange, now: float) -> None:
        before = self.holder.held(sealed.stream)
        try:
            self.holder.hold(sealed)
        except DivergedStream:
            self.session.contradicted(sealed, now)
        else:
            added = self.holder.held(sealed.stream) != before
            self.session.taken(sealed, now, added=added)

    def sent_of(self, kind: type[_Kind]) -> list[_Kind]:
        return [message for message in self.sent if isinstance(message, kind)]


def talk(a: Side, b: Side, now: float = 0.0) -> None:
    """Carry messages until neither has anything to say."""
    quiet = False
    while not quiet:
        from_a, from_b = a.says(), b.says()
        b.hears(from_a, now)
        a.hears(from_b, now)
        quiet = not from_a and not from_b


def pair() -> tuple[Side, Side]:
    return Side(Holder(member("ada"))), Side(Holder(member("bob")))


def linked() -> tuple[Side, Side]:
    """Two sides that have told each other everything."""
    a, b = pair()
    talk(a, b)
    assert a.session.phase is b.session.phase is Phase.LIVE
    a.sent.clear()
    b.sent.clear()
    return a, b


def lively(holder: Holder, claims: Claims | None = None) -> Session:
    """A session whose peer has said all it holds: nothing."""
    session = holder.session(claims=claims)
    session.take(Greeting("peer"), 0)
    session.take(Heads((), complete=True), 0)
    session.elapsed(0)
    [ping] = [one for one in said(session) if isinstance(one, Ping)]
    session.take(Pong(ping.token), 0)
    return session


def said(session: Session) -> list[Message]:
    """What the session sends by itself."""
    messages: list[Message] = []
    while (message := session.next_message()) is not None:
        messages.append(message)
    return messages


def wants(session: Session) -> list[StreamId]:
    return [one.stream for one in said(session) if isinstance(one, Want)]


def head_of(author: Author) -> Heads:
    return Heads((author.head,), complete=False)


def test_pull_makes_both_sides_hold_the_same() -> None:
    a, b = pair()
    carol, dave = Author(member("carol")), Author(member("dave"))
    first, second = carol.count(5), carol.count(3)
    a.holder.hold(first, second, dave.count(2))
    b.holder.hold(first)
    a.holder.publish(4)
    b.holder.publish(1)
    b.holder.publish(1)
    a, b = Side(a.holder), Side(b.holder)
    talk(a, b)
    assert a.holder.heads == b.holder.heads
    assert len(a.holder.heads) == 4
    served = [one.events for one in a.holder.ranges[carol.stream]]
    assert [one.events for one in b.holder.ranges[carol.stream]] == served


def test_equal_sides_ask_for_nothing() -> None:
    a, b = pair()
    for holder in (a.holder, b.holder):
        holder.hold(Author(member("carol")).count(5))
    a, b = Side(a.holder), Side(b.holder)
    talk(a, b)
    assert a.sent_of(Want) == b.sent_of(Want) == []
    assert a.session.offsets == b.session.offsets


def test_a_session_opens_with_a_greeting_and_the_heads() -> None:
    a, b = pair()
    program = f"program of {a.holder.keys.node.short}"
    assert a.says() == [Greeting(program, TOKEN, unpacks=True)]
    a.hears(b.says())
    assert a.says() == [Heads((), complete=True)]
    assert a.says() == []


def test_many_heads_are_told_in_several_messages_and_the_last_is_complete() -> None:
    a, _ = pair()
    for number in range(MAX_HEADS + 1):
        stream = StreamId(a.holder.keys.node, number)
        a.holder.heads[stream] = Head(stream, 1, HASH, 1)
    session = a.holder.session()
    session.take(Greeting("peer"), 0)
    told = [one for one in said(session) if isinstance(one, Heads)]
    assert [(len(one.heads), one.complete) for one in told] == [(1_000, False), (1, True)]


def test_a_stream_that_moves_while_many_heads_are_told_does_not_keep_the_beginning_from_ending() -> (
    None
):
    a, _ = pair()
    a.holder.publish()
    for number in range(MAX_HEADS):
        stream = StreamId(a.holder.keys.node, number)
        a.holder.heads[stream] = Head(stream, 1, HASH, 1)
    session = a.holder.session()
    session.take(Greeting("peer"), 0)
    first = [session.next_message() for _ in range(2)][1]
    assert isinstance(first, Heads)
    assert first.heads[0].stream == a.holder.author.stream
    a.holder.publish()
    session.committed(a.holder.author.stream, 0)
    told = [session.next_message() for _ in range(3)]
    assert [type(one) for one in told] == [Heads, News, type(None)]


def test_a_push_arrives_without_being_asked_for() -> None:
    a, b = linked()
    sealed = a.holder.publish(3)
    a.session.push(sealed, 0.0)
    talk(a, b)
    assert b.holder.held(sealed.stream).offset == 2
    assert b.sent_of(Want) == []
    assert a.sent == [Events(sealed)]


def test_a_certificate_is_pushed_once_only() -> None:
    a, b = linked()
    for _ in range(2):
        a.session.push(a.holder.publish(), 0.0)
        talk(a, b)
    certificates = [one.range.certificate for one in a.sent if isinstance(one, Events)]
    assert certificates == [a.holder.keys.certificate]
    assert len(a.sent_of(Fresh)) == 1


def test_a_peer_that_lacks_what_is_before_a_push_is_only_told_of_it() -> None:
    a, b = linked()
    a.holder.publish()
    a.session.push(a.holder.publish(), 0.0)
    told = said(a.session)
    assert [type(one) for one in told] == [Heads]
    b.hears(told)
    talk(a, b)
    assert b.holder.heads == a.holder.heads


def test_a_stream_is_told_of_in_full_once_and_in_short_from_then_on() -> None:
    a, b = linked()
    for expected in (Heads, News, News):
        a.holder.publish()
        a.session.committed(a.holder.author.stream, 0.0)
        told = said(a.session)
        assert [type(one) for one in told] == [expected]
        b.hears(told)
        talk(a, b)
        assert b.holder.heads == a.holder.heads


def test_who_was_told_of_a_stream_names_it_by_the_tellers_number() -> None:
    a, b = linked()
    first, second, third = (a.holder.publish() for _ in range(3))
    a.session.push(first, 0.0)
    talk(a, b)
    b.holder.hold(second)  # both of these came by another way
    b.session.committed(second.stream, 0.0)
    [news] = said(b.session)
    assert news == News((Novelty(-1, 1, second.seal.hash[:SHORT_HASH_BYTES]),))
    a.hears([news])
    assert a.session.theirs[second.stream] == 1
    b.holder.hold(third)
    b.session.theirs[third.stream] = 1
    b.session.push(third, 0.0)
    [pushed] = said(b.session)
    assert isinstance(pushed, Fresh)
    assert pushed.alias == -1


def test_what_the_peer_has_told_meanwhile_is_not_told_back() -> None:
    a, b = linked()
    a.session.push(a.holder.publish(), 0.0)
    talk(a, b)
    sealed = a.holder.publish()
    b.holder.hold(sealed)  # it came by another way
    for side in (a, b):
        side.session.edge.hear_of(a.holder.keys.node, Heard.PRUNE)
        side.session.committed(sealed.stream, 0.0)
    a.session.due(ANNOUNCED_TOGETHER_S)
    b.hears(said(a.session))
    b.session.due(ANNOUNCED_TOGETHER_S)
    assert said(b.session) == []


def test_news_of_a_stream_that_was_never_told_of_end_the_session() -> None:
    a, _ = linked()
    with pytest.raises(PeerFault, match="not told of before"):
        a.hears([News((Novelty(0, 5, bytes(8)),))])
    a, _ = linked()
    with pytest.raises(PeerFault, match="not told of before"):
        a.hears([News((Novelty(-1, 5, bytes(8)),))])


def test_news_with_another_hash_at_our_offset_set_the_stream_aside() -> None:
    a, b = linked()
    a.session.push(a.holder.publish(), 0.0)
    talk(a, b)
    stream = a.holder.author.stream
    a.session.theirs.clear()
    a.session.committed(stream, 0.0)
    talk(a, b)
    assert not b.session.diverged
    b.hears([News((Novelty(0, 0, bytes(8)),))])
    assert stream in b.session.diverged


def test_who_gets_a_range_twice_is_only_told_of_news_from_then_on() -> None:
    a, b = linked()
    sealed = a.holder.publish()
    b.holder.hold(sealed)  # it came by another way
    a.session.push(sealed, LATER)
    talk(a, b, LATER)
    assert Eager(yes=False, author=a.holder.keys.node) in b.sent
    assert not a.session.edge.carries(a.holder.keys.node)
    assert not b.session.edge.carries(a.holder.keys.node)


def test_where_a_tree_is_shared_the_round_trip_is_measured_a_few_times_at_once() -> None:
    a, b = linked()
    a.session.edge.branch.place.shared = True
    for number in range(1, 2 * SAMPLES):
        a.session.elapsed(number / 2)
        talk(a, b, number / 2)
    assert len(a.sent_of(Ping)) == SAMPLES


def test_where_a_tree_is_shared_each_side_tells_where_it_stands_and_pushes_along_the_tree_only() -> (
    None
):
    a, b = linked()
    stranger = Root(9, bytes(ROOT_BYTES), 1, 20_000, chosen=False)
    places = [side.session.edge.branch.place for side in (a, b)]
    others = [Branch(place) for place in places]
    for place, other in zip(places, others, strict=True):
        place.shared = True
        place.add(other)
        other.hear(stranger)
        assert place.settle(0.0)
    talk(a, b)
    assert [one.chosen for one in (*a.sent_of(Root), *b.sent_of(Root))] == [False, False]
    assert not a.session.edge.carries(a.holder.keys.node)
    b.session.close()
    others[1].hear(replace(stranger, sequence=2))
    assert places[1].settle(BEAT_S)
    assert not b.session.has_to_send


def test_news_are_waited_for_and_then_asked_for_and_the_link_is_in_the_tree_again() -> None:
    a, b = linked()
    sealed = a.holder.publish()
    b.holder.hold(sealed)
    a.session.push(sealed, LATER)
    talk(a, b, LATER)
    a.holder.publish()
    a.session.committed(a.holder.author.stream, LATER)
    assert said(a.session) == []
    assert a.session.next_due == LATER + ANNOUNCED_TOGETHER_S
    a.session.due(LATER + ANNOUNCED_TOGETHER_S)
    b.hears(said(a.session), LATER)
    assert said(b.session) == []
    due = b.session.next_due
    assert due is not None
    assert LATER + GRACE_S <= due <= LATER + LONGEST_GRACE_S
    b.session.due(due)
    asked = said(b.session)
    assert [type(one) for one in asked] == [Eager, Want]
    a.hears(asked, LATER)
    assert a.session.edge.carries(a.holder.keys.node)
    talk(a, b)
    assert b.holder.heads == a.holder.heads
    assert b.session.next_due is None


def test_news_that_come_pushed_in_time_are_not_asked_for() -> None:
    a, b = linked()
    sealed = a.holder.publish()
    b.holder.hold(sealed)
    a.session.push(sealed, LATER)
    talk(a, b, LATER)
    b.holder.hold(a.holder.publish())  # somebody else is quicker
    a.session.committed(a.holder.author.stream, 1.0)
    a.session.due(2.0)
    b.hears(said(a.session), 2.0)
    assert b.session.next_due is None
    b.session.due(3.0)
    assert said(b.session) == []


def test_a_slow_peers_pushes_are_dropped_and_it_pulls() -> None:
    a, b = linked()
    for _ in range(4):
        start = a.holder.author.head.lamport + 1
        large = [event_bytes(start + n, payload="x" * 60_000) for n in range(8)]
        sealed = a.holder.author.write(*large, lamport=start + 7)
        a.holder.hold(sealed)
        a.session.push(sealed, 0.0)
    waiting = a.says()
    assert [type(one) for one in waiting] == [Events, Events, News]
    pushed = [one.range.events for one in waiting if isinstance(one, Events)]
    assert sum(len(data) for events in pushed for data in events) <= MAX_PUSHED_BYTES
    b.hears(waiting)
    talk(a, b)
    assert b.holder.heads == a.holder.heads
    assert len(b.sent_of(Want)) == 1


def test_nothing_is_pushed_before_the_peer_has_told_what_it_holds() -> None:
    holder = Holder(member("ada"))
    session = holder.session()
    session.take(Greeting("peer"), 0)
    session.push(holder.publish(), 0.0)
    assert not any(isinstance(message, Events) for message in said(session))


EARLY: list[Message] = [
    Heads((), complete=True),
    Want(Author(member("x")).stream, 0, 1, HASH, certificate=False),
    Events(Author(member("x")).count(1)),
    Declined(Author(member("x")).stream, Why.UNKNOWN),
    Ping(1),
    Pong(1),
]


@pytest.mark.parametrize("message", EARLY, ids=lambda message: type(message).__name__)
def test_nothing_but_a_greeting_or_goodbye_opens_a_session(message: Message) -> None:
    session = Holder(member()).session()
    with pytest.raises(PeerFault, match=f"{type(message).__name__} has no place"):
        session.take(message, 0)


@pytest.mark.parametrize("phase", [Phase.GREETED, Phase.LIVE])
def test_a_second_greeting_has_no_place(phase: Phase) -> None:
    session = Holder(member()).session()
    session.take(Greeting("peer"), 0)
    if phase is Phase.LIVE:
        session.take(Heads((), complete=True), 0)
    assert session.phase is phase
    with pytest.raises(PeerFault, match="Greeting has no place"):
        session.take(Greeting("peer"), 0)


@pytest.mark.parametrize("message", EARLY, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("complete", [False, True])
def test_everything_else_has_its_place_behind_the_greeting(
    message: Message,
    complete: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    session = Holder(member()).session()
    session.take(Greeting("peer"), 0)
    session.take(Heads((), complete=complete), 0)
    session.take(message, 0)


@pytest.mark.parametrize("greeted", [False, True])
def test_a_goodbye_ends_the_session_in_any_phase(greeted: bool) -> None:  # noqa: FBT001 - as above
    session = Holder(member()).session()
    if greeted:
        session.take(Greeting("peer"), 0)
    with pytest.raises(LinkEnded, match="goodbye: closing"):
        session.take(Goodbye("closing"), 0)


def test_nothing_is_asked_before_the_peer_has_told_everything() -> None:
    session = Holder(member()).session()
    author = Author(member("bob"))
    author.count(3)
    session.take(Greeting("peer"), 0)
    session.take(head_of(author), 0)
    assert wants(session) == []
    session.take(Heads((), complete=True), 0)
    assert wants(session) == [author.stream]


def test_a_peer_that_wants_too_much_at_once_is_at_fault() -> None:
    session = lively(Holder(member()))
    authors = [Author(member("bob"), number) for number in range(MAX_SERVED + 1)]
    *allowed, one_more = [Want(a.stream, 0, 1, HASH, certificate=False) for a in authors]
    for want in (*allowed, *allowed):
        session.take(want, 0)
    with pytest.raises(PeerFault, match=f"more than {MAX_SERVED} ranges"):
        session.take(one_more, 0)


def tell_of(session: Session, streams: int) -> list[Author]:
    authors = [Author(member("bob"), number) for number in range(streams)]
    for author in authors:
        author.count(1)
    session.take(Heads(tuple(one.head for one in authors), complete=True), 0)
    return authors


def test_we_want_only_so_much_at_once() -> None:
    holder = Holder(member())
    session = lively(holder)
    authors = tell_of(session, MAX_WANTS + 3)
    assert wants(session) == [author.stream for author in authors[:MAX_WANTS]]
    first = Author(member("bob"), 0).count(1)
    holder.hold(first)
    session.taken(first, 1)
    assert wants(session) == [authors[MAX_WANTS].stream]


def test_one_want_asks_for_so_many_events_only() -> None:
    session = lively(Holder(member()))
    stream = Author(member("bob")).stream
    session.take(Heads((Head(stream, 25_000, HASH),), complete=True), 0)
    [want] = said(session)
    assert isinstance(want, Want)
    assert (want.first, want.last) == (0, WANTED_EVENTS - 1)


def test_a_want_continues_what_is_held_and_names_its_hash() -> None:
    holder, bob = Holder(member()), Author(member("bob"))
    holder.hold(bob.count(4))
    session, before = lively(holder), bob.head
    bob.count(2)
    session.take(head_of(bob), 0)
    assert said(session) == [Want(bob.stream, 4, 5, before.hash, certificate=False)]


def test_a_certificate_is_wanted_of_unknown_authors_only() -> None:
    holder, known, unknown = Holder(member()), Author(member("bob")), Author(member("carol"))
    holder.authors[known.keys.node] = known.keys.certificate
    session = lively(holder)
    for author in (known, unknown):
        author.count(1)
        session.take(head_of(author), 0)
    asked = {one.stream: one.certificate for one in said(session) if isinstance(one, Want)}
    assert asked == {known.stream: False, unknown.stream: True}


def test_a_certificate_is_sent_where_it_is_wanted_and_once() -> None:
    a, b = pair()
    a.holder.publish()
    a.holder.publish()
    a = Side(a.holder)
    talk(a, b)
    sent = [one.range.certificate for one in a.sent if isinstance(one, Events)]
    assert sent == [a.holder.keys.certificate, b""]


def test_our_own_stream_is_asked_for_as_any_other() -> None:
    """A database that came back from a copy gets its tail from its peers."""
    holder = Holder(member())
    session = lively(holder)
    ghost = Author(holder.keys)
    ghost.count(3)
    session.take(head_of(ghost), 0)
    assert wants(session) == [ghost.stream]


def test_another_history_of_equal_length_shows_in_the_heads() -> None:
    holder, bob, other = Holder(member()), Author(member("bob")), Author(member("bob"))
    holder.hold(bob.say(1, 2))
    other.say(1, 3)
    session = lively(holder)
    session.take(head_of(other), 0)
    assert list(session.diverged) == [bob.stream]


def two_sessions() -> tuple[Holder, Session, Session, Author]:
    """Two sessions of one node whose peers both hold a stream that it lacks."""
    holder, bob = Holder(member()), Author(member("bob"))
    one, other = lively(holder), lively(holder)
    bob.count(2)
    one.take(head_of(bob), 0)
    other.take(head_of(bob), 0)
    return holder, one, other, bob


def test_a_range_is_wanted_of_one_peer_at_a_time() -> None:
    _, one, other, bob = two_sessions()
    other.elapsed(1)
    assert (wants(one), wants(other)) == ([bob.stream], [])


def test_a_want_that_times_out_is_offered_to_another_session() -> None:
    _, one, other, bob = two_sessions()
    assert wants(one) == [bob.stream]
    for session in (one, other):
        session.liveness.heard(WANT_TIMEOUT_S)
        session.elapsed(WANT_TIMEOUT_S)
    assert (wants(one), wants(other)) == ([], [bob.stream])


def test_timed_out_wants_are_asked_again_where_nobody_else_has_them() -> None:
    session = lively(Holder(member()))
    streams = [author.stream for author in tell_of(session, MAX_WANTS)]
    assert wants(session) == streams
    asked: list[StreamId] = []
    for second in range(1, 2 * int(WANT_TIMEOUT_S)):
        session.liveness.heard(second)
        session.elapsed(second)
        asked += wants(session)
    assert sorted(asked) == sorted(streams)


def test_asking_a_slow_peer_again_is_no_fault() -> None:
    a, b = pair()
    authors = [Author(member("carol"), number) for number in range(MAX_WANTS)]
    a.holder.hold(*(author.count(1) for author in authors))
    slow, asking = Side(a.holder), Side(b.holder)
    asking.hears(slow.says())
    slow.hears(asking.says())
    asking.session.liveness.heard(WANT_TIMEOUT_S)
    asking.session.elapsed(WANT_TIMEOUT_S)
    asking.session.elapsed(WANT_TIMEOUT_S + 1)
    slow.hears(asking.says())
    talk(slow, asking)
    assert b.holder.heads == a.holder.heads


def test_a_want_that_moves_does_not_time_out() -> None:
    holder, one, other, bob = two_sessions()
    again = Author(member("bob"))
    bob.count(2 * RENEWING_EVENTS)
    one.take(head_of(bob), 0)
    holder.hold(first := again.count(RENEWING_EVENTS))
    one.taken(first, CLAIM_S - 0.5)
    for session in (one, other):
        session.liveness.heard(CLAIM_S + 0.5)
        session.elapsed(CLAIM_S + 0.5)
    assert wants(other) == []


def test_a_claim_that_only_trickles_is_open_to_others() -> None:
    holder, one, other, bob = two_sessions()
    again = Author(member("bob"))
    holder.hold(first := again.count(1))
    one.taken(first, CLAIM_S - 0.5)
    for session in (one, other):
        session.liveness.heard(CLAIM_S)
        session.elapsed(CLAIM_S)
    assert wants(other) == [bob.stream]


def test_a_want_is_open_to_others_only_after_a_while() -> None:
    _, one, other, bob = two_sessions()
    for session in (one, other):
        session.liveness.heard(CLAIM_S - 0.1)
        session.elapsed(CLAIM_S - 0.1)
    assert (wants(one), wants(other)) == ([bob.stream], [])


def test_a_session_that_ends_gives_back_what_it_was_fetching() -> None:
    _, one, other, bob = two_sessions()
    one.close()
    other.elapsed(1)
    assert wants(other) == [bob.stream]


def test_what_is_fetched_is_free_for_others_again() -> None:
    holder, one, other, bob = two_sessions()
    sealed = Author(member("bob")).count(2)
    holder.hold(sealed)
    one.taken(sealed, 1)
    bob.count(1)
    other.take(head_of(bob), 2)
    assert wants(other) == [bob.stream]


def test_a_declined_want_is_offered_to_another_session() -> None:
    _, one, other, bob = two_sessions()
    one.take(Declined(bob.stream, Why.UNKNOWN), 1)
    other.elapsed(1)
    assert (wants(one), wants(other)) == ([bob.stream], [bob.stream])
    assert one.offsets == {}


def test_a_diverged_stream_is_not_asked_for_again() -> None:
    session = lively(Holder(member()))
    bob = Author(member("bob"))
    bob.count(2)
    session.take(head_of(bob), 0)
    assert wants(session) == [bob.stream]
    session.take(Declined(bob.stream, Why.DIVERGED), 1)
    bob.count(1)
    session.take(head_of(bob), 2)
    session.elapsed(3)
    assert wants(session) == []
    assert list(session.diverged) == [bob.stream]


def test_a_decline_that_nobody_asked_for_changes_nothing() -> None:
    session = lively(Holder(member()))
    bob = Author(member("bob"))
    bob.count(2)
    session.take(Declined(bob.stream, Why.DIVERGED), 0)
    session.take(head_of(bob), 0)
    assert wants(session) == [bob.stream]
    assert not session.diverged


def test_two_histories_of_one_stream_are_found_out_and_nothing_is_lost() -> None:
    a, b = pair()
    one, other = Author(member("carol")), Author(member("carol"))
    a.holder.hold(one.say(1, 2))
    b.holder.hold(other.say(1, 3), other.say(4))
    held = a.holder.held(one.stream)
    a, b = Side(a.holder), Side(b.holder)
    talk(a, b)
    assert a.holder.held(one.stream) == held
    assert list(a.session.diverged) == [one.stream]
    b.holder.publish(2)
    b.session.committed(b.holder.author.stream, 0.0)
    talk(a, b)
    assert a.holder.held(b.holder.author.stream).offset == 1


def test_an_answer_of_another_history_is_not_asked_for_again() -> None:
    holder, bob = Holder(member()), Author(member("bob"))
    session = lively(holder)
    sealed = bob.count(2)
    session.take(head_of(bob), 0)
    assert wants(session) == [bob.stream]
    session.contradicted(replace(sealed, seal=replace(sealed.seal, hash=HASH)), 1)
    assert list(session.diverged) == [bob.stream]
    assert wants(session) == []


def test_a_peer_that_only_receives_says_now_and_then_that_it_is_there() -> None:
    session = lively(Holder(member()))
    for step in range(1, 9):
        session.liveness.heard(step / 2)
        session.elapsed(step / 2)
    assert said(session) == [Pong(0)]
    session.liveness.said(4)
    session.liveness.heard(4.5)
    session.elapsed(4.5)
    assert said(session) == []


def test_an_honest_answer_is_no_forgery_when_the_prefix_moved_meanwhile() -> None:
    """Somebody else pushed another branch while this peer answered; it is asked again, with the new hash."""
    holder, bob = Holder(member()), Author(member("bob"))
    session = lively(holder)
    sealed = bob.count(3)
    session.take(head_of(bob), 0)
    assert wants(session) == [bob.stream]
    other = Author(member("bob"))
    holder.hold(other.write(event_bytes(1, payload="another branch"), lamport=1))
    session.contradicted(sealed, 1)
    assert wants(session) == [bob.stream]


def test_a_contradicting_push_is_asked_about() -> None:
    holder, bob = Holder(member()), Author(member("bob"))
    session = lively(holder)
    sealed = bob.count(2)
    assert session.take(Events(sealed), 0) == sealed
    session.contradicted(sealed, 1)
    assert wants(session) == [bob.stream]


def tick(session: Session, start: float, end: float) -> None:
    """Let time pass in the steps of a link."""
    for step in range(int((end - start) * 2) + 1):
        session.elapsed(start + step / 2)


def test_a_silent_peer_is_pinged_once_and_given_up_at_last() -> None:
    session = lively(Holder(member()))
    tick(session, 0, PING_INTERVAL_S - 0.5)
    assert said(session) == []
    tick(session, PING_INTERVAL_S, SILENCE_LIMIT_S - 0.5)
    assert [type(one) for one in said(session)] == [Ping]
    with pytest.raises(PeerFault, match="silent"):
        session.elapsed(SILENCE_LIMIT_S)


def test_a_stall_of_our_own_is_not_held_against_the_peer() -> None:
    session = lively(Holder(member()))
    session.elapsed(3_600)
    tick(session, 3_600, 3_600 + SILENCE_LIMIT_S - UNHEARD_S - 0.5)
    with pytest.raises(PeerFault, match="silent"):
        tick(session, 3_600, 3_600 + SILENCE_LIMIT_S)


def test_a_stall_of_our_own_does_not_excuse_later_silence() -> None:
    session = lively(Holder(member()))
    session.elapsed(0.5)
    session.liveness.heard(100)  # we stood still, and read what had come meanwhile
    with pytest.raises(PeerFault, match="silent"):
        tick(session, 100, 100 + SILENCE_LIMIT_S)


def test_a_pong_tells_the_round_trip_and_other_pongs_do_not() -> None:
    session = lively(Holder(member()))
    tick(session, 0, PING_INTERVAL_S)
    [ping] = said(session)
    assert isinstance(ping, Ping)
    round_trips: list[float | None] = []
    session.liveness.round_trip_s = None
    for token, now in ((ping.token + 1, 2.5), (ping.token, 2.75)):
        session.take(Pong(token), now)
        round_trips.append(session.liveness.round_trip_s)
    assert round_trips == [None, 0.75]
    session.liveness.heard(2.75)
    session.liveness.said(2.75)
    tick(session, 2.75, 2.75 + PING_INTERVAL_S)
    [again] = said(session)
    assert isinstance(again, Ping)
    assert again.token != ping.token


def test_a_ping_is_answered_with_its_token_before_anything_else() -> None:
    a, _ = linked()
    a.session.push(a.holder.publish(), 0.0)
    a.session.take(Ping(77), 0)
    assert said(a.session)[0] == Pong(77, 0)


def test_wanted_ranges_take_turns() -> None:
    a, _ = linked()
    carol, dave = Author(member("carol")), Author(member("dave"))
    a.holder.hold(carol.count(1), carol.count(1), dave.count(1), dave.count(1))
    for author in (carol, dave):
        start = genesis(a.holder.keys.swarm, author.stream).hash
        a.session.take(Want(author.stream, 0, 1, start, certificate=False), 0)
    answers = deque(one for one in a.says() if isinstance(one, Events))
    served = [(one.range.stream, one.range.first) for one in answers]
    assert served == [(s.stream, first) for first in (0, 1) for s in (carol, dave)]


def test_what_the_peer_holds_only_grows_while_a_session_lasts() -> None:
    session = lively(Holder(member()))
    bob = Author(member("bob"))
    bob.count(5)
    session.take(head_of(bob), 0)
    session.take(Heads((Head(bob.stream, 1, HASH),), complete=False), 0)
    assert session.offsets == {bob.stream: 4}


def test_news_is_told_only_to_those_who_lack_it() -> None:
    a, b = linked()
    sealed = a.holder.publish()
    a.session.push(sealed, 0.0)
    a.session.committed(sealed.stream, 0.0)
    talk(a, b)
    assert a.sent_of(Heads) == []
    b.session.committed(sealed.stream, 0.0)
    assert said(b.session) == []


def test_traffic_counts_events_both_ways() -> None:
    a, b = linked()
    a.session.push(a.holder.publish(3), 0.0)
    b.holder.publish(2)
    b.session.committed(b.holder.author.stream, 0.0)
    talk(a, b)
    counted = [(s.session.traffic.events_in, s.session.traffic.events_out) for s in (a, b)]
    assert counted == [(2, 3), (3, 2)]


def test_what_is_on_its_way_into_the_log_connects_the_next_push_and_is_not_asked_for() -> None:
    a, b = linked()
    for _ in range(2):
        a.session.push(a.holder.publish(5), 0.0)
    first, second = (decode_message(encode_message(one)) for one in a.says())
    assert first is not None
    assert second is not None
    received = [b.session.take(one, 0.0) for one in (first, second)]
    assert all(isinstance(one, SealedRange) for one in received)
    for one in received:
        assert isinstance(one, SealedRange)
        b.takes_in(one, 0.0)
        assert wants(b.session) == []
    assert b.holder.heads == a.holder.heads


def test_a_stream_that_is_quarantined_is_not_taken_for_arriving() -> None:
    holder, bob = Holder(member()), Author(member("bob"))
    session = lively(holder)
    sealed = bob.count(2)
    session.take(Events(sealed), 0)
    session.quarantine(bob.stream)
    session.quarantined.clear()
    session.ask(0)
    assert wants(session) == [bob.stream]


def test_what_leaps_is_asked_for_again_once_it_is_within_reach_and_what_hurts_otherwise_is_not() -> (
    None
):
    holder, bob, cyd = Holder(member()), Author(member("bob")), Author(member("cyd"))
    reach = 9
    session = holder.session(reach=lambda: reach)
    session.take(Greeting("peer"), 0)
    bob.count(2)
    cyd.count(1)
    session.take(Heads((bob.head, cyd.head), complete=True), 0)
    assert wants(session) == [bob.stream, cyd.stream]
    session.quarantine(bob.stream, 10)
    session.quarantine(cyd.stream)
    session.elapsed(0.5)
    assert not wants(session)
    assert session.is_level
    reach = 10
    session.elapsed(1.0)
    assert wants(session) == [bob.stream]
    assert list(session.quarantined) == [cyd.stream]


def test_the_proof_of_a_branch_that_leaps_is_asked_for_again_once_it_is_within_reach() -> None:
    holder, bob = Holder(member()), Author(member("bob"))
    reach = 9
    session = holder.session(reach=lambda: reach, grows=lambda stream: not stream.branch)
    session.take(Greeting("peer"), 0)
    branch = bob.stream._replace(branch=bytes(BRANCH_BYTES))
    session.take(Heads((Head(branch, 1, HASH),), complete=True), 0)
    assert Disclose(branch) in said(session)
    session.quarantine(bob.stream, 10)
    session.elapsed(0.5)
    assert Disclose(branch) not in said(session)
    reach = 10
    session.elapsed(1.0)
    assert Disclose(branch) in said(session)


def test_a_busy_link_is_measured_now_and_then_and_so_is_the_wall_clock_behind_it() -> None:
    session = lively(Holder(member()))
    found: list[tuple[float | None, float | None]] = []
    for wall_us, began in ((7_250_000, MEASURED_S), (None, 2 * MEASURED_S)):
        session.liveness.heard(began)
        session.liveness.said(began)
        session.elapsed(began)
        [ping] = said(session)
        assert isinstance(ping, Ping)
        session.take(Pong(ping.token, wall_us), began + 0.5)
        found.append((session.liveness.round_trip_s, session.liveness.skew_s))
    assert found == [(0.5, 7.5), (0.5, 7.5)]


def test_what_is_refused_is_not_asked_for_again_though_as_much_as_is_remembered_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport.aside.MAX_SET_ASIDE", 1)
    session = lively(Holder(member()))
    authors = tell_of(session, 4)
    assert wants(session) == [one.stream for one in authors]
    for one in authors[:2]:
        session.contradicted(replace(one.count(1), first=0), 0)
    for one in authors[2:]:
        session.quarantine(one.stream)
    session.elapsed(0.5)
    assert wants(session) == []
    assert session.is_level


def test_a_range_that_lacks_the_certificate_that_was_asked_for_is_asked_for_again_in_a_while() -> (
    None
):
    session = lively(Holder(member()))
    bob = Author(member("bob"))
    sealed = bob.count(2)
    session.take(head_of(bob), 0)
    assert [one.certificate for one in said(session) if isinstance(one, Want)] == [True]
    session.take(Events(sealed), 0)
    session.uncertified(sealed, 0)
    assert wants(session) == []
    session.elapsed(TORN_TIMEOUT_S)
    session.elapsed(TORN_TIMEOUT_S + 0.5)
    assert wants(session) == [bob.stream]


def test_a_pushed_range_of_an_unknown_author_is_asked_for_at_once() -> None:
    session = lively(Holder(member()))
    sealed = Author(member("bob")).count(2)
    session.take(Events(sealed), 0)
    session.uncertified(sealed, 0)
    assert wants(session) == [sealed.stream]


def test_the_proof_of_a_branch_that_was_not_taken_in_is_asked_for_once_more() -> None:
    holder, bob = Holder(member()), Author(member("bob"))
    session = holder.session(grows=lambda stream: not stream.branch)
    session.take(Greeting("peer"), 0)
    branch = bob.stream._replace(branch=bytes(BRANCH_BYTES))
    session.take(Heads((Head(branch, 1, HASH),), complete=True), 0)
    assert Disclose(branch) in said(session)
    session.elapsed(0.5)
    assert Disclose(branch) not in said(session)
    session.unproven(bob.stream, 1.0)
    assert Disclose(branch) in said(session)
