"""What the admin's machine needs of a running node in order to revoke or to rotate, and what it hands back.

The admin's keys never come here. A node says what a revocation of somebody would look like, or whom it knows as
members; the admin's machine signs (`shoal.membership_commands`), and the notice that comes back is taken in like one
that came over a link.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lamport.chain import Seal
from lamport.errors import InvalidInput
from lamport.ids import NodeId, StreamId
from lamport.revocation import Revocation, revocation_of
from shoal.node import Node


@dataclass(frozen=True, slots=True)
class Draft:
    """A revocation that nobody has signed yet, and how many events that this node holds would not count any more."""

    revocation: Revocation
    withdrawn: Mapping[StreamId, int]


async def draft_revocation(
    node: Node, revoked: NodeId, cuts: Mapping[StreamId, int] | None
) -> Draft:
    """What a revocation would look like that lets these streams count up to these offsets, and no others.

    A cut is a seal: one is placed at the last seal at or before the offset. Without `cuts` all counts that this node
    holds now.

    Raises:
        InvalidInput: a stream is not that node's, or not held here as far.
    """
    if revoked == node.id:
        raise InvalidInput("this is the node that is asked: revoke it from another one")
    held = {part: last for part, last in node.offsets.items() if part.node == revoked}
    if cuts is None:
        # What lies before a fork counts with the branches behind it.
        closed = node.log.store.branches.closed
        cuts = {part: last for part, last in held.items() if part not in closed}
    seals = [await _cut_at(node, part, last) for part, last in cuts.items()]
    found = [seal for seal in seals if seal is not None]
    kept = {seal.stream: seal.offset for seal in found}
    withdrawn = {part: last - kept.get(part, -1) for part, last in sorted(held.items())}
    return Draft(revocation_of(revoked, found), {p: n for p, n in withdrawn.items() if n > 0})


async def _cut_at(node: Node, part: StreamId, offset: int) -> Seal | None:
    last = node.offsets.of(part)
    if offset > last:
        raise InvalidInput(f"stream {part.address} is held here up to {last}, not {offset}")
    return await node.log.withdrawals.seal_up_to(part, offset)


@dataclass(frozen=True, slots=True)
class Members:
    """Whom a node knows as members, and the epoch that it is in."""

    epoch: int
    nodes: tuple[NodeId, ...]


def known_members(node: Node) -> Members:
    """All nodes that wrote something, were linked with, or were renewed before, without those that were revoked."""
    known = {node.id, *map(NodeId, node.log.store.authors), *node.peers.members.met}
    known |= {*node.peers.members.credentials.members}
    revoked = node.log.store.cuts.revoked
    nodes = tuple(one for one in sorted(known) if one not in revoked)
    return Members(node.peers.members.credentials.newest.epoch, nodes)
