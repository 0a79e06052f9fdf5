"""The four tables of cyclic work: columns are node, event, Lamport timestamp, wall clock."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fish import Fish, Metadata, WorkIds
from lamport import Event, EventKey, Tag, Tags
from tests.shoal.swarm import Device, converged, cut, heal, linked, make_homes

WORKER, ACTIVITY, CHANGED = Tag("worker"), Tag("activity"), Tag("workStatusChanged")
SELECTION = Tags(*WORKER.with_id("w1").names, *ACTIVITY.with_id("welding").names)

Story = Callable[[Device, Device], Coroutine[Any, Any, None]]


def on_change(state: WorkIds, event: Any, metadata: Metadata) -> WorkIds:
    if event["type"] == "started":
        return state.opened(metadata.event_key)
    return state.closed(event["ended"])


def on_change_plainly(_state: str, event: Any, _metadata: Metadata) -> str:
    return "working" if event["type"] == "started" else "idle"


WORK: Fish[WorkIds] = Fish("work", SELECTION, WorkIds(), on_change)
PLAIN: Fish[str] = Fish("plain", SELECTION, "idle", on_change_plainly)


async def start(device: Device, lamport: int, hour: int, minute: int = 0) -> EventKey:
    await device.fill(lamport)
    device.clock.set(hour, minute)
    event = await device.node.publish(SELECTION & CHANGED, {"type": "started"})  # type: ignore[arg-type]
    assert (event.lamport, event.timestamp) == (lamport, device.clock.microseconds)
    return event.key


async def stop(device: Device, lamport: int, hour: int, minute: int = 0) -> list[str]:
    """End all work that is known to be open here; returns the ids named."""
    await device.fill(lamport)
    device.clock.set(hour, minute)

    def end_all_open_work(state: WorkIds, enqueue: Callable[[Tags, Any], None]) -> None:
        enqueue(SELECTION, {"type": "stopped", "ended": state.to_json()})

    [event] = await device.node.pond.run(WORK, end_all_open_work)
    assert (event.lamport, event.timestamp) == (lamport, device.clock.microseconds)
    ended: list[str] = event.payload["ended"]
    return ended


async def expect(work: set[EventKey], plain: str, *devices: Device) -> None:
    for device in devices:
        state = await device.node.pond.current_state(WORK)
        assert set(state) == work
        assert await device.node.pond.current_state(PLAIN) == plain


def tell(folder: Path, story: Story) -> None:
    """Run a story on two linked nodes."""

    async def go() -> None:
        home_a, home_b = make_homes(folder, "AB")
        async with home_a.started() as a, home_b.started([a.node.listening]) as b:
            await linked(a.node, b.node)
            await story(a, b)

    asyncio.run(go())


async def begin_cut_at_one(a: Device, b: Device, hour: int) -> None:
    a.clock.set(hour)
    shared: Event = await a.publish("filler", None)
    assert shared.lamport == 1
    await converged(a, b)
    await cut(a, b)


async def heal_at(lamport: int, a: Device, b: Device) -> None:
    """Heal; the first event after it bears this Lamport timestamp."""
    heal(a, b)
    await converged(a, b)
    await a.fill(lamport)
    await a.publish("filler", None)
    await converged(a, b)


def test_table_1_a_stop_counts_although_its_clock_is_behind(tmp_path: Path) -> None:
    async def story(a: Device, b: Device) -> None:
        foo = await start(a, 5, 10)
        await converged(a, b)
        assert await stop(b, 20, 8) == [str(foo)]
        await converged(a, b)
        await expect(set(), "idle", a, b)

    tell(tmp_path, story)


def test_table_2_work_begun_and_ended_on_both_sides_of_a_cut_is_over(tmp_path: Path) -> None:
    async def story(a: Device, b: Device) -> None:
        await begin_cut_at_one(a, b, 8)
        bar = await start(a, 8, 16)
        assert await stop(a, 9, 16, 15) == [str(bar)]
        foo = await start(b, 19, 10)
        assert await stop(b, 20, 11) == [str(foo)]
        await heal_at(22, a, b)
        await expect(set(), "idle", a, b)
        for device in (a, b):
            order = [event async for event in device.node.query(SELECTION)]
            assert [event.stream.node for event in order] == [a.node.id] * 2 + [b.node.id] * 2
            assert order[2].timestamp < order[1].timestamp, "B's morning sorts after A's afternoon"

    tell(tmp_path, story)


def test_table_3_work_that_nobody_named_stays_open_where_two_states_lose_it(tmp_path: Path) -> None:
    async def story(a: Device, b: Device) -> None:
        await begin_cut_at_one(a, b, 8)
        bar = await start(a, 3, 10)
        foo = await start(b, 5, 16)
        assert await stop(a, 19, 11, 15) == [str(bar)]
        await expect(set(), "idle", a)
        await expect({foo}, "working", b)
        await heal_at(22, a, b)
        await expect({foo}, "idle", a, b)

    tell(tmp_path, story)


def test_table_4_one_stop_after_the_cut_ends_the_work_of_both_sides(tmp_path: Path) -> None:
    async def story(a: Device, b: Device) -> None:
        await begin_cut_at_one(a, b, 8)
        bar = await start(a, 3, 11, 15)
        foo = await start(b, 5, 10)
        await heal_at(20, a, b)
        await expect({foo, bar}, "working", a, b)
        assert await stop(a, 22, 17) == [str(bar), str(foo)]
        await converged(a, b)
        await expect(set(), "idle", a, b)

    tell(tmp_path, story)
