"""What the swarm's certificates look like: two fixed forms, so that a few bytes stand for each.

There are two kinds, the authority's own and a member's. Everything in them but the public keys, a
member's serial number and the signature is fixed: names follow from keys, and dates decide nothing,
since clocks lie on shop floors. A form and a private key give a certificate (`signed`); a form and
a signature give the same bytes back (`assembled`), which is how a certificate of 430 bytes travels
in a text short enough for a QR code (`transport.enrolment`).

Sources: RFC 5280 (certificates), RFC 8410 (Ed25519 in certificates).
"""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lamport.ids import NodeId

Form = x509.CertificateBuilder
"""A certificate that only lacks its signature."""

SIGNATURE_BYTES = 64
"""Length of an Ed25519 signature, with which a certificate (DER) ends."""

SERIAL_BYTES = 17
"""Length of a member's serial number, big endian: 1 more than 16 drawn bytes say."""

_NOT_BEFORE = dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
_NOT_AFTER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_PLACEHOLDER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def authority_form(public: bytes) -> Form:
    """Give the form of the certificate of an authority with this raw public key."""
    key = Ed25519PublicKey.from_public_bytes(public)
    name = _authority_name(public)
    return (
        Form(name, name, key, 1, _NOT_BEFORE, _NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def member_form(authority: bytes, node: NodeId, serial: int) -> Form:
    """Give the form of a member's certificate under the authority with this raw public key.

    Raises `ValueError` where the serial number is not positive, or too long (RFC 5280, 4.1.2.2).
    """
    key, issuer = map(Ed25519PublicKey.from_public_bytes, (node, authority))
    both_ways = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = _authority_name(authority), _name(node.hex())
    return (
        Form(*names, key, None, _NOT_BEFORE, _NOT_AFTER)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ways), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def signed(form: Form, key: Ed25519PrivateKey) -> bytes:
    """Sign a form; gives the certificate, DER."""
    return form.sign(key, None).public_bytes(Encoding.DER)


def assembled(form: Form, signature: bytes) -> bytes:
    """Give the certificate (DER) of which form and signature are known. Whether it holds is open."""
    # The library makes no certificate without signing, so it signs, and the signature is exchanged.
    return signed(form, _PLACEHOLDER)[:-SIGNATURE_BYTES] + signature


def signature_of(certificate: bytes) -> bytes:
    """Give the signature that a certificate (DER) of ours ends with."""
    return certificate[-SIGNATURE_BYTES:]


def serial_of(certificate: bytes) -> int:
    """Give a certificate's (DER) serial number."""
    return x509.load_der_x509_certificate(certificate).serial_number


def _authority_name(public: bytes) -> x509.Name:
    # The key is in the name: a verifier never takes another swarm's authority for this one.
    return _name(f"shoal-{public.hex()[:16]}")


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
