"""The bound hello: the first bytes on a channel, before any frame.

TLS has already proven who is at the other end. The hello proves, with a second pair of keys, that
both ends are of the same swarm and epoch *and talk on this very connection*: each side's proof
covers both certificates, both nonces and both version ranges, so that a hello relayed from
elsewhere, replayed or stripped of a version does not verify. It settles the protocol version, and
it ends with the server's word: a TLS 1.3 client believes itself connected before the server has
looked at its certificate, so a client is in only once it has read the accept byte.

    client                                     server
      nonce (32), lowest, highest version (2+2)  ->
                   <-  nonce (32), lowest, highest version (2+2), proof (32)
      proof (32)                                 ->
                   <-  0x01  accepted,  or  0x00 and a reason (1)

Proofs are HMAC-SHA256 over the transcript; each side has its own key, so none can be reflected.
Numbers are big-endian.

A driver moves bytes and nothing else; `receive(b"")` tells that the peer hung up:

    await channel.write(handshake.start())
    while not (handshake.done or handshake.proven):
        await channel.write(handshake.receive(await channel.read(READ_BYTES)))

On the server the loop ends at `proven`; then `admit()` or `refuse(reason)` gives the last bytes to
write. It is a dialogue: a side that speaks before it was answered breaks it. Only behind the accept
byte may more follow at once; those bytes are `leftover` and belong to the first frames. After an
exception the object is of no more use.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

from transport.errors import PeerFault, PeerRejected
from transport.identity import Identity

HELLO_TIMEOUT_S = 5.0
"""The whole hello takes milliseconds; whoever needs longer is stalling. Measured by the driver."""

NONCE_BYTES = 32
"""Length of a side's nonce."""

READ_BYTES = 4096
"""A good limit for the driver's reads; what is read behind the hello is kept as `leftover`."""

_PROOF_BYTES = 32
_MAX_VERSION = 0xFFFF
_LABEL = b"shoal-hello/1"
_RANGE = struct.Struct("!HH")
_PART = struct.Struct("!I")
_ACCEPTED = b"\x01"
_REFUSED = b"\x00"


class Refusal(IntEnum):
    """Why a server turns a proven member away; the number is what travels."""

    CUT = 1
    BANNED = 2
    SELF = 3
    BUSY = 4
    REVOKED = 5
    OUTDATED = 6

    @property
    def words(self) -> str:
        """The reason in words, as the client reports it."""
        return _WORDS[self]


_WORDS: Mapping[Refusal, str] = {
    Refusal.CUT: "its operator has cut this link",
    Refusal.BANNED: "this node sent what does not hold, and is not talked to for a while",
    Refusal.SELF: "it has this node's own id",
    Refusal.BUSY: "it has no room for another link now",
    Refusal.REVOKED: "this node was revoked",
    Refusal.OUTDATED: "the swarm's keys were changed, and this node got none: enrol it anew",
}


@dataclass(frozen=True, slots=True)
class Versions:
    """The protocol versions that a side speaks: `lowest` to `highest`, within 1 to 65,535."""

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        if not 1 <= self.lowest <= self.highest <= _MAX_VERSION:
            raise PeerFault(f"no range of versions: {self.lowest} to {self.highest}")

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read four bytes; raise `PeerFault` where they are no range."""
        return cls(*_RANGE.unpack(data))

    def pack(self) -> bytes:
        """Give the four bytes that travel."""
        return _RANGE.pack(self.lowest, self.highest)

    def common(self, other: "Versions") -> int | None:
        """Give the highest version that both speak, if there is one."""
        highest = min(self.highest, other.highest)
        return highest if highest >= max(self.lowest, other.lowest) else None

    def __str__(self) -> str:
        return f"{self.lowest} to {self.highest}"


SUPPORTED_VERSIONS = Versions(1, 1)
"""What this program speaks."""


class _Stage(Enum):
    OPENING = auto()  # the peer's nonce and versions are due, from a server its proof as well
    PROOF = auto()  # server: the client's proof is due
    PROVEN = auto()  # server: our own verdict is due
    VERDICT = auto()  # client: accepted or refused?
    REASON = auto()  # client: refused; why?
    REFUSED = auto()
    DONE = auto()


class _Step(NamedTuple):
    """What is due in a stage: its size, and what takes it and gives reply and next stage."""

    size: int
    take: Callable[[Any, bytes], tuple[bytes, _Stage]]


class Handshake:
    """One side of the hello: a `ClientHandshake` or a `ServerHandshake`; driven as shown above.

    `own_certificate` and `peer_certificate` are the two of this connection, DER; `nonce` is 32
    fresh random bytes.
    """

    _steps: ClassVar[Mapping[_Stage, _Step]] = {}

    def __init__(
        self,
        identity: Identity,
        own_certificate: bytes,
        peer_certificate: bytes,
        nonce: bytes,
        versions: Versions = SUPPORTED_VERSIONS,
    ) -> None:
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
        self._identity = identity
        self._own_certificate = own_certificate
        self._peer_certificate = peer_certificate
        self._opening = nonce + versions.pack()
        self._versions = versions
        self._peer_versions: Versions | None = None
        self._transcript = b""
        self._stage = _Stage.OPENING
        self._buffer = b""

    def start(self) -> bytes:
        """Give the bytes to send at first: the client's opening, nothing for a server."""
        return b""

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the peer, `b""` where it hung up; give the bytes to send, often none.

        Raises `PeerRejected` where the peer does not prove that it belongs here, refuses us, hangs
        up or shares no version; `PeerFault` where it speaks out of turn or gibberish.
        """
        if self._stage not in self._steps:
            raise RuntimeError("nothing is due from the peer in this stage of the hello")
        if not data:
            raise PeerRejected(self._why_hung_up())
        self._buffer += data
        reply = b""
        while (step := self._steps.get(self._stage)) and len(self._buffer) >= step.size:
            taken, self._buffer = self._buffer[: step.size], self._buffer[step.size :]
            reply, self._stage = step.take(self, taken)
            if self._buffer and (reply or self.proven):
                raise PeerFault("the peer went on before it was answered in the hello")
        return reply

    @property
    def done(self) -> bool:
        """Whether this side may go on to frames."""
        return self._stage is _Stage.DONE

    @property
    def proven(self) -> bool:
        """Whether the client has proven itself and our verdict is due (`admit` or `refuse`)."""
        return self._stage is _Stage.PROVEN

    @property
    def leftover(self) -> bytes:
        """What arrived behind the hello: the beginning of the first frames."""
        return self._buffer if self.done else b""

    @property
    def version(self) -> int:
        """The highest version that both speak. Raises `PeerRejected` where there is none (yet)."""
        theirs = self._peer_versions
        common = None if theirs is None else self._versions.common(theirs)
        if common is None:
            raise PeerRejected(self._why_no_version())
        return common

    def _bind(
        self, client: bytes, server: bytes, client_certificate: bytes, server_certificate: bytes
    ) -> None:
        fingerprints = (
            hashlib.sha256(der).digest() for der in (server_certificate, client_certificate)
        )
        parts = (_LABEL, *fingerprints, client, server)
        self._transcript = b"".join(_PART.pack(len(part)) + part for part in parts)

    def _proof(self, key: bytes) -> bytes:
        return hmac.digest(key, self._transcript, "sha256")

    def _require_proof(self, key: bytes, proof: bytes) -> None:
        if not hmac.compare_digest(self._proof(key), proof):
            raise PeerRejected(
                "the peer's hello does not verify:"
                " it is of another swarm or epoch, or was relayed from elsewhere"
            )

    def _why_no_version(self) -> str:
        theirs = self._peer_versions or "still unknown"
        return f"no common protocol version: this node speaks {self._versions}, the peer {theirs}"

    def _why_hung_up(self) -> str:
        if self._peer_versions and self._versions.common(self._peer_versions) is None:
            return self._why_no_version()
        return (
            "the peer hung up before the hello was over: most often it is of another swarm or epoch"
        )


class ClientHandshake(Handshake):
    """The side that dialled. It is `done` once it has read the server's accept byte."""

    def start(self) -> bytes:
        """Give the opening."""
        return self._opening

    def _take_opening(self, data: bytes) -> tuple[bytes, _Stage]:
        opening, proof = data[:-_PROOF_BYTES], data[-_PROOF_BYTES:]
        self._bind(self._opening, opening, self._own_certificate, self._peer_certificate)
        self._require_proof(self._identity.hello_server, proof)
        self._peer_versions = Versions.unpack(opening[NONCE_BYTES:])
        _ = self.version
        return self._proof(self._identity.hello_client), _Stage.VERDICT

    def _take_verdict(self, data: bytes) -> tuple[bytes, _Stage]:
        if data == _ACCEPTED:
            return b"", _Stage.DONE
        if data == _REFUSED:
            return b"", _Stage.REASON
        raise PeerFault(f"the peer answered the hello with neither yes nor no: {data!r}")

    def _take_reason(self, data: bytes) -> NoReturn:
        words = {int(reason): reason.words for reason in Refusal}
        why = words.get(data[0], f"reason {data[0]}, unknown to this version")
        raise PeerRejected(f"the peer refused this node: {why}")

    _steps: ClassVar[Mapping[_Stage, _Step]] = {
        _Stage.OPENING: _Step(NONCE_BYTES + _RANGE.size + _PROOF_BYTES, _take_opening),
        _Stage.VERDICT: _Step(len(_ACCEPTED), _take_verdict),
        _Stage.REASON: _Step(1, _take_reason),
    }


class ServerHandshake(Handshake):
    """The side that was dialled: `proven` after the client's proof, `done` after `admit()`."""

    def admit(self) -> bytes:
        """Let the proven client in; gives the accept byte."""
        self._decide(_Stage.DONE)
        return _ACCEPTED

    def refuse(self, reason: Refusal) -> bytes:
        """Turn the proven client away; gives the bytes that say so.

        Let the client hang up first, so that it reads them.
        """
        self._decide(_Stage.REFUSED)
        return _REFUSED + bytes([reason])

    def _decide(self, stage: _Stage) -> None:
        if not self.proven:
            raise RuntimeError("a client is admitted or refused once, after it has proven itself")
        self._stage = stage

    def _take_opening(self, data: bytes) -> tuple[bytes, _Stage]:
        self._peer_versions = Versions.unpack(data[NONCE_BYTES:])
        self._bind(data, self._opening, self._peer_certificate, self._own_certificate)
        # Sent even where no version is common: the client learns our range, with proof, from it.
        return self._opening + self._proof(self._identity.hello_server), _Stage.PROOF

    def _take_proof(self, data: bytes) -> tuple[bytes, _Stage]:
        self._require_proof(self._identity.hello_client, data)
        _ = self.version
        return b"", _Stage.PROVEN

    _steps: ClassVar[Mapping[_Stage, _Step]] = {
        _Stage.OPENING: _Step(NONCE_BYTES + _RANGE.size, _take_opening),
        _Stage.PROOF: _Step(_PROOF_BYTES, _take_proof),
    }
