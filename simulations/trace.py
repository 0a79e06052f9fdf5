"""What happened in a run, in order: a digest that two runs of one seed must share, and the story for people.

The digest covers every byte delivered, every transaction committed and every state shown. The story keeps what a
picture or a text needs; it is bounded, the digest is not.
"""

import hashlib
from dataclasses import dataclass

MAX_NOTES = 200_000
"""Notes kept of one run; later ones only enter the digest."""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened: when (virtual seconds), at which node, of which kind, and what."""

    at: float
    node: str
    kind: str
    text: str


class Trace:
    """Collects what happens."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The digest of everything so far, hexadecimal."""
        return self._digest.hexdigest()

    def note(self, at: float, node: str, kind: str, text: str, data: bytes = b"") -> None:
        """Something happened; `data` is what it moved, for the digest."""
        head = f"{at!r}|{node}|{kind}|{text}|{len(data)}|"
        self._digest.update(head.encode() + data)
        if len(self.notes) < MAX_NOTES:
            self.notes.append(Note(at, node, kind, text))
