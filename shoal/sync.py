"""Whether this node holds all that is known to exist elsewhere, told apart from what nobody can know.

A node knows what its peers have told. While a peer is linked that is current; of one that is away it is what was told
before, and what it wrote since is unknown. `in_sync` is about the peers that are linked: they have told all, and
nothing of it is lacking here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lamport.ids import NodeId
from transport.progress import Knowledge
from transport.standing import PeerStatus


@dataclass(frozen=True, slots=True)
class Sync:
    """How a node stands towards its peers."""

    level: tuple[NodeId, ...]
    """Linked peers that have told all, and hold nothing that is lacking here."""
    behind: tuple[NodeId, ...]
    """Linked peers that hold more than this node, or are still telling."""
    away: tuple[NodeId, ...]
    """Peers that are not linked now: what they wrote since is unknown."""
    missing: int
    """Events known to exist elsewhere, at whichever peer holds most, that are lacking here."""

    def is_reached(self, minimum_peers: int) -> bool:
        """Whether this node is in sync with all that are linked, and these are enough."""
        return not self.behind and len(self.level) >= minimum_peers

    @property
    def text(self) -> str:
        """For people."""
        names = ", ".join(node.short for node in self.behind) or "nobody"
        return (
            f"in sync with {len(self.level)} linked peers, behind {names};"
            f" {self.missing} events known to exist elsewhere are missing;"
            f" of {len(self.away)} peers that are away it is unknown what they wrote since"
        )


def sync_of(peers: Sequence[PeerStatus], missing: int) -> Sync:
    """How a node stands towards these peers, of whose events it lacks so many."""
    linked = [peer for peer in peers if peer.connected]
    level = [peer for peer in linked if peer.knowledge is Knowledge.CURRENT and not peer.lacking]
    return Sync(
        level=tuple(peer.node for peer in level),
        behind=tuple(peer.node for peer in linked if peer not in level),
        away=tuple(peer.node for peer in peers if not peer.connected),
        missing=missing,
    )
