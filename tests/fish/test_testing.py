"""The test kit: what refutes a claim, and what does not."""

import re
from random import Random
from typing import Any

import pytest

from fish import Fish, Metadata, NotCommutative
from fish.testing import check_commutative
from lamport.tags import Tag
from tests.fish.memory_log import NODE, event_of

EVENTS = [event_of(1, 1, 0, "open"), event_of(2, 2, 0, "close")]


def strict(count: int, payload: str, _: Metadata) -> int:
    if payload == "close" and not count:
        raise LookupError("nothing is open")
    return count + 1


def refusing(count: int, payload: str, _: Metadata) -> int:
    if payload == "close":
        raise LookupError("never")
    return count + 1


def gathering(state: list[str], payload: str, _: Metadata) -> list[str]:
    state.append(payload)
    state.sort()
    return state


def commutative(on_event: Any, initial: Any = 0, **more: Any) -> Fish[Any]:
    return Fish("f", Tag("a"), initial, on_event, commutative=True, **more)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_one_that_refuses_an_event_in_one_order_only_is_refuted(on_error: Any) -> None:
    with pytest.raises(NotCommutative, match="is folded first"):
        check_commutative(commutative(strict, on_error=on_error), EVENTS, NODE)


def test_one_that_skips_the_same_event_in_every_order_is_not() -> None:
    check_commutative(commutative(refusing, on_error="skip"), EVENTS, NODE)


def test_events_at_which_it_stops_in_any_case_show_nothing() -> None:
    with pytest.raises(LookupError, match="never"):
        check_commutative(commutative(refusing), EVENTS, NODE)


def test_one_that_mutates_is_given_copies() -> None:
    fish = commutative(gathering, [], mutates=True)
    check_commutative(fish, EVENTS, NODE)
    assert fish.initial == []


class Bag:
    """A state of which snapshots know nothing."""

    def __init__(self, *things: str) -> None:
        self.things = things


def test_states_that_are_kept_in_their_own_way_are_compared_in_that_way() -> None:
    def packing(bag: Bag, payload: str, _: Metadata) -> Bag:
        return Bag(*bag.things, payload)

    check_commutative(
        commutative(packing, Bag(), serialize_state=lambda bag: sorted(bag.things)), EVENTS, NODE
    )
    with pytest.raises(NotCommutative):
        check_commutative(
            commutative(packing, Bag(), serialize_state=lambda bag: bag.things), EVENTS, NODE
        )


MANY = [event_of(n % 5, n + 1, n // 5, n) for n in range(500)]
"""A hundred events of each of five streams."""


def test_among_hundreds_of_events_a_refutation_takes_a_few_folds() -> None:
    calls = 0

    def last_but_one(state: tuple[int, int], payload: int, _: Metadata) -> tuple[int, int]:
        nonlocal calls
        calls += 1
        return state[1], payload

    with pytest.raises(NotCommutative, match="is folded first"):
        check_commutative(commutative(last_but_one, (0, 0)), MANY, NODE)
    assert calls <= 40 * len(MANY)


@pytest.mark.parametrize("seed", range(20))
def test_the_two_events_named_are_those_that_matter(seed: int) -> None:
    place = Random(seed).randrange(len(MANY) - 1)
    first, second = MANY[place : place + 2]

    def watching(state: tuple[int, ...], payload: int, _: Metadata) -> tuple[int, ...]:
        return (*state, payload) if payload in {first.payload, second.payload} else state

    with pytest.raises(NotCommutative) as refuted:
        check_commutative(commutative(watching, ()), MANY, NODE)
    named = {int(found) for found in re.findall(r"/\S+ (\d+)", str(refuted.value))}
    assert named == {first.payload, second.payload}


def test_one_that_does_not_even_agree_with_itself_is_refuted_without_naming_events() -> None:
    calls = 0

    def counting(_state: int, _payload: str, _: Metadata) -> int:
        nonlocal calls
        calls += 1
        return calls

    with pytest.raises(NotCommutative, match="gave two states"):
        check_commutative(commutative(counting), MANY, NODE)


def test_an_event_that_is_given_twice_is_one_and_a_pair_is_named() -> None:
    fish = commutative(lambda state, event, _: [*state, event], [])
    with pytest.raises(NotCommutative, match="makes a difference whether"):
        check_commutative(fish, [*EVENTS, EVENTS[0]], NODE)
    check_commutative(commutative(lambda state, _event, _meta: min(2, state + 1)), EVENTS, NODE)
