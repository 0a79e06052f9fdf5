"""Notices: what the admin has signed for the whole swarm, apart from any stream.

A revocation must reach everybody although the node that it names may write streams, and before any event of it does;
a new epoch's keys must reach devices that can talk to few. So neither is an event: a notice stands by itself, travels
ahead of events, and is kept by every node for good.

    [kind, body, signature]          msgpack; the signature is the admin's over kind, swarm and body

What a body means is for others to say (`lamport.revocation`, `transport.epochs`, `lamport.leaps`). A kind that this
version does not know is kept and passed on like any other. Whoever holds a notice can verify it alone; equal notices
are equal bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import msgpack

from lamport.chain import SIGNATURE_BYTES, Keys
from lamport.errors import InvalidInput, LimitExceeded

MAX_BODY_BYTES = 960 * 1024
"""Longest body: with its framing it fits one frame between nodes."""

MAX_NOTICES = 4_096
"""Notices that a node keeps: only the admin can make them, and a swarm that has lost so many devices begins anew."""

NOTICE_ID_BYTES = 16
"""Length of the short name by which nodes tell each other which notices they hold."""

_DOMAIN = b"shoal/notice/1\0"
_FIELDS = 3


class NoticeKind(IntEnum):
    """What a notice is; the number is what is signed."""

    REVOCATION = 1
    EPOCH = 2
    RELEASE = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice. `kind` may be one that this version does not know."""

    kind: int
    body: bytes
    signature: bytes
    id: bytes = field(init=False)
    """Its short name: the beginning of a hash of all its bytes."""

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.encode()).digest()
        object.__setattr__(self, "id", digest[:NOTICE_ID_BYTES])

    def encode(self) -> bytes:
        """Its bytes."""
        packed: bytes = msgpack.packb([self.kind, self.body, self.signature])
        return packed

    def is_signed(self, keys: Keys) -> bool:
        """Whether the admin of this swarm has signed it."""
        return keys.verifies_admin(self.signature, signed_bytes(keys.swarm, self.kind, self.body))


def signed_bytes(swarm: bytes, kind: int, body: bytes) -> bytes:
    """What the admin signs in order to make a notice."""
    return b"".join((_DOMAIN, swarm, bytes([kind]), body))


def decode_notice(data: bytes) -> Notice:
    """Read a notice; whether the admin has signed it is still to be checked.

    Raises:
        InvalidInput: these are not the bytes of one.
    """
    try:
        notice = _decoded(msgpack.unpackb(data))
        genuine = notice.encode() == data
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise InvalidInput(f"these bytes are no notice ({error})") from error
    if not genuine:
        raise InvalidInput("these bytes are no notice as we write it")
    return notice


def _decoded(fields: Any) -> Notice:
    if not isinstance(fields, list) or len(fields) != _FIELDS:
        raise ValueError(f"it has {_FIELDS} fields")
    kind, body, signature = fields
    if not isinstance(kind, int) or isinstance(kind, bool) or not 0 <= kind < 256:  # noqa: PLR2004 - one byte
        raise ValueError("its kind is a byte")
    if not isinstance(body, bytes) or len(body) > MAX_BODY_BYTES:
        raise ValueError(f"its body has at most {MAX_BODY_BYTES} bytes")
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"its signature has {SIGNATURE_BYTES} bytes")
    return Notice(kind, body, signature)


class Notices:
    """All notices that a node keeps, in the order in which they came."""

    __slots__ = ("_kept",)

    def __init__(self, kept: Iterable[Notice] = ()) -> None:
        self._kept = {notice.id: notice for notice in kept}

    def require_room(self) -> None:
        """Raise `LimitExceeded` where no more are kept."""
        if len(self._kept) >= MAX_NOTICES:
            raise LimitExceeded(f"a node keeps at most {MAX_NOTICES} notices of the admin")

    def add(self, notice: Notice) -> None:
        """Keep one more."""
        self._kept[notice.id] = notice

    def get(self, notice_id: bytes) -> Notice | None:
        """The notice of this name, if it is kept."""
        return self._kept.get(notice_id)

    def __contains__(self, notice_id: object) -> bool:
        return notice_id in self._kept

    def __iter__(self) -> Iterator[Notice]:
        return iter(tuple(self._kept.values()))

    def __len__(self) -> int:
        return len(self._kept)
