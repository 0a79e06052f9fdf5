"""Addresses to dial."""

from dataclasses import dataclass

from lamport.ids import NodeId
from transport.network import Address


@dataclass(slots=True)
class Target:
    """An address to dial, and who was found there."""

    address: Address
    configured: bool
    exchanged: bool = False
    """Whether a peer told it."""
    tried: bool = False
    """Whether it was reached, or an attempt failed, since the node was started."""
    node: NodeId | None = None
    error: str = ""
    failures: int = 0
    explored: bool = False
    """Whether it is to be dialled although there are links enough."""
