"""What an event is published with: tags, some of which are derived from its payload.

    started = IdTag("worker", lambda payload: payload["worker"]) & "shift"
    started.apply({"worker": "w1", "type": "started"})      # a draft with 'shift', 'worker' and 'worker:w1'

`where` is the selection of the same name: an id that is derived is added when an event is published, never when events
are selected. With `with_id` the id is given, and nothing is derived.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lamport.event import DEFAULT_APP_ID, Draft, draft
from lamport.tags import Tag, Tags


@dataclass(frozen=True, slots=True)
class Emission:
    """Tags, and pairs of a tag and a function that derives the id behind it from a payload."""

    where: Tags
    derived: tuple[tuple[Tag, Callable[[Any], str | None]], ...] = ()

    def apply(self, payload: Any, app_id: str = DEFAULT_APP_ID) -> Draft:
        """A draft of this payload, with all tags; an id that is None or empty adds none.

        Raises:
            InvalidInput: a tag that was derived breaks a rule or limit.
        """
        ids = ((tag, derive(payload)) for tag, derive in self.derived)
        names = [name for tag, id_ in ids if id_ for name in tag.id(id_).names]
        return draft((*self.where.names, *names), payload, app_id)

    def apply_all(self, *payloads: Any) -> tuple[Draft, ...]:
        """Drafts of these payloads, in this order."""
        return tuple(self.apply(payload) for payload in payloads)

    def __and__(self, other: "Emission | Tags | str") -> "Emission":
        if isinstance(other, Emission):
            return Emission(
                Tags(*self.where.names, *other.where.names), (*self.derived, *other.derived)
            )
        added = Tags(other) if isinstance(other, str) else other
        return Emission(Tags(*self.where.names, *added.names), self.derived)


@dataclass(frozen=True, slots=True)
class IdTag:
    """A tag that knows how to find the id behind it in a payload."""

    name: str
    derive: Callable[[Any], str | None]

    @property
    def emission(self) -> Emission:
        """To be published with."""
        tag = Tag(self.name)
        return Emission(tag, ((tag, self.derive),))

    @property
    def where(self) -> Tags:
        """The selection: this tag, whatever the id."""
        return Tag(self.name)

    def with_id(self, id_: str) -> Emission:
        """To be published with this id; nothing is derived."""
        return Emission(Tag(self.name).with_id(id_))

    def apply(self, payload: Any, app_id: str = DEFAULT_APP_ID) -> Draft:
        """See `Emission.apply`."""
        return self.emission.apply(payload, app_id)

    def __and__(self, other: "IdTag | Emission | Tags | str") -> Emission:
        return self.emission & (other.emission if isinstance(other, IdTag) else other)
