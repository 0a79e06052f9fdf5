"""The hash chain and its seals: what does not follow from what is known is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.chain import (
    MAX_SEALED_EVENTS,
    Head,
    Seal,
    SealedRange,
    VerifiedRange,
    chained,
    genesis,
)
from lamport.errors import CorruptRange, DivergedStream
from lamport.ids import MAX_LAMPORT
from tests.lamport.keys import Author, Member, event_bytes, member, taken

US = member("us")
ADA = member("ada")


def author() -> Author:
    return Author(ADA)


def start() -> Head:
    return author().head


def verified(received: SealedRange, head: Head, keys: Member = US) -> VerifiedRange:
    found = taken(received, head, keys)
    assert found is not None
    return found


GOOD = author().say(1, 2, 5)


def test_a_good_range_moves_the_head_to_its_seal() -> None:
    found = verified(GOOD, start())
    assert [(event.offset, event.lamport) for event in found.events] == [(0, 1), (1, 2), (2, 5)]
    assert found.head == Head(GOOD.stream, 2, GOOD.seal.hash, 5)
    assert found.data == GOOD.events
    assert found.certificate == ADA.certificate


def test_ranges_chain_one_behind_the_other() -> None:
    ada = author()
    first, second = ada.say(1, 2), ada.say(3)
    after = verified(first, start()).head
    assert verified(second, after).head == ada.head


def test_every_stream_and_swarm_begins_its_own_chain() -> None:
    heads = [
        Author(keys, number).head
        for keys in (ADA, US, member("ada", "other swarm"))
        for number in (1, 2)
    ]
    assert len({head.hash for head in heads}) == len(heads)
    assert {head.offset for head in heads} == {-1}


def test_the_chain_depends_on_every_byte_and_on_the_order() -> None:
    before = start().hash
    assert chained(before, [b"ab", b"c"]) == chained(chained(before, [b"ab"]), [b"c"])
    others = [[b"ab"], [b"c", b"ab"], [b"ab", b"d"]]
    assert chained(before, [b"ab", b"c"]) not in [chained(before, other) for other in others]


def flipped(data: bytes, bit: int) -> bytes:
    place, shift = divmod(bit % (len(data) * 8), 8)
    return data[:place] + bytes([data[place] ^ 1 << shift]) + data[place + 1 :]


@given(st.integers(0, len(GOOD.events) - 1), st.integers(min_value=0))
def test_a_flipped_bit_of_an_event_is_refused(event: int, bit: int) -> None:
    events = list(GOOD.events)
    events[event] = flipped(events[event], bit)
    with pytest.raises(CorruptRange):
        taken(replace(GOOD, events=tuple(events)), start(), US)


@given(st.sampled_from(["hash", "signature"]), st.integers(min_value=0))
def test_a_flipped_bit_of_the_seal_is_refused(field: str, bit: int) -> None:
    data: bytes = getattr(GOOD.seal, field)
    seal = replace(GOOD.seal, **{field: flipped(data, bit)})  # type: ignore[arg-type]
    with pytest.raises(CorruptRange, match="not its author's"):
        taken(replace(GOOD, seal=seal), start(), US)


@given(st.sampled_from(["clock", "horizon"]), st.integers(0, 62))
def test_a_flipped_bit_of_the_seals_numbers_is_refused(field: str, bit: int) -> None:
    number: int = getattr(GOOD.seal, field)
    seal = replace(GOOD.seal, **{field: number ^ 1 << bit})  # type: ignore[arg-type]
    with pytest.raises(CorruptRange, match="not its author's"):
        taken(replace(GOOD, seal=seal), start(), US)


@given(st.integers(min_value=0))
def test_a_flipped_bit_of_the_certificate_is_refused(bit: int) -> None:
    with pytest.raises(CorruptRange, match="certificate"):
        taken(replace(GOOD, certificate=flipped(GOOD.certificate, bit)), start(), US)


@pytest.mark.parametrize("number", [1, Author(ADA).stream.number ^ 1])
def test_a_seal_holds_for_its_own_stream_only(number: int) -> None:
    stream = replace(GOOD, seal=replace(GOOD.seal, stream=Author(ADA, number).stream))
    with pytest.raises(CorruptRange, match="not its author's"):
        taken(stream, Author(ADA, number).head, US)


def test_a_seal_holds_for_its_own_author_only() -> None:
    stolen = Author(member("eve"))
    with pytest.raises(CorruptRange):
        taken(replace(GOOD, seal=replace(GOOD.seal, stream=stolen.stream)), stolen.head, US)


def test_a_range_that_overlaps_adds_only_what_is_new() -> None:
    held = verified(Author(ADA).say(1, 2), start()).head
    found = verified(GOOD, held)
    assert [event.offset for event in found.events] == [2]
    assert found.data == GOOD.events[2:]


def test_a_range_that_is_held_adds_nothing() -> None:
    assert taken(GOOD, verified(GOOD, start()).head, US) is None


def test_a_range_behind_a_gap_adds_nothing_yet() -> None:
    ada = author()
    ada.say(1)
    assert taken(ada.say(2), start(), US) is None


def test_a_second_history_is_told_from_damage() -> None:
    held = verified(Author(ADA).say(1, 3), start()).head
    with pytest.raises(DivergedStream, match="offsets 2 to 2"):
        taken(GOOD, held, US)


@pytest.mark.parametrize("lamports", [(2, 2), (2, 1), (1, 3, 3), (5, 4, 6)], ids=str)
def test_lamports_that_do_not_rise_are_refused(lamports: tuple[int, ...]) -> None:
    with pytest.raises(CorruptRange, match="strictly rise"):
        taken(author().say(*lamports), start(), US)


@pytest.mark.parametrize("second", [1, 4])
def test_lamports_rise_from_range_to_range_too(second: int) -> None:
    ada = author()
    held = verified(ada.say(4), start()).head
    with pytest.raises(CorruptRange, match="strictly rise"):
        taken(ada.say(second), held, US)


@pytest.mark.parametrize("clock", [4, MAX_LAMPORT + 1])
def test_a_seals_clock_is_neither_behind_its_events_nor_out_of_bounds(clock: int) -> None:
    with pytest.raises(CorruptRange, match="clock"):
        taken(author().write(event_bytes(5), lamport=5, clock=clock), start(), US)


@pytest.mark.parametrize("clock", [5, MAX_LAMPORT])
def test_a_seals_clock_may_be_ahead_of_its_events(clock: int) -> None:
    sealed = author().write(event_bytes(5), lamport=5, clock=clock)
    assert verified(sealed, start()).head.lamport == 5


def test_another_swarms_seal_is_refused() -> None:
    stranger = Author(member("ada", "other swarm"))
    received = replace(stranger.say(1), certificate=b"")
    assert received.stream == GOOD.stream
    with pytest.raises(CorruptRange, match="not its author's"):
        taken(received, start(), US)


def test_another_swarms_certificate_is_refused() -> None:
    stranger = Author(member("eve", "other swarm"))
    with pytest.raises(CorruptRange, match="not of this swarm"):
        taken(stranger.say(1), genesis(US.swarm, stranger.stream), US)


def test_another_nodes_certificate_is_refused() -> None:
    with pytest.raises(CorruptRange, match="certificate"):
        taken(replace(GOOD, certificate=US.certificate), start(), US)


def test_an_event_beyond_a_limit_is_refused_though_it_is_well_sealed() -> None:
    with pytest.raises(CorruptRange, match="event 0 of stream"):
        taken(author().write(b"nonsense", lamport=1), start(), US)


def resealed(received: SealedRange, **changes: int) -> SealedRange:
    seal = replace(received.seal, **changes)  # type: ignore[arg-type]
    return replace(received, seal=seal.signed(ADA))


@pytest.mark.parametrize(
    "received",
    [
        replace(GOOD, first=1),
        replace(GOOD, first=-1),
        replace(GOOD, events=GOOD.events[:-1]),
        replace(GOOD, events=()),
        resealed(GOOD, offset=1),
        resealed(GOOD, offset=3),
        replace(GOOD, first=-3, seal=replace(GOOD.seal, offset=-1)),
        replace(GOOD, seal=replace(GOOD.seal, signature=b"")),
        replace(GOOD, seal=replace(GOOD.seal, hash=GOOD.seal.hash + b"x")),
    ],
)
def test_a_range_of_the_wrong_shape_is_refused(received: SealedRange) -> None:
    with pytest.raises(CorruptRange):
        taken(received, start(), US)


def test_a_range_has_at_most_1000_events() -> None:
    assert verified(author().count(MAX_SEALED_EVENTS), start()).head.offset == 999
    with pytest.raises(CorruptRange, match="1 to 1000 events, not 1001"):
        taken(author().count(MAX_SEALED_EVENTS + 1), start(), US)


def sized(size: int, *, one_more: int = 0) -> SealedRange:
    """Eight large events and one that fills the range up to so many bytes."""
    large = [event_bytes(n, payload="x" * 60_000) for n in range(1, 9)]
    rest = size - sum(map(len, large)) - len(event_bytes(9, payload="x" * 10_000)) + 10_000
    events = (*large, event_bytes(9, payload="x" * (rest + one_more)))
    return author().write(*events, lamport=9)


def test_a_range_has_at_most_512_kib() -> None:
    full = sized(512 * 1024)
    assert sum(map(len, full.events)) == 524_288
    assert verified(full, start()).head.offset == 8
    with pytest.raises(CorruptRange, match="at most 524288 bytes"):
        taken(sized(512 * 1024, one_more=1), start(), US)


def test_the_signature_covers_every_field_of_the_seal() -> None:
    seal = GOOD.seal
    changed = [
        seal,
        replace(seal, stream=Author(ADA, 1).stream),
        replace(seal, stream=Author(US).stream),
        replace(seal, offset=7),
        replace(seal, hash=bytes(32)),
        replace(seal, clock=7),
        replace(seal, horizon=7),
    ]
    texts: set[bytes] = {one.signed_bytes(US.swarm) for one in changed}
    texts.add(seal.signed_bytes(bytes(32)))
    assert len(texts) == len(changed) + 1


def test_two_numbers_of_a_seal_cannot_be_swapped() -> None:
    one = Seal(GOOD.stream, 1, bytes(32), 2, 3)
    assert one.signed_bytes(b"s") != replace(one, clock=3, horizon=2).signed_bytes(b"s")
