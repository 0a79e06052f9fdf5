"""Fields of what was packed with msgpack: each is checked as it is read. Seals have one form wherever they stand.

    seal     [offset, hash, clock, horizon, signature]
    start    [hash, seal or nothing]

What does not fit raises `ValueError`; whoever reads says of what. Fields behind the known ones are a newer version's.
"""

from typing import Any

from lamport.chain import HASH_BYTES, SIGNATURE_BYTES, Seal, Start
from lamport.ids import MAX_LAMPORT, STREAM_NUMBER_LIMIT, NodeId, StreamId

OFFSET_LIMIT = 2**53
"""No offset is higher; other languages' numbers are exact up to here."""


def read_bytes(value: Any, size: int | None = None) -> bytes:
    """Bytes, just so many where a size is given."""
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise ValueError(f"{size or 'some'} bytes are due")
    return value


def read_number(value: Any, least: int, most: int) -> int:
    """A number within these bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"a number from {least} to {most} is due")
    return value


def read_offset(value: Any) -> int:
    """An offset."""
    return read_number(value, 0, OFFSET_LIMIT)


def read_stream(node: Any, number: Any) -> StreamId:
    """A stream that is no branch."""
    return StreamId(NodeId(read_bytes(node)), read_number(number, 0, STREAM_NUMBER_LIMIT - 1))


def read_seal(stream: StreamId, fields: Any) -> Seal:
    """The seal of a stream."""
    offset, hash_, clock, horizon, signature = fields[:5]
    return Seal(
        stream,
        read_offset(offset),
        read_bytes(hash_, HASH_BYTES),
        read_number(clock, 0, MAX_LAMPORT),
        read_offset(horizon),
        read_bytes(signature, SIGNATURE_BYTES),
    )


def seal_fields(seal: Seal) -> list[Any]:
    """The fields of a seal; its stream stands beside it."""
    return [seal.offset, seal.hash, seal.clock, seal.horizon, seal.signature]


def read_start(stream: StreamId, fields: Any) -> Start:
    """Where a stream begins whose beginning was pruned."""
    hash_, signed = fields[:2]
    return Start(
        read_bytes(hash_, HASH_BYTES), None if signed is None else read_seal(stream, signed)
    )


def start_fields(start: Start) -> list[Any]:
    """Its fields."""
    return [start.hash, None if start.seal is None else seal_fields(start.seal)]
