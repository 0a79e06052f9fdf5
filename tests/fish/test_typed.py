"""Typed events, the decorator, tokens, and what an observation says beside the state."""

import asyncio
import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from fish import (
    Fish,
    FishStopped,
    InvalidFish,
    Metadata,
    Pond,
    UnreadableEvent,
    WorkIds,
    fish,
    payload_of,
)
from fish.typed import decode_event, event_type
from lamport.offsets import OffsetMap
from lamport.tags import Tag
from tests.fish.memory_log import NODE, MemoryLog, event_of, stream_of
from tests.fish.ponds import LIST, State, story, turns


@dataclass(frozen=True)
class Part:
    name: str
    count: int = 1


@dataclass(frozen=True)
class Started:
    shift: Literal["early", "late"] = "early"


@dataclass(frozen=True)
class Stopped:
    ended: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    event_type = "pieces-made"
    parts: tuple[Part, ...]
    weight: float | None = None
    notes: dict[str, str] = field(default_factory=dict)
    place: tuple[int, int] = (0, 0)
    lines: list[str] = field(default_factory=list)


CLASSES = (Started, Stopped, Made)


@fish(where=Tag("worker").with_id("w1"), initial=WorkIds())
def worker(state: WorkIds, event: Started | Stopped, meta: Metadata) -> WorkIds:
    match event:
        case Started():
            return state.opened(meta.event_key)
        case Stopped(ended):
            return state.closed(ended)


def test_a_fish_is_a_function_that_matches_on_typed_events() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def start(_: WorkIds, enqueue: Any) -> None:
            enqueue(Tag("worker").with_id("w1"), Started())

        def stop(state: WorkIds, enqueue: Any) -> None:
            enqueue(Tag("worker").with_id("w1"), Stopped(tuple(state.texts)))

        await pond.run(worker, start)
        assert len(await pond.current_state(worker)) == 1
        log.receive(1, 50, {"type": "written by others"}, "worker", "worker:w1")
        log.receive(1, 51, "no object", "worker", "worker:w1")
        await pond.run(worker, stop)
        assert not await pond.current_state(worker)

    story(act)


def test_its_name_is_the_function_s_and_that_of_the_single_things_it_is_about() -> None:
    assert worker.name == "worker (worker:w1)"

    def one(state: int, _event: Any, _meta: Metadata) -> int:
        return state

    assert fish(where=Tag("a"), initial=0)(one).name == "one"
    assert fish(where=Tag("a"), initial=0, name="other", version=3)(one).version == 3
    long = fish(where=Tag("a").with_id("x" * 125), initial=0)(one).name
    assert long.startswith("one (")
    assert len(long) < 40


@pytest.mark.parametrize(
    "event",
    [
        Started("late"),
        Stopped(("a", "b")),
        Made((Part("nut", 3), Part("bolt")), 2.5, {"a": "b"}, (1, 2), ["x"]),
        Made(()),
    ],
)
def test_a_typed_event_comes_back_from_its_payload(event: Any) -> None:
    payload = payload_of(event)
    assert payload["type"] == event_type(type(event))
    assert decode_event({**payload, "added by a newer program": 1}, CLASSES) == event


def test_an_integer_is_a_real_number_too() -> None:
    assert decode_event({"type": "pieces-made", "parts": [], "weight": 2}, CLASSES).weight == 2.0


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"type": "stopped"}, "'ended' is missing"),
        ({"type": "stopped", "ended": "x"}, "stopped.ended"),
        ({"type": "stopped", "ended": [1]}, "str is wanted"),
        ({"type": "started", "shift": "night"}, "one of"),
        ({"type": "pieces-made", "parts": [1]}, "object"),
        ({"type": "pieces-made", "parts": [{"name": "x", "count": True}]}, "number"),
        ({"type": "pieces-made", "parts": [], "weight": "heavy"}, "none of"),
        ({"type": "pieces-made", "parts": [], "place": [1]}, "2 values"),
    ],
)
def test_a_payload_that_does_not_fit_its_class_is_told_by_field(payload: Any, told: str) -> None:
    with pytest.raises(UnreadableEvent, match=told):
        decode_event(payload, CLASSES)


def test_it_stops_the_fish_as_any_error_of_a_reducer() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, {"type": "stopped"}, "worker", "worker:w1")
        with pytest.raises(FishStopped, match="ended"):
            await pond.current_state(worker)

    story(act)


def test_annotations_are_all_classes_or_none() -> None:
    with pytest.raises(InvalidFish, match="dataclasses or payloads"):

        @fish(where=Tag("a"), initial=0)
        def mixed(state: int, _event: Started | str, _meta: Metadata) -> int:
            return state

    with pytest.raises(InvalidFish, match="cannot be read"):

        @fish(where=Tag("a"), initial=0)
        def unknown(state: int, _event: "Nowhere", _meta: Metadata) -> int:  # type: ignore[name-defined]  # noqa: F821 - on purpose
            return state


def test_a_change_of_an_event_class_is_a_change_of_the_fish() -> None:
    def made(kind: type) -> Fish[Any]:
        def reduce(state: int, _event: Any, _meta: Metadata) -> int:
            return state

        reduce.__annotations__["_event"] = kind
        return fish(where=Tag("a"), initial=0)(reduce)

    other: Any = dataclass(type("Started", (), {"__annotations__": {"shift": int}}))
    assert made(Started).definition == made(Started).definition
    assert made(Started).definition != made(other).definition


def test_a_reducer_of_typed_events_is_a_plain_function() -> None:
    async def late(state: int, _event: Started, _meta: Metadata) -> int:
        return state

    waiting: Any = late

    async def waiting_reset(_event: Started, _meta: Metadata) -> bool:
        return True

    def counted(state: int, _event: Started, _meta: Metadata) -> int:
        return state + 1

    with pytest.raises(InvalidFish, match="on_event is a plain function"):
        fish(where=Tag("a"), initial=0)(waiting)
    with pytest.raises(InvalidFish, match="is_reset is a plain function"):
        fish(where=Tag("a"), initial=0, is_reset=waiting_reset)(counted)


class Board:
    def moved(self, state: Part, event: Started, _meta: Metadata) -> Part:
        return Part(f"{state.name} {event.shift}")


def test_a_reducer_gets_typed_events_behind_decorators_and_as_a_method() -> None:
    board = Board()

    @functools.wraps(board.moved)
    def around(*given: Any) -> Part:
        return board.moved(*given)

    for reducer in (board.moved, around):
        made: Fish[Part] = fish(where=Tag("a"), initial=Part("x"))(reducer)
        assert made.on_event(
            Part("x"), {"type": "started"}, Metadata.of(event_of(1, 1, 0, None), NODE)
        ) == Part("x early")


def test_resets_get_typed_events() -> None:
    @fish(where=Tag("a"), initial=(), is_reset=lambda event, _: isinstance(event, Started))
    def since(state: tuple[Any, ...], event: Started | Stopped, _: Metadata) -> tuple[Any, ...]:
        return (*state, event)

    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport, event in enumerate((Stopped(()), Started(), Stopped(("x",))), 1):
            log.receive(1, lamport, payload_of(event))
        log.receive(1, 9, "something else")
        assert await pond.current_state(since) == (Started(), Stopped(("x",)))

    story(act)


def test_a_state_can_be_asked_to_cover_what_was_published_elsewhere() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for token in (
            OffsetMap({stream_of(1): 0}),
            MemoryLog().receive(2, 3, "b"),
            (MemoryLog().receive(3, 4, "c"),),
        ):
            waiting = asyncio.create_task(pond.current_state(LIST, after=token))
            await turns(20)
            assert not waiting.done()
            number = len(log.commits) + 1
            log.receive(number, 1 + number, "abc"[number - 1])
            assert await waiting == tuple("abc"[:number])

    story(act)


def test_on_request_only_changes_are_told() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        same: Fish[State] = Fish("same", Tag("a"), (), lambda _state, payload, _: (payload,))
        every: list[State] = []
        changes: list[State] = []
        pond.observe(same, every.append)
        pond.observe(same, changes.append, changes_only=True)
        given: list[State] = []

        async def look() -> None:
            async for state in pond.observe(same, changes_only=True):
                given.append(state)  # noqa: PERF401 - one by one, for the task is cancelled

        task = asyncio.create_task(look())
        await turns(20)
        for lamport, payload in enumerate((1, 1, 2, 2, 1), 1):
            log.receive(1, lamport, [payload])
            await turns(20)
        assert every == [(), *(([n],) for n in (1, 1, 2, 2, 1))]
        assert changes == given == [(), ([1],), ([2],), ([1],)]
        task.cancel()

    story(act)


def test_an_observation_says_what_its_state_covers() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        with pond.observe(LIST) as observation:
            before = observation.snapshot
            assert before is None
            await anext(observation)
            event = log.receive(1, 1, "x")
            await anext(observation)
            log.receive(2, 2, "x", "other")
            await turns(10)
            snapshot = observation.snapshot
            assert snapshot is not None
            assert snapshot.key == event.key
            assert snapshot.offsets == log.offsets
            assert not snapshot.provisional

    story(act)


@pytest.mark.parametrize("named", [None, 5, True, [], {}, ["started"]])
def test_a_type_that_is_no_text_names_no_class(named: Any) -> None:
    assert decode_event({"type": named}, (Started,)) is None
