"""Messages as bytes: each is one msgpack array, its kind and then its fields.

Unknown kinds are a newer version's business and are passed over; unknown fields behind the known ones, too. Anything
else that does not fit is the peer's fault. Long ones may travel packed (`transport.packing`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgpack

from lamport.chain import HASH_BYTES, MAX_SEALED_EVENTS, SIGNATURE_BYTES, Head, Seal, SealedRange
from lamport.errors import CorruptRange, InvalidInput
from lamport.fields import (
    OFFSET_LIMIT,
    read_bytes,
    read_number,
    read_offset,
    read_seal,
    read_start,
    seal_fields,
    start_fields,
)
from lamport.forks import decode_proof, encode_proof
from lamport.ids import BRANCH_BYTES, MAX_LAMPORT, STREAM_NUMBER_LIMIT, NodeId, StreamId
from lamport.notices import MAX_NOTICES, NOTICE_ID_BYTES, decode_notice
from transport.errors import InvalidAddress, PeerFault
from transport.exchange import HERE, MAX_OWN, MAX_TOLD
from transport.journal import TOKEN_BYTES
from transport.messages import (
    MAX_COST_US,
    MAX_HEADS,
    MAX_RANK,
    MAX_SEQUENCE,
    MAX_TEXT,
    MAX_TOLD_STREAMS,
    ROOT_BYTES,
    SHORT_HASH_BYTES,
    Addresses,
    Declined,
    Disclose,
    Eager,
    Events,
    Fork,
    Fresh,
    Goodbye,
    Greeting,
    Heads,
    Mark,
    Message,
    News,
    Noticed,
    Notify,
    Novelty,
    Ping,
    Pong,
    Root,
    Want,
    Why,
)
from transport.network import MAX_PORT, Address, Candidate
from transport.packing import WORTH_BYTES, pack, unpack


def encode_message(message: Message) -> bytes:
    """The message's bytes."""
    kind, fields = _WRITERS[type(message)](message)
    packed: bytes = msgpack.packb([kind, *fields])
    return packed


def packed_message(data: bytes) -> bytes:
    """The same message, shorter; only for one who understands that, and only for those that `is_packable`."""
    packed: bytes = msgpack.packb([_PACKED, pack(data)])
    return packed


def is_packable(message: Message, size: int) -> bool:
    """Whether a message of so many bytes may be packed, and is worth it."""
    return isinstance(message, Events | Fresh) and size >= WORTH_BYTES


def decode_message(data: bytes) -> Message | None:
    """Read a message; None where its kind is not known to this version.

    Raises:
        PeerFault: it is malformed.
    """
    try:
        fields = msgpack.unpackb(data, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise PeerFault(f"a message is not msgpack ({type(error).__name__})") from error
    if not isinstance(fields, list) or not fields:
        raise PeerFault("a message is an array that begins with its kind")
    if fields[0] == _PACKED:
        return _unpacked(fields[1:])
    reader = _READERS.get(fields[0]) if isinstance(fields[0], int) else None
    if reader is None:
        return None
    try:
        return reader(fields[1:])
    except (CorruptRange, InvalidInput, InvalidAddress, IndexError, TypeError, ValueError) as error:
        raise PeerFault(f"a message of kind {fields[0]} is malformed: {error}") from error


def _unpacked(fields: list[Any]) -> Message:
    """What is in a packed message: a range, and nothing that is packed itself."""
    try:
        data = unpack(read_bytes(fields[0]))
        kind, *rest = _list(msgpack.unpackb(data, strict_map_key=True))
        if kind not in _PACKABLE:
            raise PeerFault("only ranges of events are packed")
        return _READERS[kind](rest)
    except (LookupError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise PeerFault(f"a packed message is malformed ({type(error).__name__})") from error
    except (CorruptRange, InvalidInput, ValueError) as error:
        raise PeerFault(f"a packed message is malformed: {error}") from error


def _stream(fields: Any) -> StreamId:
    node, number, branch = [*_list(fields), b""][:3]
    if branch != b"":
        read_bytes(branch, BRANCH_BYTES)
    return StreamId(
        NodeId(read_bytes(node)), read_number(number, 0, STREAM_NUMBER_LIMIT - 1), branch
    )


def _branch(fields: Any) -> StreamId:
    stream = _stream(fields)
    if not stream.branch:
        raise ValueError("a branch is due, not a stream")
    return stream


def _head(fields: Any) -> Head:
    stream, offset, hash_ = _list(fields)[:3]
    return Head(_stream(stream), read_offset(offset), read_bytes(hash_, HASH_BYTES))


def _heads(fields: list[Any]) -> Heads:
    heads, horizons = _list(fields[0]), _list(fields[2]) if len(fields) > 2 else []  # noqa: PLR2004 - an older peer's two
    if len(heads) > MAX_HEADS or len(horizons) > MAX_HEADS:
        raise ValueError(f"at most {MAX_HEADS} heads, not {max(len(heads), len(horizons))}")
    return Heads(tuple(map(_head, heads)), _flag(fields[1]), tuple(map(_horizon, horizons)))


def _horizon(fields: Any) -> Seal:
    stream, signed = _list(fields)[:2]
    return read_seal(_stream(stream), signed)


def _news(fields: list[Any]) -> News:
    flat = _list(fields[0])
    if len(flat) > 3 * MAX_HEADS or len(flat) % 3:
        raise ValueError(f"at most {MAX_HEADS} news of three fields each")
    triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return News(
        tuple(
            Novelty(_alias(alias), read_offset(offset), read_bytes(hash_, SHORT_HASH_BYTES))
            for alias, offset, hash_ in triples
        )
    )


def _want(fields: list[Any]) -> Want:
    first = read_offset(fields[1])
    last = read_number(fields[2], first, OFFSET_LIMIT)
    return Want(
        _stream(fields[0]), first, last, read_bytes(fields[3], HASH_BYTES), _flag(fields[4])
    )


def _events(fields: list[Any]) -> Events:
    stream = _stream(fields[0])
    events = _range(fields[2])
    seal = read_seal(stream, fields[3])
    start = fields[5] if len(fields) > 5 else None  # noqa: PLR2004 - an older peer's five
    return Events(
        SealedRange(
            read_offset(fields[1]),
            events,
            seal,
            read_bytes(fields[4]),
            None if start is None else read_start(stream, start),
        )
    )


def _range(value: Any) -> tuple[bytes, ...]:
    events = _list(value)
    if len(events) > MAX_SEALED_EVENTS:
        raise ValueError(f"a range has at most {MAX_SEALED_EVENTS} events, not {len(events)}")
    return tuple(map(read_bytes, events))


def _eager(fields: list[Any]) -> Eager:
    author = read_bytes(fields[1])
    return Eager(_flag(fields[0]), NodeId(author) if author else None)


def _root(fields: list[Any]) -> Root:
    rank, root, sequence, cost, chosen = fields[:5]
    return Root(
        read_number(rank, 0, MAX_RANK),
        read_bytes(root, ROOT_BYTES),
        read_number(sequence, 0, MAX_SEQUENCE),
        None if cost is None else read_number(cost, 0, MAX_COST_US - 1),
        _flag(chosen),
    )


def _fresh(fields: list[Any]) -> Fresh:
    alias, first, events, hash_, clock, horizon, signature = fields[:7]
    if not _list(events):
        raise ValueError("a pushed range has an event")
    return Fresh(
        _alias(alias),
        read_offset(first),
        _range(events),
        read_bytes(hash_, SHORT_HASH_BYTES),
        read_number(clock, 0, MAX_LAMPORT),
        read_offset(horizon),
        read_bytes(signature, SIGNATURE_BYTES),
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"a list is due, not {type(value).__name__}")  # noqa: TRY004 - one kind of fault
    return value


def _alias(value: Any) -> int:
    return read_number(value, -MAX_TOLD_STREAMS, MAX_TOLD_STREAMS)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"yes or no is due, not {type(value).__name__}")  # noqa: TRY004 - one kind of fault
    return value


def _notice_ids(value: Any) -> tuple[bytes, ...]:
    ids = _list(value)
    if len(ids) > MAX_NOTICES:
        raise ValueError(f"at most {MAX_NOTICES} notices, not {len(ids)}")
    return tuple(read_bytes(one, NOTICE_ID_BYTES) for one in ids)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is due, not {type(value).__name__}")  # noqa: TRY004 - one kind of fault
    return "".join(character if character.isprintable() else "?" for character in value[:MAX_TEXT])


def _why(value: Any) -> Why:
    return Why(read_number(value, min(Why), max(Why)))


def _greeting(fields: list[Any]) -> Greeting:
    if len(fields) == 1:
        return Greeting(_text(fields[0]))  # an older peer's
    token, known_token, known, unpacks = fields[1:5]
    for one in (token, known_token):
        read_bytes(one, TOKEN_BYTES if one else None)
    return Greeting(_text(fields[0]), token, known_token, read_offset(known), _flag(unpacks))


def _addresses(fields: list[Any]) -> Addresses:
    told = _list(fields[0])
    if len(told) > MAX_TOLD:
        raise ValueError(f"at most {MAX_TOLD} nodes, not {len(told)}")
    return Addresses(tuple(map(_candidate, told)))


def _candidate(fields: Any) -> Candidate:
    node, addresses = _list(fields)[:2]
    if not 0 < len(_list(addresses)) <= MAX_OWN:
        raise ValueError(f"1 to {MAX_OWN} addresses of a node, not {len(addresses)}")
    return Candidate(NodeId(read_bytes(node)), tuple(map(_address, addresses)))


def _address(fields: Any) -> Address:
    host, port = _list(fields)[:2]
    if host == HERE:
        return Address(HERE, read_number(port, 1, MAX_PORT))
    return Address.parse(str(Address(_text(host), read_number(port, 1, MAX_PORT))))


def _pong(fields: list[Any]) -> Pong:
    wall_us = fields[1] if len(fields) > 1 else None  # an older peer's one
    token = read_number(fields[0], 0, _TOKEN_LIMIT)
    return Pong(token, None if wall_us is None else read_number(wall_us, -(2**63), 2**63 - 1))


_EVENTS, _FRESH, _PACKED = 4, 11, 15
_PACKABLE = (_EVENTS, _FRESH)
_TOKEN_LIMIT = 2**32 - 1

_READERS: Mapping[int, Callable[[list[Any]], Message]] = {
    1: _greeting,
    2: _heads,
    3: _want,
    _EVENTS: _events,
    5: lambda fields: Declined(_stream(fields[0]), _why(fields[1])),
    6: lambda fields: Ping(read_number(fields[0], 0, _TOKEN_LIMIT)),
    7: _pong,
    8: lambda fields: Goodbye(_text(fields[0])),
    9: _news,
    10: _eager,
    _FRESH: _fresh,
    12: lambda fields: Disclose(_branch(fields[0])),
    13: lambda fields: Fork(decode_proof(read_bytes(fields[0]))),
    14: lambda fields: Mark(read_offset(fields[0]), read_offset(fields[1])),
    16: _addresses,
    17: _root,
    20: lambda fields: Noticed(_notice_ids(fields[0])),
    21: lambda fields: Notify(decode_notice(read_bytes(fields[0]))),
}


def _write_events(message: Events) -> tuple[int, list[Any]]:
    received, start = message.range, message.range.start
    begun = None if start is None else start_fields(start)
    signed = seal_fields(received.seal)
    certificate = received.certificate
    return _EVENTS, [received.stream, received.first, received.events, signed, certificate, begun]


def _write_heads(message: Heads) -> tuple[int, list[Any]]:
    heads = [[head.stream, head.offset, head.hash] for head in message.heads]
    horizons = [[seal.stream, seal_fields(seal)] for seal in message.horizons]
    return 2, [heads, message.complete, horizons]


_WRITERS: Mapping[type[Message], Callable[[Any], tuple[int, list[Any]]]] = {
    Greeting: lambda one: (
        1,
        [one.program[:MAX_TEXT], one.token, one.known_token, one.known, one.unpacks],
    ),
    Heads: _write_heads,
    Want: lambda message: (
        3,
        [message.stream, message.first, message.last, message.hash, message.certificate],
    ),
    Events: _write_events,
    Declined: lambda message: (5, [message.stream, message.why]),
    Ping: lambda message: (6, [message.token]),
    Pong: lambda message: (7, [message.token, message.wall_us]),
    Goodbye: lambda message: (8, [message.reason[:MAX_TEXT]]),
    News: lambda message: (9, [[field for one in message.news for field in one]]),
    Eager: lambda message: (10, [message.yes, message.author or b""]),
    Fresh: lambda one: (
        _FRESH,
        [one.alias, one.first, one.events, one.hash, one.clock, one.horizon, one.signature],
    ),
    Disclose: lambda message: (12, [message.branch]),
    Fork: lambda message: (13, [encode_proof(message.proof)]),
    Noticed: lambda message: (20, [message.ids]),
    Notify: lambda message: (21, [message.notice.encode()]),
    Mark: lambda message: (14, [message.sequence, message.taken]),
    Addresses: lambda message: (
        16,
        [[[c.node, [[a.host, a.port] for a in c.addresses]] for c in message.candidates]],
    ),
    Root: lambda one: (17, [one.rank, one.root, one.sequence, one.cost_us, one.chosen]),
}
