"""Snapshots are stored while the fish goes on: nobody waits for the disk, and what does not hold is found out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fish import Fish, Pond
from fish.ahead import RESTS, SLICE_S
from fish.surroundings import Limits
from lamport.ids import EventKey
from lamport.snapshot_table import COMMIT_BYTES
from lamport.snapshots import StoredSnapshot
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog, event_of
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
    ) -> bool:
        self.begun.append([one.key.lamport for one in snapshots])
        await self.may_go_on.wait()
        return await super().save_snapshots(snapshots, thinned)


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
        assert stored(log) == [40, 70]

    acted(act)


def test_what_was_folded_meanwhile_is_stored_when_the_writing_ends() -> None:
    async def act(log: SlowLog, pond: Pond) -> None:
        await saving(pond, log)
        say(log, 50, 60)
        await pond.current_state(LIST)
        log.may_go_on.set()
        await turns(20)
        assert stored(log) == [40, 60]

    acted(act)


def test_a_snapshot_that_a_late_event_spoils_on_its_way_goes_with_the_next() -> None:
    async def act(log: SlowLog, pond: Pond) -> None:
        await saving(pond, log)
        log.receive(2, 25, "late")
        assert await pond.current_state(LIST) == (10, 20, "late", 30, 40)
        say(log, 50, 60)
        await pond.current_state(LIST)
        log.may_go_on.set()
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


class ShortOfRoom(MemoryLog):
    """A log that leaves snapshots out for want of room, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.has_room = False

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> bool:
        self.asked += 1
        return self.has_room and await super().save_snapshots(snapshots, thinned)


def test_what_was_left_out_for_want_of_room_is_stored_when_there_is_some() -> None:
    log = ShortOfRoom()

    async def act(_log: MemoryLog, pond: Pond) -> None:
        say(log, 10, 20, 30, 40)
        await pond.current_state(LIST)
        await turns(20)
        assert (log.asked, stored(log)) == (1, [])
        log.has_room = True

    story(act, log, OFTEN)
    assert stored(log) == [40]


def test_a_full_disk_is_asked_more_and_more_seldom() -> None:
    log = ShortOfRoom()

    async def act(_log: MemoryLog, pond: Pond) -> None:
        for lamport in range(1, 201):
            say(log, lamport)
            await pond.current_state(LIST)
            await turns(5)
        assert log.asked < 10

    story(act, log, OFTEN)


class Weighed(MemoryLog):
    """A log that notes how many bytes it is given at once."""

    def __init__(self) -> None:
        super().__init__(page=1_000)
        self.at_once = 0
        self.most = 0

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> bool:
        size = sum(len(one.state) for one in snapshots)
        self.at_once += size
        self.most = max(self.most, self.at_once)
        try:
            await turns(20)
        finally:
            self.at_once -= size
        return await super().save_snapshots(snapshots, thinned)


def test_no_more_states_are_encoded_ahead_than_a_commit_takes() -> None:
    log, large = Weighed(), COMMIT_BYTES // 5
    log.commit([event_of(1, number + 1, number, number) for number in range(4_000)])
    fish = [
        Fish(f"fish {n}", Tag("a"), "", lambda _state, event, _meta: f"{event:06}" + large * "x")
        for n in range(6)
    ]

    async def act(_log: MemoryLog, pond: Pond) -> None:
        await asyncio.gather(*(pond.current_state(one) for one in fish))

    story(act, log)
    assert len({one.fish for one in log.snapshots}) == len(fish)
    assert len(log.snapshots) > 2 * len(fish), "of each there are several"
    assert log.most <= COMMIT_BYTES + large + 100


def rests_from_now_on() -> list[float]:
    """How long the loop is asked to wait; by its clock a slice is over whenever somebody looks."""
    loop: Any = asyncio.get_running_loop()
    asked, now, later = list[float](), 0.0, loop.call_later

    def time() -> float:
        nonlocal now
        now += SLICE_S
        return now

    def call_later(delay: float, *given: Any, **named: Any) -> Any:
        asked.append(delay)
        return later(delay, *given, **named)

    loop.time, loop.call_later = time, call_later
    return asked


def test_encoding_rests_while_the_pond_lives_and_not_when_it_is_closed() -> None:
    rests = list[float]()

    async def act(log: MemoryLog, pond: Pond) -> None:
        nonlocal rests
        say(log, *range(1, 21))
        rests = rests_from_now_on()
        await pond.current_state(LIST)
        while not log.snapshots:
            await turns(1)
        assert len(rests) > 10
        assert {*rests} == {RESTS * SLICE_S}
        say(log, 30)
        await pond.current_state(LIST)
        rests.clear()

    log = story(act)
    assert stored(log) == [20, 30], "it was encoded while the pond was being closed"
    assert rests == []
