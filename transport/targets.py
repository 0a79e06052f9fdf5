"""Addresses to dial: those that were configured, and a bounded number of those that were announced or told by peers."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lamport.ids import NodeId
from transport.exchange import MAX_EXCHANGED
from transport.network import Address, Candidate

MAX_CANDIDATES = 256
"""Addresses that are dialled because somebody announced them; configured ones are not counted."""


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


class Targets:
    """All addresses to dial of one node."""

    def __init__(self, configured: Iterable[Address]) -> None:
        self._by_address = {address: Target(address, configured=True) for address in configured}
        self._known: int | None = None

    def __iter__(self) -> Iterator[Target]:
        return iter(self._by_address.values())

    def __len__(self) -> int:
        return len(self._by_address)

    def add(self, candidate: Candidate, *, exchanged: bool) -> list[Target]:
        """Take in a hint; returns what it adds."""
        new: list[Target] = []
        for address in candidate.addresses:
            if address not in self._by_address and self._has_room(exchanged=exchanged):
                target = Target(address, configured=False, exchanged=exchanged, node=candidate.node)
                self._by_address[address] = target
                new.append(target)
        self.recount()
        return new

    def _has_room(self, *, exchanged: bool) -> bool:
        if exchanged and sum(one.exchanged for one in self) >= MAX_EXCHANGED:
            return False
        return sum(not one.configured for one in self) < MAX_CANDIDATES

    def forget(self, target: Target) -> None:
        """Dial one no more that was announced."""
        del self._by_address[target.address]
        self.recount()

    def recount(self) -> None:
        """Who is known has changed."""
        self._known = None

    def known(self, linked: Iterable[NodeId]) -> int:
        """How many other nodes were heard of; those behind addresses that were never reached count, too.

        Counted when somebody asks after a change, and not by each of hundreds of diallers.
        """
        if self._known is None:
            self._known = len({one.node or one.address for one in self} | set(linked))
        return self._known

    def unreached(self) -> Mapping[str, str]:
        """Configured addresses where nobody was found yet, and why the last attempt failed.

        One that was announced says whom to find there; if nobody answers, that is told of the node.
        """
        return MappingProxyType({str(t.address): t.error for t in self if t.node is None})

    def reached(self, linked: Collection[NodeId]) -> dict[NodeId, Address]:
        """Those of the linked nodes that stand behind an address here, each with it."""
        return {t.node: t.address for t in self if t.node is not None and t.node in linked}

    def reserve(self, out: Collection[NodeId | None]) -> dict[NodeId, Target]:
        """The nodes that could be linked with, but for these, each with an address."""
        return {t.node: t for t in self if t.node is not None and t.node not in out}
