"""Snapshots are stored while the fish goes on: nobody waits for the disk, and what does not hold is found out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fish import Pond
from fish.surroundings import Limits
from lamport.ids import EventKey
from lamport.snapshots import StoredSnapshot
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, State, named, story, turns

OFTEN = Limits(snapshot_every=2)
OTHER = named("other")


class SlowLog(MemoryLog):
    """A log whose disk takes its time with snapshots, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = asyncio.Event()
        self.begun: list[list[int]] = []

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> None:
        self.begun.append([one.key.lamport for one in snapshots])
        await self.may_go_on.wait()
        await super().save_snapshots(snapshots, thinned)


def stored(log: MemoryLog) -> list[int]:
    return [one.key.lamport for one in log.snapshots]


def say(log: MemoryLog, *lamports: int) -> State:
    """Events of one stream in their order; what they say is their timestamp."""
    for lamport in lamports:
        log.receive(1, lamport, lamport)
    return lamports


def acted(act: Callable[[SlowLog, Pond], Awaitable[None]], limits: Limits = OFTEN) -> None:
    log = SlowLog()

    async def on_it(_log: MemoryLog, pond: Pond) -> None:
        await act(log, pond)

    story(on_it, log, limits)


async def saving(pond: Pond, log: SlowLog) -> None:
    """A fish of four events, whose snapshot is on its way to the disk."""
    say(log, 10, 20, 30, 40)
    await pond.current_state(LIST)
    await turns(20)
    assert log.begun == [[40]]


def test_new_states_are_shown_while_a_snapshot_is_stored() -> None:
    async def act(log: SlowLog, pond: Pond) -> None:
        await saving(pond, log)
        for lamport in (50, 60, 70):
            say(log, lamport)
            assert (await pond.current_state(LIST))[-1] == lamport
        assert log.begun == [[40]], "one after the other"
        log.may_go_on.set()
        await turns(20)
        assert stored(log) == [40]

    acted(act)


def test_what_was_folded_meanwhile_is_stored_next() -> None:
    async def act(log: SlowLog, pond: Pond) -> None:
        await saving(pond, log)
        say(log, 50, 60)
        await pond.current_state(LIST)
        log.may_go_on.set()
        await turns(20)
        say(log, 70)
        await pond.current_state(LIST)
        await turns(20)
        assert stored(log) == [40, 70]

    acted(act)


def test_a_snapshot_that_a_late_event_spoils_on_its_way_goes_with_the_next() -> None:
    async def act(log: SlowLog, pond: Pond) -> None:
        await saving(pond, log)
        log.receive(2, 25, "late")
        assert await pond.current_state(LIST) == (10, 20, "late", 30, 40)
        log.may_go_on.set()
        await turns(20)
        say(log, 50, 60)
        await pond.current_state(LIST)
        await turns(20)
        assert stored(log) == [60]

    acted(act)


def test_closing_stores_what_was_on_its_way() -> None:
    log = SlowLog()

    async def act(_log: MemoryLog, pond: Pond) -> None:
        await saving(pond, log)
        log.may_go_on.set()  # what had begun is cancelled before it gets there

    story(act, log, OFTEN)
    assert stored(log) == [40]
    assert log.begun == [[40], [40]]


def test_a_fish_that_goes_while_its_snapshot_is_stored_comes_back_without_a_call() -> None:
    async def act(log: SlowLog, pond: Pond) -> None:
        await saving(pond, log)
        await pond.current_state(OTHER)
        await turns(20)
        assert LIST.name in pond.running, "its snapshot is not stored yet"
        log.may_go_on.set()
        await turns(20)
        assert pond.running == (OTHER.name,)
        await pond.current_state(LIST)
        assert pond.running_fish(LIST).calls == 0

    acted(act, Limits(snapshot_every=2, idle_fish=0))


def test_snapshots_of_many_fish_are_stored_a_few_at_a_time() -> None:
    log = SlowLog()

    async def act(_log: MemoryLog, pond: Pond) -> None:
        say(log, 10)
        for number in range(40):
            assert await pond.current_state(named(f"fish {number}")) == (10,)
        await turns(20)
        assert len(log.begun) == Limits().snapshots_at_once
        log.may_go_on.set()
        await turns(100)
        assert len(log.snapshots) == 40

    story(act, log)


def test_closing_stores_the_snapshots_of_many_fish_a_few_at_a_time() -> None:
    log = SlowLog()

    async def act(_log: MemoryLog, pond: Pond) -> None:
        watched = [pond.observe(named(f"fish {number}")) for number in range(40)]
        await pond.current_state(named("fish 0"))
        say(log, 10)
        for number in range(40):
            assert await pond.current_state(named(f"fish {number}")) == (10,)
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(pond.close())
            await turns(20)
            assert len(log.begun) == Limits().snapshots_at_once
            log.may_go_on.set()
        assert closing.done()
        assert len(log.snapshots) == len(watched)

    story(act, log)
