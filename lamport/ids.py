"""Names of nodes, streams and events, and the total order of all events.

A node is named by its Ed25519 public key, a stream by its node and a number, an event by its Lamport timestamp and its
stream. Their text forms sort like the values themselves, so that a database, a JSON reader and a person with `sort`
agree on the order.

The three names are tuples and bytes rather than dataclasses: the log compares, hashes and sorts them by the million,
and the interpreter does that natively.
"""

import re
from typing import NamedTuple, Self

from lamport.errors import InvalidInput

NODE_ID_BYTES = 32
"""Length of a raw Ed25519 public key."""

NODE_ID_CHARACTERS = 43
"""Six bits a character: 43 x 6 = 258 bits, of which the last two are zero."""

MAX_LAMPORT = 2**43 - 1
"""Highest Lamport timestamp, so that it shares a 64-bit row key with a 20-bit local stream number."""

MIN_DRAWN_STREAM_NUMBER = 10**15
"""Drawn stream numbers have 16 digits, so that their text order is their numeric order."""

STREAM_NUMBER_LIMIT = 2**53
"""Stream numbers are below this: JSON readers hold them exactly."""

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE_OF = {character: value for value, character in enumerate(_ALPHABET)}
BRANCH_BYTES = 32
"""A branch is named by the chain's hash after its first event."""

_STREAM_TEXT = re.compile(r"([./0-9A-Za-z]{43})-(0|[1-9][0-9]{0,15})(?:~([0-9a-f]{64}))?")
_KEY_TEXT = re.compile(r"([0-9]{16})/(.+)")


class NodeId(bytes):
    """A node's raw Ed25519 public key, 32 bytes; `str()` gives 43 characters whose string order is byte order."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Raise `InvalidInput` unless `raw` has 32 bytes."""
        if len(raw) != NODE_ID_BYTES:
            raise InvalidInput(f"a node id has {NODE_ID_BYTES} bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raise `InvalidInput` where it is not one."""
        if len(text) != NODE_ID_CHARACTERS or not _VALUE_OF.keys() >= set(text):
            raise InvalidInput(f"not a node id (43 characters of ./0-9A-Za-z): {text!r}")
        bits = 0
        for character in text:
            bits = bits << 6 | _VALUE_OF[character]
        if bits & 0b11:
            raise InvalidInput(f"not a node id (its last character has stray bits): {text!r}")
        return cls((bits >> 2).to_bytes(NODE_ID_BYTES, "big"))

    def __str__(self) -> str:
        bits = int.from_bytes(self, "big") << 2
        return "".join(_ALPHABET[bits >> shift & 0b111111] for shift in range(252, -1, -6))

    def __repr__(self) -> str:
        return f"NodeId({str(self)[:8]}…)"

    @property
    def short(self) -> str:
        """The first eight characters, for people; never a name for machines."""
        return str(self)[:8]


class StreamId(NamedTuple):
    """One append-only sequence with a single writer; text form `<node id>-<stream number>`.

    Where two histories of a stream are proven, what stands behind their last common event is told apart by a `branch`.
    It is no part of the stream's name, and so of no event's key in text, but the last tie-breaker of the order.
    """

    node: NodeId
    number: int
    branch: bytes = b""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form, or an address; raise `InvalidInput` where it is neither."""
        match = _STREAM_TEXT.fullmatch(text)
        if match is None or int(match[2]) >= STREAM_NUMBER_LIMIT:
            raise InvalidInput(f"not a stream id (<node id>-<number below 2**53>): {text!r}")
        return cls(NodeId.parse(match[1]), int(match[2]), bytes.fromhex(match[3] or ""))

    def __str__(self) -> str:
        return f"{self.node}-{self.number}"

    @property
    def address(self) -> str:
        """The text form, and behind a `~` the branch where it is one: the name under which offsets are counted."""
        return f"{self}~{self.branch.hex()}" if self.branch else str(self)

    @property
    def base(self) -> "StreamId":
        """The stream itself, whichever branch of it this is."""
        return StreamId(self.node, self.number) if self.branch else self


class EventKey(NamedTuple):
    """An event's place in the total order: Lamport timestamp first, stream as the tie-breaker.

    The text form is the timestamp padded to 16 digits, a slash, and the stream.
    """

    lamport: int
    stream: StreamId

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raise `InvalidInput` where it is not one."""
        match = _KEY_TEXT.fullmatch(text)
        if match is None or int(match[1]) > MAX_LAMPORT:
            raise InvalidInput(f"not an event key (16 digits, a slash, a stream id): {text!r}")
        return cls(int(match[1]), StreamId.parse(match[2]))

    def __str__(self) -> str:
        return f"{self.lamport:016d}/{self.stream}"

    @property
    def address(self) -> str:
        """The text form with the branch in it: as a text it sorts like the key does."""
        return f"{self.lamport:016d}/{self.stream.address}"
