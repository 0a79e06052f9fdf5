"""States as bytes, and as JSON for people."""

import functools
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, Flag, IntEnum
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish import StateCodecError, WorkIds
from fish.states import (
    MAX_DEPTH,
    decode_state,
    encode_in_steps,
    encode_state,
    state_to_json,
)
from lamport.ids import EventKey
from tests.fish.histories import patient
from tests.fish.memory_log import NODE, stream_of


class Colour(Enum):
    RED = 1
    GREEN = "green"


class Level(IntEnum):
    LOW = 1


class Right(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    parts: Any = ()

    def __post_init__(self) -> None:
        assert self.name != "never made by hand"


@dataclass
class Loose:
    value: int

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.value


@dataclass
class Listing(list[int]):
    title: str = ""


KEY = EventKey(7, stream_of(3))

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.sampled_from(
        [*Colour, *Level, Right.READ, Right.READ | Right.WRITE, NODE, stream_of(2), KEY]
    ),
    st.just(WorkIds((KEY,))),
)
hashables = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Machine, st.text(), inner),
    ),
    max_leaves=6,
)
states = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(hashables, max_size=3),
        st.dictionaries(hashables, inner, max_size=4),
        st.builds(Machine, st.text(), inner),
    ),
    max_leaves=12,
)


def exact(value: Any) -> str:
    """A text that tells apart what `==` does not: types, the sign of zero, the order of entries."""
    if isinstance(value, dict):
        return f"dict({[(exact(k), exact(v)) for k, v in value.items()]})"
    if isinstance(value, set | frozenset):
        return f"{type(value)}({sorted(exact(one) for one in value)})"
    if isinstance(value, list | tuple):
        return f"{type(value)}({[exact(one) for one in value]})"
    if isinstance(value, Machine):
        return f"Machine({exact(value.name)}, {exact(value.parts)})"
    return f"{type(value)}({value!r})"


@patient
@given(states)
def test_a_state_comes_back_as_it_was(state: Any) -> None:
    assert exact(decode_state(encode_state(state, ordered=True))) == exact(state)


@patient
@given(st.recursive(states, lambda inner: st.lists(inner) | st.tuples(inner, st.just(()))))
def test_in_steps_the_bytes_are_the_same(state: Any) -> None:
    ends: list[bytes] = []

    def run() -> Iterator[None]:
        ends.append((yield from encode_in_steps(state)))

    count = sum(1 for _ in run())
    assert ends == [encode_state(state, ordered=True)]
    assert count >= (len(state) if isinstance(state, list | dict) else 0)


def test_in_steps_what_has_no_bytes_is_refused_all_the_same() -> None:
    with pytest.raises(StateCodecError, match="cannot hold"):
        list(encode_in_steps([object()]))


@given(states)
def test_what_comes_back_has_the_same_bytes(state: Any) -> None:
    assert decode_state(encode_state(state)) == state
    assert encode_state(decode_state(encode_state(state))) == encode_state(state)


@patient
@given(st.dictionaries(hashables, states, max_size=5), st.randoms(use_true_random=False))
def test_equal_dictionaries_have_equal_bytes_whatever_their_order(state: Any, rng: Any) -> None:
    entries = list(state.items())
    rng.shuffle(entries)
    assert encode_state(dict(entries)) == encode_state(state)


def test_the_order_of_entries_survives_where_it_is_asked_for() -> None:
    state = {"b": 1, "a": {"z": 1, "y": 2}}
    assert list(decode_state(encode_state(state, ordered=True))) == ["b", "a"]
    assert encode_state(state, ordered=True) != encode_state(state)


@patient
@given(st.lists(hashables, max_size=6), st.randoms(use_true_random=False))
def test_equal_sets_have_equal_bytes_whatever_their_history(members: list[Any], rng: Any) -> None:
    first = set(members)
    grown = sorted(first, key=repr)
    rng.shuffle(grown)
    second: set[Any] = set()
    for one in grown:
        second.add(one)
    assert encode_state(first) == encode_state(second)
    assert encode_state(frozenset(first)) == encode_state(frozenset(second))


@patient
@given(states, states)
def test_different_states_have_different_bytes(first: Any, second: Any) -> None:
    if first != second:
        assert encode_state(first) != encode_state(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0.0, -0.0), ([1], (1,)), ({1}, frozenset({1})), ("a", b"a")],
)
def test_what_python_calls_equal_but_is_of_another_type_has_other_bytes(
    one: Any, other: Any
) -> None:
    assert encode_state(one) != encode_state(other)


def test_all_nans_have_the_same_bytes() -> None:
    assert encode_state(math.nan) == encode_state(-math.nan)
    assert math.isnan(decode_state(encode_state(math.nan)))
    assert decode_state(encode_state(-math.inf)) == -math.inf


def test_bytes_of_sets_do_not_depend_on_the_process() -> None:
    program = (
        "from fish.states import encode_state; print(encode_state({'a', 'b', ('c',), b'd', 1}))"
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


def test_fields_are_restored_without_running_code_of_the_class() -> None:
    machine = Machine("press")
    object.__setattr__(machine, "name", "never made by hand")
    assert decode_state(encode_state(machine)).name == "never made by hand"


def nested(depth: int) -> Any:
    state: Any = 0
    for _ in range(depth):
        state = (state,)
    return state


def test_a_state_may_be_nested_up_to_the_limit() -> None:
    assert decode_state(encode_state(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(StateCodecError):
        encode_state(nested(MAX_DEPTH + 1))


def test_a_list_that_contains_itself_is_refused() -> None:
    state: list[Any] = []
    state.append(state)
    with pytest.raises(StateCodecError):
        encode_state(state)


def local_instance() -> object:
    @dataclass
    class Local:
        value: int = 0

    return Local()


class Shout(str):
    __slots__ = ()


class Ordered(dict[str, int]):
    pass


@pytest.mark.parametrize(
    "state",
    [
        object(),
        local_instance(),
        Shout("a"),
        Ordered(),
        Listing(),
        lambda: 0,
        int,
        "\ud800",
        1j,
        bytearray(),
    ],
    ids=repr,
)
def test_what_would_not_come_back_whole_is_refused(state: Any) -> None:
    with pytest.raises(StateCodecError):
        encode_state([state])


def test_a_dataclass_that_holds_more_than_its_fields_is_refused_but_not_for_a_cache() -> None:
    loose = Loose(2)
    assert loose.double == 4
    assert decode_state(encode_state(loose)) == loose
    loose.more = 1  # type: ignore[attr-defined]
    with pytest.raises(StateCodecError):
        encode_state(loose)


def test_a_dataclass_that_lacks_a_field_is_refused() -> None:
    with pytest.raises(StateCodecError):
        encode_state(object.__new__(Machine))


def renamed(state: object, old: bytes, new: bytes) -> bytes:
    data = encode_state(state)
    assert old in data
    assert len(old) == len(new)
    return data.replace(old, new)


@pytest.mark.parametrize(
    "data",
    [
        renamed(Machine("m"), b"test_states", b"test_statez"),
        renamed(Machine("m"), b"Machine", b"Machina"),
        renamed(Machine("m"), b":Machine", b":KEY.str"),
        renamed(Point(1, 2), b":Point", b":Right"),
        renamed(Machine("m"), b"Machine", b"Listing"),
        renamed(Colour.RED, b"RED", b"REX"),
        renamed(Colour.RED, b"Colour", b"Ruinen"),
        msgpack.packb(msgpack.ExtType(5, msgpack.packb([f"{__name__}:Machine", "m"]))),
        msgpack.packb(msgpack.ExtType(6, msgpack.packb([f"{__name__}:Point", 1]))),
        msgpack.packb(msgpack.ExtType(5, msgpack.packb([f"{__name__}:Colour", 1]))),
        msgpack.packb(msgpack.ExtType(99, b"")),
        msgpack.packb(msgpack.ExtType(2, msgpack.packb(1))),
        msgpack.packb(1)[:-1],
        encode_state([1, 2])[:-1],
        encode_state(1) + b"\x00",
        b"",
    ],
)
def test_bytes_that_are_no_state_here_are_refused(data: bytes) -> None:
    with pytest.raises(StateCodecError):
        decode_state(data)


def test_json_for_people() -> None:
    state = {
        "open": WorkIds((KEY,)),
        KEY: NODE,
        3: {2, 10, 1},
        "names": frozenset({"b", "a"}),
        "machine": Machine("m", Point(1, None)),
        "colours": [Colour.GREEN, Level.LOW],
        "raw": b"\xff",
        "reals": (1.5, math.inf, math.nan),
        "yes": True,
        "other": 1j,
    }
    assert state_to_json(state) == {
        "open": [str(KEY)],
        str(KEY): str(NODE),
        "3": [1, 2, 10],
        "names": ["a", "b"],
        "machine": {"name": "m", "parts": {"x": 1, "y": None}},
        "colours": ["green", 1],
        "raw": "ff",
        "reals": [1.5, "inf", "nan"],
        "yes": True,
        "other": "1j",
    }


def test_json_of_a_set_of_different_things_is_sorted() -> None:
    state = {1, "a", None, (2, 3), frozenset({"x"})}
    shown = state_to_json(state)
    assert shown == state_to_json(set(sorted(state, key=repr)))  # noqa: C414 - another insertion order
    assert shown.index("a") > shown.index(1)
