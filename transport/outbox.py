"""What waits in a session to be sent, and what went over its link so far."""

from collections import deque
from dataclasses import dataclass, field

from lamport.ids import StreamId
from transport.messages import Events, Fresh, Message, Want

MAX_CONTROL = 64
"""Answers that may wait for a peer which asks faster than it listens."""

MAX_PUSHED_BYTES = 1024 * 1024
"""Bytes of pushed events that may wait for a slow peer; beyond that they are dropped, and it pulls."""


@dataclass(slots=True)
class Traffic:
    """What went over a link so far."""

    bytes_in: int = 0
    bytes_out: int = 0
    events_in: int = 0
    events_out: int = 0


@dataclass(slots=True)
class Outbox:
    """What waits to be sent, most urgent first."""

    control: deque[Message] = field(default_factory=deque)
    pushed: deque[Events | Fresh] = field(default_factory=deque)
    pushed_bytes: int = 0
    heads: dict[StreamId, None] = field(default_factory=dict)
    heads_due: float | None = None
    """When the heads are to go out; None: now."""
    greeting: bool = False
    """Whether not all heads of the beginning have been told; they wait for the peer's greeting."""
    serving: dict[StreamId, Want] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """How many messages, streams to be told of and ranges wait."""
        return len(self.control) + len(self.pushed) + len(self.heads) + len(self.serving)
