"""Blocks give back the exact bytes of events, whoever encoded them, and refuse whatever a disk altered."""

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.blocks import BLOCK_BYTES, BLOCK_EVENTS, Block, Filed, open_block, pack_events
from lamport.codec import decode_event
from tests.lamport.keys import Author, event_bytes, member

STREAM = Author(member("bob")).stream

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TAGS = st.lists(st.sampled_from(["a", "b", "\u00e4:7"]), unique=True).map(sorted)
STAMPS = st.integers(-(2**63), 2**63 - 1) | st.integers(10**15, 10**15 + 99)


def foreign(number: int) -> bytes:
    """A number as other encoders may spell it: with all 64 bits."""
    return b"\xd3" + number.to_bytes(8, "big", signed=True)


@st.composite
def histories(draw: st.DrawFn) -> list[Filed]:
    """Events with rising timestamps: ours, a foreign encoder's, and some with fields of a newer version."""
    lamport, events = 0, []
    for kind, stamp, tags, payload in draw(
        st.lists(st.tuples(st.integers(0, 3), STAMPS, TAGS, JSON), min_size=1, max_size=20)
    ):
        lamport += draw(st.sampled_from([1, 1, 7, 2**40 // 20]))
        packed = [msgpack.packb(one) for one in (lamport, stamp, tags, "shoal", payload)]
        if kind == 1:
            packed[0] = foreign(lamport)
        elif kind == 2:
            packed[2] = b"\xdc" + len(tags).to_bytes(2, "big") + b"".join(map(msgpack.packb, tags))
        newer = [msgpack.packb("newer")] if kind == 3 else []
        events.append(Filed(lamport, bytes([0x95 + len(newer)]) + b"".join(packed + newer)))
    return events


def same(one: Any, other: Any) -> bool:
    """Equal, not-a-number included."""
    return repr(one) == repr(other)


@given(histories(), st.integers(0, 2**40), st.integers(1, 7))
def test_blocks_give_back_bytes_and_events(events: list[Filed], offset: int, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamport.blocks.BLOCK_EVENTS", most)
        packed = list(pack_events(3, offset, events))
    blocks = [open_block(one.data) for one in packed]
    assert [block.row for block in blocks] == [3] * len(blocks)
    assert [one.events for one in packed] == [block.count for block in blocks]
    assert max(block.count for block in blocks) <= most
    assert [data for block in blocks for data in block.bytes_at(range(block.count))] == [
        data for _, data in events
    ]
    expected = [decode_event(STREAM, at, data) for at, (_, data) in enumerate(events, offset)]
    at_once = [event for block in blocks for event in block.events(STREAM, range(block.count))]
    singly = [event for block in blocks for event in block.events(STREAM, [*range(block.count)])]
    assert same(at_once, expected)
    assert same(singly, expected)


def usual(count: int) -> list[Filed]:
    return [Filed(one, event_bytes(one, ("a",), {"n": one})) for one in range(1, count + 1)]


def test_a_unit_is_cut_evenly_and_large_events_stand_alone() -> None:
    third = (2 * BLOCK_EVENTS + 2) // 3
    assert [one.events for one in pack_events(0, 0, usual(3 * third))] == [third] * 3
    large = [Filed(n, event_bytes(n, (), "x" * 50_000)) for n in range(1, 4)]
    assert [one.events for one in pack_events(0, 0, large)] == [1, 1, 1]
    assert BLOCK_BYTES < 2 * 50_000


def test_whatever_bit_of_a_block_flips_it_is_refused() -> None:
    [packed] = pack_events(0, 0, usual(40))
    randomness = random.Random(6)
    for _ in range(2_000):
        place = randomness.randrange(len(packed.data))
        bit = 1 << randomness.randrange(8)
        data = bytearray(packed.data)
        data[place] ^= bit
        try:
            block = open_block(bytes(data))
        except ValueError:
            continue
        # Some bits of a frame's header mean nothing.
        assert list(block.bytes_at(range(40))) == [one for _, one in usual(40)]


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x28\xb5\x2f\xfd", bytes(500)])
def test_what_is_no_block_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        open_block(data)


def test_a_block_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        Block(b"\x02" + bytes(40))
