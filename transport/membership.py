"""Who belongs to the swarm now: what the admin's notices mean for the links of a node.

The way of a datum. A notice comes over a link, or from the admin's machine through the command line. The log keeps it
for good and withdraws what a revocation takes back; the credentials gain an epoch, and the network shows it from then
on. Then it is passed on over every link, and the links to whoever is no member any more are ended. From there on the
hello asks here whether a peer is to be let in.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn

from lamport.errors import StoreFailed
from lamport.ids import NodeId
from lamport.log import EventLog
from lamport.notices import Notice
from transport.credentials import Credentials
from transport.errors import NotAMember
from transport.finishing import finished
from transport.handshake import Refusal
from transport.identity import Identity
from transport.network import Channel, Network

if TYPE_CHECKING:  # a link tells what its peer sends
    from transport.link import Link


class Membership:
    """One node's view of who is a member. `links` are those of the node, by peer."""

    def __init__(
        self,
        log: EventLog,
        credentials: Credentials,
        network: Network,
        links: "Mapping[NodeId, Link]",
    ) -> None:
        self.credentials = credentials
        self._log = log
        self._network = network
        self._links = links
        self._met: dict[NodeId, None] = {}
        self._shown = credentials.identities
        self._failure: StoreFailed | None = None
        self._has_failed = asyncio.Event()
        network.adopt(self._shown)

    @property
    def met(self) -> Iterable[NodeId]:
        """The nodes that were linked with since the start."""
        return self._met

    def identity_for(self, channel: Channel) -> Identity:
        """The identity in which to talk over a channel.

        Raises:
            NotAMember: the peer's certificate is of none of this node's epochs.
        """
        identity = self.credentials.of_peer(channel.peer_certificate)
        if identity is None:
            raise NotAMember("the peer's certificate is of another epoch than any of this node's")
        return identity

    def is_revoked(self, node: NodeId) -> bool:
        """Whether the admin has revoked a node."""
        return node in self._log.store.cuts.revoked

    def reason_to_refuse(self, channel: Channel) -> Refusal | None:
        """Why the node at the other end of a channel is not let in; None where it is a member."""
        if self.is_revoked(channel.peer):
            return Refusal.REVOKED
        admitted = self.credentials.admits(channel.peer, channel.peer_certificate)
        return None if admitted else Refusal.OUTDATED

    def require_member(self, channel: Channel) -> None:
        """Raise `NotAMember` for a peer that was dialled and is none (any more)."""
        refusal = self.reason_to_refuse(channel)
        if refusal is Refusal.REVOKED:
            raise NotAMember("this peer was revoked")
        if refusal is not None:
            raise NotAMember("this peer's epoch is over, and the admin has not renewed it")

    def note(self, link: "Link") -> None:
        """A link begins, with a member, unless a notice has come while it was let in."""
        refusal = self.reason_to_refuse(link.channel)
        if refusal is None:
            self._met[link.channel.peer] = None
        else:
            link.end(refusal.words)

    async def learn(self, notice: Notice) -> bool:
        """Take in a notice, go by it and pass it on; returns whether it was news.

        Whoever is cancelled meanwhile, as by the end of the link that brought the notice, is so when that is done.

        Raises:
            CorruptRange: it is not the admin's, or says nothing that can be read.
            LimitExceeded: no more are kept.
            StoreFull: there is no room; nothing was changed.
        """
        return await finished(self._learn(notice))

    async def _learn(self, notice: Notice) -> bool:
        if not await self._kept(notice):
            return False
        if self.credentials.identities != self._shown:
            self._shown = self.credentials.identities
            self._network.adopt(self._shown)
        for link in tuple(self._links.values()):
            link.tell(notice)
            refusal = self.reason_to_refuse(link.channel)
            if refusal is not None:
                link.end(refusal.words, to_be_heard=True)
        return True

    async def _kept(self, notice: Notice) -> bool:
        try:
            return await self._log.learn(notice)
        except StoreFailed as error:
            self.fail(error)
            raise

    def fail(self, error: StoreFailed) -> None:
        """The disk has failed at a peer's notice or request; that is no end of a link, but the node's."""
        self._failure = error
        self._has_failed.set()

    async def run(self) -> NoReturn:
        """Raise `StoreFailed` once the disk has failed: whoever noticed it, the node must stop."""
        await self._has_failed.wait()
        assert self._failure is not None, "it was noted before"
        raise self._failure
