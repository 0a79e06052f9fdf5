"""Identity: who is a member follows from the swarm key, and from nothing else."""

import dataclasses
import datetime as dt
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from lamport.ids import NodeId
from transport.errors import IdentityError, PeerFault
from transport.identity import (
    MAX_CERTIFICATE_BYTES,
    AdminKey,
    SwarmKey,
    _authority_key,
    authority_certificate,
    certify,
    enrol,
    make_swarm,
    rotate,
    swarm_hint,
    verify_certificate,
    verify_signature,
)

RANDOMNESS = random.Random(2)
SWARM_KEY, ADMIN_KEY = make_swarm(RANDOMNESS)
MEMBER = enrol(SWARM_KEY, RANDOMNESS)
STRANGER = enrol(make_swarm(RANDOMNESS)[0], RANDOMNESS)
AUTHORITY = x509.load_der_x509_certificate(MEMBER.authority)


def issue(
    public: Ed25519PublicKey | ec.EllipticCurvePublicKey,
    *extensions: x509.ExtensionType,
    signer: Ed25519PrivateKey | None = None,
) -> bytes:
    """Make a certificate in the authority's name, by its key unless told otherwise."""
    dates = dt.datetime(1970, 1, 2, tzinfo=dt.UTC), dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
    name = AUTHORITY.subject
    builder = x509.CertificateBuilder(name, name, public, 7, *dates)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer or _authority_key(SWARM_KEY), None).public_bytes(Encoding.DER)


NODE = x509.BasicConstraints(ca=False, path_length=None)
NODE_KEY = Ed25519PrivateKey.from_private_bytes(RANDOMNESS.randbytes(32))


def test_the_same_randomness_makes_the_same_swarm_and_members() -> None:
    def make() -> object:
        randomness = random.Random(9)
        swarm_key, admin_key = make_swarm(randomness)
        return swarm_key, admin_key, enrol(swarm_key, randomness)

    assert make() == make()


def test_the_authority_is_byte_equal_wherever_the_swarm_key_is_known() -> None:
    copy = SwarmKey(SWARM_KEY.key, SWARM_KEY.swarm, SWARM_KEY.admin)
    assert authority_certificate(copy) == MEMBER.authority == authority_certificate(SWARM_KEY)


def test_the_authorities_of_two_swarms_have_different_names() -> None:
    other = x509.load_der_x509_certificate(STRANGER.authority)
    assert other.subject != AUTHORITY.subject


def test_a_members_certificate_vouches_for_its_node_id() -> None:
    assert verify_certificate(MEMBER.certificate, MEMBER.authority) == MEMBER.node
    again = enrol(SWARM_KEY, RANDOMNESS, MEMBER.seed)
    assert again.node == MEMBER.node
    assert again.certificate != MEMBER.certificate


def test_a_certificate_can_be_made_for_a_key_that_lives_elsewhere() -> None:
    certificate = certify(SWARM_KEY, STRANGER.node, RANDOMNESS)
    assert verify_certificate(certificate, MEMBER.authority) == STRANGER.node


@example(place=len(MEMBER.certificate) - 65, change=1)  # how many bits of the signature are unused
@given(place=st.integers(0, len(MEMBER.certificate) - 1), change=st.integers(1, 255))
def test_a_changed_certificate_vouches_for_nobody(place: int, change: int) -> None:
    damaged = bytearray(MEMBER.certificate)
    damaged[place] ^= change
    with pytest.raises(PeerFault):
        verify_certificate(bytes(damaged), MEMBER.authority)


@given(data=st.binary(max_size=MAX_CERTIFICATE_BYTES))
def test_garbage_is_no_certificate(data: bytes) -> None:
    with pytest.raises(PeerFault):
        verify_certificate(data, MEMBER.authority)


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (STRANGER.certificate, "not a certificate by this swarm's authority"),
        (issue(NODE_KEY.public_key(), NODE, signer=NODE_KEY), "not a certificate by this swarm"),
        (issue(NODE_KEY.public_key()), "not a certificate by this swarm's authority"),
        (MEMBER.authority, "is an authority's"),
        (
            issue(NODE_KEY.public_key(), x509.BasicConstraints(ca=True, path_length=None)),
            "is an authority's",
        ),
        (issue(ec.generate_private_key(ec.SECP256R1()).public_key(), NODE), "not for an Ed25519"),
        (MEMBER.certificate + b"\0", "not a certificate by this swarm's authority"),
        (bytes(MAX_CERTIFICATE_BYTES + 1), "at most 1024 bytes, not 1025"),
    ],
    ids=[
        "another swarm's",
        "in the authority's name",
        "without constraints",
        "the authority's own",
        "an authority below",
        "another kind of key",
        "something behind it",
        "too long",
    ],
)
def test_what_is_no_members_certificate_vouches_for_nobody(certificate: bytes, why: str) -> None:
    with pytest.raises(PeerFault, match=why):
        verify_certificate(certificate, MEMBER.authority)


def test_a_certificate_is_valid_whatever_the_clock_says() -> None:
    certificate = x509.load_der_x509_certificate(MEMBER.certificate)
    assert certificate.not_valid_before_utc.year == 1970
    assert certificate.not_valid_after_utc.year == 9999


@given(data=st.binary(max_size=100), place=st.integers(0, 63), change=st.integers(1, 255))
def test_a_signature_holds_for_its_data_its_key_and_itself_only(
    data: bytes, place: int, change: int
) -> None:
    signature = MEMBER.sign(data)
    damaged = bytearray(signature)
    damaged[place] ^= change
    assert verify_signature(MEMBER.node, signature, data)
    assert not verify_signature(MEMBER.node, signature, data + b".")
    assert not verify_signature(MEMBER.node, bytes(damaged), data)
    assert not verify_signature(STRANGER.node, signature, data)


def test_a_malformed_signature_or_key_does_not_verify() -> None:
    assert not verify_signature(MEMBER.node, b"short", b"data")
    assert not verify_signature(NodeId(b"\xff" * 32), MEMBER.sign(b"data"), b"data")


def test_the_admins_word_is_verified_with_the_key_every_member_keeps() -> None:
    assert MEMBER.admin == ADMIN_KEY.public == SWARM_KEY.admin
    assert verify_signature(NodeId(MEMBER.admin), ADMIN_KEY.sign(b"revoke"), b"revoke")


def test_rotation_keeps_swarm_and_admin_and_changes_what_makes_members() -> None:
    later = rotate(SWARM_KEY, RANDOMNESS)
    renewed = enrol(later, RANDOMNESS, MEMBER.seed)
    assert (renewed.swarm, renewed.admin, renewed.node) == (
        MEMBER.swarm,
        MEMBER.admin,
        MEMBER.node,
    )
    assert (MEMBER.epoch, renewed.epoch) == (0, 1)
    assert renewed.hello_server != MEMBER.hello_server
    with pytest.raises(PeerFault):
        verify_certificate(MEMBER.certificate, renewed.authority)


def test_all_secrets_of_a_swarm_differ() -> None:
    derived = {SWARM_KEY.key, SWARM_KEY.swarm, MEMBER.hello_server, MEMBER.hello_client}
    assert len(derived) == 4


def test_no_secret_shows_in_a_repr() -> None:
    shown = repr([SWARM_KEY, ADMIN_KEY, MEMBER])
    for secret in (
        SWARM_KEY.key,
        ADMIN_KEY.seed,
        MEMBER.seed,
        MEMBER.hello_server,
        MEMBER.hello_client,
    ):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_an_identity_whose_parts_do_not_belong_together_is_refused() -> None:
    with pytest.raises(IdentityError, match="another node key"):
        dataclasses.replace(MEMBER, seed=STRANGER.seed)
    with pytest.raises(IdentityError, match="does not hold"):
        dataclasses.replace(MEMBER, authority=STRANGER.authority)
    with pytest.raises(IdentityError, match="hello_server has 32 bytes, not 3"):
        dataclasses.replace(MEMBER, hello_server=b"key")


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(IdentityError, match="key has 32 bytes"):
        dataclasses.replace(SWARM_KEY, key=b"passphrase")
    with pytest.raises(IdentityError, match="seed has 32 bytes"):
        AdminKey(b"")
    with pytest.raises(IdentityError, match="node_key has 32 bytes"):
        enrol(SWARM_KEY, RANDOMNESS, b"short")


def test_a_hint_tells_swarms_apart_and_hides_their_id() -> None:
    hint = swarm_hint(MEMBER.swarm)
    assert len(hint) == 16
    assert hint == swarm_hint(SWARM_KEY.swarm)
    assert hint != swarm_hint(STRANGER.swarm)
    assert hint not in MEMBER.swarm.hex()
