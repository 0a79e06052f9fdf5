"""Packed messages: shorter, the same when unpacked, and harmless whatever they claim to be."""

import tracemalloc
from typing import Any

import msgpack
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lamport.chain import MAX_SEALED_BYTES, MAX_SEALED_EVENTS
from tests.lamport.keys import Author, event_bytes, member
from transport.codec import decode_message, encode_message, is_packable, packed_message
from transport.errors import PeerFault
from transport.frames import MAX_FRAME_BYTES
from transport.messages import Events, Fresh, Ping, weight
from transport.packing import WORTH_BYTES, pack, unpack


def range_of(count: int) -> Events:
    events = [event_bytes(n, payload={"reading": n, "of": "press 7"}) for n in range(count)]
    return Events(Author(member()).write(*events, lamport=count))


def packed(inner: Any) -> bytes:
    data: bytes = msgpack.packb([15, inner])
    return data


def test_a_range_is_shorter_and_comes_back_as_it_was() -> None:
    message = range_of(200)
    plain = encode_message(message)
    short = packed_message(plain)
    assert len(short) < len(plain) / 2
    assert decode_message(short) == message


def test_a_pushed_range_is_packed_too() -> None:
    events = tuple(event_bytes(n) for n in range(99))
    message = Fresh(0, 5, events, bytes(8), 1, 0, bytes(64))
    assert is_packable(message, WORTH_BYTES)
    assert decode_message(packed_message(encode_message(message))) == message


def test_only_long_ranges_are_packed() -> None:
    assert is_packable(range_of(1), WORTH_BYTES)
    assert not is_packable(range_of(1), WORTH_BYTES - 1)
    assert not is_packable(Ping(1), WORTH_BYTES)


def test_a_range_counts_as_what_it_is_when_it_is_unpacked() -> None:
    many, long = (b"",) * MAX_SEALED_EVENTS, (bytes(MAX_SEALED_BYTES // 2),) * 2
    for events, messages in ((many, 31), (long, 16)):
        data = packed_message(encode_message(Fresh(0, 5, events, bytes(8), 1, 0, bytes(64))))
        assert len(data) < 200
        assert weight(decode_message(data)) == messages


def test_more_events_than_a_seal_vouches_for_are_refused_unread() -> None:
    events = (b"",) * (MAX_SEALED_EVENTS + 1)
    with pytest.raises(PeerFault, match="at most 1000 events"):
        decode_message(encode_message(Fresh(0, 5, events, bytes(8), 1, 0, bytes(64))))


def test_a_bomb_is_the_peers_fault_before_memory_is_set_aside() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 * 1024 * 1024))
    assert len(bomb) < 32 * 1024
    tracemalloc.start()
    with pytest.raises(PeerFault, match="268435456 bytes"):
        decode_message(packed(bomb))
    assert tracemalloc.get_traced_memory()[1] < MAX_FRAME_BYTES
    tracemalloc.stop()


def test_a_bomb_that_does_not_say_how_long_it_is_is_refused_too() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    bomb = compressor.compress(bytes(64 * 1024 * 1024)) + compressor.flush()
    with pytest.raises(PeerFault):
        decode_message(packed(bomb))


def test_one_that_lies_about_its_length_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(write_content_size=True)
    honest = bytearray(zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(9)))
    honest[5] = 3
    with pytest.raises(PeerFault):
        unpack(bytes(honest))


@pytest.mark.parametrize(
    "inner",
    [
        msgpack.packb([15, pack(encode_message(range_of(2)))]),
        encode_message(Ping(1)),
        msgpack.packb([4]),
        msgpack.packb([]),
        msgpack.packb(7),
        b"\xc1",
    ],
)
def test_only_one_range_is_in_a_packed_message(inner: bytes) -> None:
    with pytest.raises(PeerFault):
        decode_message(packed(pack(inner)))


@pytest.mark.parametrize("inner", [b"", b"no zstandard", 7, None, "text", []])
def test_what_is_not_packed_at_all_is_the_peers_fault(inner: Any) -> None:
    with pytest.raises(PeerFault):
        decode_message(packed(inner))


@given(st.binary(max_size=60), st.integers(0, 200))
def test_damage_is_never_unpacked_to_something_else(noise: bytes, place: int) -> None:
    data = encode_message(range_of(8))
    short = pack(data)
    place %= len(short)
    damaged = short[:place] + noise + short[place + len(noise) :]
    try:
        found = unpack(damaged)
    except PeerFault:
        return
    assert found == data
