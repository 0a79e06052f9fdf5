"""An event as readers see it, and a draft as authors hand it in.

A draft is what an application knows: tags and a payload. The log adds the rest when it builds the commit. A payload is
any JSON value; the application id says which program wrote it.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from lamport.ids import EventKey, StreamId
from lamport.tags import Tags, publishable

DEFAULT_APP_ID = "shoal"

_KEPT_TAG_LISTS = 4_096
"""Tags that come as a tuple are remembered as checked: a device publishes with the same ones again and again."""


class Event(NamedTuple):
    """One event. `timestamp` is the author's wall clock, microseconds since the epoch: for display, never for order.

    A tuple rather than a dataclass: a scan makes them by the million.
    """

    key: EventKey
    offset: int
    timestamp: int
    tags: tuple[str, ...]
    app_id: str
    payload: Any

    @property
    def lamport(self) -> int:
        """Its Lamport timestamp."""
        return self.key.lamport

    @property
    def stream(self) -> StreamId:
        """The stream it stands in."""
        return self.key.stream

    def to_json(self) -> dict[str, Any]:
        """The JSON form that every interface prints."""
        told = {
            "type": "event",
            "key": str(self.key),
            "lamport": self.lamport,
            "stream": str(self.stream),
            "offset": self.offset,
            "timestamp": self.timestamp,
            "tags": list(self.tags),
            "appId": self.app_id,
            "payload": self.payload,
        }
        if self.stream.branch:
            told["branch"] = self.stream.branch.hex()
        return told


class Draft(NamedTuple):
    """An event to be: its tags (sorted, in normal form) and its payload."""

    tags: tuple[str, ...]
    payload: Any
    app_id: str = DEFAULT_APP_ID


def draft(
    tags: "Tags | str | list[str] | tuple[str, ...]", payload: Any, app_id: str = DEFAULT_APP_ID
) -> Draft:
    """Make a draft; raise `InvalidInput` for tags that an event cannot bear."""
    return Draft(_publishable(tags), payload, app_id)


def _publishable(tags: "Tags | str | list[str] | tuple[str, ...]") -> tuple[str, ...]:
    if type(tags) is tuple:
        try:
            return _remembered(tags)
        except TypeError:  # not even hashable: to be refused as it is
            pass
    return publishable(tags)


_remembered = lru_cache(maxsize=_KEPT_TAG_LISTS)(publishable)
