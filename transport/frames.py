"""Frames: how messages are cut out of a byte stream.

A frame is a length (4 bytes, big-endian) and as many bytes of one message. The length is checked before anything is
read for it, so that no peer can make this node set memory aside that it has not sent bytes for.
"""

import struct

from transport.errors import PeerFault

MAX_FRAME_BYTES = 1024 * 1024 + 64 * 1024
"""Largest message: the proof of a fork, two sealed ranges of 512 KiB with their framing, and a certificate."""

_LENGTH = struct.Struct("!I")


def frame(message: bytes) -> bytes:
    """A message with its length before it."""
    assert 0 < len(message) <= MAX_FRAME_BYTES, "our own messages are bounded when they are built"
    return _LENGTH.pack(len(message)) + message


class FrameReader:
    """Collects bytes as they come and gives back whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes in; return the messages that are complete with them, in order.

        Raises:
            PeerFault: a frame announces itself as empty or beyond the limit.
        """
        self._buffer += data
        messages: list[bytes] = []
        start = 0
        while (end := self._end_of_frame(start)) is not None:
            messages.append(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return messages

    def _end_of_frame(self, start: int) -> int | None:
        """Where the frame that begins at `start` ends; None while it is incomplete."""
        if len(self._buffer) - start < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if not 0 < length <= MAX_FRAME_BYTES:
            raise PeerFault(f"a frame of {length} bytes: 1 to {MAX_FRAME_BYTES} are allowed")
        end = start + _LENGTH.size + int(length)
        return end if end <= len(self._buffer) else None
