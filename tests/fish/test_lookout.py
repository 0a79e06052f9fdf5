"""Lookouts, chunks, ready-made fish, and tags that come from payloads."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish import Fish, FishStopped, InvalidFish, Metadata, Observation, Pond
from fish.emission import IdTag
from fish.lookout import BestMatch, ShouldReplace, is_later, is_older
from fish.oversight import Oversight
from fish.ready import events_ascending, events_descending, latest_event
from lamport.event import Event
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.tags import Tag, Tags
from tests.fish.histories import arriving_histories, patient
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, listed, story, turns

A = Tag("a")


@given(batches=arriving_histories())
@patient
def test_the_latest_event_is_the_last_of_all_however_they_arrive(
    batches: list[list[Event]],
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        latest: list[Any] = []
        count: list[int] = []
        pond.observe_latest(A, latest.append)
        pond.observe_unordered_reduce(A, lambda n, *_: n + 1, 0, count.append)
        for batch in batches:
            log.commit(batch)
            await turns(2)
        await turns(20)
        matching = [one for one in log.events if "a" in one.tags]
        assert latest[-1:] == matching[-1:]
        assert count[-1] == len(matching)
        assert [one.key for one in latest] == sorted({one.key for one in latest})

    story(act)


@given(batches=arriving_histories(), size=st.integers(1, 5), order=st.sampled_from(["asc", "desc"]))
@patient
def test_a_reader_who_is_interrupted_goes_on_at_a_bound_of_the_last_chunk(
    batches: list[list[Event]], size: int, order: str
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for batch in batches:
            log.commit(batch)
        bounds = {"lower": OffsetMap(), "upper": log.offsets}
        read: list[Event] = []
        while True:
            async for chunk in pond.query_chunks(A, size, order=Order(order), **bounds):
                read += chunk.events
                end, bound = ("lower", chunk.upper) if order == "asc" else ("upper", chunk.lower)
                bounds[end] = bound
                break
            else:
                break
        wanted = [one for one in log.events if "a" in one.tags]
        assert read == (wanted if order == "asc" else wanted[::-1])

    story(act)


def test_a_chunk_has_bounds() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        with pytest.raises(ValueError, match="1 to 10000"):
            await anext(pond.query_chunks(A, 0))

    story(act)


def test_ready_made_fish_keep_the_newest_events() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        assert await pond.current_state(latest_event(A)) is None
        for n in (1, 2, 4, 5):
            log.receive(1, n, n)
        log.receive(0, 3, 3)
        assert await pond.current_state(latest_event(A)) == 5
        assert await pond.current_state(events_ascending(A, 3)) == (3, 4, 5)
        assert await pond.current_state(events_descending(A, 3)) == (5, 4, 3)

    story(act)


def test_the_last_none_events_are_refused() -> None:
    with pytest.raises(InvalidFish, match="at least one"):
        events_ascending(A, 0)


def test_ids_are_derived_when_an_event_is_published_and_not_when_it_is_selected() -> None:
    worker = IdTag("worker", lambda payload: payload.get("id"))
    both = worker & "shift" & Tags("floor", "hall")
    assert both.where == Tags("worker", "shift", "floor", "hall")
    [with_id, without] = both.apply_all({"id": "w1"}, {})
    assert with_id.tags == ("floor", "hall", "shift", "worker", "worker:w1")
    assert without.tags == ("floor", "hall", "shift", "worker")
    assert worker.with_id("w2").apply({"id": "w1"}).tags == ("worker", "worker:w2")


def test_lookouts_are_refused_by_a_closed_pond() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        await pond.close()
        for name in ("observe_latest", "observe_earliest"):
            with pytest.raises(Exception, match="closed"):
                getattr(pond, name)(A)

    story(act)


def test_the_iterator_of_a_lookout_gives_each_better_event() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        seen: list[Any] = []

        async def look() -> None:
            with pond.observe_earliest(A) as earliest:
                async for event in earliest:
                    assert event is not None
                    seen.append(event.payload)
                    if event.payload == "first":
                        return

        task = asyncio.create_task(look())
        await turns(20)
        log.receive(1, 5, "second")
        await turns(20)
        log.receive(2, 2, "first")
        await task
        assert seen == ["second", "first"]

    story(act)


def test_what_is_retracted_is_shown_no_more() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        first = log.receive(1, 1, "first")
        last = log.receive(1, 2, "last")
        latest: list[Any] = []
        earliest: list[Any] = []
        pond.observe_latest(A, latest.append)
        pond.observe_earliest(A, earliest.append)
        await turns(20)
        log.retract(last.key)
        await turns(20)
        assert (latest, earliest) == ([last, first], [first])
        log.retract(first.key)
        await turns(20)
        assert (latest, earliest) == ([last, first, None], [first, None])
        again = log.receive(1, 4, "again")
        await turns(20)
        assert (latest[-1], earliest[-1]) == (again, again)

    story(act)


LOOKOUTS: tuple[Callable[[Pond], Observation[Any]], ...] = (
    lambda pond: pond.observe_latest(A),
    lambda pond: pond.observe_unordered_reduce(A, lambda state, *_: state, 0),
    lambda pond: pond.observe_all(A, lambda *_: LIST),
    lambda pond: pond.observe_groups(A, lambda *_: "one", lambda _: LIST),
    lambda pond: pond.observe_one(A, lambda *_: LIST),
    lambda pond: pond.observe_one(Tag("none"), lambda *_: LIST),
)


@pytest.mark.parametrize("looks", range(20))
@pytest.mark.parametrize("look", LOOKOUTS)
def test_one_that_is_cancelled_leaves_nothing_behind_although_nothing_comes(
    look: Callable[[Pond], Observation[Any]], looks: int
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        await turns(20)
        before = asyncio.all_tasks()
        observation = look(pond)
        await turns(looks)
        observation.cancel()
        await turns(20)
        assert asyncio.all_tasks() == before
        assert pond.running_fish(LIST).is_idle
        log.receive(1, 2, "y")
        assert await pond.current_state(LIST) == ("x", "y")

    story(act)


@pytest.mark.parametrize("look", [lambda pond: pond.observe(LIST), *LOOKOUTS[:5]])
def test_one_that_nobody_holds_any_more_leaves_nothing_behind(
    look: Callable[[Pond], Observation[Any]],
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        await turns(20)
        before = asyncio.all_tasks()
        for _ in range(3):
            async for _state in look(pond):
                break
        held = look(pond)
        await anext(held)
        assert not pond.running_fish(LIST).is_idle or look is not LOOKOUTS[2]
        log.receive(1, 2, "y")
        assert await anext(held) is not None
        del held
        await turns(20)
        assert asyncio.all_tasks() == before
        assert pond.running_fish(LIST).is_idle

    story(act)


def test_one_that_calls_back_needs_nobody_to_hold_it() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        states: list[Any] = []
        pond.observe(LIST, states.append)
        pond.observe_all(A, lambda *_: LIST, states.append)
        pond.observe_latest(A, lambda event: states.append(event and event.payload))
        log.receive(1, 1, "x")
        await turns(50)
        assert {"x", ("x",), (("x",),)} <= set(states)

    story(act)


def test_a_comparison_that_raises_stops_its_lookout_and_nothing_else() -> None:
    def never(_new: Event, _old: Event) -> bool:
        raise LookupError("poison")

    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        log.receive(1, 2, "y")
        with pytest.raises(FishStopped, match="should_replace raised LookupError: poison"):
            await anext(pond.observe_best_match(A, never))
        assert await pond.current_state(LIST) == ("x", "y")

    story(act)


@pytest.mark.parametrize("wrong", [Fish("list", Tag("b"), (), listed), "no fish"])
def test_a_seed_of_what_cannot_run_is_passed_over(wrong: Any) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def made(payload: Any, _metadata: Metadata) -> Any:
            return wrong if payload == "x" else LIST

        await pond.current_state(LIST)
        log.receive(1, 1, "x")
        one, every = pond.observe_one(A, made), pond.observe_all(A, made)
        await turns(30)
        log.receive(1, 2, "y")
        assert await anext(one) == ("x", "y")
        states = [state async for state in _until(every, (("x", "y"),))]
        assert states[-1] == (("x", "y"),)

    story(act)


async def _until(observation: Observation[Any], last: Any) -> AsyncIterator[Any]:
    async for state in observation:
        yield state
        if state == last:
            return


def test_states_that_cannot_be_compared_end_the_observation_and_nothing_else() -> None:
    class Odd(tuple[Any, ...]):
        __slots__ = ()
        __hash__ = tuple.__hash__

        def __eq__(self, other: object) -> bool:
            raise LookupError("these cannot be compared")

        __ne__ = __eq__

    async def act(log: MemoryLog, pond: Pond) -> None:
        odd = Fish("odd", A, Odd(), lambda state, event, _: Odd((*state, event)))
        told: list[Any] = []
        pond.observe(odd, told.append, changes_only=True)
        await turns(20)
        log.receive(1, 1, "x")
        await turns(20)
        assert len(told) == 1
        assert tuple(await pond.current_state(odd)) == ("x",)
        assert pond.running_fish(odd).is_idle

    story(act)


def test_one_that_is_let_go_in_the_midst_of_something_ends_when_that_is_done() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        before = asyncio.all_tasks()
        held = pond.observe_latest(A)
        await anext(held)
        shown: Any = held._source  # noqa: SLF001 - nobody else tells when it ends
        del held
        assert not shown.is_ended
        await turns(20)
        assert shown.is_ended
        assert asyncio.all_tasks() == before

    story(act)


class Overseeing:
    """An oversight that counts what it watches over."""

    def __init__(self) -> None:
        self.watched_calls = 0

    def watched(self, call: Callable[[], Any], _place: object, _told: object) -> Any:
        self.watched_calls += 1
        return call()


@pytest.mark.parametrize(
    ("compare", "calls"), [(is_later, 0), (is_older, 0), (lambda new, old: new.key > old.key, 3)]
)
def test_comparisons_of_ours_are_called_without_oversight(
    compare: ShouldReplace, calls: int
) -> None:
    async def run() -> None:
        log, oversight = MemoryLog(), Overseeing()
        for lamport in (1, 2, 3):
            log.receive(1, lamport, lamport)
        best = BestMatch(log, Tag("a"), compare, cast("Oversight", oversight))
        work = asyncio.create_task(best.work())
        await turns(20)
        assert best.state is not None
        assert oversight.watched_calls == calls
        work.cancel()

    asyncio.run(run())
