"""TLS between nodes, over real sockets: members get in, nobody else does."""

import asyncio
import contextlib
import datetime as dt
import gc
import logging
import random
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.transport.diary import Diary, keep_diary
from transport.errors import LocalFault, PeerRejected
from transport.identity import Identity, _authority_key, enrol, make_swarm
from transport.network import Address, Channel
from transport.tls import ALPN, SLOTS, SLOTS_PER_HOST, TlsNetwork, _Slots

RANDOMNESS = random.Random(8)
SWARM_KEY, _ = make_swarm(RANDOMNESS)
ALICE = enrol(SWARM_KEY, RANDOMNESS)
BOB = enrol(SWARM_KEY, RANDOMNESS)
STRANGER = enrol(make_swarm(RANDOMNESS)[0], RANDOMNESS)
LOOPBACK = Address("127.0.0.1", 0)
LIMIT_S = 20.0
BOTH_WAYS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


class Paper(NamedTuple):
    """A certificate, true or false, and its key."""

    certificate: bytes
    seed: bytes


def name_of(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


AUTHORITY_NAME = x509.load_der_x509_certificate(ALICE.authority).subject


def issue(
    signer: Ed25519PrivateKey | None,
    issuer: x509.Name,
    subject: x509.Name,
    usages: tuple[x509.ObjectIdentifier, ...] = BOTH_WAYS,
) -> Paper:
    """Make a certificate for a fresh key; it signs itself where there is no signer."""
    seed = RANDOMNESS.randbytes(32)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    dates = dt.datetime(1970, 1, 2, tzinfo=dt.UTC), dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), 7, *dates)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(signer or key, None)
    )
    return Paper(certificate.public_bytes(Encoding.DER), seed)


MEMBER = Paper(BOB.certificate, BOB.seed)
FORGERIES = {
    "another swarm's": Paper(STRANGER.certificate, STRANGER.seed),
    "self-signed": issue(None, name_of("me"), name_of("me")),
    "self-signed in the authority's name": issue(None, AUTHORITY_NAME, AUTHORITY_NAME),
    "self-signed, naming the authority as issuer": issue(None, AUTHORITY_NAME, name_of("me")),
}
ONLY_SERVER = issue(
    _authority_key(SWARM_KEY),
    AUTHORITY_NAME,
    name_of("half"),
    (ExtendedKeyUsageOID.SERVER_AUTH,),
)


def context_of(paper: Paper | None, *, server: bool = False) -> ssl.SSLContext:
    """Make a context that trusts everybody and shows the paper."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    if paper is not None:
        key = Ed25519PrivateKey.from_private_bytes(paper.seed)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem + ssl.DER_cert_to_PEM_cert(paper.certificate).encode())
            file.flush()
            context.load_cert_chain(file.name)
    return context


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene to its end; one that hangs fails."""
    asyncio.run(asyncio.wait_for(scene, LIMIT_S))


def network_of(identity: Identity, listen: Address = LOOPBACK) -> TlsNetwork:
    return TlsNetwork(identity, listen=listen, mdns=False)


class Guests:
    """Takes note of accepted channels and answers what they say, in capitals."""

    def __init__(self) -> None:
        self.came: list[Channel] = []

    async def accept(self, channel: Channel) -> None:
        self.came.append(channel)
        while data := await channel.read(1000):
            await channel.write(data.upper())


@pytest.fixture
def diary() -> Iterator[Diary]:
    with keep_diary() as diary:
        yield diary


async def echo(channel: Channel) -> None:
    """Prove that both directions work."""
    await channel.write(b"hello")
    assert await channel.read(100) == b"HELLO"


@contextlib.asynccontextmanager
async def caller(
    address: Address, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect with a context of one's own, or in plain."""
    name = None if context is None else ""
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context, server_hostname=name
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def expect_end(reader: asyncio.StreamReader) -> None:
    """Read until the connection is over, expecting nothing to be said."""
    with contextlib.suppress(OSError):
        assert await reader.read() == b""


def test_members_accept_each_other_and_know_who_it_is() -> None:
    async def scene() -> None:
        guests = Guests()
        async with network_of(ALICE).listen(guests.accept) as address:
            channel = await network_of(BOB).dial(address)
            await echo(channel)
            assert (channel.peer, channel.peer_certificate) == (ALICE.node, ALICE.certificate)
            assert channel.remote == address
            [guest] = guests.came
            assert (guest.peer, guest.peer_certificate) == (BOB.node, BOB.certificate)
            assert guest.remote.host == "127.0.0.1"
            channel.abort()

    run(scene())


def test_megabytes_arrive_whole_in_both_directions() -> None:
    async def scene() -> None:
        async with network_of(ALICE).listen(Guests().accept) as address:
            channel = await network_of(BOB).dial(address)
            sent = RANDOMNESS.randbytes(4 * 1024 * 1024)
            async with asyncio.TaskGroup() as group:
                group.create_task(channel.write(sent))
                received = bytearray()
                while len(received) < len(sent):
                    data = await channel.read(70_000)
                    assert 0 < len(data) <= 70_000
                    received += data
            assert received == sent.upper()
            channel.abort()

    run(scene())


@pytest.mark.parametrize("forgery", [*FORGERIES])
def test_a_caller_who_is_no_member_is_refused_before_a_byte_is_parsed(
    forgery: str, diary: Diary
) -> None:
    async def scene() -> None:
        guests = Guests()
        async with network_of(ALICE).listen(guests.accept) as address:
            async with caller(address, context_of(FORGERIES[forgery])) as (reader, writer):
                writer.write(b"frames")
                assert "certificate does not hold" in await diary.next()
                await expect_end(reader)
            assert guests.came == []

    run(scene())


@pytest.mark.parametrize(
    ("context", "why"),
    [
        (context_of(None), "peer did not return a certificate"),
        (context_of(ONLY_SERVER), "certificate does not hold: unsuitable certificate purpose"),
    ],
)
def test_a_caller_whose_certificate_is_missing_or_for_servers_only_is_refused(
    context: ssl.SSLContext, why: str, diary: Diary
) -> None:
    async def scene() -> None:
        guests = Guests()
        async with network_of(ALICE).listen(guests.accept) as address:
            async with caller(address, context) as (reader, _):
                assert why in await diary.next()
                await expect_end(reader)
            assert guests.came == []

    run(scene())


def test_a_caller_who_speaks_another_protocol_inside_is_refused(diary: Diary) -> None:
    async def scene() -> None:
        context = context_of(MEMBER)
        context.set_alpn_protocols(["http/1.1"])
        guests = Guests()
        async with network_of(ALICE).listen(guests.accept) as address:
            async with caller(address, context) as (reader, _):
                assert "does not speak shoal/1" in await diary.next()
                await expect_end(reader)
            assert guests.came == []

    run(scene())


def test_a_caller_with_tls_1_2_is_refused(diary: Diary) -> None:
    async def scene() -> None:
        context = context_of(MEMBER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with network_of(ALICE).listen(Guests().accept) as address:
            with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset, whichever is first
                async with caller(address, context):
                    pytest.fail("connected")
            assert "unsupported protocol" in await diary.next()

    run(scene())


def test_garbage_harms_nobody(diary: Diary) -> None:
    async def scene() -> None:
        async with network_of(ALICE).listen(Guests().accept) as address:
            async with caller(address, None) as (reader, writer):
                writer.write(RANDOMNESS.randbytes(5000))
                assert "dropped" in await diary.next()
                await expect_end(reader)
            channel = await network_of(BOB).dial(address)
            await echo(channel)
            channel.abort()

    run(scene())


def test_silent_connections_are_bounded_and_members_still_get_in(diary: Diary) -> None:
    async def scene() -> None:
        async with (
            network_of(ALICE).listen(Guests().accept) as address,
            contextlib.AsyncExitStack() as strangers,
        ):
            for _ in range(SLOTS - 1):
                await strangers.enter_async_context(caller(address, None))
            channel = await network_of(BOB).dial(address)
            await echo(channel)  # the one slot left is enough, and is given back
            _, last = await strangers.enter_async_context(caller(address, None))
            await strangers.enter_async_context(caller(address, None))
            assert "too many strangers" in await diary.next()
            await echo(channel)
            last.transport.abort()
            assert "dropped" in await diary.next()
            second = await network_of(BOB).dial(address)
            await echo(second)
            channel.abort()
            second.abort()

    run(scene())


def test_one_address_gets_few_slots_and_only_the_loopback_all() -> None:
    slots = _Slots()
    assert [slots.take("10.0.0.1") for _ in range(6)] == [True] * SLOTS_PER_HOST + [False] * 2
    assert slots.take("10.0.0.2")
    slots.give_back("10.0.0.1")
    assert slots.take("10.0.0.1")
    assert not slots.take("10.0.0.1")
    assert sum(slots.take("127.0.0.1") for _ in range(SLOTS)) == SLOTS - SLOTS_PER_HOST - 1


@pytest.mark.parametrize("forgery", [*FORGERIES])
def test_a_listener_who_is_no_member_is_refused(forgery: str) -> None:
    async def scene() -> None:
        context = context_of(FORGERIES[forgery], server=True)
        server = await asyncio.start_server(_say_nothing, "127.0.0.1", 0, ssl=context)
        async with server:
            address = Address(*server.sockets[0].getsockname())
            with pytest.raises(PeerRejected, match="certificate does not hold"):
                await network_of(BOB).dial(address)

    run(scene())


def test_a_listener_that_speaks_no_tls_is_refused() -> None:
    async def scene() -> None:
        async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.transport.abort()

        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            address = Address(*server.sockets[0].getsockname())
            with pytest.raises((PeerRejected, ConnectionError)):
                await network_of(BOB).dial(address)

    run(scene())


def test_a_listener_that_refuses_this_node_shows_at_the_first_read() -> None:
    async def scene() -> None:
        context = context_of(Paper(ALICE.certificate, ALICE.seed), server=True)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=STRANGER.authority)
        async with await asyncio.start_server(_say_nothing, "127.0.0.1", 0, ssl=context) as server:
            channel = await network_of(BOB).dial(Address(*server.sockets[0].getsockname()))
            with contextlib.suppress(PeerRejected, ConnectionError):
                assert await channel.read(10) == b""
            channel.abort()

    run(scene())


def test_a_listener_that_says_why_it_refuses_this_node_is_quoted() -> None:
    context = context_of(Paper(ALICE.certificate, ALICE.seed), server=True)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=STRANGER.authority)

    def serve(door: socket.socket) -> None:
        connection, _ = door.accept()
        with connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            serving = asyncio.create_task(asyncio.to_thread(serve, door))
            channel = await network_of(BOB).dial(Address(*door.getsockname()))
            with pytest.raises(
                PeerRejected, match=r"refuses this node's certificate: .*unknown ca"
            ):
                await channel.read(10)
            channel.abort()
            await serving

    run(scene())


def test_where_nobody_listens_dialling_is_an_os_error() -> None:
    async def scene() -> None:
        async with network_of(ALICE).listen(Guests().accept) as address:
            pass
        with pytest.raises(OSError, match="onnect"):
            await network_of(BOB).dial(address)

    run(scene())


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    async def scene() -> None:
        async with network_of(ALICE).listen(Guests().accept) as address:
            with pytest.raises(LocalFault, match=f"{address}.*in use.*another port"):
                async with network_of(BOB, address).listen(Guests().accept):
                    pytest.fail("listened twice")

    run(scene())


def test_an_address_of_another_device_is_named_with_what_to_do() -> None:
    async def scene() -> None:
        with pytest.raises(LocalFault, match="no such address"):
            async with network_of(BOB, Address("192.0.2.1", 0)).listen(Guests().accept):
                pytest.fail("listened")

    run(scene())


def test_closing_the_listener_drops_its_channels() -> None:
    async def scene() -> None:
        async with network_of(ALICE).listen(Guests().accept) as address:
            channel = await network_of(BOB).dial(address)
            await echo(channel)
        with contextlib.suppress(ConnectionError):
            assert await channel.read(1) == b""
        channel.abort()

    run(scene())


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_comes_as_the_listener_closes_is_not_left_open(turns: int) -> None:
    async def scene() -> None:
        async with (
            contextlib.AsyncExitStack() as strangers,
            network_of(ALICE).listen(Guests().accept) as address,
        ):
            reader, _ = await strangers.enter_async_context(caller(address, None))
            for _ in range(turns):
                await asyncio.sleep(0)
        await expect_end(reader)
        gc.collect()  # a socket left open would now be warned about, and the warning fails

    run(scene())


def test_a_session_that_fails_takes_no_other_along(diary: Diary) -> None:
    async def scene() -> None:
        async def stumble(_: Channel) -> None:
            raise ValueError("a bug")

        async with network_of(ALICE).listen(stumble) as address:
            for _ in range(2):
                channel = await network_of(BOB).dial(address)
                assert "its session failed" in await diary.next(logging.ERROR)
                channel.abort()

    run(scene())


def test_writing_to_a_dropped_channel_is_an_os_error() -> None:
    async def scene() -> None:
        async with network_of(ALICE).listen(Guests().accept) as address:
            channel = await network_of(BOB).dial(address)
            channel.abort()
            channel.abort()
            with pytest.raises(OSError, match="closed"):
                await channel.write(b"more")

    run(scene())


def test_without_mdns_nothing_is_announced() -> None:
    async def scene() -> None:
        before = asyncio.all_tasks()
        async with network_of(ALICE).announce(LOOPBACK, lambda _: None):
            assert asyncio.all_tasks() == before

    run(scene())


def test_an_ipv6_listener_for_all_addresses_takes_ipv4_too() -> None:
    async def scene() -> None:
        guests = Guests()
        async with network_of(ALICE, Address("::", 0)).listen(guests.accept) as address:
            channel = await network_of(BOB).dial(Address("127.0.0.1", address.port))
            await echo(channel)
            assert guests.came[0].remote.host == "127.0.0.1"
            channel.abort()

    run(scene())


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read()
    writer.transport.abort()
