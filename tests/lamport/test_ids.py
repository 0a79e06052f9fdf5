"""Names: their text forms sort like the values, and what is no name is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import InvalidInput
from lamport.ids import (
    MAX_LAMPORT,
    MIN_DRAWN_STREAM_NUMBER,
    STREAM_NUMBER_LIMIT,
    EventKey,
    NodeId,
    StreamId,
)

NODE = NodeId(bytes(range(1, 33)))
NODE_TEXT = ".E61/.I4/kU70UgA1EsD2/2G2lEJ3VQM4FcP5/oS5m."

NODES = st.binary(min_size=32, max_size=32).map(NodeId)
DRAWN = st.integers(MIN_DRAWN_STREAM_NUMBER, STREAM_NUMBER_LIMIT - 1)
STREAMS = st.builds(StreamId, NODES, DRAWN, st.just(b""))
ADDRESSES = st.builds(StreamId, NODES, DRAWN, st.binary(min_size=32, max_size=32) | st.just(b""))
KEYS = st.builds(EventKey, st.integers(0, MAX_LAMPORT), STREAMS)
# few distinct values, so that later parts of the order get to decide
CLOSE_KEYS = st.builds(
    EventKey,
    st.integers(9, 11),
    st.builds(
        StreamId,
        st.sampled_from([NODE, NodeId(bytes(32)), NodeId(b"\xff" * 32)]),
        st.sampled_from([MIN_DRAWN_STREAM_NUMBER, 2 * 10**15, STREAM_NUMBER_LIMIT - 1]),
        st.just(b""),
    ),
)


def test_a_node_id_reads_as_its_known_text() -> None:
    assert str(NODE) == NODE_TEXT
    assert NodeId.parse(NODE_TEXT) == NODE


def test_zero_bytes_read_as_dots() -> None:
    assert str(NodeId(bytes(32))) == "." * 43
    assert NodeId.parse("." * 43) == bytes(32)


@given(NODES, NODES)
def test_node_texts_sort_like_node_ids(a: NodeId, b: NodeId) -> None:
    assert (str(a) < str(b)) == (a < b)


@given(KEYS | CLOSE_KEYS, KEYS | CLOSE_KEYS)
def test_key_texts_sort_like_keys(a: EventKey, b: EventKey) -> None:
    assert (str(a) < str(b)) == (a < b)


@given(ADDRESSES)
def test_an_address_names_the_branch_and_the_text_of_a_stream_does_not(stream: StreamId) -> None:
    assert StreamId.parse(stream.address) == stream
    assert StreamId.parse(str(stream)) == stream.base
    key = EventKey(7, stream)
    assert EventKey.parse(key.address) == key
    assert str(key) == str(EventKey(7, stream.base))


@given(STREAMS, STREAMS)
def test_texts_of_drawn_streams_sort_like_streams(a: StreamId, b: StreamId) -> None:
    assert (str(a) < str(b)) == (a < b)


@given(KEYS)
def test_texts_parse_back(key: EventKey) -> None:
    assert NodeId.parse(str(key.stream.node)) == key.stream.node
    assert StreamId.parse(str(key.stream)) == key.stream
    assert EventKey.parse(str(key)) == key


def test_lamport_decides_before_the_stream_does() -> None:
    low, high = StreamId(NodeId(bytes(32)), 0), StreamId(NODE, 0)
    assert EventKey(1, high) < EventKey(2, low) < EventKey(2, high)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_node_id_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match=f"not {size}"):
        NodeId(bytes(size))


@pytest.mark.parametrize("last", ["/", "0", "1"])
def test_stray_bits_are_refused(last: str) -> None:
    with pytest.raises(InvalidInput, match="stray bits"):
        NodeId.parse(NODE_TEXT[:-1] + last)


@pytest.mark.parametrize(
    "text", ["", NODE_TEXT[:-1], NODE_TEXT + ".", NODE_TEXT[:-1] + "-", NODE_TEXT[:-1] + "é"]
)
def test_what_is_no_node_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        NodeId.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        NODE_TEXT,
        f"{NODE_TEXT}-",
        f"{NODE_TEXT}-01",
        f"{NODE_TEXT}--1",
        f"{NODE_TEXT}-1 ",
        f"{NODE_TEXT}-1\n",
        f"{NODE_TEXT}-{2**53}",
        f"{NODE_TEXT}-٣",
        f"{NODE_TEXT[:-1]}/-0",
    ],
)
def test_what_is_no_stream_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        StreamId.parse(text)


def test_the_highest_stream_number_is_read() -> None:
    assert StreamId.parse(f"{NODE_TEXT}-{2**53 - 1}").number == 2**53 - 1
    assert StreamId.parse(f"{NODE_TEXT}-0").number == 0


@pytest.mark.parametrize(
    "text",
    [
        f"1/{NODE_TEXT}-0",
        f"{2**43:016d}/{NODE_TEXT}-0",
        f"{1:016d}{NODE_TEXT}-0",
        f"{1:016d}/{NODE_TEXT}",
        f"{1:017d}/{NODE_TEXT}-0",
        f"{1:016d}/{NODE_TEXT}-0\n",
    ],
)
def test_what_is_no_event_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        EventKey.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for kind in (NodeId, StreamId, EventKey):
        with pytest.raises(InvalidInput):
            kind.parse(text)
