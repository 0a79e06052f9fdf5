"""The messages that two nodes exchange; `transport.codec` turns them into bytes and back.

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
Noticed     which notices of the admin the sender holds
Notify      a notice of the admin that the receiver lacks
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from lamport.chain import HASH_BYTES, Head, Seal, SealedRange
from lamport.forks import ForkProof
from lamport.ids import NodeId, StreamId
from lamport.notices import Notice
from transport.network import Candidate

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

WEIGHED_EVENTS, WEIGHED_BYTES, WEIGHED_IDS = 32, 32 * 1024, 64
"""Events of a range, their bytes, and names of notices that take as long as a message. What is packed costs its sender
next to nothing, and its receiver what it is when it is unpacked. Who sends ranges of a thousand events may send 160 a
second: more than a log takes in."""

ANY_HASH = bytes(HASH_BYTES)
"""Stands in a Want for a hash that the asking side cannot know, because nothing before was kept for it."""


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


@dataclass(frozen=True, slots=True)
class Noticed:
    """The names of the notices that the sender holds."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Notify:
    """A notice that the admin has signed."""

    notice: Notice


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
    | Noticed
    | Notify
    | Mark
    | Addresses
)


def weight(message: Message | None) -> int:
    """How many messages a message takes as long as: each thing that it names, and events by their number and bytes."""
    return max(1, _named(message) + sum(map(_heft, _ranges(message))))


def _named(message: Message | None) -> int:
    """How many things it names, each of which takes as long as a message."""
    match message:
        case Heads():
            return len(message.heads) + len(message.horizons)
        case News():
            return len(message.news)
        case Addresses():
            return sum(len(one.addresses) for one in message.candidates)
        case Noticed():
            return len(message.ids) // WEIGHED_IDS
    return 0


def _ranges(message: Message | None) -> tuple[tuple[bytes, ...], ...]:
    """The events that it brings, range by range."""
    match message:
        case Events():
            return (message.range.events,)
        case Fresh():
            return (message.events,)
        case Fork():
            return (message.proof.one.events, message.proof.other.events)
    return ()


def _heft(events: tuple[bytes, ...]) -> int:
    return max(len(events) // WEIGHED_EVENTS, sum(map(len, events)) // WEIGHED_BYTES)
