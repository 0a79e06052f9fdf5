"""Upcasters: readers see today's version, the stored bytes never change, and what is wrong is told clearly."""

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import InvalidInput, UpcastFailed
from lamport.event import Event, draft
from lamport.ids import EventKey, StreamId
from lamport.log import EventLog
from lamport.tags import ALL_EVENTS, Tag
from lamport.upcasters import Upcaster, Upcasters
from tests.lamport.keys import NOW_US, member, open_store, read_all

STREAM = StreamId(member().node, 10**15)


def event(payload: Any, *tags: str) -> Event:
    return Event(EventKey(1, STREAM), 0, 0, tags or ("order",), "test", payload)


def add_currency(order: Any) -> Any:
    return {**order, "currency": "EUR"}


def cents(order: Any) -> Any:
    return {**order, "amount": order["amount"] * 100}


ORDERS = Upcasters(Upcaster("order", 1, add_currency), Upcaster("order", 2, cents))


def test_an_event_runs_through_all_upcasters_of_its_type_from_its_version_on() -> None:
    first = event({"amount": 2})
    assert ORDERS.upcast(first).payload == {"amount": 200, "currency": "EUR", "version": 3}
    second = event({"amount": 2, "currency": "USD", "version": 2})
    assert ORDERS.upcast(second).payload == {"amount": 200, "currency": "USD", "version": 3}


@pytest.mark.parametrize(
    ("payload", "tags"),
    [
        ({"amount": 2, "version": 3}, ["order"]),
        ({"amount": 2, "version": 9}, ["order"]),
        ({"amount": 2, "version": 0}, ["order"]),
        ({"amount": 2, "version": "1"}, ["order"]),
        ({"amount": 2, "version": True}, ["order"]),
        ({"amount": 2, "version": None}, ["order"]),
        ({"amount": 2}, ["part"]),
        ({"amount": 2}, ["order:7"]),
    ],
)
def test_what_no_upcaster_fits_is_the_very_same_event(payload: Any, tags: list[str]) -> None:
    one = event(payload, *tags)
    assert ORDERS.upcast(one) is one


def test_a_payload_that_is_no_map_has_version_1_and_may_become_one() -> None:
    upcasters = Upcasters(Upcaster("order", 1, lambda amount: {"amount": amount}))
    assert upcasters.upcast(event(7)).payload == {"amount": 7, "version": 2}
    doubled = Upcasters(Upcaster("order", 1, lambda amount: amount * 2))
    assert doubled.upcast(event(7)).payload == 14


def test_the_versions_key_is_the_registrys_choice() -> None:
    upcasters = Upcasters(Upcaster("order", 1, add_currency), version_key="v")
    assert upcasters.upcast(event({"v": 1})).payload == {"v": 2, "currency": "EUR"}
    with pytest.raises(InvalidInput, match="non-empty text"):
        Upcasters(version_key="")


def test_an_upcaster_that_changes_what_it_is_given_spoils_nothing() -> None:
    def change(order: Any) -> Any:
        order["lines"].append("more")
        order["amount"] = 0
        return order

    payload = {"amount": 2, "lines": ["one"]}
    one = event(payload)
    changed = Upcasters(Upcaster("order", 1, change)).upcast(one)
    assert changed.payload == {"amount": 0, "lines": ["one", "more"], "version": 2}
    assert one.payload == {"amount": 2, "lines": ["one"]}


def test_one_that_raises_is_named_with_the_event_and_what_to_do() -> None:
    with pytest.raises(UpcastFailed) as raised:
        ORDERS.upcast(event({}))
    assert re.fullmatch(
        r"event 0{15}1/\S+ cannot be read as today's version: the upcaster of 'order' from version 2 raised"
        r" KeyError: 'amount'; mend it where it is registered and start again, or retract the event",
        str(raised.value),
    )
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_event_of_two_types_is_told() -> None:
    upcasters = Upcasters(Upcaster("order", 1, cents), Upcaster("part", 1, cents))
    with pytest.raises(UpcastFailed, match=r"types 'order' and 'part'.*for one of these tags only"):
        upcasters.upcast(event({}, "order", "part"))


def test_doubles_and_gaps_are_told_when_they_are_registered() -> None:
    with pytest.raises(InvalidInput, match="'order' from version 1 is registered twice"):
        Upcasters(Upcaster("order", 1, cents), Upcaster("order", 1, add_currency))
    with pytest.raises(InvalidInput, match="from versions 1 to 4, but none from 2"):
        Upcasters(Upcaster("order", 1, cents), Upcaster("order", 4, cents))
    Upcasters(Upcaster("order", 2, cents), Upcaster("part", 4, cents))


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0])
def test_a_version_is_an_integer_from_1_on(version: Any) -> None:
    with pytest.raises(InvalidInput, match="integer from 1 on"):
        Upcaster("order", version, cents)


def test_a_tag_and_a_function_are_what_they_are_called() -> None:
    with pytest.raises(InvalidInput, match="may not be empty"):
        Upcaster("", 1, cents)
    with pytest.raises(InvalidInput, match="is a function"):
        Upcaster("order", 1, cast("Any", "cents"))


@given(st.integers(1, 6), st.integers(1, 8))
def test_the_newest_version_is_reached_from_every_one(lowest: int, version: int) -> None:
    def step(payload: Any) -> Any:
        return {**payload, "steps": payload["steps"] + 1}

    upcasters = Upcasters(*(Upcaster("order", one, step) for one in range(lowest, 7)))
    changed = upcasters.upcast(event({"steps": 0, "version": version})).payload
    expected = 7 - version if lowest <= version <= 6 else 0
    assert changed == {"steps": expected, "version": version + expected}


def test_queries_and_subscriptions_see_today_and_peers_get_the_bytes(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_store(tmp_path, member()) as store:
            log = EventLog(store, member(), lambda: NOW_US, upcasters=ORDERS)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(log.write())
                await log.publish([draft("order", {"amount": 2})])
                today = {"amount": 200, "currency": "EUR", "version": 3}
                pages = [page async for page in log.query(Tag("order"))]
                assert [one.payload for page in pages for one in page] == [today]
                events = log.subscribe(ALL_EVENTS)
                assert (await anext(events)).payload == today
                await log.publish([draft("order", {"amount": 3})])
                assert (await anext(events)).payload["amount"] == 300
                assert (await read_all(log))[0].payload == {"amount": 2}
                sealed = await log.served_range(log.stream, 0, 1)
                assert sealed is not None
                assert b"currency" not in sealed.events[0]
                await log.publish([draft("order", {})])
                with pytest.raises(UpcastFailed, match="KeyError"):
                    await anext(events)
                log.close()

    asyncio.run(go())
