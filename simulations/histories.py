"""What counts of a revoked device's streams where its card was copied, found on the disk beside the log (law 13).

A cut is a seal, and so it names one history of a stream. What a disk holds of a stream are histories, each from the
first offset on: one for each row of the database. Those that bear a cut count up to it. As long as none does, those
that are shorter may be the one, and count; of one that reaches as far, and so is another, the node counts what it has a
seal for: here that may or may not be so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from lamport.chain import Seal
from lamport.ids import StreamId
from lamport.revocation import Revocation
from simulations.device import Device

Histories = Mapping[int, Sequence[bytes]]
"""The histories of a stream on a disk, by row: the chain's hashes from offset 0 on."""


class Counted(Enum):
    """Whether an event counts."""

    YES = "yes"
    NO = "no"
    OPEN = "open"
    """It stands in another history than that of the cut, which is not held here."""


@dataclass(slots=True)
class Judge:
    """Says what counts. `histories_of` gives what a disk holds of a stream."""

    histories_of: Callable[[Device, StreamId], Histories] = field(
        default=lambda _device, _stream: {}
    )

    def look(
        self,
        device: Device,
        stream: StreamId,
        offset: int,
        hash_: bytes | None,
        revocations: Iterable[Revocation],
    ) -> Counted:
        """Whether an event counts on a device: the one with this hash, or the one that stands in this branch."""
        histories = self.histories_of(device, stream.base)
        hash_ = _hash_of(histories, stream, offset) if hash_ is None else hash_
        if hash_ is None:
            return Counted.OPEN  # it is on its way to the disk
        verdicts = [_verdict(one.of(stream), histories, offset, hash_) for one in revocations]
        return next((one for one in (Counted.NO, Counted.OPEN) if one in verdicts), Counted.YES)


def _hash_of(histories: Histories, stream: StreamId, offset: int) -> bytes | None:
    """The hash behind an event of a branch."""
    for _, hashes in sorted(histories.items()):
        is_of_it = not stream.branch or stream.branch in hashes
        if is_of_it and offset < len(hashes):
            return hashes[offset]
    return None


def _verdict(cuts: Sequence[Seal], histories: Histories, offset: int, hash_: bytes) -> Counted:
    found = [_by_cut(cut, histories, offset, hash_) for cut in cuts]
    return next((one for one in (Counted.YES, Counted.OPEN) if one in found), Counted.NO)


def _by_cut(cut: Seal, histories: Histories, offset: int, hash_: bytes) -> Counted:
    if offset > cut.offset:
        return Counted.NO
    bearing = [one for one in histories.values() if one[cut.offset : cut.offset + 1] == [cut.hash]]
    if bearing:
        counts = any(one[offset] == hash_ for one in bearing)
        return Counted.YES if counts else Counted.NO
    held = [one for one in histories.values() if offset < len(one) and one[offset] == hash_]
    if any(len(one) <= cut.offset for one in held):
        return Counted.YES
    return Counted.OPEN if offset < cut.offset else Counted.NO
