"""What can go wrong in the log, and whose fault it is.

One root, `LogError`. Below it three kinds: the caller handed in something that breaks a rule
(`InvalidInput`), what came from elsewhere does not hold together (`CorruptRange`), or the disk does
not do its duty (`StoreError`). A broken invariant of our own is an assertion, never one of these.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the names of events are checked with these errors
    from lamport.ids import EventKey
    from lamport.offsets import OffsetRange


DAMAGE_REMEDY = "peers are asked for it; `shoal verify --heal` mends what none of them has"
"""What is said of every damage."""


class LogError(Exception):
    """Root of all errors of the log."""


class InvalidInput(LogError):
    """The caller's input breaks a rule; the text names the rule. Nothing was stored."""


class LimitExceeded(InvalidInput):
    """A payload, a tag or an event is beyond a limit; the text names the limit. Nothing was stored."""


class InvalidQuery(InvalidInput):
    """A query does not parse; the text shows where."""


class VoidRetraction(InvalidInput):
    """A retraction that hides nothing; the text says why. Asked for here, it was not published."""


class CorruptRange(LogError):
    """A range of events does not follow from what is known: chain, seal, certificate or limits. Refused whole."""


class UnknownAuthor(CorruptRange):
    """A range came without the certificate of an author who is not known here yet. Ask again, for both."""


class OutdatedPlan(LogError):
    """What a commit was to do was worked out against a log that has gone on since: work it out again."""


class QuarantinedRange(LogError):
    """A range holds, but taking it in could hurt everybody: its timestamps leap, or its author has too many streams.

    Where they leap, `lamport` is the last of them.
    """

    def __init__(self, text: str, lamport: int | None = None) -> None:
        super().__init__(text)
        self.lamport = lamport


class NodeRevoked(LogError):
    """This very node was revoked by the admin: what it would write counts nowhere, and was not stored."""


class CorruptArchive(LogError):
    """An archive does not hold, or the log cannot take it in. `position` is the first byte of the first bad record."""

    def __init__(self, position: int, fault: str) -> None:
        super().__init__(f"the archive is refused at byte {position}: {fault}; nothing was stored")
        self.position = position


class UpcastFailed(LogError):
    """An event of an older version cannot be brought to today's; the text names it, the upcaster, and what to do."""

    def __init__(self, key: "EventKey", fault: str) -> None:
        super().__init__(f"event {key} cannot be read as today's version: {fault}")
        self.key = key


class Overloaded(LogError):
    """As much as may wait is waiting already, and the caller asked not to wait. Nothing was stored; try again soon."""


class DamagedRange(LogError):
    """Stored bytes are not those that were written: the disk altered them. Not served as truth; the rest is.

    `damage` is the part of a stream that is not sound, somewhere within.
    """

    def __init__(self, fault: str, damage: "OffsetRange") -> None:
        super().__init__(fault)
        self.damage = damage


class DamagedEvent(DamagedRange):
    """One stored event is none any more; `key` is where it stands in the order."""

    def __init__(self, key: "EventKey", damage: "OffsetRange", fault: str) -> None:
        super().__init__(fault, damage)
        self.key = key


class DamagedIndex(LogError):
    """The disk altered the tag index, or to which stream something belongs: nobody is told less than there is."""


class DivergedStream(CorruptRange):
    """A validly sealed range contradicts the prefix held here: two histories of one stream."""


class StoreError(LogError):
    """The store cannot go on as asked."""


class StoreRefused(StoreError):
    """The store cannot take this in now, and may be able to later. Nothing was stored; reads go on."""


class StoreBusy(StoreRefused):
    """Somebody else holds the database's lock for too long; close what else has it open."""


class StoreFull(StoreRefused):
    """The disk is full. The append was refused; reads go on, and appends do once there is room."""


class StoreFailed(StoreError):
    """The disk failed (input/output or sync error). Nothing may be acknowledged past this."""


class StoreMismatch(StoreError):
    """The database belongs to another version or another swarm. It was left untouched."""


class LogClosed(LogError):
    """The log has been closed; the append was not made."""
