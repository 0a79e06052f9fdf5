"""Where the network enters: authenticated byte streams, and hints about who is near.

A `Network` makes channels: byte streams whose other end has *proven* to hold the private key of a certificate that this
swarm's authority signed. The daemon makes them of TLS over TCP (`transport.tls`) and finds peers by mDNS
(`transport.mdns`); the simulator makes them of links that cut, delay and stall. Everything above, beginning with the
bound hello of `transport.handshake`, runs unchanged in both worlds.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from lamport.ids import NodeId
from transport.errors import InvalidAddress

if TYPE_CHECKING:  # what a network shows of its node
    from transport.identity import Identity

MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host (name, IPv4 or IPv6 address) and a TCP port; text form `host:port`, `[ipv6]:port`."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raise `InvalidAddress` where it is not one."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if (
            not colon
            or not host
            or not port.isascii()
            or not port.isdecimal()
            or int(port) > MAX_PORT
        ):
            raise InvalidAddress(f"not an address (HOST:PORT, [IPV6]:PORT): {text!r}")
        if not _can_be_looked_up(host):
            raise InvalidAddress(f"not a host name: {host!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _can_be_looked_up(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return host.isprintable()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hint that a node may be found at some addresses. Unproven: only the handshake proves who answers."""

    node: NodeId
    addresses: tuple[Address, ...]


class Channel(Protocol):
    """An authenticated byte stream to one peer."""

    @property
    def peer(self) -> NodeId:
        """The node whose private key the other end proved to hold."""
        ...

    @property
    def peer_certificate(self) -> bytes:
        """The peer's certificate, DER."""
        ...

    @property
    def remote(self) -> Address:
        """Where the peer's end is, for people."""
        ...

    async def read(self, limit: int) -> bytes:
        """At least one and at most `limit` bytes; nothing at the end of the stream. Raises `OSError` when cut."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand over the bytes; returns when the peer has kept up enough to take more. Raises `OSError` when cut."""
        ...

    def abort(self) -> None:
        """Drop the connection at once; whatever was not yet sent is lost. Aborting twice is fine."""
        ...


Accept = Callable[[Channel], Awaitable[None]]
"""Serves an accepted channel until it ends; the listener drops the channel when it returns."""

Found = Callable[[Candidate], None]
"""Takes note of a candidate."""


class Network(Protocol):
    """Dials, listens, announces and discovers, as one node."""

    def adopt(self, identities: "Sequence[Identity]") -> None:
        """Show these identities of this node from now on, the newest last; connections there are stay.

        Two nodes are linked in the newest epoch of which both have an identity.
        """
        ...

    async def dial(self, address: Address) -> Channel:
        """Connect; raise `OSError` where nobody answers, `PeerRejected` where the answer proves no membership."""
        ...

    def listen(self, accept: Accept) -> AbstractAsyncContextManager[Address]:
        """Accept channels while the context is open; yields the address listened at.

        Strangers are turned away before any of our code parses a byte of theirs.
        """
        ...

    def announce(self, address: Address, found: Found) -> AbstractAsyncContextManager[None]:
        """While the context is open, tell the neighbourhood where this node listens, and report who else does.

        Where the neighbourhood cannot be reached this is a warning in the log, not an error: discovery is a hint.
        """
        ...
