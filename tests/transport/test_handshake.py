"""The bound hello: both sides agree, or neither goes on."""

import random
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import PeerFault, PeerRejected
from transport.handshake import (
    NONCE_BYTES,
    SUPPORTED_VERSIONS,
    ClientHandshake,
    Handshake,
    Refusal,
    ServerHandshake,
    Versions,
)
from transport.identity import Identity, enrol, make_swarm, rotate

RANDOMNESS = random.Random(4)
SWARM_KEY, _ = make_swarm(RANDOMNESS)
CLIENT = enrol(SWARM_KEY, RANDOMNESS)
SERVER = enrol(SWARM_KEY, RANDOMNESS)
THIRD = enrol(SWARM_KEY, RANDOMNESS)
STRANGER = enrol(make_swarm(RANDOMNESS)[0], RANDOMNESS)
HELLO_BYTES = 36 + 68 + 32 + 1
NEW, OLD = Versions(3, 5), Versions(1, 2)


@dataclass
class Wire:
    """Carries the dialogue in pieces and may change one byte of it."""

    piece: int = 10**6
    place: int = -1
    change: int = 0
    carried: int = 0

    def carry(self, data: bytes, side: Handshake) -> bytes:
        """Hand the data to a side; give all that it answers."""
        damaged = bytearray(data)
        if self.carried <= self.place < self.carried + len(data):
            damaged[self.place - self.carried] ^= self.change
        self.carried += len(data)
        edges = [*range(0, len(data), self.piece), len(data)]
        return b"".join(side.receive(bytes(damaged[a:b])) for a, b in pairwise(edges))


def client_of(
    identity: Identity = CLIENT,
    peer_certificate: bytes = SERVER.certificate,
    versions: Versions = SUPPORTED_VERSIONS,
) -> ClientHandshake:
    nonce = b"c" * NONCE_BYTES
    return ClientHandshake(identity, identity.certificate, peer_certificate, nonce, versions)


def server_of(
    identity: Identity = SERVER,
    peer_certificate: bytes = CLIENT.certificate,
    versions: Versions = SUPPORTED_VERSIONS,
) -> ServerHandshake:
    nonce = b"s" * NONCE_BYTES
    return ServerHandshake(identity, identity.certificate, peer_certificate, nonce, versions)


def converse(client: ClientHandshake, server: ServerHandshake, wire: Wire) -> None:
    """Run the dialogue to its end; the server admits."""
    proof = wire.carry(wire.carry(client.start(), server), client)
    assert wire.carry(proof, server) == b""
    wire.carry(server.admit(), client)


@given(piece=st.integers(1, HELLO_BYTES))
def test_members_agree_however_the_bytes_are_cut(piece: int) -> None:
    client, server = client_of(), server_of()
    converse(client, server, Wire(piece))
    assert client.done
    assert server.done
    assert client.version == server.version == 1


@given(after=st.binary(max_size=100))
def test_what_follows_the_accept_byte_is_left_for_the_frames(after: bytes) -> None:
    client, server = client_of(), server_of()
    server.receive(client.receive(server.receive(client.start())))
    client.receive(server.admit() + after)
    assert client.leftover == after
    assert server.leftover == b""


@given(place=st.integers(0, HELLO_BYTES - 1), change=st.integers(1, 255), piece=st.integers(1, 200))
def test_any_changed_byte_is_refused(place: int, change: int, piece: int) -> None:
    client, server = client_of(), server_of()
    try:
        converse(client, server, Wire(piece, place, change))
        client.receive(b"")
    except PeerFault:
        assert not client.done
    else:
        pytest.fail("the hello went through with a changed byte")


@given(data=st.binary(min_size=1, max_size=300))
def test_gibberish_never_gets_a_client_proven(data: bytes) -> None:
    server = server_of()
    try:
        while data and not server.proven:
            server.receive(data[:64])
            data = data[64:]
    except PeerFault:
        pass
    assert not server.proven


def test_the_client_is_not_in_before_the_accept_byte() -> None:
    client, server = client_of(), server_of()
    server.receive(client.receive(server.receive(client.start())))
    assert server.proven
    assert not server.done
    assert not client.done
    client.receive(server.admit())
    assert client.done


@pytest.mark.parametrize("reason", Refusal)
def test_a_refused_client_learns_the_reason(reason: Refusal) -> None:
    client, server = client_of(), server_of()
    server.receive(client.receive(server.receive(client.start())))
    with pytest.raises(PeerRejected, match=reason.words):
        client.receive(server.refuse(reason))
    assert not server.done


def test_a_reason_of_a_later_version_is_told_by_its_number() -> None:
    client, server = client_of(), server_of()
    client.receive(server.receive(client.start()))
    with pytest.raises(PeerRejected, match="reason 77"):
        client.receive(b"\x00\x4d")


def test_a_verdict_is_given_once_and_only_after_the_proof() -> None:
    client, server = client_of(), server_of()
    with pytest.raises(RuntimeError):
        server.admit()
    server.receive(client.receive(server.receive(client.start())))
    server.refuse(Refusal.CUT)
    with pytest.raises(RuntimeError):
        server.admit()


def test_a_server_of_another_swarm_is_refused_by_the_client() -> None:
    client, server = client_of(), server_of(STRANGER)
    with pytest.raises(PeerRejected, match="another swarm"):
        client.receive(server.receive(client.start()))


def test_a_client_of_another_epoch_is_refused_by_the_server() -> None:
    later = enrol(rotate(SWARM_KEY, RANDOMNESS), RANDOMNESS, CLIENT.seed)
    client = client_of(later)
    server = server_of(peer_certificate=later.certificate)
    server.receive(client.start())
    with pytest.raises(PeerRejected, match="epoch"):
        server.receive(bytes(32))


def test_a_hello_relayed_by_an_insider_does_not_verify() -> None:
    # THIRD stands in the middle: it holds one connection to each, and passes the bytes on.
    client, server = client_of(peer_certificate=THIRD.certificate), server_of()
    with pytest.raises(PeerRejected, match="relayed"):
        client.receive(server.receive(client.start()))


def test_a_relayed_proof_does_not_verify_at_the_server() -> None:
    client, server = client_of(), server_of(peer_certificate=THIRD.certificate)
    honest = server_of()
    proof = client.receive(honest.receive(client.start()))
    server.receive(client.start())
    with pytest.raises(PeerRejected, match="relayed"):
        server.receive(proof)


def test_a_proof_cannot_be_reflected() -> None:
    client, server = client_of(), server_of()
    opening = server.receive(client.start())
    with pytest.raises(PeerRejected):
        server.receive(opening[-32:])


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [(Versions(1, 3), Versions(2, 9), 3), (Versions(2, 2), Versions(1, 4), 2), (NEW, NEW, 5)],
)
def test_the_highest_common_version_is_spoken(
    ours: Versions, theirs: Versions, agreed: int
) -> None:
    client, server = client_of(versions=ours), server_of(versions=theirs)
    converse(client, server, Wire())
    assert client.version == server.version == agreed


def test_without_a_common_version_both_sides_name_both_ranges() -> None:
    client, server = client_of(versions=NEW), server_of(versions=OLD)
    with pytest.raises(PeerRejected, match=r"speaks 3 to 5, the peer 1 to 2"):
        client.receive(server.receive(client.start()))
    with pytest.raises(PeerRejected, match=r"speaks 1 to 2, the peer 3 to 5"):
        server.receive(b"")


@pytest.mark.parametrize("versions", [b"\0\0\0\1", b"\0\2\0\1"])
def test_a_range_of_versions_that_is_none_is_a_fault(versions: bytes) -> None:
    with pytest.raises(PeerFault, match="no range"):
        server_of().receive(bytes(NONCE_BYTES) + versions)


def test_a_client_that_goes_on_before_it_was_answered_is_a_fault() -> None:
    client, server = client_of(), server_of()
    with pytest.raises(PeerFault, match="before it was answered"):
        server.receive(client.start() + b"frame")
    server = server_of()
    proof = client.receive(server.receive(client.start()))
    with pytest.raises(PeerFault, match="before it was answered"):
        server.receive(proof + b"frame")


def test_a_peer_that_hangs_up_is_refused() -> None:
    for side in (client_of(), server_of()):
        with pytest.raises(PeerRejected, match="hung up"):
            side.receive(b"")


def test_an_answer_that_is_neither_yes_nor_no_is_a_fault() -> None:
    client, server = client_of(), server_of()
    client.receive(server.receive(client.start()))
    with pytest.raises(PeerFault, match="neither yes nor no"):
        client.receive(b"\x02")


def test_a_short_nonce_is_not_taken() -> None:
    with pytest.raises(ValueError, match="nonce"):
        ClientHandshake(CLIENT, CLIENT.certificate, SERVER.certificate, b"short")
