"""The network of the daemon: mutually authenticated TLS 1.3 over TCP.

Both ends must show a certificate by the swarm's authority; OpenSSL verifies it, and the possession
of its key, before one byte from the other end reaches our code. What comes out is a `Channel` whose
`peer` is proven.

A dialled connection: TCP, TLS, version, ALPN and certificate checked, channel. An accepted one:
TCP, a slot (strangers share few of them, so that a flood costs a bounded part of memory and time),
TLS, the slot is given back, the same checks, channel, and the caller's `accept`. A connection that
fails on the way is logged with the reason and dropped; nothing that a stranger does is raised into
the node.

A node that has identities of several epochs shows one of them: the client says by the server name (`e2.shoal`) in which
epoch it comes, and the server answers in the same, or in its newest before that. A client that finds the server in an
older epoch than it has shown dials once more in that one. Both ends have then shown certificates of one authority.

Clocks decide nothing: certificates are valid for ever and revocation is an event. There are no
session tickets, since a resumed session would skip the certificate. Names decide nothing either: a
node is its key, wherever it answers.

Sources: RFC 8446 (TLS 1.3), RFC 7301 (ALPN), RFC 5482 (TCP user timeout).
"""

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lamport.ids import NodeId
from transport.errors import LocalFault, PeerFault, PeerRejected
from transport.identity import Identity, verify_certificate
from transport.mdns import announcing
from transport.network import Accept, Address, Found

ALPN = "shoal/1"
"""What is spoken inside; a stray HTTPS client or server is told apart by it (RFC 7301)."""

CONNECT_TIMEOUT_S = 5.0
"""TCP and TLS together take milliseconds on a LAN; whoever needs longer is away or stalling."""

SLOTS = 32
"""Connections that may be in the TLS handshake at once: about 10 MiB and 100 ms of work."""

SLOTS_PER_HOST = 4
"""Of them, from one source address; a node needs one. The loopback, where many share, has all."""

BACKLOG = 128
"""Connections that the kernel holds while we are busy."""

READ_BUFFER_BYTES = 256 * 1024
"""What a channel reads ahead before TCP slows the peer down; asyncio takes up to twice as much."""

WRITE_BUFFER_BYTES = 256 * 1024
"""What a channel holds of writes before `write` waits for the peer."""

USER_TIMEOUT_MS = 10_000
"""How long sent bytes may stay unacknowledged before the kernel gives the connection up (RFC 5482)."""

ACCEPT_RETRY_S = 1.0
"""Pause after the system gave us no connection, as when it is out of file descriptors."""

_KEEP_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3))
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name
_FIRST_EPOCH_NAME = ""  # what was said before there were epochs
_WHY_NOT_LISTENING = {
    errno.EADDRINUSE: "it is in use: stop the other program, or choose another port with --listen HOST:PORT",
    errno.EADDRNOTAVAIL: "this device has no such address: choose one of its own, or 0.0.0.0",
    errno.EACCES: "that is not permitted: choose a port above 1023",
}

logger = logging.getLogger("shoal.transport")


class TlsNetwork:
    """The `transport.network.Network` of the daemon, as the node of `identity`.

    `listen` is the address to accept at (port 0 lets the system choose; a name stands for its first
    address). With `mdns` off, `announce` does nothing.
    """

    def __init__(self, identity: Identity, *, listen: Address, mdns: bool) -> None:
        self._identity = identity
        self._listen = listen
        self._mdns = mdns
        self._identities: tuple[Identity, ...] = ()
        self._servers: dict[int, ssl.SSLContext] = {}
        self.adopt([identity])

    def adopt(self, identities: Sequence[Identity]) -> None:
        """Show these identities of this node from now on, the newest last; connections there are stay."""
        self._identities = tuple(identities)
        self._servers = {one.epoch: _context(one, server=True) for one in identities}
        self._clients = {one.epoch: self._client_context(one) for one in identities}

    def _client_context(self, identity: Identity) -> ssl.SSLContext:
        context = _context(identity, server=False)
        for (
            other
        ) in self._identities:  # it is found out after the handshake in which epoch the server is
            context.load_verify_locations(cadata=other.authority)
        return context

    async def dial(self, address: Address) -> "TlsChannel":
        """Connect, in the newest epoch that both ends have, each time within `CONNECT_TIMEOUT_S`.

        Raises `OSError` where nobody answers, `PeerRejected` where the answer proves no membership.
        That the *peer* refuses *this* node shows later, at the first read: in TLS 1.3 the client is
        through before the server has looked at its certificate.
        """
        shown = self._identities[-1]
        channel = await self._dial_as(address, shown)
        found = self._identity_of(channel.peer_certificate)
        if found is shown:
            return channel
        channel.abort()
        return await self._dial_as(address, found)

    async def _dial_as(self, address: Address, identity: Identity) -> "TlsChannel":
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(
                    address.host,
                    address.port,
                    limit=READ_BUFFER_BYTES,
                    ssl=self._clients[identity.epoch],
                    server_hostname=_server_name(identity.epoch),
                    ssl_handshake_timeout=CONNECT_TIMEOUT_S,
                )
        except ssl.SSLError as error:
            raise PeerRejected(f"{address} proves no membership: {_words(error)}") from error
        return self._channel(reader, writer, address)

    def _identity_of(self, certificate: bytes) -> Identity:
        """The identity of the epoch that a peer has shown."""
        for identity in reversed(self._identities):
            with suppress(PeerFault):
                verify_certificate(certificate, identity.authority)
                return identity
        raise PeerRejected("its certificate is of another epoch than any of this node's")

    def _greeted(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """A client has said in which epoch it comes, before anything was shown."""
        asked = _epoch_in(name or _FIRST_EPOCH_NAME)
        common = [one.epoch for one in self._identities if one.epoch <= asked]
        if common:
            connection.context = self._servers[common[-1]]

    @asynccontextmanager
    async def listen(self, accept: Accept) -> AsyncIterator[Address]:
        """Accept channels while the context is open; yields the address listened at.

        Raises `LocalFault` where the address cannot be had. Leaving the context drops every
        accepted channel.
        """
        with await _bind(self._listen) as door:
            serving = asyncio.create_task(self._accept_all(door, accept))
            try:
                yield Address(*door.getsockname()[:2])
            finally:
                serving.cancel()
                await asyncio.wait([serving])
                if not serving.cancelled():
                    serving.result()

    def announce(self, address: Address, found: Found) -> AbstractAsyncContextManager[None]:
        """While the context is open, announce this node by mDNS and report who else does."""
        if not self._mdns:
            return nullcontext()
        return announcing(self._identity.node, self._identity.swarm, address, found)

    async def _accept_all(self, door: socket.socket, accept: Accept) -> None:
        slots = _Slots()
        async with asyncio.TaskGroup() as connections:
            while True:
                try:
                    connection, remote = await _accepted(door)
                except OSError as error:
                    logger.warning("cannot accept a connection, trying again: %s", error)
                    await asyncio.sleep(ACCEPT_RETRY_S)
                    continue
                if slots.take(remote.host):
                    connections.create_task(self._serve(connection, remote, slots, accept))
                else:
                    logger.info("%s turned away: too many strangers are waiting", remote)
                    connection.close()

    async def _serve(
        self, connection: socket.socket, remote: Address, slots: "_Slots", accept: Accept
    ) -> None:
        try:
            await _attend(await self._authenticated(connection, remote, slots), accept)
        except (OSError, PeerFault) as error:
            logger.info("%s dropped: %s", remote, _words(error))
        except Exception:
            # One session's bug must not take the other sessions along.
            logger.exception("%s dropped: its session failed", remote)

    async def _authenticated(
        self, connection: socket.socket, remote: Address, slots: "_Slots"
    ) -> "TlsChannel":
        try:
            reader, writer = await _secure(connection, self._door_context())
        finally:
            slots.give_back(remote.host)
        return self._channel(reader, writer, remote)

    def _door_context(self) -> ssl.SSLContext:
        """The context of the oldest epoch, in which clients come who name none; it goes over to the one they name."""
        context = self._servers[self._identities[0].epoch]
        context.sni_callback = self._greeted
        return context

    def _channel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: Address
    ) -> "TlsChannel":
        try:
            certificate = _peer_certificate(writer)
            peer = verify_certificate(certificate, self._identity_of(certificate).authority)
            _tune(writer)
        except PeerFault as fault:
            writer.transport.abort()
            raise PeerRejected(f"{remote} proves no membership: {fault}") from fault
        except OSError:
            writer.transport.abort()
            raise
        return TlsChannel(reader, writer, peer, certificate, remote)


class TlsChannel:
    """A `transport.network.Channel` over TLS; `TlsNetwork` makes them."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: NodeId,
        certificate: bytes,
        remote: Address,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._certificate = certificate
        self._remote = remote
        self._heard = False

    @property
    def peer(self) -> NodeId:
        """The node whose private key the other end proved to hold."""
        return self._peer

    @property
    def peer_certificate(self) -> bytes:
        """The peer's certificate, DER."""
        return self._certificate

    @property
    def remote(self) -> Address:
        """Where the peer's end is: as dialled, or the source of an accepted connection."""
        return self._remote

    async def read(self, limit: int) -> bytes:
        """At least one and at most `limit` bytes; nothing at the end of the stream.

        Raises `OSError` when cut, `PeerRejected` where the peer refuses this node's certificate.
        """
        try:
            data = await self._reader.read(limit)
        except ssl.SSLError as error:
            raise self._fault(error) from error
        self._heard = True
        return data

    async def write(self, data: bytes) -> None:
        """Hand over the bytes; returns when the peer has kept up enough to take more.

        Raises `OSError` when cut, `PeerRejected` where the peer refuses this node's certificate.
        """
        if self._writer.transport.is_closing():
            raise ConnectionResetError(f"the connection to {self._remote} is closed")
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ssl.SSLError as error:
            raise self._fault(error) from error

    def abort(self) -> None:
        """Drop the connection at once; whatever was not yet sent is lost."""
        self._writer.transport.abort()

    def _fault(self, error: ssl.SSLError) -> Exception:
        if self._heard:
            return ConnectionResetError(f"the connection to {self._remote} broke: {_words(error)}")
        return PeerRejected(f"{self._remote} refuses this node's certificate: {_words(error)}")


class _Slots:
    """Who is in the TLS handshake: `SLOTS` in all, `SLOTS_PER_HOST` from one source address."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, host: str) -> bool:
        """Take a slot, if there is one."""
        limit = SLOTS if ipaddress.ip_address(host).is_loopback else SLOTS_PER_HOST
        if self._taken.total() >= SLOTS or self._taken[host] >= limit:
            return False
        self._taken[host] += 1
        return True

    def give_back(self, host: str) -> None:
        """Free a slot that was taken, and forget a host that holds none."""
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]


def _server_name(epoch: int) -> str:
    return f"e{epoch}.shoal" if epoch else _FIRST_EPOCH_NAME


def _epoch_in(name: str) -> int:
    """The epoch in which a client comes; the first where it says nothing of ours."""
    digits = name.removeprefix("e").removesuffix(".shoal")
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 11 else 0  # noqa: PLR2004 - ten digits


def _context(identity: Identity, *, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=identity.authority)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if server:
        context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    _load_key(context, identity)
    return context


def _load_key(context: ssl.SSLContext, identity: Identity) -> None:
    key = Ed25519PrivateKey.from_private_bytes(identity.seed)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # The ssl module reads keys from files only. This one is 0600, and gone at once.
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + ssl.DER_cert_to_PEM_cert(identity.certificate).encode())
        file.flush()
        context.load_cert_chain(file.name)


async def _accepted(door: socket.socket) -> tuple[socket.socket, Address]:
    # Not `loop.sock_accept`: cancelled at the wrong moment, it loses the connection it has.
    loop = asyncio.get_running_loop()
    knock = asyncio.Event()
    while True:
        loop.add_reader(door, knock.set)
        try:
            await knock.wait()
        finally:
            loop.remove_reader(door)
        try:
            connection, where = door.accept()
        except BlockingIOError:  # who knocked is gone again
            knock.clear()
            continue
        connection.settimeout(0)
        return connection, Address(_plain_host(where[0]), where[1])


async def _attend(channel: TlsChannel, accept: Accept) -> None:
    try:
        await accept(channel)
    finally:
        channel.abort()


async def _secure(
    connection: socket.socket, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    # Not `StreamWriter.start_tls`: what a client sends early could land in the plain stream.
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BUFFER_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, connection, ssl=context, ssl_handshake_timeout=CONNECT_TIMEOUT_S
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _peer_certificate(writer: asyncio.StreamWriter) -> bytes:
    session: ssl.SSLObject = writer.get_extra_info("ssl_object")
    if session.version() != "TLSv1.3":
        raise PeerRejected(f"it speaks {session.version()}, not TLS 1.3")
    if session.selected_alpn_protocol() != ALPN:
        raise PeerRejected(f"it does not speak {ALPN}")
    certificate = session.getpeercert(binary_form=True)
    if not certificate:
        raise PeerRejected("it showed no certificate")
    return certificate


def _tune(writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*_KEEP_ALIVE, ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS)):
        if hasattr(socket, name):  # not every system has them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _bind(address: Address) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, where = found[0]
        both = where[0] == "::" and socket.has_dualstack_ipv6()
        door = socket.create_server(where, family=family, backlog=BACKLOG, dualstack_ipv6=both)
        door.settimeout(0)  # non-blocking, as the event loop needs it
    except OSError as error:
        why = _WHY_NOT_LISTENING.get(error.errno or 0, f"{error.strerror}")
        raise LocalFault(f"cannot listen on {address}: {why}") from error
    return door


def _plain_host(host: str) -> str:
    """Give the IPv4 address behind an IPv4-mapped IPv6 address, as a dual-stack socket shows it."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
