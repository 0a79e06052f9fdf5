"""Blocks give back the exact bytes of events, whoever encoded them, and refuse whatever a disk altered."""

import random
from typing import Any
from zlib import crc32

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.blocks import (
    BLOCK_BYTES,
    BLOCK_EVENTS,
    Block,
    Packed,
    frame_contents,
    pack_events,
    read_directory,
)
from lamport.codec import decode_event
from lamport.dictionaries import MAX_DICTIONARIES, MIN_SAMPLES, Dictionaries, learn
from lamport.event_table import checked_block
from lamport.frames import Filed
from lamport.row_keys import row_key
from tests.lamport.keys import Author, event_bytes, member

STREAM = Author(member("bob")).stream
NONE = Dictionaries()

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


def opened(packed: Packed, row: int = 3, dictionaries: Dictionaries = NONE) -> Block:
    first, last = row_key(packed.first_lamport, row), row_key(packed.last_lamport, row)
    place = first, last, packed.offset, packed.events
    return checked_block(*place, packed.data, dictionaries)


@given(histories(), st.integers(0, 2**40), st.integers(1, 7), st.integers(1, 3))
def test_blocks_give_back_bytes_and_events(
    events: list[Filed], offset: int, most: int, frame: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamport.blocks.BLOCK_EVENTS", most)
        patch.setattr("lamport.blocks.FRAME_EVENTS", frame)
        packed = list(pack_events(3, offset, events, NONE.newest))
    blocks = [opened(one) for one in packed]
    assert [one.events for one in packed] == [block.count for block in blocks]
    assert max(block.count for block in blocks) <= most
    assert [data for block in blocks for data in block.bytes_at(range(block.count))] == [
        data for _, data in events
    ]
    expected = [decode_event(STREAM, at, data) for at, (_, data) in enumerate(events, offset)]
    at_once = [event for block in blocks for event in block.events(STREAM, range(block.count))]
    singly = [event for block in blocks for event in block.events(STREAM, [*range(block.count)])]
    part = [event for one in blocks for event in one.events(STREAM, range(1, one.count))]
    assert same(at_once, expected)
    assert same(singly, expected)
    firsts = {block.offset for block in blocks}
    assert same(part, [one for one in expected if one.offset not in firsts])


def usual(count: int) -> list[Filed]:
    return [Filed(one, event_bytes(one, ("a",), {"n": one})) for one in range(1, count + 1)]


def test_a_unit_is_cut_evenly_and_large_events_stand_alone() -> None:
    third = (2 * BLOCK_EVENTS + 2) // 3
    cut = pack_events(0, 0, usual(3 * third), NONE.newest)
    assert [one.events for one in cut] == [third] * 3
    large = [Filed(n, event_bytes(n, (), "x" * 50_000)) for n in range(1, 4)]
    assert [one.events for one in pack_events(0, 0, large, NONE.newest)] == [1, 1, 1]
    assert BLOCK_BYTES < 2 * 50_000


def test_an_event_is_found_by_its_timestamp_without_opening_other_frames() -> None:
    events = [Filed(3 * one.lamport, event_bytes(3 * one.lamport)) for one in usual(100)]
    [packed] = pack_events(3, 7, events, NONE.newest)
    directory = read_directory(packed.data)
    opened_frames: list[bytes] = []

    def decompress(data: bytes) -> bytes:
        opened_frames.append(data)
        return NONE.decompressor(0)(data)

    block = Block(3, 7, packed.data, directory, decompress)
    assert [block.find(at) for at in (2, 3, 4)] == [None, 0, None]
    assert block.find(3 * 99) == 98
    assert [one.key.lamport for one in block.events(STREAM, [98])] == [3 * 99]
    assert len(opened_frames) == 2
    assert len(directory.lamports) == 4


def test_fields_of_a_newer_version_may_be_nested_as_deep_as_can_be_read() -> None:
    deep = b"\x91" * 1_023 + b"\xc0"
    raw = b"\x96" + b"".join(map(msgpack.packb, (1, 2, ["a"], "shoal", None))) + deep
    assert decode_event(STREAM, 0, raw).tags == ("a",)
    [packed] = pack_events(3, 0, [Filed(1, raw), *usual(3)[1:]], NONE.newest)
    events = opened(packed).events(STREAM, range(3))
    assert [event.key.lamport for event in events] == [1, 2, 3]
    assert events[0].tags == ("a",)


@pytest.mark.parametrize("column", range(1, 5))
@pytest.mark.parametrize("value", [None, "text", 1.5])
def test_columns_of_another_type_are_damage(column: int, value: Any) -> None:
    [packed] = pack_events(3, 0, usual(3), NONE.newest)
    row: list[Any] = [row_key(1, 3), row_key(3, 3), 0, 3, packed.data, NONE]
    row[column] = value
    with pytest.raises(ValueError, match="types"):
        checked_block(*row)


def test_whatever_bit_of_a_block_flips_it_is_refused() -> None:
    [packed] = pack_events(3, 0, usual(40), NONE.newest)
    randomness = random.Random(6)
    for _ in range(2_000):
        place = randomness.randrange(len(packed.data))
        bit = 1 << randomness.randrange(8)
        data = bytearray(packed.data)
        data[place] ^= bit
        try:
            block = opened(packed._replace(data=bytes(data)))
        except ValueError:
            continue
        # Some bits of a frame's header mean nothing.
        assert list(block.bytes_at(range(40))) == [one for _, one in usual(40)]


def test_a_block_in_another_place_is_refused() -> None:
    packed, other = (next(pack_events(3, at, usual(40), NONE.newest)) for at in (0, 40))
    for wrong in (
        packed._replace(offset=1),
        packed._replace(events=39),
        packed._replace(first_lamport=2),
        packed._replace(last_lamport=41),
        packed._replace(data=other.data),
    ):
        with pytest.raises(ValueError, match="another"):
            opened(wrong)
    with pytest.raises(ValueError, match="another"):
        opened(packed, row=4)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x28\xb5\x2f\xfd", bytes(500)])
def test_what_is_no_block_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_directory(data)


def test_a_block_of_a_newer_version_is_refused() -> None:
    head = b"\x02" + bytes(11)
    with pytest.raises(ValueError, match="version 2"):
        read_directory(head + crc32(head).to_bytes(4, "little"))


def test_a_dictionary_makes_frames_smaller_and_is_needed_to_read_them() -> None:
    events = usual(2_048)
    data = learn(list(frame_contents(events)))
    learnt = Dictionaries(NONE.next_rows(data))
    without, within = (
        list(pack_events(3, 0, events[:40], which.newest)) for which in (NONE, learnt)
    )
    assert sum(len(one.data) for one in within) < sum(len(one.data) for one in without)
    [packed] = within
    block = opened(packed, dictionaries=learnt)
    assert list(block.bytes_at(range(40))) == [one for _, one in events[:40]]
    with pytest.raises(ValueError, match="dictionary 1 is damaged or lost"):
        opened(packed)


def test_one_damaged_copy_of_a_dictionary_does_no_harm() -> None:
    one, other = NONE.next_rows(b"what they have in common")
    damaged = one._replace(data=b"what they had in common")
    assert Dictionaries([damaged, other]).newest.number == 1
    lost = Dictionaries([damaged])
    assert (lost.newest.number, lost.knows(1)) == (0, True)
    assert lost.next_rows(b"")[0].number == 2


def test_nothing_is_learnt_from_a_few_frames() -> None:
    assert learn([b"a"] * (MIN_SAMPLES - 1)) == b""
    assert learn([b"a"] * MIN_SAMPLES) != b""


def test_dictionaries_are_learnt_at_first_and_then_seldom() -> None:
    known, learnt = Dictionaries(), []
    for packed in range(0, 80 << 20, 1 << 15):
        if known.is_due(packed):
            rows = known.next_rows(b"x")
            known.take(rows)
            learnt.append(packed)
    assert learnt[:4] == [0, 1 << 16, 1 << 20, 2 << 20]
    assert len(learnt) == MAX_DICTIONARIES
