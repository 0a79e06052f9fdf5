"""What goes wrong with a fish is reported, by event; what does not have to stop it does not."""

from typing import Any

import pytest

from fish import Fish, FishStopped, InvalidFish, Metadata, Pond, Report, ReportKind
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, State, listed, named, story, turns


def test_on_request_a_fish_skips_what_its_reducer_refuses_and_reports_it_once() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        told: list[Report] = []
        pond.on_report(told.append)
        skipping = named("skipping", on_error="skip")
        log.receive(1, 10, "x")
        poison = log.receive(1, 20, "poison")
        log.receive(1, 30, "y")
        assert await pond.current_state(skipping) == ("x", "y")
        log.receive(2, 5, "late")
        assert await pond.current_state(skipping) == ("late", "x", "y")
        [report] = told
        assert (report.kind, report.key) == (ReportKind.SKIPPED, poison.key)
        assert "LookupError: poison" in report.text
        assert pond.reports == (report,)

    story(act)


def test_a_reset_that_cannot_be_told_is_none() -> None:
    def is_reset(payload: Any, _: Metadata) -> bool:
        return bool(payload["reset"])

    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, {"reset": False})
        log.receive(1, 2, "odd")
        fish: Fish[State] = Fish("f", Tag("a"), (), listed, is_reset=is_reset, on_error="skip")
        assert len(await pond.current_state(fish)) == 2
        assert len(pond.reports) == 1

    story(act)


def test_a_stop_is_reported_with_its_event() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        poison = log.receive(1, 1, "poison")
        with pytest.raises(FishStopped):
            await pond.current_state(LIST)
        [report] = pond.reports
        assert (report.kind, report.key, report.fish) == (ReportKind.STOPPED, poison.key, "list")

    story(act)


def test_a_mended_fish_of_a_higher_version_runs_without_a_restart() -> None:
    def mended(state: State, event: Any, _: Metadata) -> State:
        return (*state, event)

    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "poison")
        with pytest.raises(FishStopped):
            await pond.current_state(LIST)
        fish: Fish[State] = Fish("list", Tag("a"), (), mended, version=2)
        assert await pond.current_state(fish) == ("poison",)

    story(act)


def test_code_that_changed_without_its_version_is_reported_and_folds_anew() -> None:
    def other(state: State, event: Any, _: Metadata) -> State:
        return (event, *state)

    log = MemoryLog()
    log.receive(1, 1, "x")
    log.receive(1, 2, "y")

    async def before(_log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)

    async def after(_log: MemoryLog, pond: Pond) -> None:
        fish: Fish[State] = Fish("list", Tag("a"), (), other)
        assert await pond.current_state(fish) == ("y", "x")
        [report] = pond.reports
        assert report.kind is ReportKind.REDEFINED
        assert "higher version" in report.text

    async def again(_log: MemoryLog, pond: Pond) -> None:
        fish: Fish[State] = Fish("list", Tag("a"), (), other)
        assert await pond.current_state(fish) == ("y", "x")
        assert pond.reports == ()

    story(before, log)
    story(after, log)
    story(again, log)


def test_a_listener_that_raises_harms_nobody() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def raising(_: Report) -> None:
            raise LookupError("listener")

        pond.on_report(raising)
        log.receive(1, 1, "poison")
        await turns(5)
        assert await pond.current_state(named("skipping", on_error="skip")) == ()

    story(act)


def test_a_fish_stops_or_skips() -> None:
    with pytest.raises(InvalidFish, match="'stop' or 'skip'"):
        named("f", on_error="hope")
