"""The debugger: steps to a state, what came late, and what was believed before."""

from collections.abc import Mapping
from typing import Any

import pytest

from fish import Fish, Pond
from fish.explaining import MAX_STEPS
from lamport.ids import StreamId
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog, stream_of
from tests.fish.ponds import LIST, listed, named, story


def test_the_events_behind_a_state_are_told_in_order_with_the_state_after_each() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)
        for lamport, payload in enumerate("xyz", 1):
            log.receive(1, lamport * 10, payload)
        explained = await pond.explain(LIST)
        assert [step.event.payload for step in explained.steps] == ["x", "y", "z"]
        assert [step.state for step in explained.steps] == [("x",), ("x", "y"), ("x", "y", "z")]
        assert explained.state == await pond.current_state(LIST)
        short = await pond.explain(LIST, at=explained.steps[1].event.key, limit=1)
        assert (short.state, short.left_out, len(short.steps)) == (("x", "y"), 1, 1)

    story(act)


def test_a_late_event_is_told_and_what_was_believed_before_it() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        head = log.receive(1, 20, "y")
        await pond.current_state(LIST)
        late = log.receive(2, 10, "x")
        await pond.current_state(LIST)
        [travel] = (await pond.explain(LIST)).travels
        assert (travel.late, travel.head, travel.calls) == (late.key, head.key, 2)
        assert (await pond.explain(LIST, offsets=travel.before)).state == ("y",)
        assert (await pond.explain(LIST, offsets=travel.after)).state == ("x", "y")

    story(act)


def test_resets_and_errors_are_told() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        log.receive(1, 2, "y", "a", "reset")
        log.receive(1, 3, "poison")
        log.receive(1, 4, "z")
        stopping = await pond.explain(named("f", reset_where=Tag("reset")))
        assert [step.is_reset for step in stopping.steps] == [False, True, False]
        assert "poison" in str(stopping.steps[-1].error)
        assert stopping.state == ("y",)
        skipping = await pond.explain(named("g", on_error="skip"))
        assert skipping.state == ("x", "y", "z")
        assert [bool(step.error) for step in skipping.steps] == [False, False, True, False]
        for limit in (0, MAX_STEPS + 1):
            with pytest.raises(ValueError, match="steps"):
                await pond.explain(LIST, limit=limit)

    story(act)


class Pruned(MemoryLog):
    """A log whose stream 1 has lost its first event, as its author wanted."""

    @property
    def horizons(self) -> Mapping[StreamId, int]:
        return {stream_of(1): 1}


def test_it_says_behind_which_horizons_there_may_have_been_events() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(2, 1, "x")
        assert (await pond.explain(LIST)).pruned == {stream_of(1): 1}
        own: Fish[Any] = Fish("own", Tag("a").local(), (), listed)
        assert not (await pond.explain(own)).pruned

    story(act, Pruned())
