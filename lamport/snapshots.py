"""A fish's state as the log keeps it across restarts: opaque bytes at an event key."""

from dataclasses import dataclass

from lamport.ids import EventKey
from lamport.offsets import OffsetMap


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """The encoded state of one fish right after the event at `key`.

    `definition` is a digest of the fish's selection and code, `offsets` is what the state covers, `horizon` the key of
    the newest reset in it, `count` how many events were folded.
    """

    fish: str
    version: int
    definition: str
    key: EventKey
    offsets: OffsetMap
    horizon: EventKey | None
    count: int
    state: bytes
