"""Sealed mail: bytes that only one node can read, made from nothing but its node id.

A node id is an Ed25519 public key, that is a point of a curve which X25519 knows in another form.
So whoever knows a node's id can seal for it, whether or not it is there, and a device keeps no
second key: its secret follows from the seed that it has. Of the sender mail says nothing; what must
be believed is signed besides.

    seal_mail(node, data, context)  ->  one-time key (32), ciphertext, tag (16)  ->  open_mail(seed, ...)

The sender draws a one-time X25519 key. The secret that it shares with the reader's gives, by HKDF
over both public keys, the key of one ChaCha20-Poly1305 box. `context` says what the mail is for and
must be the same when it is opened: mail cannot be passed off as another kind of mail.

Sources: RFC 7748 (X25519; section 4.1 the map between the curves), RFC 8439 (ChaCha20-Poly1305),
RFC 5869 (HKDF); Thormarker, "On using the same key pair for Ed25519 and an X25519 based KEM" (2021).
"""

import hashlib
from random import Random

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lamport.ids import NodeId
from transport.errors import MailError
from transport.identity import KEY_BYTES, NodeKey

MAIL_OVERHEAD_BYTES = 48
"""By how much mail is longer than what it holds: the one-time key and the tag."""

SEALED_HELLO_BYTES = 2 * KEY_BYTES + MAIL_OVERHEAD_BYTES
"""Length of the mail that brings a member the two hello keys."""

_PRIME = 2**255 - 19
_SIGN_BIT = 1 << 255
_LABEL = b"shoal-mail/1"
_NONCE = bytes(12)  # each box has a key of its own


def seal_mail(node: NodeId, data: bytes, context: bytes, randomness: Random) -> bytes:
    """Seal data for a node; raise `MailError` where its id is no key that mail can be sealed for."""
    once = X25519PrivateKey.from_private_bytes(randomness.randbytes(KEY_BYTES))
    sender, reader = once.public_key().public_bytes_raw(), _mail_address(node)
    box = _box(once, X25519PublicKey.from_public_bytes(reader), sender + reader)
    return sender + box.encrypt(_NONCE, data, context)


def open_mail(key: NodeKey, mail: bytes, context: bytes) -> bytes:
    """Open mail for the node of this key; raise `MailError` where it is for another, or altered."""
    secret = X25519PrivateKey.from_private_bytes(hashlib.sha512(key.seed).digest()[:KEY_BYTES])
    if len(mail) < MAIL_OVERHEAD_BYTES:
        raise MailError(f"sealed mail has at least {MAIL_OVERHEAD_BYTES} bytes, not {len(mail)}")
    sender, reader = mail[:KEY_BYTES], secret.public_key().public_bytes_raw()
    box = _box(secret, X25519PublicKey.from_public_bytes(sender), sender + reader)
    try:
        return box.decrypt(_NONCE, mail[KEY_BYTES:], context)
    except InvalidTag as error:
        raise MailError("this mail was sealed for another node, or altered since") from error


def _mail_address(node: NodeId) -> bytes:
    """The X25519 form of a node's key: u = (1 + y) / (1 - y)."""
    y = int.from_bytes(node, "little") % _SIGN_BIT
    if y % _PRIME == 1:
        raise MailError("the node id is no key")
    u = (1 + y) * pow(1 - y, -1, _PRIME) % _PRIME
    return u.to_bytes(KEY_BYTES, "little")


def _box(secret: X25519PrivateKey, other: X25519PublicKey, parties: bytes) -> ChaCha20Poly1305:
    try:
        shared = secret.exchange(other)
    except ValueError as error:
        raise MailError("a key of low order is no key: anybody could open this mail") from error
    return ChaCha20Poly1305(HKDF(SHA256(), KEY_BYTES, parties, _LABEL).derive(shared))
