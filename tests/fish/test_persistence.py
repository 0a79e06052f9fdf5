"""Snapshots kept in the log: they change how long a start takes, never what comes out."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fish import Fish, FishStopped, Metadata, Pond, ahead
from fish.states import decode_state
from fish.surroundings import Limits
from lamport.tags import Tag, Tags
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, State, from_scratch, listed, story, turns


async def folds_of(definition: Fish[State], pond: Pond, calls: list[Any]) -> tuple[State, int]:
    before = len(calls)
    state = await pond.current_state(definition)
    return state, len(calls) - before


def recorded(calls: list[Any], where: Tags | None = None, **more: Any) -> Fish[State]:
    """A fish that notes its reducer calls. The list is emptied: a fingerprint sees what a reducer closes over."""
    calls.clear()

    def on_event(state: State, event: Any, _metadata: Metadata) -> State:
        calls.append(event)
        return (*state, event)

    return Fish("recorded", where or Tag("a"), (), on_event, **more)


def restart(log: MemoryLog, **more: Any) -> tuple[State, int]:
    """A fish's state in a new pond, and how many reducer calls it cost."""
    results = []

    async def act(_log: MemoryLog, pond: Pond) -> None:
        calls: list[Any] = []
        results.append(await folds_of(recorded(calls, **more), pond, calls))

    story(act, log)
    return results[0]


def filled(count: int = 40) -> MemoryLog:
    log = MemoryLog()
    for number in range(count):
        log.receive(1, 10 * (number + 1), number)
    return log


def test_a_restart_folds_only_what_is_new() -> None:
    log = filled()
    assert restart(log)[1] == 40
    log.receive(1, 900, "new")
    log.receive(2, 901, "unselected", "other")
    state, calls = restart(log)
    assert state == (*range(40), "new")
    assert calls == 1


def test_a_stale_snapshot_is_discarded() -> None:
    log = filled()
    restart(log)
    log.receive(2, 15, "late")
    state, calls = restart(log)
    assert state == (0, "late", *range(1, 40))
    assert calls == 41
    assert restart(log)[1] == 0


def test_an_older_snapshot_serves_where_the_newest_does_not_hold() -> None:
    log = filled(20)
    restart(log)
    for number in range(20, 40):
        log.receive(1, 10 * (number + 1), number)
    restart(log)
    log.receive(2, 305, "late")
    state, calls = restart(log)
    assert state == from_scratch(LIST, log.events)
    assert calls == 21


def test_a_live_late_event_is_shown_before_anything_is_written_and_spoils_snapshots() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        shown: list[tuple[State, int]] = []
        pond.observe(LIST, lambda state: shown.append((state, log.writes)))
        await pond.current_state(LIST)
        while not log.snapshots:
            await turns(1)
        writes = log.writes
        log.receive(2, 395, "late")
        state = await pond.current_state(LIST)
        assert shown[1:] == [(state, writes)]

    log = filled()
    story(act, log)
    assert [one.count for one in log.snapshots] == [41]


def test_a_late_event_below_the_reset_leaves_the_snapshot_good() -> None:
    def resets(event: Any, _metadata: Metadata) -> bool:
        return bool(event == 20)

    log = filled()
    assert restart(log, is_reset=resets)[0] == tuple(range(20, 40))
    log.receive(2, 15, "below")
    assert restart(log, is_reset=resets) == (tuple(range(20, 40)), 0)
    log.receive(3, 215, "above")
    state, _ = restart(log, is_reset=resets)
    assert state == (20, "above", *range(21, 40))


def test_an_event_below_the_reset_does_not_hide_one_above_it() -> None:
    def resets(event: Any, _metadata: Metadata) -> bool:
        return bool(event == 20)

    log = filled()
    restart(log, is_reset=resets)
    log.receive(2, 15, "below")
    log.receive(2, 215, "above")
    assert restart(log, is_reset=resets)[0] == (20, "above", *range(21, 40))


def test_another_version_or_definition_does_not_use_the_snapshot() -> None:
    log = filled()
    restart(log)
    assert restart(log, is_reset=lambda _event, _metadata: False)[1] == 40
    assert restart(log, version=2)[1] == 40


def test_a_snapshot_of_a_log_that_knows_less_now_is_not_used() -> None:
    log = filled()
    restart(log)
    restored = filled(30)
    restored.snapshots = log.snapshots
    assert restart(restored) == (tuple(range(30)), 30)


def test_a_snapshot_that_cannot_be_read_costs_only_time() -> None:
    log = filled()
    restart(log)
    log.snapshots = [replace(log.snapshots[0], state=b"\xc1")]
    assert restart(log) == (tuple(range(40)), 40)
    assert restart(log)[1] == 0


def test_a_full_disk_costs_only_the_snapshots() -> None:
    log = filled()
    restart(log)
    log.is_full = True
    log.receive(2, 15, "late")
    assert restart(log)[0] == (0, "late", *range(1, 40))

    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)
        log.receive(3, 12, "later")
        assert await pond.current_state(LIST) == (0, "later", "late", *range(1, 40))

    story(act, log)


def test_a_state_that_has_no_bytes_is_folded_without_snapshots(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    async def act(log: MemoryLog, pond: Pond) -> None:
        odd: Fish[State] = Fish(
            "odd", Tag("a"), (), lambda state, _event, _metadata: (*state, object())
        )
        await pond.current_state(odd)
        log.receive(1, 900, None)
        state = await pond.current_state(odd)
        assert len(state) == 41

    assert story(act, filled()).snapshots == []
    assert caplog.text.count("replayed at every start") == 1


def test_a_snapshot_keeps_the_order_of_a_dictionary() -> None:
    def first_seen(state: dict[str, int], event: Any, _metadata: Metadata) -> dict[str, int]:
        if event == "oldest":
            return {next(iter(state)): -1}
        return {**state, event: len(state)}

    definition: Fish[dict[str, int]] = Fish("order", Tag("a"), {}, first_seen)
    log = MemoryLog()
    log.receive(1, 1, "z")
    log.receive(1, 2, "y")

    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(definition)
        if log.snapshots:
            log.receive(1, 3 + len(log.commits), "oldest")
            assert await pond.current_state(definition) == {"z": -1}

    story(act, log)
    assert len(log.snapshots) == 1
    story(act, log)


def test_a_snapshot_is_kept_after_every_so_many_reducer_calls() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)
        for number in range(Limits().snapshot_every):
            assert log.snapshots == []
            log.receive(1, number + 1, number)
        await pond.current_state(LIST)
        await turns(5)
        assert log.snapshots[-1].count == Limits().snapshot_every

    story(act, MemoryLog(page=1_000))


def test_a_large_state_is_kept_more_seldom() -> None:
    large = Fish("large", Tag("a"), "", lambda state, event, _: state + event)
    limits = Limits(snapshot_every=4, snapshot_bytes_per_call=10)

    async def act(log: MemoryLog, pond: Pond) -> None:
        for number in range(40):
            log.receive(1, number + 1, "x" * 10)
            await pond.current_state(large)
            await turns(5)
        counts = [one.count for one in log.snapshots]
        assert counts == [5, 10, 20, 40]  # each time it is about twice as large

    story(act, MemoryLog(), limits)


def test_others_have_their_turn_while_a_large_state_is_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead, "SLICE_S", -1.0)  # each slice is over at once

    async def act(log: MemoryLog, pond: Pond) -> None:
        saving = asyncio.create_task(pond.current_state(LIST))
        count = 0
        while not log.snapshots:
            await asyncio.sleep(0)
            count += 1
        await saving
        assert count > 200
        assert decode_state(log.snapshots[-1].state) == tuple(range(200))

    story(act, filled(200))


def test_going_back_live_starts_from_an_older_snapshot() -> None:
    log = filled(20)
    restart(log)
    for number in range(20, 40):
        log.receive(1, 10 * (number + 1), number)
    restart(log)

    async def act(log: MemoryLog, pond: Pond) -> None:
        calls: list[Any] = []
        definition = recorded(calls)
        await pond.current_state(definition)
        log.receive(2, 305, "late")
        assert await pond.current_state(definition) == from_scratch(LIST, log.events)
        assert len(calls) == 21

    story(act, log)


def test_snapshots_found_stale_are_dropped() -> None:
    log = filled(20)
    restart(log)
    for number in range(20, 40):
        log.receive(1, 10 * (number + 1), number)
    restart(log)
    assert [one.key.lamport for one in log.snapshots] == [200, 400]
    log.receive(2, 15, "late")
    restart(log)
    assert [one.key.lamport for one in log.snapshots] == [400]


def test_nothing_new_means_nothing_to_save() -> None:
    log = filled()
    restart(log)
    assert log.saves == 1
    restart(log)
    assert log.saves == 1

    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)
        while log.saves == 1:
            await turns(1)

    story(act, log)
    assert log.saves == 2


def test_snapshots_of_other_code_do_not_crowd_out_new_ones() -> None:
    log = MemoryLog()
    log.receive(1, 1, "x", "a", "b")
    for number in range(4):
        log.receive(1, 10 + number, number)
        restart(log)
    narrow = Tag("a") & Tag("b")
    assert restart(log, where=narrow) == (("x",), 1)
    assert restart(log, where=narrow) == (("x",), 0)


def moody(state: State, event: Any, metadata: Metadata) -> State:
    """It refuses poison on some days; its definition does not tell."""
    return (*state, "eaten") if event == "poison" and EATS else listed(state, event, metadata)


EATS: list[bool] = []
"""Whether it is one of the other days."""


def test_a_fish_that_stopped_in_a_replay_is_not_taken_in_by_the_snapshot_it_left() -> None:
    fish = Fish("moody", Tag("a"), (), moody)

    async def stop(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(fish)
        log.receive(1, 900, "unsaved")
        await pond.current_state(fish)
        log.receive(2, 15, "poison")
        with pytest.raises(FishStopped):
            await pond.current_state(fish)

    async def again(_log: MemoryLog, pond: Pond) -> None:
        state = await pond.current_state(fish)
        assert (len(state), state.index("eaten")) == (42, 1)

    log = story(stop, filled())
    assert log.snapshots, "there is one to be taken in by"
    EATS.append(True)
    story(again, log)
    EATS.clear()
    assert [one.count for one in log.snapshots] == [42]
