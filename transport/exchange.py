"""Addresses that peers tell each other: so that a swarm finds itself where multicast does not reach.

A node tells its peers under which addresses it may be dialled, and those under which it reached others itself. Where it
listens at every address it does not know which of them leads to it: it then tells its port, and the peer adds the host
that it sees. An address is a hint like any other: only the handshake proves who answers there. Loopback addresses are
told on the loopback only, for elsewhere they lead to somebody else. Everything is bounded, since any member can make up
addresses: so many in a message, and so many of all that are told become addresses to dial.
"""

import ipaddress
from collections.abc import Iterable

from lamport.ids import NodeId
from transport.network import Address, Candidate

MAX_TOLD = 64
"""Nodes in one message; the rest is met through those."""

MAX_OWN = 8
"""Addresses of one node."""

MAX_EXCHANGED = 128
"""Addresses that are dialled because a peer told them: half of all, so that mDNS has the other half."""

TOLD_AGAIN_S = 30.0
"""How often at most a peer is told what is new."""

HERE = ""
"""Stands for the host that the peer sees."""


def own(node: NodeId, announced: tuple[Address, ...], listening: Address) -> Candidate:
    """What a node tells of itself: what it was told to announce, or where it listens."""
    if announced:
        return Candidate(node, announced[:MAX_OWN])
    host = HERE if _is_everywhere(listening.host) else listening.host
    return Candidate(node, (Address(host, listening.port),))


def tellable(candidates: Iterable[Candidate], seen: Address) -> tuple[Candidate, ...]:
    """Of some candidates those that are of use to a peer that is seen at an address."""
    near = _is_loopback(seen.host)
    told = (
        Candidate(one.node, tuple(a for a in one.addresses if near or not _is_loopback(a.host)))
        for one in candidates
    )
    return tuple(one for one in told if one.addresses)[:MAX_TOLD]


def heard(candidates: Iterable[Candidate], peer: NodeId, seen: Address) -> list[Candidate]:
    """What a peer told, as addresses to dial: with the host at which it is seen, where it named none of itself."""
    near = _is_loopback(seen.host)
    found = []
    for one in candidates:
        placed = [_placed(address, one.node == peer, seen) for address in one.addresses]
        usable = tuple(a for a in placed if a is not None and (near or not _is_loopback(a.host)))
        if usable:
            found.append(Candidate(one.node, usable))
    return found


def _placed(address: Address, is_own: bool, seen: Address) -> Address | None:  # noqa: FBT001 - whose it is
    if address.host != HERE:
        return None if _is_everywhere(address.host) else address
    return Address(seen.host, address.port) if is_own else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
