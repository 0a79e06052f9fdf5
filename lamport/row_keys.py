"""Row keys: where an event stands in the database, as one number of 64 bits, and the checksum of its row."""

from zlib import crc32

STREAM_BITS = 20
"""Bits of a row key that hold the stream's local number."""

MAX_STREAMS = 1 << STREAM_BITS
"""Most streams one database can hold."""

_SEED = 0xFFFFFFFF


def row_key(lamport: int, row: int) -> int:
    """The key of an event's row: order by Lamport timestamp, then by the stream's local number."""
    return lamport << STREAM_BITS | row


def row_checksum(key: int, offset: int, data: bytes) -> int:
    """The checksum of a row, by which altered bytes are told that are still an event, or one in another place."""
    return crc32(data, (key ^ offset) & _SEED)
