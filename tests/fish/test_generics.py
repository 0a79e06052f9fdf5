"""What mypy understands of fish: the types are asserted when the house is checked, and the programs run here.

Where a line must be refused it says so (`type: ignore[...]`); mypy, as strict as it is here, complains of one that is
not needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never, assert_type

import pytest

from fish import Fish, Metadata, Observation, Pond, Snapshot, WorkIds, fish
from fish.effects import Enqueue
from fish.explaining import Explanation
from lamport.event import Event
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import story

WORKER = Tag("worker")


@dataclass(frozen=True)
class Started: ...


@dataclass(frozen=True)
class Stopped:
    ended: tuple[str, ...]


@fish(where=WORKER, initial=WorkIds())
def worker(state: WorkIds, event: Started | Stopped, meta: Metadata) -> WorkIds:
    match event:
        case Started():
            return state.opened(meta.event_key)
        case Stopped(ended):
            return state.closed(assert_type(ended, tuple[str, ...]))
        case never:
            assert_never(never)


def count(state: int, _event: Any, _meta: Metadata) -> int:
    return state + 1


COUNT = Fish("count", WORKER, 0, count)


def test_a_fish_is_of_its_state() -> None:
    assert_type(worker, Fish[WorkIds])
    assert_type(COUNT, Fish[int])
    assert_type(COUNT.initial, int)


def test_whatever_a_pond_gives_is_of_the_state_of_the_fish() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, {"type": "started"}, "worker")
        assert_type(await pond.current_state(worker), WorkIds)
        assert_type(await pond.snapshot(COUNT), Snapshot[int])
        assert_type(await pond.explain(COUNT), Explanation[int])
        with pond.observe(worker) as states:
            assert_type(states, Observation[WorkIds])
            async for state in states:
                assert_type(state, WorkIds)
                break
        with pond.observe_all(WORKER, lambda *_: COUNT) as several:
            assert_type(await anext(several), tuple[int, ...])
        with pond.observe_groups(WORKER, lambda *_: "all", lambda _: COUNT) as groups:
            assert_type(await anext(groups), Mapping[str, int])
        with pond.observe_one(WORKER, lambda *_: COUNT) as one:
            assert_type(await anext(one), int)
        with pond.observe_latest(WORKER) as latest:
            assert_type(await anext(latest), Event | None)
        assert_type(await pond.run(COUNT, told), tuple[Event, ...])

    story(act)


def told(state: int, enqueue: Enqueue) -> None:
    enqueue("other", {"count": state})


def test_what_does_not_fit_is_refused() -> None:
    """By mypy: the lines below would run."""

    def wrong(state: int, _event: Any, _meta: Metadata) -> str:
        return str(state)

    def of_texts(_state: str, _enqueue: Enqueue) -> None: ...

    Fish[int]("wrong", WORKER, 0, wrong)  # type: ignore[arg-type]  # it gives another state than it takes
    Fish[int]("wrong", WORKER, "", count)  # type: ignore[arg-type]  # no such state

    def watch(pond: Pond) -> None:
        pond.observe(COUNT, str.upper)  # type: ignore[arg-type]  # it is shown numbers
        pond.keep_running(COUNT, of_texts)  # type: ignore[arg-type]  # and so is this

    assert callable(watch)

    @fish(where=WORKER, initial=0)  # type: ignore[misc]  # the reducer does not give what it takes
    def other(state: int, _event: Started, _meta: Metadata) -> str:
        return str(state)

    assert other.name == "other"


def test_the_state_may_be_named_where_the_fish_is_made() -> None:
    named = Fish[int | None]("named", WORKER, None, lambda state, *_: (state or 0) + 1)
    assert_type(named, Fish[int | None])
    with pytest.raises(AttributeError, match="name"):
        setattr(named, "name", "other")  # noqa: B010 - mypy would not have it
