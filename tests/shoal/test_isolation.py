"""Isolated fish: they fold in a process of their own, and whatever happens there happens to one fish."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fish import Fish, FishStopped, Metadata, Pond
from fish.errors import IsolationError, Lost, Overran
from fish.oversight import Mark
from lamport.tags import Tag
from shoal.isolation import ProcessCell
from shoal.watchdog import Watchdog
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, listed

HANGS, DIES, OUTSIDE, SECRET = "hangs", "dies", "outside", "secret"


def with_process(state: Any, payload: Any, metadata: Metadata) -> Any:
    if payload == HANGS:
        time.sleep(1e6)  # no exception gets in there
    if payload == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if payload == OUTSIDE:
        return (*state, os.getpid())
    if payload == SECRET:
        return threading.Lock()
    return listed(state, payload, metadata)


def impatient() -> Watchdog:
    return Watchdog(tick_s=0.005)


def isolated(reducer: Callable[..., Any] = with_process, **more: Any) -> Fish[Any]:
    return Fish("isolated", Tag("a"), (), reducer, isolated=True, **more)


def pond_story(act: Callable[[MemoryLog, Pond], Any]) -> None:
    async def run() -> None:
        log = MemoryLog()
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, oversight=impatient())
            await act(log, pond)
            await pond.close()

    asyncio.run(run())


def test_it_folds_elsewhere_with_whatever_its_reducer_closes_over() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        mine = {"n": 2}

        def doubled(state: int, payload: int, _: Metadata) -> int:
            return state + mine["n"] * payload

        fish: Fish[int] = Fish("doubled", Tag("a"), 0, doubled, isolated=True)
        for number in range(1, 6):
            log.receive(1, 2 * number, number)
        assert await pond.current_state(fish) == 30
        log.receive(2, 3, 100)
        assert await pond.current_state(fish) == 230, "late events go there, too"
        log.receive(1, 12, OUTSIDE)
        assert os.getpid() not in await pond.current_state(isolated())

    pond_story(act)


def test_an_event_that_changes_nothing_gives_back_the_very_same_state() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def unless_told(state: Any, payload: Any, metadata: Metadata) -> Any:
            return state if payload == "nothing" else listed(state, payload, metadata)

        fish = isolated(unless_told)
        log.receive(1, 1, "something")
        before = await pond.current_state(fish)
        log.receive(1, 2, "nothing")
        assert await pond.current_state(fish) is before

    pond_story(act)


@pytest.mark.parametrize(
    ("poison", "cause", "text"),
    [
        (HANGS, Overran, "no answer for .* its process was killed"),
        (DIES, Lost, "its process died"),
        ("poison", LookupError, "raised LookupError: poison"),
    ],
)
def test_what_happens_to_its_process_stops_one_fish_at_the_last_good_state(
    poison: str, cause: type[BaseException], text: str
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        states: list[Any] = []
        fish = isolated()
        await pond.current_state(fish)
        pond.observe(fish, states.append)
        log.receive(1, 1, "good")
        event = log.receive(1, 2, poison)
        log.receive(1, 3, "never seen")
        with pytest.raises(FishStopped, match=text) as stopped:
            await pond.current_state(fish)
        assert stopped.value.key == event.key
        assert isinstance(stopped.value.__cause__, cause)
        assert states[-1] == ("good",)
        mended = isolated(version=2, on_error="skip", reducer=listed)
        assert (await pond.current_state(mended))[0] == "good"

    pond_story(act)


def test_the_others_run_on_while_one_hangs() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        fish = isolated()
        hanging = asyncio.ensure_future(pond.current_state(fish))
        log.receive(1, 1, HANGS)
        assert await pond.current_state(LIST) == (HANGS,)
        with pytest.raises(FishStopped):
            await hanging

    pond_story(act)


def test_a_process_that_died_by_the_way_is_replaced() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        fish = isolated()
        log.receive(1, 1, OUTSIDE)
        [process] = await pond.current_state(fish)
        os.kill(process, signal.SIGKILL)
        log.receive(1, 2, OUTSIDE)
        first, second = await pond.current_state(fish)
        assert (first, second != process) == (process, True)

    pond_story(act)


def test_a_state_that_cannot_leave_its_process_is_said_to_be_that() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, SECRET)
        with pytest.raises(FishStopped, match=r"isolation raised IsolationError: .*cannot be sent"):
            await pond.current_state(isolated())

    pond_story(act)


def test_an_error_of_a_class_that_cannot_be_sent_keeps_its_text() -> None:
    class Local(Exception):
        """It cannot be found by its name."""

    def failing(_state: Any, payload: Any, _: Metadata) -> Any:
        raise Local(payload)

    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "a word")
        with pytest.raises(FishStopped, match="Local: a word"):
            await pond.current_state(isolated(failing))
        skipping = isolated(failing, version=2, on_error="skip")
        assert await pond.current_state(skipping) == ()
        assert "Local: a word" in pond.reports[-1].text

    pond_story(act)


def test_its_process_keeps_nothing_of_ours_and_goes_with_the_fish(tmp_path: Path) -> None:
    def look(_request: object, _mark: Mark) -> tuple[int, int, bool]:
        opened = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # without the one that looks
        return os.getpid(), opened, signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    async def run() -> int:
        with (tmp_path / "ours").open("w"):
            cell: ProcessCell[None, tuple[int, int, bool]] = ProcessCell(look, "looking")
            process, opened, ignores = await cell.ask(None, str)
            assert (opened, ignores) == (4, True), "three standard streams and its pipe"
            assert await cell.ask(None, str) == (process, opened, ignores)
            cell.close()
            cell.close()
        return process

    process = asyncio.run(run())
    gone = until_gone(process)
    assert next(gone) is None


def until_gone(process: int) -> Iterator[None]:
    """Ends its waiting when there is no such process any more."""
    while Path(f"/proc/{process}").exists():
        threading.Event().wait(0.001)
    yield None


def test_without_fork_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        cell: ProcessCell[None, None] = ProcessCell(lambda *_: None, "nobody")
        with pytest.raises(IsolationError, match="cannot fork"):
            await cell.ask(None, str)
        cell.close()

    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    asyncio.run(run())
