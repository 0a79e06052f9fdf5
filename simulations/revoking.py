"""The admin at work in a simulation, and what is left of revoked nodes, worked out beside the log (law 13).

The admin signs a revocation beside one device, with what that device holds in view, and goes on telling it until it is
taken in; so is a rotation. From then on the revoked device is no part of the swarm any more: others need not agree with
it, and it need not agree with anybody.

What counts on a device follows from the notices on its disk: an event of a revoked node does if every revocation there
has a cut of its stream at or behind it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from lamport.event import Event
from lamport.ids import NodeId, StreamId
from lamport.leaps import encode_release
from lamport.notices import Notice, NoticeKind, signed_bytes
from lamport.revocation import Revocation
from shoal.membership import draft_revocation
from simulations.device import Device
from simulations.errors import LawBroken
from simulations.histories import Counted, Judge
from transport.epochs import authority_of, make_epoch
from transport.identity import AdminKey, SwarmKey, rotate

NOTHING, LESS = 0.15, 0.5
"""How often a drawn revocation lets nothing count, and how often less than the device beside the admin holds."""


@dataclass(slots=True)
class Admin:
    """The admin of a world, and all that was signed in it."""

    key: AdminKey
    swarm_key: SwarmKey
    swarm: bytes
    signed: dict[bytes, Notice] = field(default_factory=dict)
    revocations: dict[bytes, Revocation] = field(default_factory=dict)
    """By the name of the notice."""
    copied: dict[NodeId, None] = field(default_factory=dict)
    """The nodes of which there are two devices."""
    judge: Judge = field(default_factory=Judge)

    @property
    def revoked(self) -> frozenset[NodeId]:
        """The nodes that were put out."""
        return frozenset(one.node for one in self.revocations.values())

    async def revoke(self, beside: Device, target: Device, amount: float = 1.0) -> Notice:
        """Sign a revocation beside a device: of all that it holds, or (`amount` below 1) of less, or of nothing."""
        held = {s: n for s, n in beside.node.offsets.items() if s.node == target.identity.node}
        cuts = None
        if amount < NOTHING:
            cuts = {}
        elif amount < LESS:
            cuts = {stream: int(last * amount / LESS) for stream, last in held.items()}
        draft = await draft_revocation(beside.node, target.identity.node, cuts)
        notice = self._sign(NoticeKind.REVOCATION, draft.revocation.encode())
        self.revocations[notice.id] = draft.revocation
        return notice

    def rotate(self, members: Sequence[Device], draw: random.Random) -> Notice:
        """Sign the next epoch for these devices."""
        before, self.swarm_key = self.swarm_key, rotate(self.swarm_key, draw)
        nodes = [device.identity.node for device in members]
        epoch = make_epoch(self.swarm_key, [authority_of(before)], nodes, draw)
        return self._sign(NoticeKind.EPOCH, epoch.encode())

    def release(self, lamport: int) -> Notice:
        """Sign that timestamps up to this one are right."""
        return self._sign(NoticeKind.RELEASE, encode_release(lamport))

    async def tell(self, device: Device) -> None:
        """Tell a device all that was signed: it may have been told before, or by others."""
        for notice in tuple(self.signed.values()):
            await device.node.learn(notice)

    def _sign(self, kind: NoticeKind, body: bytes) -> Notice:
        notice = Notice(kind, body, self.key.sign(signed_bytes(self.swarm, kind, body)))
        self.signed[notice.id] = notice
        return notice

    def withdraws(
        self, device: Device, stream: StreamId, offset: int, hash_: bytes | None = None
    ) -> bool:
        """Whether what stands at a place (with this hash) does not count on a device, by what is on its disk."""
        return self.counted(device, stream, offset, hash_) is Counted.NO

    def counted(
        self, device: Device, stream: StreamId, offset: int, hash_: bytes | None = None
    ) -> Counted:
        """Whether it counts, if that can be told."""
        if not any(one.node == stream.node for one in self.revocations.values()):
            return Counted.YES
        known = [bytes(id_) for (id_,) in device.platter.fetch("SELECT id FROM notices")]
        found = [self.revocations[one] for one in known if one in self.revocations]
        found = [one for one in found if one.node == stream.node]
        if any(offset > _left(one, stream) for one in found):
            return Counted.NO
        if stream.node not in self.copied or not found:
            return Counted.YES
        return self.judge.look(device, stream, offset, hash_, found)


def _left(revocation: Revocation, stream: StreamId) -> int:
    """The last offset of a stream that a revocation lets count, -1 for nothing."""
    cuts = [cut.offset for cut in revocation.cuts if cut.stream == stream.base]
    return max(cuts, default=-1)


async def check_revoked(admin: Admin, device: Device, shown: Sequence[Event]) -> None:
    """Law 13: nothing by a revoked node beyond its cuts counts on a device, nor is told of, served, or handed out.

    Raises:
        LawBroken: something is.
    """
    for event in shown:
        if admin.withdraws(device, event.stream, event.offset):
            raise LawBroken(f"law 13: {device.name} shows {event.key}, beyond the cut")
    for stream, last in device.node.offsets.items():
        if admin.withdraws(device, stream, last):
            raise LawBroken(f"law 13: {device.name} counts {stream.address} up to {last}")
        served = await device.node.log.served_range(stream, last, 1_000)
        end = None if served is None else served.seal
        if end is not None and admin.withdraws(device, stream, end.offset, end.hash):
            raise LawBroken(f"law 13: {device.name} serves {stream.address} beyond the cut")
    for node in sorted(device.node.peers.linked & admin.revoked):
        raise LawBroken(f"law 13: {device.name} is linked with {node.short}, who was revoked")


def check_epoch(admin: Admin, device: Device) -> None:
    """Whoever was renewed has the newest keys, once the world is at rest.

    Raises:
        LawBroken: a device was left behind.
    """
    epoch = device.node.status().epoch
    if epoch != admin.swarm_key.epoch:
        raise LawBroken(f"law 13: {device.name} is in epoch {epoch}, not {admin.swarm_key.epoch}")
