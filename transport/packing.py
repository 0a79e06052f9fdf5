"""Compressed ranges: what is fetched in bulk goes over the link at a third to a quarter of its size.

Only long messages are worth it; a pushed event of some hundred bytes does not compress by itself. Each message is
compressed alone, so that a transfer is resumed at any range as without. Whoever unpacks looks first at how much is
announced: a few bytes that claim to be gigabytes are the peer's fault before anything is set aside for them.
"""

import zstandard

from transport.errors import PeerFault
from transport.frames import MAX_FRAME_BYTES

WORTH_BYTES = 1_024
"""Shorter messages are sent as they are."""

LEVEL = 1
"""About 0.7 microseconds per event; higher levels cost twice as much and save little."""

MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""Memory that a frame may ask for to be unpacked: what every decoder has to offer (RFC 8878, 3.1.1.1.2). This program's
own frames ask for half a mebibyte; a version that packs harder may ask for more."""


def pack(data: bytes) -> bytes:
    """Compress a message; the frame says how long it was, and bears a checksum."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data)


def unpack(data: bytes) -> bytes:
    """The message that was packed.

    Raises:
        PeerFault: it is none, does not say how long it is, or is longer than a message may be.
    """
    try:
        announced = zstandard.frame_content_size(data)
        if not 0 < announced <= MAX_FRAME_BYTES:
            raise PeerFault(
                f"a packed message of {announced} bytes: 1 to {MAX_FRAME_BYTES} are allowed"
            )
        unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        return unpacker.decompress(data, max_output_size=MAX_FRAME_BYTES, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PeerFault(f"a packed message cannot be unpacked: {error}") from error
