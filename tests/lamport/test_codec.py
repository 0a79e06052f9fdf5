"""An event's bytes: they come back as they were, and what crosses a limit by one is refused on either way."""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.codec import (
    MAX_EVENT_BYTES,
    EncodedDraft,
    decode_event,
    decode_events,
    encode_draft,
    encode_event,
    verify_event,
)
from lamport.errors import CorruptRange, InvalidInput, LimitExceeded
from lamport.event import Draft, draft
from lamport.ids import EventKey, NodeId, StreamId

STREAM = StreamId(NodeId(bytes(32)), 7)
LAST_LAMPORT = 2**43 - 1
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def nested(levels: int) -> Any:
    """A value with so many lists and objects around it."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


def filling(size: int) -> str:
    """A text whose encoding has so many bytes."""
    return "x" * (size - 3)


def fields(**changes: Any) -> list[Any]:
    """An event's fields, all well but for the changes."""
    well = {"lamport": 1, "timestamp": 0, "tags": ["a"], "app_id": "app", "payload": None}
    return [*(well | changes).values()]


def event_of(**changes: Any) -> bytes:
    packed: bytes = msgpack.packb(fields(**changes))
    return packed


def tags_of(count: int) -> tuple[str, ...]:
    return tuple(f"t{number:02}" for number in range(count))


@given(JSON, st.integers(1, LAST_LAMPORT), st.integers(-(2**63), 2**63 - 1))
def test_any_json_value_comes_back(payload: Any, lamport: int, timestamp: int) -> None:
    one = draft(["b", "a"], payload, "app")
    data = encode_event(lamport, timestamp, encode_draft(one))
    event = verify_event(STREAM, 3, data)
    assert event == decode_event(STREAM, 3, data)
    assert event.key == EventKey(lamport, STREAM)
    assert (event.offset, event.timestamp, event.app_id) == (3, timestamp, "app")
    assert (event.tags, event.payload) == (("a", "b"), payload)
    assert msgpack.packb(event.payload) == msgpack.packb(payload)  # 1 is not 1.0, nor True


def test_tuples_are_written_as_lists() -> None:
    data = encode_event(1, 0, encode_draft(draft("a", {"pair": (1, (2,))})))
    assert verify_event(STREAM, 0, data).payload == {"pair": [1, [2]]}


@dataclasses.dataclass(frozen=True)
class Limit:
    """One limit of drafts: a draft that just meets it, and what the refusal of one more says."""

    met: Draft
    crossed: Draft
    says: str


def payloads(met: Any, crossed: Any, says: str) -> Limit:
    return Limit(Draft(("a",), met), Draft(("a",), crossed), says)


LIMITS = {
    "payload bytes": payloads(filling(65_536), filling(65_537), "at most 65536 bytes"),
    "nesting": payloads(nested(32), nested(33), "at most 32 deep"),
    "largest integer": payloads({"n": 2**63 - 1}, {"n": 2**63}, "at most 64 bits"),
    "smallest integer": payloads([-(2**63)], [-(2**63) - 1], "at most 64 bits"),
    "largest number": payloads(1.7976931348623157e308, float("inf"), "finite"),
    "tags": Limit(Draft(tags_of(32), 1), Draft(tags_of(33), 1), "at most 32 tags"),
    "tag bytes": Limit(
        Draft(("é" * 64,), 1), Draft(("é" * 64 + "x",), 1), "tag has at most 128 bytes"
    ),
    "shortest tag": Limit(Draft(("x",), 1), Draft(("",), 1), "tag may not be empty"),
    "application id bytes": Limit(
        Draft((), 1, "é" * 64), Draft((), 1, "é" * 64 + "x"), "application id has at most 128 bytes"
    ),
    "shortest application id": Limit(
        Draft((), 1, "x"), Draft((), 1, ""), "application id may not be empty"
    ),
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_a_limit_can_be_met_exactly(limit: Limit) -> None:
    event = verify_event(STREAM, 0, encode_event(1, 0, encode_draft(limit.met)))
    assert (event.tags, event.payload) == (limit.met.tags, limit.met.payload)
    assert event.app_id == limit.met.app_id


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_crossing_a_limit_by_one_is_refused_on_append(limit: Limit) -> None:
    with pytest.raises(InvalidInput, match=limit.says):
        encode_draft(limit.crossed)


@pytest.mark.parametrize(
    "name", [name for name in LIMITS if name not in {"smallest integer", "largest number"}]
)
def test_crossing_a_limit_by_one_is_refused_on_receipt(name: str) -> None:
    one = LIMITS[name].crossed
    data = event_of(tags=one.tags, app_id=one.app_id, payload=one.payload)
    with pytest.raises(CorruptRange, match=LIMITS[name].says):
        verify_event(STREAM, 0, data)


@pytest.mark.parametrize("name", ["payload bytes", "nesting", "largest integer"])
def test_a_crossed_limit_is_told_from_nonsense(name: str) -> None:
    with pytest.raises(LimitExceeded):
        encode_draft(LIMITS[name].crossed)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    for payload in (number, {"flat": number}, [{"deep": number}]):
        with pytest.raises(InvalidInput, match="finite"):
            encode_draft(Draft((), payload))
        with pytest.raises(CorruptRange, match="finite"):
            verify_event(STREAM, 0, event_of(payload=payload))


@pytest.mark.parametrize(
    "payload",
    [b"bytes", {1: "x"}, {b"k": 1}, {"a"}, object(), 1j, [{"x": b""}], {"k": {2.0: 1}}],
    ids=repr,
)
def test_what_is_no_json_value_is_refused_on_append(payload: Any) -> None:
    with pytest.raises(InvalidInput):
        encode_draft(Draft((), payload))


@pytest.mark.parametrize("payload", ["\ud800", {"\ud800": 1}, [["a\udfff"]]], ids=ascii)
def test_broken_unicode_is_refused_on_append(payload: Any) -> None:
    with pytest.raises(InvalidInput, match="valid Unicode"):
        encode_draft(Draft((), payload))
    with pytest.raises(InvalidInput, match="valid Unicode"):
        encode_draft(Draft((), 1, "\ud800"))


@pytest.mark.parametrize("tags", [("a", 1), (["a"],), (None,), ({},), ("\ud800",)], ids=ascii)
def test_what_is_no_tag_is_refused_on_append(tags: Any) -> None:
    with pytest.raises(InvalidInput):
        encode_draft(Draft(tags, 1))


def test_tags_given_in_any_order_are_written_so_that_others_accept_them() -> None:
    data = encode_event(1, 0, encode_draft(Draft(("b", "a", "b"), 1)))
    assert verify_event(STREAM, 0, data).tags == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lamport": 0}, "between 1 and"),
        ({"lamport": 2**43}, "between 1 and"),
        ({"lamport": -1}, "between 1 and"),
        ({"lamport": True}, "between 1 and"),
        ({"lamport": 1.0}, "between 1 and"),
        ({"timestamp": 2**63}, "timestamp is an integer"),
        ({"timestamp": None}, "timestamp is an integer"),
        ({"tags": None}, "a list of"),
        ({"tags": "a"}, "a list of"),
        ({"tags": {"a": 1}}, "a list of"),
        ({"tags": [1]}, "tag is a string"),
        ({"tags": [b"a"]}, "tag is a string"),
        ({"tags": ["e\u0301"]}, "normal form C"),
        ({"tags": ["b", "a"]}, "sorted and distinct"),
        ({"tags": ["a", "a"]}, "sorted and distinct"),
        ({"app_id": None}, "application id is a string"),
        ({"app_id": "e\u0301"}, "normal form C"),
        ({"payload": b"x"}, "JSON values"),
        ({"payload": {b"x": 1}}, "keys of an object"),
        ({"payload": msgpack.ExtType(5, b"x")}, "JSON values"),
        ({"payload": msgpack.Timestamp(1, 2)}, "JSON values"),
    ],
    ids=ascii,
)
def test_what_no_author_writes_is_refused_on_receipt(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CorruptRange, match=says):
        verify_event(STREAM, 0, event_of(**changes))


@pytest.mark.parametrize("changes", [{"lamport": LAST_LAMPORT}, {"timestamp": 2**63 - 1}])
def test_the_numbers_of_an_event_may_be_at_their_limits(changes: dict[str, Any]) -> None:
    event = verify_event(STREAM, 0, event_of(**changes))
    assert {event.lamport, event.timestamp} & set(changes.values())


def test_the_engines_own_tags_are_received() -> None:
    assert verify_event(STREAM, 0, event_of(tags=["shoal:x"])).tags == ("shoal:x",)


@pytest.mark.parametrize("what", [None, 1, {}, [], [1, 0, [], "app"]])
def test_an_event_is_an_array_of_five(what: Any) -> None:
    with pytest.raises(CorruptRange, match="not an array"):
        verify_event(STREAM, 0, msgpack.packb(what))


@given(
    st.lists(st.tuples(JSON, st.lists(TEXTS, max_size=3), st.lists(JSON, max_size=2)), min_size=1)
)
def test_events_decoded_together_are_what_each_is_by_itself(
    events: list[tuple[Any, list[str], list[Any]]],
) -> None:
    """Those of newer versions, with further fields, among them."""
    data = [
        msgpack.packb([lamport, -lamport, tags, "app", payload, *more])
        for lamport, (payload, tags, more) in enumerate(events, 5)
    ]
    offsets, lamports = range(3, 3 + len(data)), range(5, 5 + len(data))
    one_by_one = [decode_event(STREAM, *one) for one in zip(offsets, data, strict=True)]
    assert decode_events(STREAM, offsets, lamports, data) == one_by_one
    with pytest.raises(ValueError, match="other events"):
        decode_events(STREAM, offsets, range(6, 6 + len(data)), data)


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\xc1", b"\x95\x01\x02", msgpack.packb([1, 2, 3, 4])]
)
def test_what_is_no_event_is_not_decoded_together_with_others(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError, msgpack.UnpackException)):
        decode_events(STREAM, range(2), [1, 1], [event_of(), data])


def test_fields_of_a_newer_version_are_left_alone() -> None:
    data: bytes = msgpack.packb([*fields(payload={"x": 1}), "newer", 7])
    assert verify_event(STREAM, 0, data).payload == {"x": 1}
    assert decode_event(STREAM, 0, data).payload == {"x": 1}


def test_an_event_at_all_its_limits_is_accepted_and_a_longer_one_is_not() -> None:
    names = [f"{number:02}".ljust(128, "x") for number in range(32)]
    full = Draft(tuple(names), filling(65_536), "a" * 128)
    data = encode_event(LAST_LAMPORT, -(2**63), encode_draft(full))
    assert verify_event(STREAM, 0, data).app_id == "a" * 128
    rest: EncodedDraft = encode_draft(full)
    newer = encode_event(1, 0, rest)[1:] + msgpack.packb(b"n" * 400)
    fits: Callable[[int], bytes] = lambda size: b"\x96" + newer[: size - 1]  # noqa: E731 - cut to size
    assert len(fits(MAX_EVENT_BYTES + 1)) == MAX_EVENT_BYTES + 1
    with pytest.raises(CorruptRange, match=f"at most {MAX_EVENT_BYTES} bytes"):
        verify_event(STREAM, 0, fits(MAX_EVENT_BYTES + 1))


def test_an_error_names_the_event() -> None:
    with pytest.raises(CorruptRange, match=f"event 12 of stream {STREAM}: "):
        verify_event(STREAM, 12, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x95",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 5_000,
        b"\x95\x01\x00\x90\xa1x" + b"\x91" * 600 + b"\xc0",
        event_of() + b"\x00",
        event_of()[:-1],
        b"\x95\x01\x00\x90\xa1x\x81\x90\x01",
        b"\x95\x01\x00\x90\xa1x\xa1\xff",
        b"\x95\x01\x00\x90\xa1x\xd7\xff" + b"\xff" * 8,
    ],
    ids=lambda data: data[:9].hex(),
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptRange):
        verify_event(STREAM, 0, data)


GOOD = encode_event(9, 1, encode_draft(draft(["a", "b"], {"k": [1, "two", None]})))
CHANGED = st.builds(
    lambda at, piece, cut: GOOD[:at] + piece + GOOD[at + cut :],
    st.integers(0, len(GOOD)),
    st.binary(max_size=4),
    st.integers(0, 4),
)


@given(st.binary(max_size=60) | CHANGED)
def test_any_bytes_are_an_event_within_all_limits_or_refused(data: bytes) -> None:
    try:
        event = verify_event(STREAM, 0, data)
    except CorruptRange:
        return
    assert decode_event(STREAM, 0, data) == event
    again = encode_draft(Draft(event.tags, event.payload, event.app_id))
    assert verify_event(STREAM, 0, encode_event(event.lamport, event.timestamp, again)) == event
