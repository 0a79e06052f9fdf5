"""A disk that loses a bit: which one, how that comes to light, and whether it has been mended.

Struck is an event, or a block of events, that every healthy neighbour holds, and one at a time in the whole world: what
all have lost nobody can give back. The bit is one whose loss a read notices (of others only `shoal verify` tells). From
then on nobody may be handed those bytes, and in the end they must be what they were.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from lamport.chain import MAX_SEALED_EVENTS
from lamport.dictionaries import SELECT, Dictionaries
from lamport.errors import DamagedRange
from lamport.event_table import checked_block
from lamport.ids import NodeId, StreamId
from lamport.row_keys import MAX_STREAMS
from lamport.seams import Statement
from lamport.tags import ALL_EVENTS
from simulations.device import Device
from simulations.laws import Auditor
from simulations.trace import Kind

TRIES = 64
"""Bits of one event or block that are tried; most show."""


class Flip(NamedTuple):
    """A bit that was flipped: on which disk, in what with which key, and what stands there now.

    `place` is that of the event, or of the first one in a block, with the chain's hash there.
    """

    device: Device
    restores: int
    kind: str
    key: int
    data: bytes
    place: tuple[StreamId, int, bytes | None]


class _Stored(NamedTuple):
    """What may be struck: an event in a row of its own, or a block of several; `last` is the last offset in it."""

    kind: str
    key: int
    place: tuple[int, int, int]
    data: bytes
    node: bytes
    number: int

    @property
    def stream(self) -> StreamId:
        return StreamId(NodeId(self.node), self.number)

    @property
    def row(self) -> int:
        """Its row of the table of streams."""
        return self.key % MAX_STREAMS

    @property
    def first(self) -> int:
        """The first offset in it."""
        return self.place[1]

    @property
    def last(self) -> int:
        _, offset, count = self.place
        return offset + count - 1

    def is_noticed(self, altered: bytes, dictionaries: Dictionaries) -> bool:
        """Whether a read notices that these bytes stand there instead: of a block, some bits mean nothing."""
        last, offset, count = self.place
        if self.kind == _ROW:
            return True
        try:
            checked_block(self.key, last, offset, count, altered, dictionaries)
        except ValueError:
            return True
        return False


_ROW, _BLOCK = "event", "block"
_READ = {
    _ROW: "SELECT bytes FROM events WHERE key = ?",
    _BLOCK: "SELECT data FROM blocks WHERE key = ?",
}
_WRITE = {
    _ROW: "UPDATE events SET bytes = ? WHERE key = ?",
    _BLOCK: "UPDATE blocks SET data = ? WHERE key = ?",
}
_ALL = """
SELECT 'event', e.key, e.key, e."offset", 1, e.bytes, s.node, s.number FROM events e JOIN streams s ON s.row = e.stream
UNION ALL
SELECT 'block', b.key, b.last, b."offset", b.count, b.data, s.node, s.number FROM blocks b JOIN streams s
  ON s.row = b.stream
ORDER BY 2
"""


@dataclass(slots=True)
class Flips:
    """The bits that were flipped in one run."""

    auditor: Auditor
    made: list[Flip] = field(default_factory=list)

    @property
    def outstanding(self) -> bool:
        """Whether one of them is still to be mended.

        To a device that was revoked nobody gives anything back, nor to others what does not count any more.
        """
        self.made = [flip for flip in self.made if _is_there(flip)]
        members, admin = self.auditor.world.members, self.auditor.world.membership
        return any(
            flip.device in members and not admin.withdraws(flip.device, *flip.place)
            for flip in self.made
        )

    def hurt(self, device: Device) -> bool:
        """Whether a device cannot read all that it holds."""
        return any(flip.device is device and _is_there(flip) for flip in self.made)

    def strike(self, device: Device, holders: Sequence[Device], amount: float) -> bool:
        """Flip a bit of something that all of the holders have, too; returns whether there was one to flip."""
        stored = [
            _Stored(kind, key, (last, offset, count), *rest)
            for kind, key, last, offset, count, *rest in device.platter.fetch(_ALL)
        ]
        if not stored or not holders or device.platter.full or self.outstanding:
            return False
        struck = stored[int(amount * len(stored))]
        draw = random.Random(f"{device.name} {struck.key}")  # noqa: S311 - repeatable on purpose
        altered = _altered(struck, Dictionaries(device.platter.fetch(SELECT)), draw)
        if altered is None or not all(
            self.auditor.holds(one, struck.stream, struck.last) for one in holders
        ):
            return False
        stream, first = struck.stream, struck.first
        place = stream, first, self.auditor.hash_in(device, stream, struck.row, first)
        if self.auditor.world.membership.withdraws(device, *place):
            return False  # nobody gives it back, and a block of it is let go
        device.platter.transact([Statement(_WRITE[struck.kind], [(altered, struck.key)])])
        self.made.append(Flip(device, device.restores, struck.kind, struck.key, altered, place))
        said = f"a bit of {struck.stream} {struck.place[1]} flipped"
        device.world.note(device.name, Kind.DISK, said)
        return True


async def read_everything(device: Device) -> None:
    """Read all that a device holds, as far as it can be read: as applications do, and as peers who ask for it.

    What was retracted no application reads any more, but it is served.
    """
    device.node.log.store.events.forget()  # else what was read before the damage is read again
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


def _altered(struck: _Stored, dictionaries: Dictionaries, draw: random.Random) -> bytes | None:
    """The bytes with one bit flipped, so that a read notices."""
    for _ in range(TRIES):
        altered = bytearray(struck.data)
        altered[draw.randrange(len(altered))] ^= 1 << draw.randrange(8)
        if struck.is_noticed(bytes(altered), dictionaries):
            return bytes(altered)
    return None


def _is_there(flip: Flip) -> bool:
    if flip.device.restores != flip.restores:
        return False
    rows = flip.device.platter.fetch(_READ[flip.kind], (flip.key,))
    return rows == [(flip.data,)]
