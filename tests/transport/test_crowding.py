"""A session whose log has much to take in: what a flood brings is let go, and asked for in turn."""

from dataclasses import replace

import pytest

from lamport.chain import SealedRange
from lamport.requests import SHORT_EVENTS
from tests.lamport.keys import Author, member
from tests.transport.test_session import Holder, Side, linked, said
from transport.liveness import MEASURED_S, Liveness
from transport.messages import Eager, Events, Fresh, Greeting, Heads, News, Ping, Pong, Want
from transport.wants import LIVELY_EVENTS, LIVELY_EVENTS_PER_S, WANTED_EVENTS

LONG = SHORT_EVENTS + 1


def flooded() -> tuple[Side, Side]:
    """Two sides, of which the second knows the stream that the first pushes, and is crowded."""
    a, b = linked()
    a.session.push(a.holder.publish(), 0.0)
    b.hears(said(a.session))
    b.session.is_crowded = lambda author: author == a.holder.keys.node
    return a, b


def test_where_the_log_is_crowded_a_long_push_is_let_go_and_its_author_only_announced() -> None:
    a, b = flooded()
    a.session.push(a.holder.publish(LONG), 0.0)
    b.hears(said(a.session))
    assert b.holder.held(a.holder.author.stream).offset == 0
    assert Eager(yes=False, author=a.holder.keys.node) in said(b.session)


def test_what_was_let_go_is_asked_for_where_there_is_room_again() -> None:
    a, b = flooded()
    a.session.push(a.holder.publish(LONG), 0.0)
    b.hears(said(a.session))
    b.session.is_crowded = lambda _author: False
    b.session.elapsed(1.0)
    a.hears(b.says())
    b.hears(a.says(), 1.0)
    assert b.holder.heads == a.holder.heads
    assert len(b.sent_of(Want)) == 1


def test_what_one_peer_pushes_in_bulk_is_asked_of_nobody_else_until_it_has_come() -> None:
    a, b = linked()
    a.session.push(a.holder.publish(), 0.0)
    b.hears(said(a.session))
    a.session.push(a.holder.publish(LONG), 0.0)
    [pushed] = said(a.session)
    sealed = b.session.take(pushed, 0.0)
    assert isinstance(sealed, SealedRange)
    other = b.holder.session()
    other.take(Greeting("other"), 0)
    other.take(Heads((a.holder.author.head,), complete=True), 0)
    assert [one for one in said(other) if isinstance(one, Want)] == []
    b.session.untaken(sealed, 0.0)
    b.session.close()
    other.elapsed(0.0)
    assert [one.first for one in said(other) if isinstance(one, Want)] == [1]


def test_a_claim_on_what_is_pushed_ends_when_it_has_come() -> None:
    a, b = linked()
    for count in (1, LONG):
        a.session.push(a.holder.publish(count), 0.0)
        b.hears(said(a.session))
    other, more = b.holder.session(), a.holder.publish()
    other.take(Greeting("other"), 0)
    other.take(Heads((a.holder.author.head,), complete=True), 0)
    assert [one.first for one in said(other) if isinstance(one, Want)] == [more.first]


def test_a_short_push_is_taken_in_however_crowded_the_log_is() -> None:
    a, b = flooded()
    a.session.push(a.holder.publish(SHORT_EVENTS), 0.0)
    pushed = said(a.session)
    assert [type(one) for one in pushed] == [Fresh]
    b.hears(pushed)
    assert b.holder.heads == a.holder.heads


@pytest.mark.parametrize(
    ("is_lively", "round_trip_s", "most"),
    [
        (False, 0.1, WANTED_EVENTS),
        (True, None, LIVELY_EVENTS),
        (True, 0.001, LIVELY_EVENTS),
        (True, 0.1, LIVELY_EVENTS_PER_S // 10),
        (True, 100.0, WANTED_EVENTS),
    ],
)
def test_while_others_bring_little_a_want_asks_for_little_but_on_a_long_way(
    is_lively: bool,  # noqa: FBT001 - a parameter of the test
    round_trip_s: float | None,
    most: int,
) -> None:
    session = Holder(member("ada")).session(is_lively=lambda _author: is_lively)
    session.liveness.shortest_s = round_trip_s
    author = Author(member("bob"))
    session.take(Greeting("peer"), 0)
    session.take(Heads((replace(author.head, offset=2 * WANTED_EVENTS),), complete=True), 0)
    [want] = [one for one in said(session) if isinstance(one, Want)]
    assert (want.first, want.last) == (0, most - 1)


def test_what_stands_in_line_for_the_log_is_not_asked_for() -> None:
    a, b = linked()
    a.session.push(a.holder.publish(), 0.0)
    b.hears(said(a.session))
    a.session.push(a.holder.publish(LONG), 0.0)
    a.holder.publish(LONG)
    [pushed] = said(a.session)
    sealed = b.session.take(pushed, 0.0)
    assert isinstance(sealed, SealedRange)
    a.session.committed(a.holder.author.stream, 0.0)
    b.hears(told := said(a.session))
    b.session.elapsed(1.0)
    assert [type(one) for one in told] == [News]
    assert [one for one in said(b.session) if isinstance(one, Want)] == []
    b.takes_in(sealed, 1.0)
    assert [one.first for one in said(b.session) if isinstance(one, Want)] == [1 + LONG]


def test_a_range_that_is_asked_for_and_has_lost_its_beginning_is_asked_for_again_soon() -> None:
    session, author = (holder := Holder(member("ada"))).session(), Author(member("bob"))
    lost, rest = author.count(5), author.count(245)
    session.take(Greeting("peer"), 0)
    session.take(Heads((author.head,), complete=True), 0)
    [want] = [one for one in said(session) if isinstance(one, Want)]
    assert (want.first, want.last) == (0, 249)
    session.take(Events(rest), 0.0)
    session.taken(rest, 0.0, added=False)
    session.take(Events(lost), 0.0)
    holder.heads[author.stream] = replace(author.head, offset=4, hash=lost.seal.hash, lamport=5)
    session.taken(lost, 0.1)
    session.elapsed(0.5)
    assert [one for one in said(session) if isinstance(one, Want)] == []
    for tick in (1.1, 1.6):
        session.elapsed(tick)
    [again] = [one for one in said(session) if isinstance(one, Want)]
    assert (again.first, again.last) == (5, 249)


def test_the_length_of_the_way_is_the_shortest_round_trip_that_was_measured() -> None:
    watch = Liveness(0.0)
    for asked_at, took in ((0.0, 0.2), (MEASURED_S, 0.1), (2 * MEASURED_S, 0.3)):
        watch.heard(asked_at)
        watch.said(asked_at)
        question = watch.elapsed(asked_at, answers_wait=False, curious=True)
        assert isinstance(question, Ping)
        watch.answered(Pong(question.token, None), asked_at + took, 0)
    assert watch.shortest_s is not None
    assert abs(watch.shortest_s - 0.1) < 1e-9
