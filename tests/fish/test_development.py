"""In development mode an impure reducer stops its fish, and the line is named."""

import asyncio
import itertools
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from fish import Fish, FishStopped, Metadata, Pond
from fish.errors import FishImpure
from fish.purity import check_purity
from lamport.tags import Tag
from tests.fish.memory_log import NODE, MemoryLog, event_of

CALLS = itertools.count()


def mutating(state: list[Any], payload: Any, _: Metadata) -> list[Any]:
    state.append(payload)
    return state


def changing_the_payload(state: list[Any], payload: Any, _: Metadata) -> list[Any]:
    payload["seen"] = True
    return [*state, payload]


def timed(state: list[Any], _payload: Any, _: Metadata) -> list[Any]:
    return [*state, time.time()]


def drawn(state: list[Any], _payload: Any, _: Metadata) -> list[Any]:
    return [*state, random.random()]


def counting(state: list[Any], _payload: Any, _: Metadata) -> list[Any]:
    return [*state, next(CALLS)]


def listing_a_set(state: list[Any], _payload: Any, metadata: Metadata) -> list[Any]:
    return [*state, *{"set", f"of {metadata.offset}"}]


def resetting_by_a_set(_payload: Any, metadata: Metadata) -> bool:
    return next(iter({"set", f"of {metadata.offset}"})) == "set"


def pure(state: list[Any], payload: Any, _: Metadata) -> list[Any]:
    return [*state, payload]


class Crate:
    """A state of which snapshots know nothing."""

    def __init__(self, *things: Any) -> None:
        self.things = things


def packing(crate: Crate, payload: Any, _: Metadata) -> Crate:
    return Crate(*crate.things, payload)


def packing_by_a_set(crate: Crate, _payload: Any, metadata: Metadata) -> Crate:
    return Crate(*crate.things, *{"set", f"of {metadata.offset}"})


def refusing(_state: list[Any], _payload: Any, _: Metadata) -> list[Any]:
    raise LookupError("refused")


def state_of(on_event: Any, *, development: bool, initial: Any = None, **more: Any) -> Any:
    beginning = [] if initial is None else initial

    async def run() -> Any:
        log = MemoryLog()
        log.receive(1, 1, {"n": 1})
        log.receive(1, 2, {"n": 2})
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, development=development)
            try:
                return await pond.current_state(Fish("f", Tag("a"), beginning, on_event, **more))
            except FishStopped as stopped:
                return stopped
            finally:
                await pond.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("on_event", "told"),
    [
        (mutating, "changes the state"),
        (changing_the_payload, "changes the payload"),
        (timed, "time.time"),
        (drawn, "random"),
        (counting, "different states"),
        (listing_a_set, "order of a set"),
    ],
)
def test_an_impure_reducer_stops_its_fish_and_its_line_is_named(on_event: Any, told: str) -> None:
    stopped = state_of(on_event, development=True)
    assert isinstance(stopped.__cause__, FishImpure)
    assert told in str(stopped)
    assert f"test_development.py:{on_event.__code__.co_firstlineno}" in str(stopped)


def test_is_reset_is_examined_too() -> None:
    stopped = state_of(pure, development=True, is_reset=resetting_by_a_set)
    assert isinstance(stopped.__cause__, FishImpure)
    assert "order of a set" in str(stopped)


def test_a_pure_one_goes_on_and_what_it_raises_is_its_own() -> None:
    assert state_of(pure, development=True) == [{"n": 1}, {"n": 2}]
    assert isinstance(state_of(refusing, development=True).__cause__, LookupError)
    assert state_of(mutating, development=True, mutates=True) == [{"n": 1}, {"n": 2}]


def test_otherwise_nothing_is_examined() -> None:
    assert len(state_of(counting, development=False)) == 2


def test_a_state_that_is_kept_in_its_own_way_is_compared_in_that_way() -> None:
    def made(on_event: Any) -> Any:
        return state_of(
            on_event,
            development=True,
            initial=Crate(),
            serialize_state=lambda crate: list(crate.things),
            deserialize_state=lambda things: Crate(*things),
        )

    assert made(packing).things == ({"n": 1}, {"n": 2})
    assert "order of a set" in str(made(packing_by_a_set))


@dataclass(frozen=True)
class Named:
    """A state whose text is made by a dataclass."""

    name: str


def telling(state: Named, payload: Any, _: Metadata) -> Named:
    return Named(f"{state} {payload}"[-20:])


def of_this_thread(state: Named, _payload: Any, _: Metadata) -> Named:
    return Named(f"{state.name}{threading.current_thread().name}"[-20:])


def test_the_text_of_a_dataclass_is_no_question_to_the_world_but_who_runs_it_is() -> None:
    events = [event_of(1, number, number, "said") for number in range(3)]
    check_purity(Fish("f", Tag("a"), Named(""), telling), events, NODE)
    with pytest.raises(FishImpure, match=r"threading\.get_ident"):
        check_purity(Fish("f", Tag("a"), Named(""), of_this_thread), events, NODE)
