"""What peers have told of themselves, kept from one session to the next, bounded.

A clock is only what the peer itself said or confirmed, never what this node sent and hopes has come. It is bound to the
peer's token: a peer whose database is another one than before (started anew, restored, wiped) comes with another token,
and its clock is thrown away.
"""

from dataclasses import dataclass, field

from lamport.ids import NodeId, StreamId

MAX_CLOCKS = 256
"""Peers whose clocks are kept; those met longest ago go first."""


@dataclass(slots=True)
class PeerClock:
    """One peer's."""

    token: bytes = b""
    sequence: int = 0
    """Up to which number of the peer's journal all was told, and taken in here."""
    said: dict[StreamId, int] = field(default_factory=dict)
    """How far the peer holds each stream."""
    told_at: float | None = None
    """When, on the node's steady clock, it last told or confirmed something."""

    def bind(self, token: bytes) -> bool:
        """The peer shows its token; returns whether what is known of it still holds."""
        if token and token == self.token:
            return True
        self.token, self.sequence = token, 0
        self.said.clear()
        return False


class Clocks:
    """The clocks of one node's peers."""

    def __init__(self) -> None:
        self._clocks: dict[NodeId, PeerClock] = {}

    def of(self, node: NodeId) -> PeerClock:
        """A peer's clock; an empty one where nothing is known."""
        clock = self._clocks.pop(node, None) or PeerClock()
        if len(self._clocks) >= MAX_CLOCKS:
            del self._clocks[next(iter(self._clocks))]
        self._clocks[node] = clock
        return clock

    def known(self, node: NodeId) -> PeerClock | None:
        """A peer's clock, where one is kept."""
        return self._clocks.get(node)
