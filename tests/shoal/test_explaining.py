"""Explanations as JSON and as text."""

import json
from dataclasses import replace

from fish import Fish, Pond
from shoal.explaining import SHOWN, explanation_to_json, explanation_to_text
from tests.fish.memory_log import MemoryLog, stream_of
from tests.fish.ponds import State, named, story


def test_an_explanation_is_json_and_lines() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        fish: Fish[State] = named("list", is_reset=lambda event, _: event == "reset")
        log.receive(1, 10, "gone")
        log.receive(1, 20, "reset")
        await pond.current_state(fish)
        late = log.receive(2, 25, "x" * 2 * SHOWN)
        log.receive(1, 30, "poison")
        last = log.receive(2, 27, "y")
        shown = explanation_to_json(await pond.explain(fish, limit=3))
        assert json.loads(json.dumps(shown)) == shown
        assert shown["leftOut"] == 2
        assert [step["event"]["key"] for step in shown["steps"][:2]] == [
            str(late.key),
            str(last.key),
        ]
        text = "\n".join(explanation_to_text(shown))
        assert text.startswith("list version 1: 'a'")
        assert "2 events that are not shown" in text
        assert "x ..." in text
        assert "LookupError: poison" in text

    story(act)


def test_resets_and_time_travels_stand_in_the_text() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        fish: Fish[State] = named("list", is_reset=lambda event, _: event == "reset")
        log.receive(1, 20, "x")
        await pond.current_state(fish)
        log.receive(2, 10, "reset")
        await pond.current_state(fish)
        text = "\n".join(explanation_to_text(explanation_to_json(await pond.explain(fish))))
        assert "resets: what is before it does not count" in text
        assert "time travel: " in text

    story(act)


def test_what_is_pruned_stands_in_both() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 20, "x")
        explanation = replace(await pond.explain(named("list")), pruned={stream_of(1): 7})
        shown = explanation_to_json(explanation)
        assert shown["pruned"] == {str(stream_of(1)): 7}
        assert f"pruned: {stream_of(1)} before offset 7" in "\n".join(explanation_to_text(shown))

    story(act)
