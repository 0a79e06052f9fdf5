"""A pond that is closed, or breaks down, in the midst of a replay: what is half folded is neither shown nor stored."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from fish import Observation, Pond, PondClosed, Snapshot
from fish.surroundings import Limits
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, State, collected, from_scratch, named, turns, within

MOMENTS = range(40)
"""Turns after which it happens: a replay of forty events by threes is over by then."""


Seen = list[Snapshot[State]]
Look = Callable[[Pond, Observation[State], Seen], Coroutine[Any, Any, None]]


def told() -> MemoryLog:
    log = MemoryLog()
    for number in range(40):
        log.receive(1, 10 * number + 10, number)
    return log


def spoilt(log: MemoryLog, *, by_retraction: bool) -> None:
    if by_retraction:
        log.retract(log.events[1].key)
    else:
        log.receive(2, 5, "late")


def visible(log: MemoryLog) -> State:
    return from_scratch(LIST, [one for one in log.events if not log.hides(one, log.offsets)])


async def asking(pond: Pond, _observation: Observation[State], seen: Seen) -> None:
    """Ask again and again, for a while, as long as there is an answer."""
    with suppress(PondClosed):
        for _ in range(3 * len(MOMENTS)):
            seen.append(await pond.snapshot(LIST))
            await asyncio.sleep(0)


async def looking(_pond: Pond, observation: Observation[State], seen: Seen) -> None:
    for _ in range(2 * len(MOMENTS)):
        if (snapshot := observation.snapshot) is not None:
            seen.append(snapshot)
        await asyncio.sleep(0)


async def in_mid_replay(log: MemoryLog, pond: Pond, moment: int, *, by_retraction: bool) -> None:
    """Come so far that a fish goes back, and stop there; something has not been stored."""
    await pond.current_state(LIST)
    await turns(50)
    log.receive(1, 1_000, "not stored yet")
    await pond.current_state(LIST)
    spoilt(log, by_retraction=by_retraction)
    await turns(moment)


def assert_good(log: MemoryLog, seen: Seen) -> None:
    for one in seen:
        known = [each for each in within(log, one.offsets) if not log.hides(each, one.offsets)]
        assert one.state == from_scratch(LIST, known)


def assert_restart_gives_what_holds(log: MemoryLog) -> None:
    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks)
            assert await pond.current_state(LIST) == visible(log)
            await pond.close()

    log.reopen()
    asyncio.run(run())


@pytest.mark.parametrize("by_retraction", [False, True])
@pytest.mark.parametrize("look", [asking, looking])
def test_closing_in_the_midst_of_a_replay_keeps_no_state_for_one_that_covers_more(
    look: Look, *, by_retraction: bool
) -> None:
    async def run(log: MemoryLog, moment: int, seen: Seen) -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=Limits(snapshot_every=1_000))
            observation = pond.observe(LIST, lambda _: None)
            await in_mid_replay(log, pond, moment, by_retraction=by_retraction)
            watching = asyncio.create_task(look(pond, observation, seen))
            await turns(1)
            await pond.close()
        await asyncio.wait([watching])

    for moment in MOMENTS:
        log, seen = told(), Seen()
        asyncio.run(run(log, moment, seen))
        assert_good(log, seen)
        assert_restart_gives_what_holds(log)


class BrokenDownError(Exception):
    """What ends the group that the pond lives in."""


@pytest.mark.parametrize("moment", range(30))
def test_whoever_watches_sees_the_end_when_what_the_pond_lives_in_breaks_down(moment: int) -> None:
    """There are more idle fish than may stay: some would be let go when nobody watches them any more."""
    troubles: list[object] = []

    async def run(log: MemoryLog) -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, trouble: troubles.append(trouble)
        )
        watching: list[asyncio.Task[Any]] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                pond = Pond(log, tasks, limits=Limits(snapshot_every=1, idle_fish=0))
                each = (
                    (lambda payload, _: named(f"one {payload}")),
                    (lambda payload, _: str(payload)),
                )
                shown: tuple[Observation[Any], ...] = (
                    pond.observe(LIST),
                    pond.observe_all(Tag("a"), each[0]),
                    pond.observe_groups(Tag("a"), each[1], lambda key: named(f"group {key}")),
                    pond.observe_latest(Tag("a")),
                )
                watching += [asyncio.create_task(collected(one)) for one in shown]
                await turns(5)
                log.receive(2, 5, "late")
                await turns(moment)
                raise BrokenDownError  # noqa: TRY301 - it is the group's own end
        except* BrokenDownError:
            await asyncio.wait(watching, timeout=5)
        assert all(one.done() for one in watching)

    asyncio.run(run(told()))
    assert not troubles


@pytest.mark.parametrize("by_retraction", [False, True])
def test_nobody_goes_on_from_a_replay_that_was_cancelled(*, by_retraction: bool) -> None:
    async def run(log: MemoryLog, moment: int, seen: Seen) -> None:
        watching = set[asyncio.Task[None]]()
        try:
            async with asyncio.TaskGroup() as tasks:
                pond = Pond(log, tasks, limits=Limits(snapshot_every=1))
                observation = pond.observe(LIST, lambda _: None)
                await in_mid_replay(log, pond, moment, by_retraction=by_retraction)
                watching.add(asyncio.create_task(asking(pond, observation, seen)))
                await turns(moment % 3)
                raise BrokenDownError  # noqa: TRY301 - it is the group's own end
        except* BrokenDownError:
            await asyncio.wait(watching)

    for moment in MOMENTS:
        log, seen = told(), Seen()
        asyncio.run(run(log, moment, seen))
        assert_good(log, seen)
        assert_restart_gives_what_holds(log)
