"""An event's bytes: written once by its author, stored, hashed and forwarded unchanged by everybody.

The bytes are one msgpack array, `[lamport, timestamp, tags, app id, payload]`. Stream and offset are not in it: the
hash chain binds both. Writing is lenient only in what means the same (tuples are lists, tags need no order); reading
what came from elsewhere checks every limit, the same on publishing, on receipt and on import. Nobody re-encodes, so two
msgpack writers that spell a number differently do no harm.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgpack

from lamport.errors import CorruptRange, DamagedEvent, InvalidInput, LimitExceeded
from lamport.event import Draft, Event
from lamport.ids import MAX_LAMPORT, EventKey, StreamId
from lamport.tags import MAX_TAG_BYTES, MAX_TAGS, tag_fault

MAX_PAYLOAD_BYTES = 64 * 1024
"""Largest payload, encoded."""

MAX_NESTING = 32
"""Deepest nesting of lists and objects in a payload; a bare value has depth 0."""

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
"""Integers of a payload, and timestamps, are 64 bits signed."""

MAX_EVENT_BYTES = MAX_PAYLOAD_BYTES + (MAX_TAGS + 1) * (MAX_TAG_BYTES + 3) + 32
"""Largest event: payload, tags and application id at their limits, and the numbers."""

_FIELDS = 5
_CONTAINERS = (dict, list, tuple)
_ARRAY_OF_FIVE = b"\x95"


@dataclass(frozen=True, slots=True)
class EncodedDraft:
    """A draft that passed all limits: `rest` is everything of the event's bytes behind the timestamp."""

    rest: bytes


def encode_draft(draft: Draft) -> EncodedDraft:
    """Check a draft against all limits and encode what is known of it.

    Raises:
        LimitExceeded: the payload is too large or nested too deeply, or a number is beyond 64 bits or not finite.
        InvalidInput: the payload is no JSON value, or the application id is no usable text.
    """
    fault = (
        _tags_fault(list(draft.tags), sort=True)
        or tag_fault(draft.app_id, "an application id")
        or payload_fault(draft.payload)
    )
    if fault is not None:
        raise (LimitExceeded if "at most" in fault else InvalidInput)(fault)
    try:
        payload = msgpack.packb(draft.payload)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a payload's texts are valid Unicode: {error.reason}") from error
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise LimitExceeded(
            f"a payload has at most {MAX_PAYLOAD_BYTES} bytes encoded, this one has {len(payload)}"
        )
    tags = sorted(set(draft.tags))
    return EncodedDraft(b"".join((msgpack.packb(tags), msgpack.packb(draft.app_id), payload)))


def encode_event(lamport: int, timestamp: int, draft: EncodedDraft) -> bytes:
    """The event's bytes, once its place in the order is known."""
    return b"".join((_ARRAY_OF_FIVE, msgpack.packb(lamport), msgpack.packb(timestamp), draft.rest))


def decode_event(stream: StreamId, offset: int, data: bytes) -> Event:
    """Decode bytes that passed `verify_event` (or our own `encode_event`) before."""
    lamport, timestamp, tags, app_id, payload = msgpack.unpackb(data)[:_FIELDS]
    return Event(EventKey(lamport, stream), offset, timestamp, tuple(tags), app_id, payload)


def decode_stored(stream: StreamId, offset: int, lamport: int, data: bytes) -> Event:
    """Decode bytes that the disk gives back, filed under a Lamport timestamp. Only the chain shows every alteration.

    Raises:
        DamagedEvent: they are no event any more, or that of another time.
    """
    try:
        event = decode_event(stream, offset, data)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise _damaged(EventKey(lamport, stream), offset) from error
    if event.key.lamport != lamport:
        raise _damaged(EventKey(lamport, stream), offset)
    return event


def _damaged(key: EventKey, offset: int) -> DamagedEvent:
    remedy = "stop the daemon and run `shoal verify --heal`"
    fault = f"event {offset} of stream {key.stream} is damaged on this disk: {remedy}"
    return DamagedEvent(key, fault)


def verify_event(stream: StreamId, offset: int, data: bytes) -> Event:
    """Decode bytes that came from elsewhere, checking every limit.

    Fields behind the fifth are a newer version's business and are left alone.

    Raises:
        CorruptRange: they are no event or break a limit; the text names it.
    """
    fault, fields = _read(data)
    if fault is not None:
        raise CorruptRange(f"event {offset} of stream {stream}: {fault}")
    lamport, timestamp, tags, app_id, payload = fields[:_FIELDS]
    return Event(EventKey(lamport, stream), offset, timestamp, tuple(tags), app_id, payload)


def _read(data: bytes) -> tuple[str | None, Any]:
    """What is wrong with an event's bytes, in words, or None; and their fields."""
    if len(data) > MAX_EVENT_BYTES:
        return f"at most {MAX_EVENT_BYTES} bytes, not {len(data)}", None
    try:
        fields = msgpack.unpackb(data)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        return f"not msgpack ({type(error).__name__})", None
    return _event_fault(fields, len(data)), fields


def payload_fault(payload: Any) -> str | None:
    """What is wrong with a payload's shape or numbers, in words, or None. Texts and size are the encoder's to check."""
    if type(payload) is dict and all(map(_is_plain, payload, payload.values())):
        return None
    level: list[Any] = [payload]
    count = 1
    for _ in range(MAX_NESTING):
        inner: list[Any] = []
        for value in level:
            fault = _value_fault(value, inner)
            if fault is not None:
                return fault
        if not inner:
            return None
        count += len(inner)
        if count > MAX_PAYLOAD_BYTES:
            # Each value takes a byte or more, and one that is shared is written each time.
            return f"a payload has at most {MAX_PAYLOAD_BYTES} values"
        level = inner
    if any(isinstance(value, _CONTAINERS) for value in level):
        return f"a payload is nested at most {MAX_NESTING} deep"
    faults = (_value_fault(value, []) for value in level)
    return next((fault for fault in faults if fault is not None), None)


def _is_plain(key: Any, value: Any) -> bool:
    """Whether a field is of the common kinds that break no rule; says no to whatever needs a closer look."""
    kind = type(value)
    if type(key) is not str:
        return False
    if kind is int:
        return bool(MIN_INTEGER <= value <= MAX_INTEGER)
    if kind is float:
        return math.isfinite(value)
    return kind is str or kind is bool or value is None


def _value_fault(value: Any, inner: list[Any]) -> str | None:
    """What is wrong with one value, or None; what it contains is added to `inner`."""
    if value is None or isinstance(value, str | bool):
        return None
    if isinstance(value, int):
        fits = MIN_INTEGER <= value <= MAX_INTEGER
        return None if fits else f"integers have at most 64 bits signed, {value} has more"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"numbers are finite, {value} is not"
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return "the keys of an object are texts"
        inner.extend(value.values())
        return None
    if isinstance(value, list | tuple):
        inner.extend(value)
        return None
    return f"a payload is made of JSON values, {type(value).__name__} is none"


def _event_fault(fields: Any, size: int) -> str | None:
    if not isinstance(fields, list) or len(fields) < _FIELDS:
        return "not an array of lamport, timestamp, tags, application id and payload"
    lamport, timestamp, tags, app_id, payload = fields[:_FIELDS]
    if not _is_integer(lamport) or not 0 < lamport <= MAX_LAMPORT:
        return f"a Lamport timestamp is between 1 and {MAX_LAMPORT}"
    if not _is_integer(timestamp) or not MIN_INTEGER <= timestamp <= MAX_INTEGER:
        return "a timestamp is an integer of 64 bits signed"
    return (
        _tags_fault(tags) or tag_fault(app_id, "an application id") or _payload_fault(payload, size)
    )


def _payload_fault(payload: Any, size: int) -> str | None:
    """Check a payload inside an event of `size` bytes; only a large one needs to be measured by itself."""
    fault = payload_fault(payload)
    large = fault is None and size > MAX_PAYLOAD_BYTES
    if large and len(msgpack.packb(payload)) > MAX_PAYLOAD_BYTES:
        return f"a payload has at most {MAX_PAYLOAD_BYTES} bytes encoded"
    return fault


def _tags_fault(tags: Any, *, sort: bool = False) -> str | None:
    """What is wrong with an event's tags, or None; with `sort` their order is still to be made."""
    if not isinstance(tags, list) or len(tags) > MAX_TAGS:
        return f"an event bears a list of at most {MAX_TAGS} tags"
    fault = next((fault for fault in map(tag_fault, tags) if fault is not None), None)
    if fault is None and not sort and any(a >= b for a, b in pairwise(tags)):
        return "tags are sorted and distinct"
    return fault


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
