"""The messages that two nodes exchange, and their bytes.

Each is one msgpack array: its kind, then its fields. Unknown kinds are a newer version's business and are passed over;
unknown fields behind the known ones, too. Anything else that does not fit is the peer's fault.

    Greeting    first message of either side: its journal's token, and what it knows of the other's journal
    Heads       how far the sender holds these streams; the first ones end with `complete`
    Want        please send this range; names the hash before it, so that a fork shows before a byte is sent
    Events      a sealed range, asked for or pushed; to one who understands it, packed (`transport.packing`)
    Fresh       a pushed range of such a stream, without what the receiver knows
    Declined    a Want cannot be served, and why
    News        the same as Heads for streams told of before in this session, shorter
    Eager       whether the sender wants new events pushed, or only announced
    Root        whom the sender takes for the root of the push tree, and how far it is
    Ping, Pong  is somebody there?
    Goodbye     the sender ends the session, and why
    Mark        the other side was told all, and all that it told is held
    Addresses   under which nodes may be dialled
    Disclose    please prove the fork that this branch of a stream, which you told of, comes from
    Fork        the proof
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from lamport.chain import HASH_BYTES, SIGNATURE_BYTES, Head, Seal, SealedRange, Start
from lamport.errors import CorruptRange, InvalidInput
from lamport.forks import ForkProof, decode_proof, encode_proof
from lamport.ids import BRANCH_BYTES, MAX_LAMPORT, STREAM_NUMBER_LIMIT, NodeId, StreamId
from transport.errors import InvalidAddress, PeerFault
from transport.exchange import HERE, MAX_OWN, MAX_TOLD
from transport.journal import TOKEN_BYTES
from transport.network import MAX_PORT, Address, Candidate
from transport.packing import WORTH_BYTES, pack, unpack

MAX_TOLD_STREAMS = 65_536
"""Streams that one peer may tell of: each costs memory here."""

MAX_HEADS = 1_000
"""Heads in one message; more are sent in several."""

SHORT_HASH_BYTES = 8
"""Of a head's hash in News."""

MAX_TEXT = 200
"""Characters of a text for people: program versions, reasons."""

ROOT_BYTES = 8
"""Of the node id of the push tree's root: enough to tell roots apart."""

MAX_RANK = 64
"""Links of a root that count; more make it no better, and nobody draws all to itself by claiming to have more."""

MAX_SEQUENCE = 2**53 - 1
MAX_COST_US = 2**40
"""How far a root's sequence and the way to it go; twelve days are no way."""

ANY_HASH = bytes(HASH_BYTES)
"""Stands in a Want for a hash that the asking side cannot know, because nothing before was kept for it."""

_OFFSET_LIMIT = 2**53


class Why(IntEnum):
    """Why a Want is declined."""

    UNKNOWN = 1  # the sender does not hold that range
    DIVERGED = 2  # the sender's stream has another hash there: two histories of one stream


@dataclass(frozen=True, slots=True)
class Greeting:
    """Opens the session; `program` is for people."""

    program: str
    token: bytes = b""
    """Names the sender's journal (`transport.journal`); empty in an older version, which keeps none."""
    known_token: bytes = b""
    known: int = 0
    """Up to where the sender was told the receiver's journal in an earlier session, and that journal's token."""
    unpacks: bool = False
    """Whether the sender understands packed messages."""


@dataclass(frozen=True, slots=True)
class Heads:
    """How far the sender holds some streams. What a sender holds only grows while a session lasts."""

    heads: tuple[Head, ...]
    complete: bool
    """Whether the sender has now told all it held when the session began."""
    horizons: tuple[Seal, ...] = ()
    """For those of them whose beginning was pruned: the author's seal that says so."""


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for the events from `first` to `last`, to be sent in sealed ranges; the last may reach beyond."""

    stream: StreamId
    first: int
    last: int
    hash: bytes
    """The chain's hash before `first`, as the asking side holds it; `ANY_HASH` where it begins at a horizon."""
    certificate: bool
    """Whether the author's certificate is wanted with it."""


@dataclass(frozen=True, slots=True)
class Events:
    """A sealed range."""

    range: SealedRange


@dataclass(frozen=True, slots=True)
class Fresh:
    """A sealed range of a stream told of before, for one who holds all before it; the seal's hash follows from that."""

    alias: int
    first: int
    events: tuple[bytes, ...]
    hash: bytes
    """The beginning of the seal's hash, so that another history is not taken for a forgery."""
    clock: int
    horizon: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Declined:
    """A Want for this stream cannot be served."""

    stream: StreamId
    why: Why


class Novelty(NamedTuple):
    """How far the sender holds a stream that it has told of before."""

    alias: int
    """The stream's number: see `transport.aliases`."""
    offset: int
    hash: bytes
    """The beginning of the head's hash: enough to see a fork."""


@dataclass(frozen=True, slots=True)
class News:
    """Streams that the sender holds further than it told before."""

    news: tuple[Novelty, ...]


@dataclass(frozen=True, slots=True)
class Eager:
    """Whether the sender wants pushed what others wrote (`yes`), or only to be told of it."""

    yes: bool
    author: NodeId | None = None
    """Whose events; None: anybody's."""


@dataclass(frozen=True, slots=True)
class Root:
    """Where the sender stands in the push tree."""

    rank: int
    """How many links the root had when it began to be the root."""
    root: bytes
    """The beginning of its node id."""
    sequence: int
    """How far it had counted when it was heard of."""
    cost_us: int | None
    """How long the sender's way to it is; None: there is none."""
    chosen: bool
    """Whether that way leads over the receiver."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a Pong with the same token."""

    token: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a Ping."""

    token: int
    wall_us: int | None = None
    """What the sender's wall clock shows, in microseconds since the epoch; for people, who may want to set it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The receiver has been told of all moves in the sender's journal up to `sequence`; see `transport.confirming`."""

    sequence: int
    taken: int
    """Of so many of the receiver's heads, news and ranges in this session the sender holds all that they told."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where nodes may be dialled; see `transport.exchange`."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender closes the session; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Disclose:
    """Asks for the proof by which a branch became known to the other side."""

    branch: StreamId


@dataclass(frozen=True, slots=True)
class Fork:
    """The proof that a stream has two histories."""

    proof: ForkProof


Message = (
    Greeting
    | Heads
    | News
    | Eager
    | Root
    | Want
    | Events
    | Fresh
    | Declined
    | Ping
    | Pong
    | Goodbye
    | Disclose
    | Fork
    | Mark
    | Addresses
)


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
        data = unpack(_binary(fields[0]))
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
        _binary(branch, BRANCH_BYTES)
    return StreamId(NodeId(_binary(node)), _integer(number, 0, STREAM_NUMBER_LIMIT - 1), branch)


def _branch(fields: Any) -> StreamId:
    stream = _stream(fields)
    if not stream.branch:
        raise ValueError("a branch is due, not a stream")
    return stream


def _head(fields: Any) -> Head:
    stream, offset, hash_ = _list(fields)[:3]
    return Head(_stream(stream), _offset(offset), _binary(hash_, HASH_BYTES))


def _seal(stream: StreamId, fields: Any) -> Seal:
    offset, hash_, clock, horizon, signature = _list(fields)[:5]
    return Seal(
        stream,
        _offset(offset),
        _binary(hash_, HASH_BYTES),
        _integer(clock, 0, MAX_LAMPORT),
        _offset(horizon),
        _binary(signature, SIGNATURE_BYTES),
    )


def _heads(fields: list[Any]) -> Heads:
    heads, horizons = _list(fields[0]), _list(fields[2]) if len(fields) > 2 else []  # noqa: PLR2004 - an older peer's two
    if len(heads) > MAX_HEADS or len(horizons) > MAX_HEADS:
        raise ValueError(f"at most {MAX_HEADS} heads, not {max(len(heads), len(horizons))}")
    return Heads(tuple(map(_head, heads)), _flag(fields[1]), tuple(map(_horizon, horizons)))


def _horizon(fields: Any) -> Seal:
    stream, signed = _list(fields)[:2]
    return _seal(_stream(stream), signed)


def _news(fields: list[Any]) -> News:
    flat = _list(fields[0])
    if len(flat) > 3 * MAX_HEADS or len(flat) % 3:
        raise ValueError(f"at most {MAX_HEADS} news of three fields each")
    triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return News(
        tuple(
            Novelty(_alias(alias), _offset(offset), _binary(hash_, SHORT_HASH_BYTES))
            for alias, offset, hash_ in triples
        )
    )


def _want(fields: list[Any]) -> Want:
    first = _offset(fields[1])
    last = _integer(fields[2], first, _OFFSET_LIMIT)
    return Want(_stream(fields[0]), first, last, _binary(fields[3], HASH_BYTES), _flag(fields[4]))


def _events(fields: list[Any]) -> Events:
    stream = _stream(fields[0])
    events = tuple(map(_binary, _list(fields[2])))
    seal = _seal(stream, fields[3])
    start = fields[5] if len(fields) > 5 else None  # noqa: PLR2004 - an older peer's five
    return Events(
        SealedRange(
            _offset(fields[1]),
            events,
            seal,
            _binary(fields[4]),
            None if start is None else _start(stream, start),
        )
    )


def _start(stream: StreamId, fields: Any) -> Start:
    hash_, signed = _list(fields)[:2]
    return Start(_binary(hash_, HASH_BYTES), None if signed is None else _seal(stream, signed))


def _eager(fields: list[Any]) -> Eager:
    author = _binary(fields[1])
    return Eager(_flag(fields[0]), NodeId(author) if author else None)


def _root(fields: list[Any]) -> Root:
    rank, root, sequence, cost, chosen = fields[:5]
    return Root(
        _integer(rank, 0, MAX_RANK),
        _binary(root, ROOT_BYTES),
        _integer(sequence, 0, MAX_SEQUENCE),
        None if cost is None else _integer(cost, 0, MAX_COST_US - 1),
        _flag(chosen),
    )


def _fresh(fields: list[Any]) -> Fresh:
    alias, first, events, hash_, clock, horizon, signature = fields[:7]
    if not _list(events):
        raise ValueError("a pushed range has an event")
    return Fresh(
        _alias(alias),
        _offset(first),
        tuple(map(_binary, events)),
        _binary(hash_, SHORT_HASH_BYTES),
        _integer(clock, 0, MAX_LAMPORT),
        _offset(horizon),
        _binary(signature, SIGNATURE_BYTES),
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"a list is due, not {type(value).__name__}")  # noqa: TRY004 - one kind of fault
    return value


def _binary(value: Any, size: int | None = None) -> bytes:
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise ValueError(f"{size or 'some'} bytes are due")
    return value


def _integer(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"a number from {least} to {most} is due")
    return value


def _offset(value: Any) -> int:
    return _integer(value, 0, _OFFSET_LIMIT)


def _alias(value: Any) -> int:
    return _integer(value, -MAX_TOLD_STREAMS, MAX_TOLD_STREAMS)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"yes or no is due, not {type(value).__name__}")  # noqa: TRY004 - one kind of fault
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is due, not {type(value).__name__}")  # noqa: TRY004 - one kind of fault
    return "".join(character if character.isprintable() else "?" for character in value[:MAX_TEXT])


def _why(value: Any) -> Why:
    return Why(_integer(value, min(Why), max(Why)))


def _greeting(fields: list[Any]) -> Greeting:
    if len(fields) == 1:
        return Greeting(_text(fields[0]))  # an older peer's
    token, known_token, known, unpacks = fields[1:5]
    for one in (token, known_token):
        _binary(one, TOKEN_BYTES if one else None)
    return Greeting(_text(fields[0]), token, known_token, _offset(known), _flag(unpacks))


def _addresses(fields: list[Any]) -> Addresses:
    told = _list(fields[0])
    if len(told) > MAX_TOLD:
        raise ValueError(f"at most {MAX_TOLD} nodes, not {len(told)}")
    return Addresses(tuple(map(_candidate, told)))


def _candidate(fields: Any) -> Candidate:
    node, addresses = _list(fields)[:2]
    if not 0 < len(_list(addresses)) <= MAX_OWN:
        raise ValueError(f"1 to {MAX_OWN} addresses of a node, not {len(addresses)}")
    return Candidate(NodeId(_binary(node)), tuple(map(_address, addresses)))


def _address(fields: Any) -> Address:
    host, port = _list(fields)[:2]
    if host == HERE:
        return Address(HERE, _integer(port, 1, MAX_PORT))
    return Address.parse(str(Address(_text(host), _integer(port, 1, MAX_PORT))))


def _pong(fields: list[Any]) -> Pong:
    wall_us = fields[1] if len(fields) > 1 else None  # an older peer's one
    token = _integer(fields[0], 0, _TOKEN_LIMIT)
    return Pong(token, None if wall_us is None else _integer(wall_us, -(2**63), 2**63 - 1))


_EVENTS, _FRESH, _PACKED = 4, 11, 15
_PACKABLE = (_EVENTS, _FRESH)
_TOKEN_LIMIT = 2**32 - 1

_READERS: Mapping[int, Callable[[list[Any]], Message]] = {
    1: _greeting,
    2: _heads,
    3: _want,
    4: _events,
    5: lambda fields: Declined(_stream(fields[0]), _why(fields[1])),
    6: lambda fields: Ping(_integer(fields[0], 0, _TOKEN_LIMIT)),
    7: _pong,
    8: lambda fields: Goodbye(_text(fields[0])),
    9: _news,
    10: _eager,
    11: _fresh,
    12: lambda fields: Disclose(_branch(fields[0])),
    13: lambda fields: Fork(decode_proof(_binary(fields[0]))),
    16: _addresses,
    14: lambda fields: Mark(_offset(fields[0]), _offset(fields[1])),
    20: _root,
}


def _write_events(message: Events) -> tuple[int, list[Any]]:
    received, start = message.range, message.range.start
    begun = None
    if start is not None:
        begun = [start.hash, None if start.seal is None else _seal_fields(start.seal)]
    signed = _seal_fields(received.seal)
    certificate = received.certificate
    return 4, [received.stream, received.first, received.events, signed, certificate, begun]


def _write_heads(message: Heads) -> tuple[int, list[Any]]:
    heads = [[head.stream, head.offset, head.hash] for head in message.heads]
    horizons = [[seal.stream, _seal_fields(seal)] for seal in message.horizons]
    return 2, [heads, message.complete, horizons]


def _seal_fields(seal: Seal) -> list[Any]:
    return [seal.offset, seal.hash, seal.clock, seal.horizon, seal.signature]


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
        11,
        [one.alias, one.first, one.events, one.hash, one.clock, one.horizon, one.signature],
    ),
    Disclose: lambda message: (12, [message.branch]),
    Fork: lambda message: (13, [encode_proof(message.proof)]),
    Mark: lambda message: (14, [message.sequence, message.taken]),
    Addresses: lambda message: (
        16,
        [[[c.node, [[a.host, a.port] for a in c.addresses]] for c in message.candidates]],
    ),
    Root: lambda one: (20, [one.rank, one.root, one.sequence, one.cost_us, one.chosen]),
}
