"""What simulated devices say, read on its way: to describe it in pictures, and to alter it as a liar would."""

from collections import Counter
from dataclasses import replace

from lamport.chain import SealedRange
from transport.codec import decode_message, encode_message
from transport.errors import PeerFault
from transport.frames import FrameReader, frame
from transport.messages import Events, Greeting, Message

MAX_HELLO_BYTES = 256
"""A session begins within so many bytes of a segment; the hello's parts are shorter."""


class Eavesdropper:
    """Follows one direction of a connection and tells what its bytes say."""

    def __init__(self) -> None:
        self._frames: FrameReader | None = None

    def told(self, segment: bytes) -> str:
        """What was said completely with these bytes: `hello`, `ping`, `want`, `3 events`, `heads, want`."""
        if self._frames is None:
            start = _greeting(segment)
            if start is None:
                return "hello"
            self._frames, segment = FrameReader(), segment[start:]
        try:
            raw = self._frames.feed(segment)
        except PeerFault:
            return f"{len(segment)} bytes"
        words = Counter(_word(one) for one in raw)
        return ", ".join(_counted(word, count) for word, count in words.items()) or "a part"


def _greeting(segment: bytes) -> int | None:
    """Where the session's first frame begins, if it does in this segment; before it comes the hello."""
    starts = range(min(len(segment), MAX_HELLO_BYTES))
    return next((at for at in starts if isinstance(_message(segment[at:]), Greeting)), None)


def forged(data: bytes, what: str) -> bytes:
    """A frame with the range of events in it altered, in an `event` or in its `seal`; other bytes as they are."""
    message = _message(data)
    if not isinstance(message, Events):
        return data
    return frame(encode_message(Events(_altered(message.range, what))))


def _altered(sealed: SealedRange, what: str) -> SealedRange:
    if what == "seal":
        return replace(sealed, seal=replace(sealed.seal, signature=_flipped(sealed.seal.signature)))
    return replace(sealed, events=(*sealed.events[:-1], _flipped(sealed.events[-1])))


def _flipped(data: bytes) -> bytes:
    """The bytes with the last bit turned."""
    return data[:-1] + bytes((data[-1] ^ 1,))


def _message(data: bytes) -> Message | None:
    try:
        raw = FrameReader().feed(data)
        return decode_message(raw[0]) if raw else None
    except PeerFault:
        return None


def _word(raw: bytes) -> str:
    try:
        message = decode_message(raw)
    except PeerFault:
        return "hello"
    if isinstance(message, Events):
        return f"{len(message.range.events)} events"
    return "hello" if message is None else type(message).__name__.lower()


def _counted(word: str, count: int) -> str:
    return word if count == 1 else f"{count} x {word}"
