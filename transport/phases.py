"""How far a session has come, and what a peer may say then: the table that the session goes by."""

from collections.abc import Mapping
from enum import Enum

from lamport.chain import SealedRange
from lamport.forks import ForkProof
from transport.messages import (
    Addresses,
    Declined,
    Disclose,
    Eager,
    Events,
    Fork,
    Fresh,
    Goodbye,
    Greeting,
    Heads,
    Mark,
    Message,
    News,
    Ping,
    Pong,
    Root,
    Want,
)

Taken = SealedRange | ForkProof | None
"""What a message brings that is to be put into the log, if it does."""


class Phase(Enum):
    """How far a session has come."""

    OPENED = "opened"
    GREETED = "greeted"
    LIVE = "live"


_ALL = (
    *(Heads, News, Eager, Root, Want, Events, Fresh, Declined),
    *(Ping, Pong, Goodbye, Disclose, Fork, Mark, Addresses),
)

ALLOWED: Mapping[Phase, tuple[type[Message], ...]] = {
    Phase.OPENED: (Greeting, Goodbye),
    Phase.GREETED: _ALL,
    Phase.LIVE: _ALL,
}
"""What a peer may say in which phase."""
