"""Epochs: new keys for the whole swarm, on their way to its members.

To rotate is to draw another swarm key, and with it another authority and other hello keys. The admin's machine then
signs a certificate of the new authority for every node that stays a member, and seals the new hello keys for it
(`transport.mail`). All of that is one notice (`lamport.notices`), which travels by gossip: a device that was away finds
it with whoever it meets, and only the devices that it names can open what is in it for them.

    [number, authority, former authorities, members]
        an authority       [public key, its certificate's signature]
        a member           [node, serial number, certificate's signature, sealed hello keys]

Former authorities are named so that whoever is enrolled later can verify the streams of those who were members before.
Who may talk is another question: see `transport.credentials`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import msgpack

from lamport.errors import InvalidInput
from lamport.fields import read_bytes, read_number
from lamport.ids import NodeId
from lamport.notices import MAX_BODY_BYTES
from transport.certificates import (
    SERIAL_BYTES,
    SIGNATURE_BYTES,
    assembled,
    authority_form,
    member_form,
    serial_of,
    signature_of,
)
from transport.errors import IdentityError, MailError
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
)
from transport.mail import SEALED_HELLO_BYTES, open_mail, seal_mail

MAX_MEMBERS = 1_500
"""Members of one notice: with some 260 bytes each it fits a frame, and a request to the API. More take several."""

MAX_FORMER = 64
"""Former authorities that are named; a swarm that was rotated more often has lost more than keys."""

_LABEL = b"shoal-epoch/1"


class Authority(NamedTuple):
    """An authority, as what of its certificate is not known anyhow."""

    public: bytes
    signature: bytes

    @property
    def certificate(self) -> bytes:
        """Its certificate, DER."""
        return assembled(authority_form(self.public), self.signature)


class Renewal(NamedTuple):
    """What one member gets."""

    serial: bytes
    signature: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch's keys for some or all of its members."""

    number: int
    authority: Authority
    former: tuple[Authority, ...]
    members: Mapping[NodeId, Renewal]
    certificate: bytes = field(init=False)
    """The authority's certificate, DER."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificate", self.authority.certificate)

    def encode(self) -> bytes:
        """The body of its notice."""
        members = [[bytes(node), *self.members[node]] for node in sorted(self.members)]
        former = [list(one) for one in self.former]
        packed: bytes = msgpack.packb([self.number, list(self.authority), former, members])
        return packed

    def renewed(self, identity: Identity) -> Identity | None:
        """The identity of a member in this epoch; None where nothing in it is for that node, or does not hold."""
        renewal = self.members.get(identity.node)
        if renewal is None:
            return None
        try:
            return _renewed(self, renewal, identity)
        except (IdentityError, MailError, ValueError):
            return None


def _renewed(epoch: Epoch, renewal: Renewal, identity: Identity) -> Identity:
    public = epoch.authority.public
    hello = open_mail(NodeKey(identity.seed), renewal.sealed, _LABEL + public)
    form = member_form(public, identity.node, int.from_bytes(renewal.serial))
    return Identity(
        seed=identity.seed,
        certificate=assembled(form, renewal.signature),
        authority=epoch.certificate,
        swarm=identity.swarm,
        epoch=epoch.number,
        admin=identity.admin,
        hello_server=hello[:KEY_BYTES],
        hello_client=hello[KEY_BYTES:],
    )


def authority_of(swarm_key: SwarmKey) -> Authority:
    """The authority of a swarm key."""
    return Authority(authority_public(swarm_key), signature_of(authority_certificate(swarm_key)))


def make_epoch(
    swarm_key: SwarmKey,
    former: Iterable[Authority],
    members: Iterable[NodeId],
    randomness: Random,
) -> Epoch:
    """Sign and seal the keys of a swarm key's epoch for these nodes.

    Raises:
        InvalidInput: these are too many, or one of them is no key.
    """
    named = sorted(set(members))
    if len(named) > MAX_MEMBERS:
        raise InvalidInput(f"one notice renews at most {MAX_MEMBERS} members, not {len(named)}")
    if not swarm_key.epoch <= MAX_EPOCH:
        raise InvalidInput(f"the swarm key's epoch is above {MAX_EPOCH}: it was damaged")
    authority = authority_of(swarm_key)
    earlier = tuple(dict.fromkeys(one for one in former if one != authority))[-MAX_FORMER:]
    renewals = {node: _renewal(swarm_key, node, randomness) for node in named}
    return Epoch(swarm_key.epoch, authority, earlier, renewals)


def _renewal(swarm_key: SwarmKey, node: NodeId, randomness: Random) -> Renewal:
    context = _LABEL + authority_public(swarm_key)
    try:
        sealed = seal_mail(node, b"".join(hello_keys(swarm_key)), context, randomness)
    except MailError as error:
        raise InvalidInput(f"{node} is no member's id: {error}") from error
    certificate = certify(swarm_key, node, randomness)
    serial = serial_of(certificate).to_bytes(SERIAL_BYTES)
    return Renewal(serial, signature_of(certificate), sealed)


def decode_epoch(body: bytes) -> Epoch:
    """Read the body of a notice.

    Raises:
        InvalidInput: it is none of an epoch.
    """
    if len(body) > MAX_BODY_BYTES:
        raise InvalidInput(f"a notice's body has at most {MAX_BODY_BYTES} bytes")
    try:
        epoch = _decoded(msgpack.unpackb(body))
        genuine = epoch.encode() == body
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise InvalidInput(f"this notice is no epoch ({error})") from error
    if not genuine:
        raise InvalidInput("this notice is no epoch as we write it")
    return epoch


def _decoded(fields: Any) -> Epoch:
    number, authority, former, members = fields
    if len(former) > MAX_FORMER or len(members) > MAX_MEMBERS:
        raise ValueError(f"at most {MAX_FORMER} authorities and {MAX_MEMBERS} members")
    renewals = {NodeId(read_bytes(node, KEY_BYTES)): _fields(rest) for node, *rest in members}
    return Epoch(
        read_number(number, 0, MAX_EPOCH),
        _authority(authority),
        tuple(map(_authority, former)),
        renewals,
    )


def _authority(fields: Any) -> Authority:
    public, signature = fields
    return Authority(read_bytes(public, KEY_BYTES), read_bytes(signature, SIGNATURE_BYTES))


def _fields(fields: Sequence[Any]) -> Renewal:
    serial, signature, sealed = fields
    return Renewal(
        read_bytes(serial, SERIAL_BYTES),
        read_bytes(signature, SIGNATURE_BYTES),
        read_bytes(sealed, SEALED_HELLO_BYTES),
    )
