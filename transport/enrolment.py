"""Enrolment by two short texts, so that the swarm key never comes near the device.

    device                                        admin's machine
      draws its key, shows a request      ->
                                          <-        signs, shows an admission
      takes the admission: it is a member

A request is the node id and, if wanted, a name for the admin's eyes. An admission is all that makes
a member of whoever has the node's key: what the authority signed, the admin's public key, the
swarm's id, and the hello keys, which the whole swarm shares, sealed for this node
(`transport.mail`). Nothing in either is a secret to keep from onlookers. What onlookers must not do
is exchange a request for their own: the admin compares the node id with what the device shows.

The authority signs the admission as a whole, with the node id, so that nobody alters a part of it.
Certificates travel as what is not known anyhow: key, serial number, signature
(`transport.certificates`). Both texts are made and checked by `transport.texts`.
"""

import struct
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Self

from lamport.errors import InvalidInput
from lamport.ids import NODE_ID_BYTES, NodeId
from transport.certificates import (
    SERIAL_BYTES,
    SIGNATURE_BYTES,
    assembled,
    authority_form,
    member_form,
    serial_of,
    signature_of,
)
from transport.errors import IdentityError, InvalidText, MailError
from transport.identity import (
    KEY_BYTES,
    MAX_EPOCH,
    Identity,
    NodeKey,
    SwarmKey,
    authority_certificate,
    authority_public,
    certify,
    hello_keys,
    sign_as_authority,
    verify_signature,
)
from transport.mail import SEALED_HELLO_BYTES, open_mail, seal_mail
from transport.texts import packed, unpacked

MAX_REQUEST, MAX_ADMISSION = 120, 600
"""Longest texts, in characters: QR codes that a cheap camera reads from a cheap screen."""

MAX_NAME_BYTES = 40
"""Longest name in a request, in UTF-8: what `MAX_REQUEST` leaves."""

_VERSION = 1
_REQUEST, _ADMISSION = "request", "admission"
_LABEL = b"shoal-admission/1"  # begins as no certificate does
_HINT_BYTES = 6
_CLAIM = struct.Struct(f"!{_HINT_BYTES}s32s64s{SERIAL_BYTES}s64s32s32sI{SEALED_HELLO_BYTES}s")


def require_name(name: str) -> None:
    """Raise `InvalidInput` where a device's name is too long or has characters that cannot be printed."""
    if not name.isprintable():
        raise InvalidInput("a device's name is one line of text that can be printed")
    if (length := len(name.encode())) > MAX_NAME_BYTES:
        raise InvalidInput(
            f"a device's name has at most {MAX_NAME_BYTES} bytes of UTF-8, not {length}"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A device's wish to be a member: its node id, and a name (`require_name`) or an empty text."""

    node: NodeId
    name: str = ""

    def __post_init__(self) -> None:
        require_name(self.name)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a request; raise `InvalidText` where it is none, or not what the device showed."""
        data = unpacked(_REQUEST, _VERSION, text)
        try:
            return cls(NodeId(data[:NODE_ID_BYTES]), data[NODE_ID_BYTES:].decode())
        except (InvalidInput, UnicodeDecodeError) as error:
            raise InvalidText(f"the request was not made by Shoal: {error}") from error

    def __str__(self) -> str:
        return packed(_REQUEST, _VERSION, self.node + self.name.encode())


class Claim(NamedTuple):
    """What the authority says in an admission; together with the node id that is what it signs."""

    hint: bytes
    """The beginning of the node id: enough to tell a mix-up from a forgery."""
    authority: bytes
    authority_signature: bytes
    serial: bytes
    signature: bytes
    swarm: bytes
    admin: bytes
    epoch: int
    sealed: bytes

    def signed_data(self, node: NodeId) -> bytes:
        """Give what the authority signs when it admits this node."""
        return _LABEL + node + _CLAIM.pack(*self)

    def identity(self, key: NodeKey) -> Identity:
        """Raise `IdentityError`, `MailError` or `ValueError` where it does not make one."""
        hello = open_mail(key, self.sealed, _LABEL + self.authority)
        member = member_form(self.authority, key.node, int.from_bytes(self.serial))
        return Identity(
            seed=key.seed,
            certificate=assembled(member, self.signature),
            authority=assembled(authority_form(self.authority), self.authority_signature),
            swarm=self.swarm,
            epoch=self.epoch,
            admin=self.admin,
            hello_server=hello[:KEY_BYTES],
            hello_client=hello[KEY_BYTES:],
        )


@dataclass(frozen=True, slots=True)
class Admission:
    """The swarm's answer to a request. Only the device that asked can make use of it."""

    claim: Claim
    signature: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an admission; raise `InvalidText` where it is none, or not what the admin was shown."""
        data = unpacked(_ADMISSION, _VERSION, text)
        if len(data) != _CLAIM.size + SIGNATURE_BYTES:
            raise InvalidText("the admission was not made by Shoal: it has another length")
        return cls(Claim(*_CLAIM.unpack(data[: _CLAIM.size])), data[_CLAIM.size :])

    def __str__(self) -> str:
        return packed(_ADMISSION, _VERSION, _CLAIM.pack(*self.claim) + self.signature)

    def identity(self, key: NodeKey) -> Identity:
        """Make the identity of the device that has this key.

        Raises `InvalidText` where the admission is for another device, or does not hold.
        """
        claim = self.claim
        if claim.hint != key.node[:_HINT_BYTES]:
            meant = NodeId(claim.hint.ljust(NODE_ID_BYTES, b"\0")).short
            raise InvalidText(
                f"this admission is for the device {meant}…, and this one is {key.node.short}…"
            )
        signed = claim.signed_data(key.node)
        if not verify_signature(NodeId(claim.authority), self.signature, signed):
            raise InvalidText("this admission is forged: the swarm's authority did not sign it")
        try:
            return claim.identity(key)
        except (IdentityError, MailError, ValueError) as error:
            raise InvalidText(f"this admission does not hold: {error}") from error


def admit(swarm_key: SwarmKey, request: Request, randomness: Random) -> Admission:
    """Answer a request.

    Raises:
        InvalidText: its node id is no key.
        IdentityError: the swarm key's epoch is beyond what an admission holds.
    """
    if swarm_key.epoch > MAX_EPOCH:
        raise IdentityError(f"the swarm key's epoch is above {MAX_EPOCH}: it was damaged")
    node = request.node
    authority = authority_public(swarm_key)
    certificate = certify(swarm_key, node, randomness)
    claim = Claim(
        hint=node[:_HINT_BYTES],
        authority=authority,
        authority_signature=signature_of(authority_certificate(swarm_key)),
        serial=serial_of(certificate).to_bytes(SERIAL_BYTES),
        signature=signature_of(certificate),
        swarm=swarm_key.swarm,
        admin=swarm_key.admin,
        epoch=swarm_key.epoch,
        sealed=_sealed_hello(swarm_key, node, authority, randomness),
    )
    return Admission(claim, sign_as_authority(swarm_key, claim.signed_data(node)))


def _sealed_hello(swarm_key: SwarmKey, node: NodeId, authority: bytes, randomness: Random) -> bytes:
    try:
        return seal_mail(node, b"".join(hello_keys(swarm_key)), _LABEL + authority, randomness)
    except MailError as error:
        raise InvalidText(f"the request was not made by Shoal: {error}") from error
