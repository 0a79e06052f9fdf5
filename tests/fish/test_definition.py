"""Definitions: what they accept, and what makes two of them the same."""

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fish import Fish, InvalidFish, Metadata
from fish.definition import MAX_NAME_BYTES
from lamport.tags import Tag
from tests.fish.memory_log import NODE, event_of


def add(state: int, event: Any, _metadata: Metadata) -> int:
    return state + int(event)


def fish_of(on_event: Callable[[int, Any, Metadata], int], initial: int = 0) -> Fish[int]:
    return Fish("f", Tag("a"), initial, on_event)


def adding(step: object) -> Callable[[int, Any, Metadata], int]:
    return lambda state, _event, _metadata: state + int(str(step))


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME_BYTES + 1), "ü" * 65, None, 7])
def test_a_name_is_a_text_of_1_to_128_bytes(name: Any) -> None:
    with pytest.raises(InvalidFish):
        Fish(name, Tag("a"), 0, add)


def test_the_longest_name_is_fine() -> None:
    assert Fish("ü" * 64, Tag("a"), 0, add).name == "ü" * 64


@pytest.mark.parametrize("version", [-1, 1.0, True, None, "1"])
def test_a_version_is_an_integer_from_0_on(version: Any) -> None:
    with pytest.raises(InvalidFish):
        Fish("f", Tag("a"), 0, add, version=version)


async def waiting(state: int, _event: Any, _metadata: Metadata) -> int:
    return state


def yielding(state: int, _event: Any, _metadata: Metadata) -> Iterator[int]:
    yield state


class Waiting:
    async def __call__(self, state: int, _event: Any, _metadata: Metadata) -> int:
        return state


@pytest.mark.parametrize("reducer", [waiting, yielding, Waiting(), functools.partial(waiting)])
def test_a_reducer_is_a_plain_function(reducer: Any) -> None:
    with pytest.raises(InvalidFish, match="plain function"):
        fish_of(reducer)


def test_the_same_definition_made_twice_has_one_fingerprint() -> None:
    assert fish_of(add).definition == fish_of(add).definition
    assert fish_of(adding(1)).definition == fish_of(adding(1)).definition


def test_name_and_version_do_not_belong_to_the_fingerprint() -> None:
    assert (
        Fish("f", Tag("a"), 0, add).definition == Fish("g", Tag("a"), 0, add, version=2).definition
    )


def test_each_part_of_a_definition_changes_the_fingerprint() -> None:
    def with_default(state: int, _event: Any, _metadata: Metadata, step: int = 2) -> int:
        return state + step

    def with_other_default(state: int, _event: Any, _metadata: Metadata, step: int = 3) -> int:
        return state + step

    distinct = [
        fish_of(add),
        fish_of(add, initial=1),
        Fish("f", Tag("b"), 0, add),
        Fish("f", Tag("a").local(), 0, add),
        Fish("f", Tag("a"), 0, add, is_reset=lambda _event, _metadata: True),
        Fish("f", Tag("a"), 0, add, is_reset=lambda _event, _metadata: False),
        fish_of(lambda state, _event, _metadata: state + 1),
        fish_of(lambda state, _event, _metadata: state + 2),
        fish_of(lambda state, _event, _metadata: state - 1),
        fish_of(lambda state, event, _metadata: state + event.one),
        fish_of(lambda state, event, _metadata: state + event.two),
        fish_of(lambda state, event, _metadata: state + sum(x + 1 for x in event)),
        fish_of(lambda state, event, _metadata: state + sum(x + 2 for x in event)),
        fish_of(adding(1)),
        fish_of(adding("1")),
        fish_of(adding(adding(1))),
        fish_of(adding(adding(2))),
        fish_of(with_default),
        fish_of(with_other_default),
        fish_of(functools.partial(with_default, step=7)),
        fish_of(functools.partial(with_default, step=8)),
        fish_of(dispatching({"a": adding(1)})),
        fish_of(dispatching({"a": adding(2)})),
        fish_of(dispatching({"b": adding(2)})),
        fish_of(Dispatcher([adding(1)])),
        fish_of(Dispatcher([adding(2)])),
        fish_of(Dispatcher([adding(1)]).second),
        fish_of(Dispatcher([adding(2)]).second),
        fish_of(Dispatcher([adding(1)]).third),
        fish_of(with_keyword(2)),
        fish_of(with_keyword(3)),
        fish_of(called_up()),
        fish_of(called_down()),
        fish_of(Reducer(1)),
        fish_of(Reducer(1).other),
    ]
    assert len({fish.definition for fish in distinct}) == len(distinct)


def dispatching(handlers: dict[str, Any]) -> Callable[[int, Any, Metadata], int]:
    return lambda state, event, metadata: handlers[event](state, event, metadata)


@dataclass(frozen=True)
class Dispatcher:
    handlers: list[Any]

    def __call__(self, state: int, event: Any, metadata: Metadata) -> int:
        return int(self.handlers[0](state, event, metadata))

    def second(self, state: int, event: Any, metadata: Metadata) -> int:
        return int(self.handlers[1](state, event, metadata))

    def third(self, state: int, event: Any, metadata: Metadata) -> int:
        return int(self.handlers[2](state, event, metadata))


def with_keyword(number: int) -> Callable[[int, Any, Metadata], int]:
    def on_event(state: int, _event: Any, _metadata: Metadata, *, step: int = number) -> int:
        return state + step

    return on_event


def called_up() -> Callable[[int, Any, Metadata], int]:
    return type("Called", (), {"__call__": lambda _, state, _event, _metadata: state + 1})()  # type: ignore[no-any-return]


def called_down() -> Callable[[int, Any, Metadata], int]:
    return type("Called", (), {"__call__": lambda _, state, _event, _metadata: state - 1})()  # type: ignore[no-any-return]


class Reducer:
    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, state: int, _event: Any, _metadata: Metadata) -> int:
        return state + self.step

    def other(self, state: int, _event: Any, _metadata: Metadata) -> int:
        return state - self.step


PROGRAM = """
from functools import lru_cache
STEP = 1
calls = 0
def helper(number):
    return deeper(number)
def deeper(number):
    return number + STEP
@lru_cache
def cached(number):
    return number
def stranger(number):
    return number
def odd(number):
    return even(number - 1)
def even(number):
    return number == 0 or odd(number - 1)
def on_event(state, _event, _metadata):
    global calls
    calls += 1
    return [cached(one) for one in [helper(state), even(2)]][0]
"""


def in_program(changed: str = "", to: str = "", package: str = "app") -> str:
    """The definition of a fish of a program where a few characters are others."""
    assert changed in PROGRAM
    space: dict[str, Any] = {"__name__": f"{package}.rules"}
    exec(PROGRAM.replace(changed, to) if changed else PROGRAM, space)  # noqa: S102 - as an import would
    definition = fish_of(space["on_event"]).definition
    space["on_event"](0, None, None)
    assert fish_of(space["on_event"]).definition == definition, "calls do not change it"
    return definition


def test_functions_and_constants_of_its_own_program_that_a_reducer_uses_are_seen() -> None:
    changes = (
        ("STEP = 1", "STEP = 2"),
        ("number + STEP", "number - STEP"),
        ("deeper(number)\n", "deeper(number + 1)\n"),
        ("def cached(number):\n    return number", "def cached(number):\n    return -number"),
        ("number == 0", "number <= 0"),
    )
    definitions = [in_program(), *(in_program(*change) for change in changes)]
    assert len(set(definitions)) == len(definitions)


def test_what_a_reducer_does_not_use_is_not_seen() -> None:
    assert in_program() == in_program()
    stranger = "def stranger(number):\n    return number"
    assert in_program() == in_program(stranger, f"{stranger} * 2")
    assert in_program() == in_program("calls = 0", "calls = 7")
    ours = in_program(package="fish")
    assert ours == in_program("STEP = 1", "STEP = 2", package="fish")


def test_a_reducer_that_closes_over_itself_has_a_fingerprint() -> None:
    def count_down(state: int, event: Any, metadata: Metadata) -> int:
        return state if event == 0 else count_down(state + 1, event - 1, metadata)

    assert fish_of(count_down).definition == fish_of(count_down).definition


def test_functions_that_all_call_each_other_have_a_fingerprint() -> None:
    names = [f"f{number}" for number in range(40)]
    calls = " + ".join(f"{name}(state, event, meta)" for name in names)
    program = "\n".join(f"def {name}(state, event, meta): return {calls}" for name in names)

    def of(program: str) -> str:
        space: dict[str, Any] = {"__name__": "app.rules"}
        exec(program, space)  # noqa: S102 - as an import would
        return fish_of(space["f0"]).definition

    assert of(program) == of(program)
    assert of(program) != of(
        program.replace("def f7(state, event, meta): return", "def f7(*_): return 1 +")
    )


def test_what_is_deeply_nested_has_a_fingerprint() -> None:
    def around(inner: Callable[[int, Any, Metadata], int]) -> Callable[[int, Any, Metadata], int]:
        return lambda state, event, metadata: inner(state + 1, event, metadata)

    first, second = adding(1), adding(2)
    for _ in range(60):
        first, second = around(first), around(second)
    assert fish_of(first).definition != fish_of(second).definition


def test_an_initial_state_that_contains_itself_has_a_fingerprint() -> None:
    state: list[Any] = []
    state.append(state)
    fish: Fish[list[Any]] = Fish("f", Tag("a"), state, lambda before, _event, _metadata: before)
    assert len(fish.definition) == 64


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    program = (
        "from fish import Fish\nfrom lamport.tags import Tag\n"
        "fish = Fish('f', Tag('a'), frozenset('abcdef'), lambda s, e, m: s if e in {'x', 'y', 'z', 'u'} else e)\n"
        "print(fish.definition)"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1


def test_metadata_tell_key_stream_and_whose_the_event_is() -> None:
    event = event_of(5, 7, 3, None)
    metadata = Metadata.of(event, NODE)
    assert (metadata.lamport, metadata.stream, metadata.offset) == (7, event.stream, 3)
    assert metadata.event_id == str(event.key)
    assert metadata.is_local
    assert not Metadata.of(event_of(1, 7, 3, None), NODE).is_local


def test_a_fish_cannot_be_commutative_and_have_resets() -> None:
    with pytest.raises(InvalidFish, match="not commutative"):
        Fish("f", Tag("a"), 0, lambda *_: 0, commutative=True, is_reset=lambda *_: True)
    with pytest.raises(InvalidFish, match="not commutative"):
        Fish("f", Tag("a"), 0, lambda *_: 0, commutative=True, reset_where=Tag("r"))


def test_resets_are_told_by_a_function_or_by_tags() -> None:
    with pytest.raises(InvalidFish, match="not both"):
        Fish("f", Tag("a"), 0, lambda *_: 0, is_reset=lambda *_: True, reset_where=Tag("r"))
