"""What a node can show of itself, epoch by epoch, and whom it believes.

A device is enrolled in one epoch. Each notice of a later one that has something for it (`transport.epochs`) gives it
one identity more: the same node key, another certificate, other hello keys. It keeps them all, for a peer that was away
knows only what it was left with; two nodes talk in the newest epoch that both have.

Two questions are asked of a peer's certificate, and have different answers:

- *Whose stream is this?* `vouches`: any authority that the swarm ever had says so. What was written stays written.
- *May it talk to us?* `admits`: a certificate of this node's newest epoch always does. An older one does for a node
  that has been renewed and has not heard of it: that is how it will. Who holds an older one and was not renewed is a
  member no more, whatever it once was; that goes for stolen keys and for nodes that somebody made with a stolen one.

Whether a node was revoked is asked besides; that goes by its id, and by no certificate.
"""

from collections.abc import Iterable

from lamport.ids import NodeId
from lamport.notices import Notice, NoticeKind
from transport.epochs import Authority, Epoch, decode_epoch
from transport.errors import PeerFault
from transport.identity import Identity, verify_certificate


class Credentials:
    """One node's identities and the authorities that it knows. They only grow."""

    def __init__(self, identity: Identity) -> None:
        self._identities = {identity.epoch: identity}
        self._members: dict[int, dict[NodeId, None]] = {}
        self._authorities: dict[bytes, Authority | None] = {identity.authority: None}

    @property
    def newest(self) -> Identity:
        """The identity of the newest epoch."""
        return self._identities[max(self._identities)]

    @property
    def identities(self) -> tuple[Identity, ...]:
        """All of them, the oldest first."""
        return tuple(self._identities[number] for number in sorted(self._identities))

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """The authorities that notices have named, in the order in which they were heard of."""
        return tuple(one for one in self._authorities.values() if one is not None)

    @property
    def members(self) -> tuple[NodeId, ...]:
        """The nodes that were ever renewed, as far as notices have said."""
        return tuple(sorted({node for nodes in self._members.values() for node in nodes}))

    def learn(self, notices: Iterable[Notice]) -> bool:
        """Take in epochs that the admin has announced; returns whether there is a newer identity."""
        before = self.newest
        for notice in notices:
            if notice.kind == NoticeKind.EPOCH:
                self._learn(decode_epoch(notice.body))
        return self.newest != before

    def _learn(self, epoch: Epoch) -> None:
        self._members.setdefault(epoch.number, {}).update(dict.fromkeys(epoch.members))
        for authority in (*epoch.former, epoch.authority):
            self._authorities[authority.certificate] = authority
        renewed = epoch.renewed(self.newest)
        if renewed is not None:
            self._identities.setdefault(epoch.number, renewed)

    def of_peer(self, certificate: bytes) -> Identity | None:
        """The identity in which to talk to the node of this certificate; None where none is of its epoch."""
        for identity in reversed(self.identities):
            if _vouched(certificate, identity.authority) is not None:
                return identity
        return None

    def vouches(self, certificate: bytes, node: NodeId) -> bool:
        """Whether any authority of this swarm says that a node is, or was, a member."""
        return any(_vouched(certificate, one) == node for one in self._authorities)

    def admits(self, node: NodeId, certificate: bytes) -> bool:
        """Whether a node that proved to hold this certificate's key may talk to this one."""
        newest = self.newest
        if _vouched(certificate, newest.authority) == node:
            return True
        return self.of_peer(certificate) is not None and node in self._members.get(newest.epoch, ())


def _vouched(certificate: bytes, authority: bytes) -> NodeId | None:
    try:
        return verify_certificate(certificate, authority)
    except PeerFault:
        return None
