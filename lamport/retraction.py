"""Retractions: signed events that hide other events from folds and queries, for good.

A retraction is an ordinary event in the stream of the node that retracts, with the tag `shoal:retract` and the payload

    {"keys": ["<event key>", ...], "reason": "...", "admin": "<signature, hex>"}      "admin" may be absent

It counts where every event that it names is by the very node that wrote the retraction, or where the admin signed the
names. One that does not count hides nothing; it is kept like any event, and told. A retraction cannot be hidden itself,
so that equal sets of events hide the same events, whatever the order they came in: what is hidden is what counting
retractions name, without the counting retractions.

The way of a datum. `retraction_draft` makes one, `read_retraction` says what one names or why it does not count, the
commit carries that to the disk, and `Retracted` is what the log then leaves out wherever it hands out events. Streams,
chains, archives and gossip know nothing of it: the bytes stay. Where a stream has forked, two events may bear one key:
what is named is hidden on all branches.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lamport.chain import Keys
from lamport.errors import InvalidInput, LimitExceeded, VoidRetraction
from lamport.event import DEFAULT_APP_ID, Draft, Event
from lamport.ids import EventKey, NodeId, StreamId
from lamport.offsets import OffsetMap

RETRACT_TAG = "shoal:retract"
"""The tag of retractions."""

MAX_TARGETS = 256
"""Events that one retraction names at most: their texts fill a third of the largest payload."""

MAX_REASON_CHARACTERS = 1_000
"""Longest reason, so that a whole retraction fits a payload in whatever script it is written."""

MAX_RETRACTED_BY_NODE = 50_000
"""Events that one node may retract: everybody holds their names in memory, some 20 MB for so many."""

MAX_ACCEPTED_FROM_NODE = 2 * MAX_RETRACTED_BY_NODE
"""What others take from it; a node that came back from a backup may have forgotten some of its own."""

_DOMAIN = b"shoal/retract/1\0"

_NOTHING: Mapping[int, Any] = {}

_Place = tuple[StreamId, int]
"""Where a retraction stands: its stream and offset."""


class Retraction(NamedTuple):
    """A retraction that counts: its own key and offset, and the keys that it hides, which name no branch."""

    by: EventKey
    offset: int
    targets: tuple[EventKey, ...]


def is_retraction(event: Event) -> bool:
    """Whether an event is a retraction, counting or not."""
    return RETRACT_TAG in event.tags


def signed_names(swarm: bytes, targets: Iterable[EventKey]) -> bytes:
    """What the admin signs in order to retract these events, in this order."""
    return b"".join((_DOMAIN, swarm, "\n".join(map(str, targets)).encode()))


def retraction_draft(
    targets: Sequence[EventKey], reason: str, signature: bytes, keys: Keys
) -> Draft:
    """The retraction of these events by this node, with the admin's signature where there is one.

    Raises:
        VoidRetraction: it would not count; the text says who may retract.
        LimitExceeded: it names too many events, or its reason is too long.
    """
    if len(targets) > MAX_TARGETS:
        raise LimitExceeded(f"one retraction names at most {MAX_TARGETS} events")
    if len(reason) > MAX_REASON_CHARACTERS:
        raise LimitExceeded(f"a reason has at most {MAX_REASON_CHARACTERS} characters")
    payload: dict[str, Any] = {"keys": [str(key) for key in targets], "reason": reason}
    if signature:
        payload["admin"] = signature.hex()
    _targets(payload, keys.node, keys)
    return Draft((RETRACT_TAG,), payload, DEFAULT_APP_ID)


def read_retraction(event: Event, keys: Keys) -> Retraction:
    """What a retraction hides.

    Raises:
        VoidRetraction: it does not count; the text says why.
    """
    try:
        return Retraction(event.key, event.offset, _targets(event.payload, event.stream.node, keys))
    except VoidRetraction as void:
        raise VoidRetraction(f"retraction {event.key} hides nothing: {void}") from void


def _targets(payload: Any, by: NodeId, keys: Keys) -> tuple[EventKey, ...]:
    texts = payload.get("keys") if isinstance(payload, dict) else None
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_TARGETS:
        raise VoidRetraction(f"it names 1 to {MAX_TARGETS} events in a list 'keys'")
    targets = tuple(map(_key, texts))
    others = [key for key in targets if key.stream.node != by]
    if others and not _is_admins(payload.get("admin"), targets, keys):
        raise VoidRetraction(
            f"event {others[0]} is another node's: only its author retracts it, or the admin with the admin key"
        )
    return tuple(dict.fromkeys(targets))


def _key(text: Any) -> EventKey:
    if not isinstance(text, str):
        raise VoidRetraction(f"an event key is a text, not {type(text).__name__}")
    try:
        return _on_all_branches(EventKey.parse(text))
    except InvalidInput as fault:
        raise VoidRetraction(str(fault)) from fault


def _on_all_branches(key: EventKey) -> EventKey:
    return EventKey(key.lamport, key.stream.base)


def _is_admins(signature: Any, targets: Sequence[EventKey], keys: Keys) -> bool:
    try:
        raw = bytes.fromhex(signature)
    except (TypeError, ValueError):
        return False
    return keys.verifies_admin(raw, signed_names(keys.swarm, targets))


class Retracted(Collection[EventKey]):
    """The keys that are hidden, whether or not their events are known yet."""

    __slots__ = ("_by_node", "_counting", "_hidden", "_renamed", "_retractions", "void")

    def __init__(self) -> None:
        self.void = 0
        """Retractions that came since the start and do not count."""
        self._hidden: dict[StreamId, dict[int, tuple[_Place, ...]]] = {}
        self._retractions: dict[StreamId, dict[int, Retraction]] = {}
        """By the part of a stream in which each came, and its offset."""
        self._counting: dict[StreamId, set[int]] = {}
        self._renamed: dict[StreamId, dict[int, tuple[StreamId, ...]]] = {}
        """What else the parts of places have been called, or are called now, for forks that were proven since."""
        self._by_node: Counter[NodeId] = Counter()

    def add(self, retraction: Retraction) -> None:
        """Hide what a retraction names from now on, and never the retraction itself."""
        lamport, stream = retraction.by
        known = self._retractions.setdefault(stream, {})
        if retraction.offset in known:
            return
        known[retraction.offset] = retraction
        self._counting.setdefault(stream.base, set()).add(lamport)
        self._hidden.get(stream.base, {}).pop(lamport, None)
        self._by_node[stream.node] += len(retraction.targets)
        for target in retraction.targets:
            if not self.counts(target):
                hidden = self._hidden.setdefault(target.stream.base, {})
                places = hidden.get(target.lamport, ())
                hidden[target.lamport] = (*places, (stream, retraction.offset))

    def only(self, counts: Callable[[StreamId, int], bool]) -> "Retracted":
        """Those of its retractions that stand where something counts, and what these hide."""
        left = Retracted()
        left.void, left._renamed = self.void, self._renamed
        for stream, known in self._retractions.items():
            for offset, one in known.items():
                if counts(stream, offset):
                    left.add(one)
        return left

    def rename(self, named_now: Callable[[StreamId, int], StreamId]) -> None:
        """A fork was proven: retractions may stand in parts of their streams that bear other names now."""
        for stream, known in self._retractions.items():
            for offset in known:
                names = self._renamed.get(stream, {}).get(offset, ())
                now = named_now(stream, offset)
                if now != stream and now not in names:
                    self._renamed.setdefault(stream, {})[offset] = (*names, now)

    def of(self, stream: StreamId) -> Mapping[int, object]:
        """The hidden events of a stream, by their Lamport timestamps; it grows with the log."""
        return self._hidden.get(stream.base, _NOTHING)

    def hides(self, key: EventKey, as_of: OffsetMap | None = None) -> bool:
        """Whether an event is hidden: by any retraction that is known, or by one up to these offsets."""
        places = self._hidden.get(key.stream.base, _NOTHING).get(key.lamport, ())
        return bool(places) and (
            as_of is None or any(self._reaches(as_of, *place) for place in places)
        )

    def _reaches(self, offsets: OffsetMap, stream: StreamId, offset: int) -> bool:
        """Whether a position, of now or from before a fork was proven, lies at a place or behind it."""
        names = self._renamed.get(stream, {}).get(offset, ())
        return any(offsets.of(name) >= offset for name in (stream, *names))

    def named(self, lower: OffsetMap, upper: OffsetMap) -> list[EventKey]:
        """What the retractions above `lower` and up to `upper` hide, sorted."""
        found = {
            target
            for stream, known in self._retractions.items()
            if stream in self._renamed or lower.of(stream) < upper.of(stream)
            for offset, one in known.items()
            if self._reaches(upper, stream, offset) and not self._reaches(lower, stream, offset)
            for target in one.targets
            if self.hides(target)
        }
        return sorted(found)

    def counts(self, key: EventKey) -> bool:
        """Whether the event with this key is a retraction that counts."""
        return key.lamport in self._counting.get(key.stream.base, ())

    def count_by(self, node: NodeId) -> int:
        """How many events a node has retracted."""
        return self._by_node[node]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, EventKey) and self.hides(key)

    def __iter__(self) -> Iterator[EventKey]:
        keys = (EventKey(one, stream) for stream, hidden in self._hidden.items() for one in hidden)
        return iter(sorted(keys))

    def __len__(self) -> int:
        return sum(map(len, self._hidden.values()))

    def __bool__(self) -> bool:
        return bool(self._retractions)
