"""How far a session has come, and which messages have a place there."""

from collections.abc import Mapping
from enum import Enum

from transport.messages import (
    Declined,
    Eager,
    Events,
    Fresh,
    Goodbye,
    Greeting,
    Heads,
    Message,
    News,
    Ping,
    Pong,
    Want,
)


class Phase(Enum):
    """How far a session has come."""

    OPENED = "opened"
    GREETED = "greeted"
    LIVE = "live"


ALLOWED: Mapping[Phase, tuple[type[Message], ...]] = {
    Phase.OPENED: (Greeting, Goodbye),
    Phase.GREETED: (Heads, News, Eager, Want, Events, Fresh, Declined, Ping, Pong, Goodbye),
    Phase.LIVE: (Heads, News, Eager, Want, Events, Fresh, Declined, Ping, Pong, Goodbye),
}
