"""Open work as a set of event keys."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fish import WorkIds
from fish.states import encode_state
from lamport.ids import EventKey
from tests.fish.histories import patient
from tests.fish.memory_log import stream_of

KEYS = [EventKey(lamport, stream_of(number)) for lamport in (1, 2, 30) for number in (9, 1)]

keys = st.sampled_from(KEYS)
named = st.lists(st.one_of(keys, keys.map(str)), max_size=4)


closings = st.lists(named, max_size=6)


@patient
@given(st.permutations(KEYS), closings, st.data())
def test_what_is_open_is_what_was_opened_less_what_was_named_in_any_order_of_streams(
    order: list[EventKey], closed: list[list[Any]], data: st.DataObject
) -> None:
    steps: list[Any] = data.draw(st.permutations([*in_stream_order(order), *closed]))
    opened = iter(in_stream_order([one for one in steps if isinstance(one, EventKey)]))
    work = WorkIds()
    for step in steps:
        work = work.opened(next(opened)) if isinstance(step, EventKey) else work.closed(step)
    names = {
        one if isinstance(one, EventKey) else EventKey.parse(one) for all_ in closed for one in all_
    }
    model = set(KEYS) - names
    assert list(work) == sorted(model)
    assert len(work) == len(model)
    assert bool(work) == bool(model)
    assert all((key in work) == (key in model) for key in KEYS)
    straight = WorkIds(tuple(KEYS)).closed(names)
    assert encode_state(work) == encode_state(straight)
    assert work.early == ()


def in_stream_order(keys: list[EventKey]) -> list[EventKey]:
    """The same mixture of streams, each in its own order."""
    waiting = {
        number: iter(sorted(k for k in keys if k.stream == number))
        for number in {k.stream for k in keys}
    }
    return [next(waiting[key.stream]) for key in keys]


def test_an_opening_that_comes_behind_its_closing_is_swallowed() -> None:
    work = WorkIds().closed(KEYS[0])
    assert work.early == (KEYS[0],)
    assert work.opened(KEYS[0]) == WorkIds()


def test_equal_work_is_one_value_however_it_came_about() -> None:
    first = WorkIds().opened(KEYS[0]).opened(KEYS[1]).opened(KEYS[0])
    second = WorkIds().opened(KEYS[1]).opened(KEYS[2]).opened(KEYS[0]).closed([KEYS[2]])
    assert first == second
    assert hash(first) == hash(second)
    assert list(first) == sorted(KEYS[:2])


def test_a_value_is_not_changed_by_what_is_derived_from_it() -> None:
    work = WorkIds().opened(KEYS[0])
    work.opened(KEYS[1])
    work.closed([KEYS[0]])
    assert list(work) == [KEYS[0]]


def test_one_id_alone_can_be_named_as_key_and_as_text() -> None:
    work = WorkIds(tuple(KEYS))
    assert list(work.closed(KEYS[0])) == sorted(KEYS[1:])
    assert list(work.closed(str(KEYS[0]))) == sorted(KEYS[1:])


def test_the_texts_that_name_the_open_work_close_all_of_it() -> None:
    work = WorkIds(tuple(KEYS))
    assert work.texts == sorted(work.texts)
    assert work.to_json() == work.texts
    assert not work.closed(work.texts)


def test_what_is_no_event_key_in_a_payload_names_nothing() -> None:
    work = WorkIds((KEYS[0],))
    junk: list[Any] = ["", "1/x", str(KEYS[0]) + "x", 7, None, {}, [str(KEYS[0])], ("a",)]
    assert work.closed(junk) == work
    whole: Any
    for whole in (None, 7, {}, "nonsense"):
        assert work.closed(whole) == work


def test_only_event_keys_are_members() -> None:
    assert str(KEYS[0]) not in WorkIds((KEYS[0],))
    assert None not in WorkIds((KEYS[0],))
