"""Messages: each comes back as it was sent, and hostile bytes are the peer's fault and nothing else."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.chain import MAX_SEALED_BYTES, Head, Seal, SealedRange, Start
from lamport.forks import encode_proof, make_proof
from lamport.ids import NodeId, StreamId
from tests.lamport.keys import Author, member
from transport.codec import decode_message, encode_message
from transport.errors import PeerFault
from transport.frames import MAX_FRAME_BYTES
from transport.messages import (
    MAX_COST_US,
    MAX_HEADS,
    MAX_RANK,
    MAX_SEQUENCE,
    MAX_TEXT,
    MAX_TOLD_STREAMS,
    ROOT_BYTES,
    Addresses,
    Declined,
    Disclose,
    Eager,
    Events,
    Fork,
    Fresh,
    Goodbye,
    Greeting,
    Heads,
    Mark,
    Message,
    News,
    Novelty,
    Ping,
    Pong,
    Root,
    Want,
    Why,
)
from transport.network import Address, Candidate

OFFSETS = st.integers(0, 2**53)
HASHES = st.binary(min_size=32, max_size=32)
STREAMS = st.builds(StreamId, HASHES.map(NodeId), st.integers(0, 2**53 - 1), st.just(b"") | HASHES)
SEALS = st.builds(
    Seal,
    STREAMS,
    OFFSETS,
    HASHES,
    st.integers(0, 2**43 - 1),
    OFFSETS,
    st.binary(min_size=64, max_size=64),
)
STARTS = st.one_of(
    st.none(),
    st.builds(lambda hash_: Start(hash_, None), HASHES),
    st.builds(lambda hash_, seal: (hash_, seal), HASHES, SEALS),
)


def _ranged(first: int, events: Any, seal: Seal, certificate: bytes, start: Any) -> SealedRange:
    if isinstance(start, tuple):
        start = Start(start[0], replace(start[1], stream=seal.stream))
    return SealedRange(first, events, seal, certificate, start)


RANGES = st.builds(
    _ranged,
    OFFSETS,
    st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    SEALS,
    st.binary(max_size=20),
    STARTS,
)
HEADS = st.lists(st.builds(Head, STREAMS, OFFSETS, HASHES), max_size=3).map(tuple)
WANTS = st.builds(
    lambda stream, one, two, hash_, certificate: Want(
        stream, min(one, two), max(one, two), hash_, certificate
    ),
    STREAMS,
    OFFSETS,
    OFFSETS,
    HASHES,
    st.booleans(),
)
PROOF = make_proof(Author(member()).head.hash, Author(member()).say(1), Author(member()).say(2))
NEWS = st.lists(
    st.builds(
        Novelty,
        st.integers(-MAX_TOLD_STREAMS, MAX_TOLD_STREAMS),
        OFFSETS,
        st.binary(min_size=8, max_size=8),
    ),
    max_size=3,
).map(tuple)
FRESH = st.builds(
    Fresh,
    st.integers(0, 65_535),
    OFFSETS,
    st.lists(st.binary(max_size=20), min_size=1, max_size=3).map(tuple),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**43 - 1),
    OFFSETS,
    st.binary(min_size=64, max_size=64),
)
TOKEN = st.binary(min_size=8, max_size=8)
TOKENS = st.integers(0, 2**32 - 1)
PRINTABLE = st.text(st.characters(codec="utf-8"), max_size=MAX_TEXT).map(
    lambda text: "".join(one for one in text if one.isprintable())
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Greeting, PRINTABLE),
    st.builds(Greeting, PRINTABLE, TOKEN, st.just(b"") | TOKEN, OFFSETS, st.booleans()),
    st.builds(Mark, OFFSETS, OFFSETS),
    st.builds(
        lambda node, hosts: Addresses(
            (Candidate(NodeId(node), tuple(Address(host, 4001) for host in hosts)),)
        ),
        HASHES,
        st.lists(st.sampled_from(["", "10.0.0.5", "fe80::1", "press-7"]), min_size=1, max_size=8),
    ),
    st.builds(Heads, HEADS, st.booleans(), st.lists(SEALS, max_size=3).map(tuple)),
    WANTS,
    st.builds(Events, RANGES),
    st.builds(Declined, STREAMS, st.sampled_from(Why)),
    st.builds(Ping, TOKENS),
    st.builds(Pong, TOKENS, st.none() | st.integers(-(2**63), 2**63 - 1)),
    st.builds(Goodbye, PRINTABLE),
    st.builds(Disclose, STREAMS.filter(lambda stream: stream.branch)),
    st.just(Fork(PROOF)),
    st.builds(News, NEWS),
    FRESH,
    st.builds(
        Root,
        st.integers(0, MAX_RANK),
        st.binary(min_size=ROOT_BYTES, max_size=ROOT_BYTES),
        st.integers(0, MAX_SEQUENCE),
        st.none() | st.integers(0, MAX_COST_US - 1),
        st.booleans(),
    ),
    st.builds(Eager, st.booleans(), st.none() | HASHES.map(NodeId)),
)

STREAM = StreamId(NodeId(bytes(32)), 7)
WIRE_STREAM = [bytes(32), 7]
SEAL = [0, bytes(32), 1, 0, bytes(64)]
GOOD: dict[int, list[Any]] = {
    1: ["program", bytes(8), bytes(8), 3, True],
    2: [[[WIRE_STREAM, 0, bytes(32)]], True, [[WIRE_STREAM, SEAL]]],
    3: [WIRE_STREAM, 0, 5, bytes(32), False],
    4: [WIRE_STREAM, 0, [b"event"], SEAL, b"", [bytes(32), SEAL]],
    5: [WIRE_STREAM, 1],
    6: [0],
    7: [0, 1_700_000_000_000_000],
    8: ["reason"],
    12: [[*WIRE_STREAM, bytes(32)]],
    13: [encode_proof(PROOF)],
    9: [[0, 5, bytes(8)]],
    10: [True, b""],
    11: [0, 1, [b"event"], bytes(8), 1, 0, bytes(64)],
    14: [7, 3],
    16: [[[bytes(32), [["10.0.0.5", 4001], ["", 4001]]]]],
    17: [5, bytes(ROOT_BYTES), 3, 20_000, True],
}


def wire(kind: Any, fields: list[Any]) -> bytes:
    packed: bytes = msgpack.packb([kind, *fields])
    return packed


@given(MESSAGES)
def test_every_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize("kind", GOOD)
def test_fields_of_a_newer_version_are_passed_over(kind: int) -> None:
    plain = decode_message(wire(kind, GOOD[kind]))
    assert plain is not None
    assert decode_message(wire(kind, [*GOOD[kind], "newer", [1]])) == plain


REQUIRED = {kind: len(fields) for kind, fields in GOOD.items()} | {1: 1, 2: 2, 4: 5, 7: 1}
"""How many fields each kind had from the beginning; those behind came later, and an older peer does not send them."""


@pytest.mark.parametrize(("kind", "known"), [(2, 2), (4, 5)])
def test_an_older_peer_says_nothing_of_horizons(kind: int, known: int) -> None:
    match decode_message(wire(kind, GOOD[kind][:known])):
        case Heads(_, _, horizons):
            assert horizons == ()
        case Events(sealed):
            assert sealed.start is None
        case other:
            pytest.fail(repr(other))


def test_an_older_peer_greets_without_a_journal() -> None:
    assert decode_message(wire(1, ["old"])) == Greeting("old")


@pytest.mark.parametrize("kind", [0, 100, 200, -1, 2**63, "1", None, 1.0, [1]], ids=repr)
def test_an_unknown_kind_is_passed_over(kind: Any) -> None:
    assert decode_message(wire(kind, [1, 2])) is None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(kind, GOOD[kind][:count]) for kind in GOOD for count in range(REQUIRED[kind])],
)
def test_a_missing_field_is_the_peers_fault(kind: int, fields: list[Any]) -> None:
    with pytest.raises(PeerFault):
        decode_message(wire(kind, fields))


BAD_STREAMS: list[Any] = [
    None,
    [],
    [bytes(32)],
    [bytes(31), 1],
    ["x" * 32, 1],
    [bytes(32), -1],
    [bytes(32), 2**53],
    [bytes(32), 1.0],
    [bytes(32), True],
]


def bad_fields() -> list[tuple[int, int, Any]]:
    """Kind, field, and what cannot stand there."""
    numbers: list[Any] = [-1, 2**53 + 1, 1.0, "1", None, True]
    no_heads: list[Any] = [None, {}, [None], [[]], [[WIRE_STREAM, -1, bytes(32)]]]
    no_events: list[Any] = [None, b"event", [None], ["event"], {}]
    no_certificates: list[Any] = [None, "x", []]
    no_seals: list[list[Any]] = [
        numbers,
        [bytes(31), None],
        [-1, 2**43, None],
        numbers,
        [bytes(63), bytes(65), None],
    ]
    bad: list[tuple[int, int, Any]] = [
        *((kind, 0, stream) for kind in (3, 4, 5) for stream in BAD_STREAMS),
        *((kind, 0, text) for kind in (1, 8) for text in (1, None, b"x", ["x"])),
        *((kind, 0, token) for kind in (6, 7) for token in (-1, 2**32, 1.0, True, None)),
        *((kind, 1, offset) for kind in (3, 4) for offset in numbers),
        *((3, 2, last) for last in numbers),
        *((3, 3, hash_) for hash_ in (b"", bytes(31), bytes(33), "x" * 32)),
        *((kind, field, flag) for kind, field in ((2, 1), (3, 4)) for flag in (0, None, "yes")),
        *((2, 0, heads) for heads in no_heads),
        *((2, 0, [[WIRE_STREAM, 0, hash_]]) for hash_ in (bytes(31), None)),
        *((4, 2, events) for events in no_events),
        *((4, 4, certificate) for certificate in no_certificates),
        *((5, 1, why) for why in (0, 3, None, "1", True)),
    ]
    for field, values in enumerate(no_seals):
        bad.extend((4, 3, [*SEAL[:field], value, *SEAL[field + 1 :]]) for value in values)
    return bad


@pytest.mark.parametrize(("kind", "field", "value"), bad_fields())
def test_a_field_that_does_not_fit_is_the_peers_fault(kind: int, field: int, value: Any) -> None:
    fields = [*GOOD[kind][:field], value, *GOOD[kind][field + 1 :]]
    with pytest.raises(PeerFault, match=f"kind {kind} is malformed"):
        decode_message(wire(kind, fields))


def test_a_want_does_not_end_before_it_begins() -> None:
    assert decode_message(wire(3, [WIRE_STREAM, 5, 5, bytes(32), False])) is not None
    with pytest.raises(PeerFault):
        decode_message(wire(3, [WIRE_STREAM, 5, 4, bytes(32), False]))


def test_a_message_has_at_most_1000_heads() -> None:
    head = GOOD[2][0]
    told = decode_message(wire(2, [head * MAX_HEADS, True]))
    assert isinstance(told, Heads)
    assert len(told.heads) == 1_000
    with pytest.raises(PeerFault, match="at most 1000 heads, not 1001"):
        decode_message(wire(2, [head * (MAX_HEADS + 1), True]))


@pytest.mark.parametrize("kind", [1, 8])
def test_texts_are_cut_and_made_printable(kind: int) -> None:
    message = decode_message(wire(kind, ["a\x1b[31m\n" + "x" * 500]))
    text = message.program if isinstance(message, Greeting) else None
    text = message.reason if isinstance(message, Goodbye) else text
    assert text == "a?[31m?" + "x" * 193


def test_we_cut_our_own_texts() -> None:
    assert decode_message(encode_message(Goodbye("x" * 500))) == Goodbye("x" * 200)


def test_the_largest_messages_fit_a_frame() -> None:
    seal = Seal(STREAM, 2**53, bytes(32), 2**43 - 1, 2**53, bytes(64))
    events = tuple([bytes(MAX_SEALED_BYTES // 1_000)] * 1_000)
    start = Start(bytes(32), seal)
    largest = Events(SealedRange(0, events, seal, bytes(4_096), start))
    heads = Heads(
        (Head(STREAM, 2**53, bytes(32)),) * MAX_HEADS, complete=True, horizons=(seal,) * MAX_HEADS
    )
    assert len(encode_message(largest)) < MAX_FRAME_BYTES
    assert len(encode_message(heads)) < MAX_FRAME_BYTES


def nested(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


@pytest.mark.parametrize("levels", [100, 500, 900, 990, 1_000, 1_020, 5_000, 500_000])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 6])
def test_a_deeply_nested_field_is_the_peers_fault(kind: int, levels: int) -> None:
    with pytest.raises(PeerFault):
        decode_message(b"\x92" + bytes([kind]) + nested(levels))


@pytest.mark.parametrize(("kind", "field"), [(2, 1), (3, 4), (3, 1), (5, 1)])
def test_a_deeply_nested_late_field_is_the_peers_fault(kind: int, field: int) -> None:
    fields = b"".join(map(msgpack.packb, GOOD[kind][:field]))
    rest = b"".join(map(msgpack.packb, GOOD[kind][field + 1 :]))
    head = bytes([0x90 + 1 + len(GOOD[kind]), kind])
    with pytest.raises(PeerFault):
        decode_message(head + fields + nested(1_000) + rest)


@pytest.mark.parametrize("kind", [3, 6])
def test_what_the_peer_sent_does_not_blow_up_the_error(kind: int) -> None:
    fields = [*GOOD[kind]]
    fields[-1] = "x" * 500_000
    with pytest.raises(PeerFault) as fault:
        decode_message(wire(kind, fields))
    assert len(str(fault.value)) < 1_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x90",
        b"\x80",
        b"\x01",
        b"\x92\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x01\xdb\xff\xff\xff\xff",
        b"\x92\x01\xa1\xff",
        b"\x92\x06\x81\x90\x01",
        b"\x92\x06\x00\x00",
        b"\x92\x06\xd7\xff" + b"\xff" * 8,
    ],
    ids=lambda data: data.hex(),
)
def test_what_is_no_message_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(PeerFault):
        decode_message(data)


DEEP = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
) | st.binary(max_size=70)
SCRAMBLED = st.builds(
    lambda kind, values, where: [
        new if take else old for old, new, take in zip(GOOD[kind], values, where, strict=False)
    ],
    st.sampled_from(list(GOOD)),
    st.lists(DEEP, min_size=5, max_size=5),
    st.lists(st.booleans(), min_size=5, max_size=5),
)


@given(st.binary(max_size=80) | st.builds(wire, st.integers(0, 9), SCRAMBLED))
def test_hostile_bytes_are_a_message_or_the_peers_fault(data: bytes) -> None:
    try:
        message = decode_message(data)
    except PeerFault:
        return
    if message is not None:
        assert decode_message(encode_message(message)) == message
