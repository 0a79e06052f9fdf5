"""What happened in a run, in order: a digest that two runs of one seed must share, and notes for pictures.

The digest covers every byte delivered, every transaction committed and every state shown. Notes are what a picture or a
text is made of; a run keeps them only where somebody wants to look at it, because the same seed can be run again.
"""

import hashlib
from enum import StrEnum
from typing import NamedTuple

MAX_NOTES = 200_000
"""Notes kept of one run; later ones only enter the digest."""


class Kind(StrEnum):
    """What can happen. Which fields of a `Note` each uses is said beside it."""

    START = "start"
    """A node runs on the device; text: which start this is, counted from 1."""
    STOP = "stop"
    """The node was stopped in order."""
    CRASH = "crash"
    """The node's process ended in the middle of everything; its disk knows what it was told."""
    POWER_CUT = "power cut"
    """The device lost its power; what was not synced may be lost."""
    DISK = "disk"
    """Something was done to the disk: text `full`, `freed`, `restored from a backup`."""
    CLOCK = "clock"
    """The wall clock was put; text: by how much."""
    LINK = "link"
    """The link from `node` to `peer` changed; text `cut`, `stalled`, `slow` or `open`."""
    MESSAGE = "message"
    """Bytes from `peer`, sent at `since`, came to `node`; text: what they are."""
    LOST = "lost"
    """Bytes that `peer` sent at `since` did not come to `node` (they may be sent again); text: what they are."""
    EVENT = "event"
    """An event is on the disk of `node`, which is its author; text `lamport/author:offset`."""
    RECEIVED = "received"
    """An event by `peer` is on the disk of `node`; text as for an event."""
    COMMIT = "commit"
    """A transaction was committed."""
    STATE = "state"
    """`node` shows a new state; text: the fish's name, a blank, the first 8 digits of the state's digest."""
    OPERATION = "operation"
    """Something that the run's plan or its story does now; text: what."""
    FAILURE = "failure"
    """What the run failed with."""


class Note(NamedTuple):
    """One thing that happened: when (virtual seconds), at which device, of which kind, and what.

    `peer` is the other device where there is one, `since` when it began where it took time.
    """

    at: float
    node: str
    kind: Kind
    text: str = ""
    peer: str = ""
    since: float = 0.0


class Trace:
    """Collects what happens."""

    def __init__(self, *, keeps: bool = False) -> None:
        """`keeps` says whether notes are kept, besides the digest."""
        self.keeps = keeps
        self.notes: list[Note] = []
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The digest of everything so far, hexadecimal."""
        return self._digest.hexdigest()

    def note(self, note: Note, data: bytes = b"") -> None:
        """Something happened; `data` is what it moved, for the digest."""
        at, node, kind, text, peer, _ = note
        said = "" if kind is Kind.MESSAGE else text  # what a message says is in its bytes
        self._digest.update(f"{at!r}|{node}|{kind}|{said}|{peer}|{len(data)}|".encode() + data)
        self.show(note)

    def cover(self, text: str) -> None:
        """Something happened that no picture needs, but that two runs of one seed must share."""
        self._digest.update(text.encode())

    def show(self, note: Note) -> None:
        """Keep a note for pictures that says nothing which the digest does not cover already."""
        if self.keeps and len(self.notes) < MAX_NOTES:
            self.notes.append(note)
