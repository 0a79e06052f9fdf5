"""What has arrived for a running fish since it last looked: events, and the keys of what is hidden now.

The feed adds, the fish's task takes all of it as one piece. There is a bound on the events: behind it they are thrown
away, and whoever takes the news reads them from the log.
"""

from dataclasses import dataclass, field

from lamport.event import Event
from lamport.ids import EventKey
from lamport.offsets import OffsetMap


@dataclass(slots=True)
class News:
    """What arrived. `is_complete` is False where there were more events than the bound.

    `retracted` are the keys of matching events that were handed over before and are hidden now; the log bounds them.
    With `renamed` a fork was proven: keys and offsets known before may have other names by now.
    """

    events: list[Event] = field(default_factory=list)
    offsets: OffsetMap = field(default_factory=OffsetMap)
    is_complete: bool = True
    retracted: list[EventKey] = field(default_factory=list)
    renamed: bool = False

    def add(self, events: list[Event], offsets: OffsetMap, limit: int) -> None:
        """These came, too, and with them the log holds this; no more than `limit` events are kept."""
        self.offsets = self.offsets.raised(offsets)
        if self.is_complete:
            self.events += events
            self.is_complete = len(self.events) <= limit
        if not self.is_complete:
            self.events = []

    def withdraw(self, retracted: list[EventKey]) -> None:
        """Leave out events that are hidden from now on, which may have been folded before."""
        hidden = frozenset(retracted)
        self.events = [one for one in self.events if one.key not in hidden]
        self.retracted += retracted
