"""Frames: messages come out as they went in, however the bytes were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import PeerFault
from transport.frames import MAX_FRAME_BYTES, FrameReader, frame

MESSAGES = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
CUTS = st.lists(st.integers(1, 9), max_size=40)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    cut: list[bytes] = []
    for size in cuts:
        cut.append(data[:size])
        data = data[size:]
    return [*cut, data]


@given(MESSAGES, CUTS)
def test_messages_come_out_whole_however_they_are_cut(
    messages: list[bytes], cuts: list[int]
) -> None:
    reader = FrameReader()
    stream = b"".join(map(frame, messages))
    assert [one for piece in pieces(stream, cuts) for one in reader.feed(piece)] == messages


def test_a_message_comes_out_with_its_last_byte_and_not_before() -> None:
    reader, data = FrameReader(), frame(b"abc")
    assert [reader.feed(bytes([byte])) for byte in data] == [[]] * 6 + [[b"abc"]]


def test_the_largest_message_is_carried() -> None:
    largest = bytes(MAX_FRAME_BYTES)
    assert FrameReader().feed(frame(largest)) == [largest]


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_length_beyond_the_limit_is_refused_before_its_bytes_came(length: int) -> None:
    with pytest.raises(PeerFault, match=f"frame of {length} bytes"):
        FrameReader().feed(length.to_bytes(4, "big"))


def test_a_bad_length_behind_good_frames_is_refused() -> None:
    with pytest.raises(PeerFault):
        FrameReader().feed(frame(b"good") + bytes(4))


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_any_bytes_are_frames_or_the_peers_fault(data: list[bytes]) -> None:
    reader = FrameReader()
    try:
        messages = [one for piece in data for one in reader.feed(piece)]
    except PeerFault:
        return
    assert b"".join(data).startswith(b"".join(map(frame, messages)))


@pytest.mark.parametrize("message", [b"", bytes(MAX_FRAME_BYTES + 1)], ids=["empty", "large"])
def test_we_never_send_what_a_peer_would_refuse(message: bytes) -> None:
    with pytest.raises(AssertionError):
        frame(message)
