"""A disk that loses a bit: which one, how that comes to light, and whether it has been mended.

Struck is an event that every healthy neighbour holds, and one at a time in the whole world: what all have lost nobody
can give back. The bit is one whose loss a read notices (of others only `shoal verify` tells). From then on nobody may
be handed those bytes, and in the end they must be what they were.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from lamport.chain import MAX_SEALED_EVENTS
from lamport.codec import decode_stored
from lamport.errors import DamagedEvent, DamagedRange
from lamport.ids import NodeId, StreamId
from lamport.seams import Statement
from lamport.store import STREAM_BITS
from lamport.tags import ALL_EVENTS
from simulations.device import Device
from simulations.laws import Auditor
from simulations.trace import Kind

TRIES = 64
"""Bits of one event that are tried; most show."""


class Flip(NamedTuple):
    """A bit that was flipped: on which disk, in the row with which key, and what stands there now."""

    device: Device
    restores: int
    key: int
    data: bytes


@dataclass(slots=True)
class Flips:
    """The bits that were flipped in one run."""

    auditor: Auditor
    made: list[Flip] = field(default_factory=list)

    @property
    def outstanding(self) -> bool:
        """Whether one of them is not mended yet."""
        self.made = [flip for flip in self.made if _is_there(flip)]
        return bool(self.made)

    def strike(self, device: Device, holders: Sequence[Device], amount: float) -> bool:
        """Flip a bit of an event that all of the holders have, too; returns whether there was one to flip."""
        rows = device.platter.fetch(
            'SELECT e.key, e."offset", e.bytes, s.node, s.number FROM events e'
            " JOIN streams s ON s.row = e.stream ORDER BY e.key"
        )
        if not rows or not holders or device.platter.full or self.outstanding:
            return False
        key, offset, data, node, number = rows[int(amount * len(rows))]
        stream = StreamId(NodeId(node), number)
        altered = _altered(stream, offset, key, data, random.Random(f"{device.name} {key}"))  # noqa: S311 - repeatable on purpose
        if altered is None or not all(self.auditor.holds(one, stream, offset) for one in holders):
            return False
        change = Statement("UPDATE events SET bytes = ? WHERE key = ?", [(altered, key)])
        device.platter.transact([change])
        self.made.append(Flip(device, device.restores, key, altered))
        device.world.note(device.name, Kind.DISK, f"a bit of {stream} {offset} flipped")
        return True


async def read_everything(device: Device) -> None:
    """Read all that a device holds, as far as it can be read: as applications do, and as peers who ask for it.

    What was retracted no application reads any more, but it is served.
    """
    with suppress(DamagedRange):
        async for _ in device.node.query(ALL_EVENTS):
            pass
    for stream in device.node.offsets:
        with suppress(DamagedRange):
            await _read_as_a_peer(device, stream)


async def _read_as_a_peer(device: Device, stream: StreamId) -> None:
    log, first = device.node.log, 0
    while (sealed := await log.sealed_range(stream, first, MAX_SEALED_EVENTS)) is not None:
        first = sealed.seal.offset + 1


def _altered(
    stream: StreamId, offset: int, key: int, data: bytes, draw: random.Random
) -> bytes | None:
    """The bytes with one bit flipped, so that a read notices."""
    for _ in range(TRIES):
        altered = bytearray(data)
        altered[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            decode_stored(stream, offset, key >> STREAM_BITS, bytes(altered))
        except DamagedEvent:
            return bytes(altered)
    return None


def _is_there(flip: Flip) -> bool:
    if flip.device.restores != flip.restores:
        return False
    rows = flip.device.platter.fetch("SELECT bytes FROM events WHERE key = ?", (flip.key,))
    return rows == [(flip.data,)]
