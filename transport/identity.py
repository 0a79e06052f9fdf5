"""Who a node is, and how it proves that it belongs to the swarm.

A swarm is the set of nodes that share a swarm key: 32 random bytes. From it follow, the same on
every machine that knows it, a certificate authority and two hello keys. Enrolling draws a node's
own Ed25519 key, signs a certificate for it with the authority and then forgets the swarm key: a
stolen device can act as itself until it is revoked, but it cannot make new members.

A swarm key goes in at `enrol`, an `Identity` comes out and stays on the device; at the other end
`verify_certificate` turns a peer's certificate back into the node id that it vouches for.
A device need not even see it: it draws its own `NodeKey`, and `transport.enrolment` brings the rest.
Everything here is a pure function of its arguments: randomness is handed in, and what certificates
look like is fixed (`transport.certificates`).

Sources: RFC 5280 (certificates), RFC 5869 (HKDF), RFC 8032 (Ed25519).
"""

import functools
import hashlib
from dataclasses import dataclass, field
from random import Random

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.utils import CryptographyDeprecationWarning

from lamport.ids import NodeId
from transport.certificates import SERIAL_BYTES, authority_form, member_form, signed
from transport.errors import IdentityError, PeerFault

KEY_BYTES = 32
"""Length of a swarm key, a swarm id, a hello key, and an Ed25519 seed or public key."""

_SIGNATURE_FRAME = b"\x03\x41\x00"
"""A bit string of 65 bytes, the first of which says that no bit is unused (X.690, 8.6)."""

MAX_EPOCH = 2**32 - 1
"""Highest number of an epoch: nobody rotates more often, and it has four bytes in an admission."""

MAX_CERTIFICATE_BYTES = 1024
"""Longest certificate that is looked at. Ours have about 400 bytes; the rest is room."""

VERIFIED_CERTIFICATES = 1024
"""Verdicts remembered: a certificate travels with each of its streams, and is verified once."""

SWARM_HINT_CHARACTERS = 16
"""Length of the hint, in hex: enough to tell neighbouring swarms apart, and no proof."""

_SALT = b"shoal-v1"
_UNREADABLE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,  # of odd fields, where a program makes warnings errors
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
)


@dataclass(frozen=True, slots=True)
class SwarmKey:
    """The secret that makes members; it stays on the admin's machine.

    `key` is the secret of this epoch, `swarm` the swarm's id (the first epoch's key gives it, and
    it stays), `admin` the raw Ed25519 public key whose word revokes. All have 32 bytes;
    `IdentityError` otherwise.
    """

    key: bytes = field(repr=False)
    swarm: bytes
    admin: bytes
    epoch: int = 0

    def __post_init__(self) -> None:
        _require_lengths(key=self.key, swarm=self.swarm, admin=self.admin)


@dataclass(frozen=True, slots=True)
class AdminKey:
    """The admin's Ed25519 seed (32 bytes): it signs revocations, and belongs offline."""

    seed: bytes = field(repr=False)
    public: bytes = field(init=False)

    def __post_init__(self) -> None:
        _require_lengths(seed=self.seed)
        object.__setattr__(self, "public", _public_bytes(_private_key(self.seed)))

    def sign(self, data: bytes) -> bytes:
        """Give the 64-byte Ed25519 signature of the data."""
        return _private_key(self.seed).sign(data)


@dataclass(frozen=True, slots=True)
class NodeKey:
    """A device's own Ed25519 seed (32 bytes), drawn on it and staying there; `node` is its id."""

    seed: bytes = field(repr=False)
    node: NodeId = field(init=False)

    def __post_init__(self) -> None:
        _require_lengths(seed=self.seed)
        object.__setattr__(self, "node", NodeId(_public_bytes(_private_key(self.seed))))


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device keeps of its enrolment: enough to be a member, too little to make one.

    `seed` is the node's Ed25519 seed, `certificate` and `authority` are DER, `swarm` is the swarm's
    id, `admin` the admin's raw public key; the two hello keys prove membership of `epoch` a second
    time (`transport.handshake`). Raises `IdentityError` where a length is wrong or the certificate
    is not one of the authority's for this seed.
    """

    seed: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    authority: bytes = field(repr=False)
    swarm: bytes
    epoch: int
    admin: bytes
    hello_server: bytes = field(repr=False)
    hello_client: bytes = field(repr=False)
    node: NodeId = field(init=False)
    _signer: Ed25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_lengths(
            seed=self.seed,
            swarm=self.swarm,
            admin=self.admin,
            hello_server=self.hello_server,
            hello_client=self.hello_client,
        )
        object.__setattr__(self, "_signer", _private_key(self.seed))
        object.__setattr__(self, "node", NodeId(_public_bytes(self._signer)))
        self._require_own_certificate()

    def sign(self, data: bytes) -> bytes:
        """Give the 64-byte Ed25519 signature of the data, by the node key."""
        return self._signer.sign(data)

    def _require_own_certificate(self) -> None:
        try:
            vouched = verify_certificate(self.certificate, self.authority)
        except PeerFault as fault:
            raise IdentityError(f"the certificate does not hold: {fault}; enrol again") from fault
        if vouched != self.node:
            raise IdentityError("the certificate belongs to another node key; enrol again")


def make_swarm(randomness: Random) -> tuple[SwarmKey, AdminKey]:
    """Draw a new swarm's key and its admin's key."""
    key = randomness.randbytes(KEY_BYTES)
    admin = AdminKey(randomness.randbytes(KEY_BYTES))
    return SwarmKey(key, _derive(key, b"swarm-id"), admin.public), admin


def rotate(swarm_key: SwarmKey, randomness: Random) -> SwarmKey:
    """Draw the next epoch's key: same swarm, same admin, another authority and other hello keys."""
    key = randomness.randbytes(KEY_BYTES)
    return SwarmKey(key, swarm_key.swarm, swarm_key.admin, swarm_key.epoch + 1)


def enrol(swarm_key: SwarmKey, randomness: Random, node_key: bytes | None = None) -> Identity:
    """Make a member: draw its node key, or take the 32-byte seed given, and certify it."""
    seed = randomness.randbytes(KEY_BYTES) if node_key is None else node_key
    _require_lengths(node_key=seed)
    node = NodeId(_public_bytes(_private_key(seed)))
    server, client = hello_keys(swarm_key)
    return Identity(
        seed=seed,
        certificate=certify(swarm_key, node, randomness),
        authority=authority_certificate(swarm_key),
        swarm=swarm_key.swarm,
        epoch=swarm_key.epoch,
        admin=swarm_key.admin,
        hello_server=server,
        hello_client=client,
    )


def authority_certificate(swarm_key: SwarmKey) -> bytes:
    """Give the authority's own certificate (DER): byte-equal wherever the swarm key is known."""
    authority = _authority_key(swarm_key)
    return signed(authority_form(_public_bytes(authority)), authority)


def certify(swarm_key: SwarmKey, node: NodeId, randomness: Random) -> bytes:
    """Sign a member's certificate (DER) for a node key that may live on another device."""
    authority = _authority_key(swarm_key)
    # 1 more than drawn: a serial number is positive (RFC 5280, 4.1.2.2).
    serial = 1 + int.from_bytes(randomness.randbytes(SERIAL_BYTES - 1))
    return signed(member_form(_public_bytes(authority), node, serial), authority)


def hello_keys(swarm_key: SwarmKey) -> tuple[bytes, bytes]:
    """Give the server's and the client's hello key of the swarm key's epoch."""
    return _derive(swarm_key.key, b"hello-server"), _derive(swarm_key.key, b"hello-client")


def authority_public(swarm_key: SwarmKey) -> bytes:
    """Give the authority's raw public key."""
    return _public_bytes(_authority_key(swarm_key))


def sign_as_authority(swarm_key: SwarmKey, data: bytes) -> bytes:
    """Give the authority's 64-byte Ed25519 signature of the data.

    The data must not begin as a certificate does (0x30), or this would make one.
    """
    return _authority_key(swarm_key).sign(data)


@functools.lru_cache(maxsize=VERIFIED_CERTIFICATES)
def verify_certificate(der: bytes, authority: bytes) -> NodeId:
    """Give the node id that a certificate (DER) vouches for under an authority's certificate (DER).

    Raises `PeerFault` where it is longer than `MAX_CERTIFICATE_BYTES`, no certificate, not signed
    by the authority, not for an Ed25519 key, or itself an authority's.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise PeerFault(f"a certificate has at most {MAX_CERTIFICATE_BYTES} bytes, not {len(der)}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        node = _vouched(certificate, authority)
    except _UNREADABLE as error:
        raise PeerFault(f"not a certificate by this swarm's authority: {error!r}") from error
    # The signature does not cover its own frame, and readers are lenient there: one certificate has one form.
    if not der.endswith(_SIGNATURE_FRAME + certificate.signature):
        raise PeerFault("the certificate's signature is not encoded as it is made")
    return node


def verify_signature(node: NodeId, signature: bytes, data: bytes) -> bool:
    """Say whether the signature of the data is by the node's key. A malformed one is not."""
    try:
        Ed25519PublicKey.from_public_bytes(node).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def swarm_hint(swarm: bytes) -> str:
    """Give a short fingerprint of a swarm id, to find one's own swarm on the air.

    16 hex characters of a salted hash: it tells swarms apart without naming them.
    """
    return hashlib.sha256(b"shoal-hint-v1" + swarm).hexdigest()[:SWARM_HINT_CHARACTERS]


def _vouched(certificate: x509.Certificate, authority: bytes) -> NodeId:
    # The signature first: what a stranger wrote into the extensions is never parsed.
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
    public = certificate.public_key()
    if not isinstance(public, Ed25519PublicKey):
        raise PeerFault("the certificate is not for an Ed25519 key")
    if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise PeerFault("the certificate is an authority's, not a node's")
    return NodeId(public.public_bytes_raw())


def _derive(key: bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, _SALT, label).derive(key)


def _private_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


def _public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _authority_key(swarm_key: SwarmKey) -> Ed25519PrivateKey:
    return _private_key(_derive(swarm_key.key, b"ca-seed"))


def _require_lengths(**secrets: bytes) -> None:
    for name, value in secrets.items():
        if len(value) != KEY_BYTES:
            raise IdentityError(f"{name} has {KEY_BYTES} bytes, not {len(value)}")
