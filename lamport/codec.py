"""An event's bytes: written once by its author, stored, hashed and forwarded unchanged by everybody.

The bytes are one msgpack array, `[lamport, timestamp, tags, app id, payload]`. Stream and offset are not in it: the
hash chain binds both. Writing is lenient only in what means the same (tuples are lists, tags need no order); reading
what came from elsewhere checks every limit, the same on publishing, on receipt and on import. Nobody re-encodes, so two
msgpack writers that spell a number differently do no harm.
"""

import math
import re
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice, pairwise, repeat
from types import NoneType
from typing import Any, NamedTuple

import msgpack

from lamport.errors import DAMAGE_REMEDY, CorruptRange, DamagedEvent, InvalidInput, LimitExceeded
from lamport.event import Draft, Event
from lamport.ids import MAX_LAMPORT, EventKey, StreamId
from lamport.offsets import OffsetRange
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


_SCALARS = frozenset((str, int, float, bool, NoneType))
_TEXT = frozenset((str,))
_PLAIN_DEPTH = 3
_PLAIN_WIDTH = 64
"""A payload within these, made of the very types that JSON gives, is checked the quick way."""

_odd_float = re.compile(rb"\xcb[\x7f\xff]").search
_odd_integer = re.compile(rb"\xcf[\x80-\xff]").search
"""Find every number that breaks a limit in a payload's bytes; what they find is looked at more closely."""

_KEPT_RECEIVED = 1_024
"""So many tags and application ids of events from elsewhere are remembered as checked: 4 MB of the longest."""

_KEPT_TAG_LISTS = 4_096
"""Tags of a draft are remembered as checked and encoded: a device publishes with the same ones again and again."""

_pack = msgpack.Packer().pack
"""Packs without making a packer for each value. Drafts are encoded in the event loop's thread alone."""


_unpack = msgpack.unpackb
_new = tuple.__new__
"""Makes named tuples by the million at half the price of calling their class."""


class EncodedDraft(NamedTuple):
    """A draft that passed all limits.

    `rest` is everything of the event's bytes behind the timestamp, the other fields are what decoding it would give.
    """

    rest: bytes
    tags: tuple[str, ...]
    app_id: str
    payload: Any


class StoredEvent(NamedTuple):
    """An event beside the bytes that are stored for it."""

    event: Event
    data: bytes


class _NotPlain(Exception):
    """A payload is not of the common shape."""


def encode_draft(draft: Draft) -> EncodedDraft:
    """Check a draft against all limits and encode what is known of it. Its payload may change afterwards.

    Raises:
        LimitExceeded: the payload is too large or nested too deeply, or a number is beyond 64 bits or not finite.
        InvalidInput: the payload is no JSON value, or the application id is no usable text.
    """
    try:
        tags, packed_tags = _encoded_tags(tuple(draft.tags))
        packed_app_id = _encoded_app_id(draft.app_id)
    except TypeError:  # not even hashable
        _refuse(_tags_fault(list(draft.tags), sort=True))
        _refuse(tag_fault(draft.app_id, "an application id"))
        raise
    try:
        packed, payload = _encoded_payload(draft.payload)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a payload's texts are valid Unicode: {error.reason}") from error
    if len(packed) > MAX_PAYLOAD_BYTES:
        raise LimitExceeded(
            f"a payload has at most {MAX_PAYLOAD_BYTES} bytes encoded, this one has {len(packed)}"
        )
    rest = b"".join((packed_tags, packed_app_id, packed))
    return _new(EncodedDraft, (rest, tags, draft.app_id, payload))


@lru_cache(maxsize=_KEPT_TAG_LISTS)
def _encoded_tags(tags: tuple[str, ...]) -> tuple[tuple[str, ...], bytes]:
    """The tags sorted and distinct, and their bytes."""
    _refuse(_tags_fault(list(tags), sort=True))
    distinct = sorted(set(tags))
    return tuple(distinct), msgpack.packb(distinct)


@lru_cache(maxsize=_KEPT_TAG_LISTS)
def _encoded_app_id(app_id: str) -> bytes:
    _refuse(tag_fault(app_id, "an application id"))
    packed: bytes = msgpack.packb(app_id)
    return packed


def _encoded_payload(payload: Any) -> tuple[bytes, Any]:
    """A payload's bytes, and what decoding them would give."""
    try:
        copy = _plain_copy(payload, _PLAIN_DEPTH)
        packed = _pack(copy)
    except (_NotPlain, OverflowError):
        _refuse(payload_fault(payload))
        packed = _pack(payload)
        return packed, msgpack.unpackb(packed)
    if _has_odd_number(packed):
        _refuse(payload_fault(copy))
    return packed, copy


def _plain_copy(value: Any, depth: int) -> Any:
    """Copy a value of the common shape, which breaks no rule but perhaps in numbers; raise `_NotPlain` for others."""
    kind = type(value)
    if kind is dict and depth and len(value) <= _PLAIN_WIDTH and _TEXT.issuperset(map(type, value)):
        copy = value.copy()
        if not _SCALARS.issuperset(map(type, value.values())):
            for key, inner in value.items():
                if type(inner) not in _SCALARS:
                    copy[key] = _plain_copy(inner, depth - 1)
        return copy
    if kind is list and depth and len(value) <= _PLAIN_WIDTH:
        if _SCALARS.issuperset(map(type, value)):
            return value.copy()
        return [_plain_copy(inner, depth - 1) for inner in value]
    if kind in _SCALARS:
        return value
    raise _NotPlain


def _has_odd_number(data: bytes) -> bool:
    """Whether there may be a number that is not finite, or beyond 64 bits signed, in these bytes."""
    return _odd_float(data) is not None or _odd_integer(data) is not None


def _refuse(fault: str | None) -> None:
    """Raise what a fault in a caller's input amounts to."""
    if fault is not None:
        raise (LimitExceeded if "at most" in fault else InvalidInput)(fault)


def encode_event(lamport: int, timestamp: int, draft: EncodedDraft) -> bytes:
    """The event's bytes, once its place in the order is known."""
    return b"".join((_ARRAY_OF_FIVE, _pack(lamport), _pack(timestamp), draft.rest))


def place_draft(draft: EncodedDraft, key: EventKey, offset: int, timestamp: int) -> StoredEvent:
    """The event that a draft becomes at its place, just as `decode_event` would give it, and its bytes."""
    _, tags, app_id, payload = draft
    event = _new(Event, (key, offset, timestamp, tags, app_id, payload))
    return _new(StoredEvent, (event, encode_event(key[0], timestamp, draft)))


def decode_event(stream: StreamId, offset: int, data: bytes) -> Event:
    """Decode bytes that passed `verify_event` (or our own `encode_event`) before."""
    lamport, timestamp, tags, app_id, payload = _unpack(data)[:_FIELDS]
    key = _new(EventKey, (lamport, stream))
    return _new(Event, (key, offset, timestamp, tuple(tags), app_id, payload))


def decode_events(
    stream: StreamId, offsets: Iterable[int], lamports: Sequence[int], data: Sequence[bytes]
) -> list[Event]:
    """Decode the bytes of a stream's events that are known to be whole, all by one call.

    Raises:
        ValueError, TypeError, RecursionError, msgpack.UnpackException: some are not, or not those of these timestamps.
    """
    fields = _unpack(b"".join((array_head(len(data)), *data)))
    found, timestamps, tags, app_ids, payloads = islice(zip(*fields, strict=False), _FIELDS)
    if list(found) != list(lamports):
        raise ValueError("these are other events")
    keys = map(_new, repeat(EventKey), zip(lamports, repeat(stream)))
    columns = keys, offsets, timestamps, map(tuple, tags), app_ids, payloads
    return list(map(_new, repeat(Event), zip(*columns, strict=True)))


def array_head(count: int) -> bytes:
    """What stands before so many msgpack values that become one array."""
    return struct.pack("!BI", 0xDD, count)


def decode_stored(stream: StreamId, offset: int, lamport: int, data: bytes) -> Event:
    """Decode bytes that the disk gives back, filed under a Lamport timestamp. Only the chain shows every alteration.

    Raises:
        DamagedEvent: they are no event any more, or that of another time.
    """
    try:
        event = decode_event(stream, offset, data)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise damaged_event(EventKey(lamport, stream), offset) from error
    if event.key.lamport != lamport:
        raise damaged_event(EventKey(lamport, stream), offset)
    return event


def damaged_event(key: EventKey, offset: int) -> DamagedEvent:
    """The error that a stored event is none any more, or another one."""
    fault = f"event {offset} of stream {key.stream} is damaged on this disk: {DAMAGE_REMEDY}"
    return DamagedEvent(key, OffsetRange(key.stream, offset, offset), fault)


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
    event: Event = _new(
        Event, (_new(EventKey, (lamport, stream)), offset, timestamp, tuple(tags), app_id, payload)
    )
    return event


def _read(data: bytes) -> tuple[str | None, Any]:
    """What is wrong with an event's bytes, in words, or None; and their fields."""
    if len(data) > MAX_EVENT_BYTES:
        return f"at most {MAX_EVENT_BYTES} bytes, not {len(data)}", None
    try:
        fields = msgpack.unpackb(data)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        return f"not msgpack ({type(error).__name__})", None
    return _event_fault(fields, data), fields


def payload_fault(payload: Any) -> str | None:
    """What is wrong with a payload's shape or numbers, in words, or None. Texts and size are the encoder's to check."""
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


def _event_fault(fields: Any, data: bytes) -> str | None:
    if not isinstance(fields, list) or len(fields) < _FIELDS:
        return "not an array of lamport, timestamp, tags, application id and payload"
    lamport, timestamp, tags, app_id, payload = fields[:_FIELDS]
    if not _is_integer(lamport) or not 0 < lamport <= MAX_LAMPORT:
        return f"a Lamport timestamp is between 1 and {MAX_LAMPORT}"
    if not _is_integer(timestamp) or not MIN_INTEGER <= timestamp <= MAX_INTEGER:
        return "a timestamp is an integer of 64 bits signed"
    return _received_tags_fault(tags) or _app_id_fault(app_id) or _payload_fault(payload, data)


def _payload_fault(payload: Any, data: bytes) -> str | None:
    """Check a payload inside an event's bytes; only a large one needs to be measured by itself."""
    large = len(data) > MAX_PAYLOAD_BYTES
    if not large and _is_plain(payload) and not _has_odd_number(data):
        return None
    fault = payload_fault(payload)
    if fault is None and large and len(msgpack.packb(payload)) > MAX_PAYLOAD_BYTES:
        return f"a payload has at most {MAX_PAYLOAD_BYTES} bytes encoded"
    return fault


def _is_plain(payload: Any) -> bool:
    try:
        _plain_copy(payload, _PLAIN_DEPTH)
    except _NotPlain:
        return False
    return True


def _received_tags_fault(tags: Any) -> str | None:
    """What is wrong with the tags of an event from elsewhere: mostly they came before."""
    if type(tags) is list and len(tags) <= MAX_TAGS and _TEXT.issuperset(map(type, tags)):
        return _known_tags_fault(tuple(tags))
    return _tags_fault(tags)


@lru_cache(maxsize=_KEPT_RECEIVED)
def _known_tags_fault(tags: tuple[str, ...]) -> str | None:
    return _tags_fault(list(tags))


@lru_cache(maxsize=_KEPT_RECEIVED)
def _known_app_id_fault(app_id: str) -> str | None:
    return tag_fault(app_id, "an application id")


def _app_id_fault(app_id: Any) -> str | None:
    is_text = type(app_id) is str
    return _known_app_id_fault(app_id) if is_text else tag_fault(app_id, "an application id")


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
