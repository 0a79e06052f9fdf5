"""Laws 1 and 2 where streams are pruned: only by the policy of their author, and nobody beyond its horizon.

After every commit the disk is read, not the code that is judged. A stream that no route leads to is never pruned; the
author of one that a policy bounds keeps what the policy promises; any other node keeps all from the author's horizon
on.
"""

from dataclasses import dataclass, field

from lamport.ids import NodeId, StreamId
from simulations.device import Device
from simulations.errors import LawBroken


@dataclass(slots=True)
class HorizonWatch:
    """What authors announced so far, by stream."""

    highest: dict[StreamId, int] = field(default_factory=dict)
    named: dict[StreamId, str] = field(default_factory=dict)

    def look(self, device: Device) -> None:
        """Judge the horizons on a disk.

        Raises:
            LawBroken: something was pruned that no author gave up.
        """
        if not device.platter.fetch("SELECT 1 FROM sqlite_schema WHERE name = 'horizons'"):
            return  # the database is being made
        rows = device.platter.fetch(
            "SELECT s.row, s.node, s.number, s.head, s.horizon, h.horizon"
            " FROM streams s JOIN horizons h ON h.stream = s.row ORDER BY s.row"
        )
        for row, node, number, head, kept, announced in rows:
            stream = StreamId(NodeId(node), number)
            if stream.node == device.identity.node:
                self._look_at_own(device, stream, head, announced)
            self._look_at(device, stream, kept, announced)
            self._count(device, row, stream, head, kept)

    def _look_at_own(self, device: Device, stream: StreamId, head: int, horizon: int) -> None:
        """What the author announces, its policy must have demanded. A copy of its card may be behind itself."""
        if horizon <= self.highest.get(stream, 0):
            return
        for name, number in device.platter.fetch("SELECT name, number FROM named_streams"):
            self.named[StreamId(stream.node, number)] = name
        policies = {route.stream: route.policy for route in device.world.routes}
        policy = policies.get(self.named.get(stream, ""))
        if policy is None:
            raise LawBroken(f"law 1: {device.name} prunes {stream}, to which no route leads")
        if policy.max_events is not None and head + 1 - horizon < policy.max_events:
            raise LawBroken(
                f"law 1: {device.name} keeps {head + 1 - horizon} of {stream}, not {policy.max_events}"
            )
        self.highest[stream] = horizon

    def _look_at(self, device: Device, stream: StreamId, kept: int, announced: int) -> None:
        highest = self.highest.get(stream, 0)
        if max(kept, announced) > highest:
            raise LawBroken(
                f"law 2: {device.name} prunes {stream} up to {max(kept, announced)}, its author only up to {highest}"
            )

    @staticmethod
    def _count(device: Device, row: int, stream: StreamId, head: int, kept: int) -> None:
        [(count,)] = device.platter.fetch(
            'SELECT (SELECT count(*) FROM events WHERE stream = ?1 AND "offset" >= ?2)'
            ' + (SELECT ifnull(sum("offset" + count - max("offset", ?2)), 0) FROM blocks'
            ' WHERE stream = ?1 AND "offset" + count > ?2)',
            (row, kept),
        )
        if count != head + 1 - kept:
            raise LawBroken(
                f"law 2: {device.name} holds {count} events of {stream} from {kept} to {head}"
            )
